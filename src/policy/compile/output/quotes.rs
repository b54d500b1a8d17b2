//! Finds expressions that stand in quotes, where their values bring quotes of their own.
//!
//! What comes of it is often still YAML or TOML, only with quotes in the value; so it is looked
//! for in the template's text, line by line.

use std::ops::Range;

use crate::policy::model::Quoting;

/// The first expression that stands within quotes, unless it says that it is written as it is.
pub(super) fn quoted(text: &str, quoting: Quoting) -> Option<Range<usize>> {
    if text.contains("autoescape") {
        return None;
    }
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let Some(found) = in_line(line, quoting) {
            return Some(start + found.start..start + found.end);
        }
        start += line.len();
    }
    None
}

fn in_line(line: &str, quoting: Quoting) -> Option<Range<usize>> {
    let mut open = None;
    let mut before = ' ';
    let mut at = 0;
    while let Some(rest) = line.get(at..).filter(|rest| !rest.is_empty()) {
        let tag = [("{{", "}}"), ("{%", "%}"), ("{#", "#}")]
            .into_iter()
            .find(|(tag, _)| rest.starts_with(tag));
        if let Some((tag, end)) = tag {
            let length = rest.find(end).map_or(rest.len(), |at| at + end.len());
            let inside = rest.get(..length).unwrap_or_default();
            if tag == "{{" && open.is_some() && !inside.contains("safe") {
                return Some(at..at + length);
            }
            at += length;
            before = '}';
            continue;
        }
        let c = rest.chars().next()?;
        at += c.len_utf8();
        let begins = before.is_whitespace() || "[{,:=".contains(before);
        match open {
            Some('"') if c == '\\' => at += 1,
            Some(quote) if quote == c => open = None,
            None if c == '#' && before.is_whitespace() && quoting != Quoting::Json => return None,
            None if c == '"' && begins => open = Some(c),
            None if c == '\'' && begins && quoting != Quoting::Json => open = Some(c),
            Some(_) | None => {}
        }
        before = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted_in(text: &str, quoting: Quoting) -> Option<&str> {
        quoted(text, quoting).and_then(|at| text.get(at))
    }

    #[test]
    fn an_expression_in_quotes_is_found_and_no_other() {
        let found = [
            ("a: 1\nkey: \"{{ x }}\"\n", Some("{{ x }}")),
            ("key: '{{ x }}'\n", Some("{{ x }}")),
            ("key: \"Bearer {{ x }}\"\n", Some("{{ x }}")),
            ("- [\"a\", \"{{ x }}\"]\n", Some("{{ x }}")),
            ("a: \"b\\\"\" # \"{{ x }}\"\nb: {{ x }}\n", None),
            ("note: it's {{ x }} and \"that\"\n", None),
            ("a: {{ \"Bearer \" ~ x }}\n", None),
            ("a: \"{{ x|safe }}\"\n", None),
            ("a: \"ä\\ä\" {{ x }}\n", None),
            ("{% if x == \"a\" %}\na: {{ x }}\n{% endif %}\n", None),
            ("{% autoescape false %}a: \"{{ x }}\"{% endautoescape %}\n", None),
        ];
        for (text, wanted) in found {
            assert_eq!(quoted_in(text, Quoting::Yaml), wanted, "{text}");
        }
        let json = "{\"note\": \"it's\", \"a\": {{ x }}, \"b\": \"{{ y }}\"}";
        assert_eq!(quoted_in(json, Quoting::Json), Some("{{ y }}"));
        assert_eq!(quoted_in("a = '{{ x }}'\n", Quoting::Toml), Some("{{ x }}"));
    }
}

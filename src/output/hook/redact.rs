//! Takes the values out of what a command printed.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::core::ordered::Gather as _;
use crate::output::ActiveConfig;
use crate::policy::secret::Secret;

/// As much of the output as a report quotes.
const QUOTED: usize = 512;
const HIDDEN: &str = "***";
/// A piece of a value that is as long as this, or the whole value, is hidden: a parser that
/// complains of a line may quote some of it.
const PIECE: usize = 8;

/// The last of what a command printed, on one line, without any value of `config`.
///
/// `cut` says that more was printed than `output` holds: half a value may then stand at its end.
pub(in crate::output) fn redact(output: &[u8], cut: bool, config: &ActiveConfig) -> String {
    let values = values(config);
    let longest = values.iter().map(String::len).max().unwrap_or_default();
    let kept = if cut { output.len().saturating_sub(longest) } else { output.len() };
    let text = String::from_utf8_lossy(output.get(..kept).unwrap_or_default());
    let text = hide(&text, &values);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let skipped = line.chars().count().saturating_sub(QUOTED);
    line.chars().skip(skipped).collect()
}

/// Every value, as it is and as it stands in a file that escapes it, whole and line by line.
fn values(config: &ActiveConfig) -> BTreeSet<String> {
    let exposed = config.services.values().flat_map(|service| service.env.values());
    let mut values = BTreeSet::new();
    for value in exposed.map(Secret::expose) {
        let quoted = serde_json::Value::from(value).to_string();
        let quoted = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let forms = [value, quoted.unwrap_or(value)];
        let lines = forms.into_iter().flat_map(|form| std::iter::once(form).chain(form.lines()));
        values.extend(lines.map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    }
    values
}

fn hide(text: &str, values: &BTreeSet<String>) -> String {
    let mut secret = vec![false; text.len()];
    let mut mark = |range: Range<usize>| {
        if let Some(part) = secret.get_mut(range) {
            part.fill(true);
        }
    };
    for value in values {
        text.match_indices(value.as_str()).for_each(|(at, _)| mark(at..at + value.len()));
    }
    let pieces: BTreeSet<&[u8]> =
        values.iter().flat_map(|value| value.as_bytes().windows(PIECE)).gather_set();
    for (at, window) in text.as_bytes().windows(PIECE).enumerate() {
        if pieces.contains(window) {
            mark(at..at + PIECE);
        }
    }
    let mut out = String::with_capacity(text.len());
    let mut hiding = false;
    for (at, c) in text.char_indices() {
        // A character is hidden with any byte of it.
        let bytes = secret.get(at..at + c.len_utf8()).unwrap_or_default();
        let hidden = bytes.iter().any(|&byte| byte);
        match (hidden, hiding) {
            (true, false) => out.push_str(HIDDEN),
            (true, true) => {}
            (false, _) => out.push(c),
        }
        hiding = hidden;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::{EndpointName, ServiceName};
    use crate::output::ActiveService;

    fn config(values: &[&str]) -> ActiveConfig {
        let env = values.iter().enumerate();
        let env = env.map(|(n, value)| (format!("V{n}"), Secret::from(*value))).collect();
        let endpoint = Some(EndpointName::new("a"));
        let service = ActiveService { endpoint, env, ..ActiveService::default() };
        let services = [(ServiceName::new("s"), service)].into();
        ActiveConfig { services, ..ActiveConfig::default() }
    }

    #[test]
    fn a_value_is_hidden_however_it_is_printed() {
        let config = config(&["correct-horse-battery", "qu\"ote\ndone", "x7"]);
        let said = r#"bad: correct-horse-battery, "qu\"ote\ndone" and qu"ote then done, or x7"#;
        assert_eq!(
            redact(said.as_bytes(), false, &config),
            r#"bad: ***, "***" and *** then ***, or ***"#
        );
    }

    #[test]
    fn a_piece_of_a_value_is_hidden() {
        let config = config(&["correct-horse-battery"]);
        let said = "unexpected `ect-horse-ba` near column 7, at ect-hor";
        assert_eq!(
            redact(said.as_bytes(), false, &config),
            "unexpected `***` near column 7, at ect-hor"
        );
    }

    #[test]
    fn half_a_value_at_the_end_of_what_was_kept_is_hidden() {
        let config = config(&["correct-horse-battery"]);
        assert_eq!(redact(b"so it says, and then: correct", true, &config), "so it sa");
    }
}

//! Hides credentials that stand literally in a policy before any of it is quoted.
//!
//! Works line by line on the text, not on the parsed tree, because it must also work when the
//! text does not parse: a credential most often gets quoted exactly when its line is broken.
//! Lengths and line breaks stay the same, so that columns and underlines still fit.

/// Parts of a name that say that its value is a credential.
const NAMES: [&str; 12] = [
    "KEY",
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "AUTHORIZATION",
    "COOKIE",
    "JWT",
    "SIGNATURE",
    "PRIVATE",
];

/// Keys that have such a part in their name, but hold an address.
const PLACES: [&str; 1] = ["token_url"];

/// Starts of well-known credentials.
const PREFIXES: [&str; 10] =
    ["tvly-", "pcsk_", "sk-", "sk_", "ghp_", "github_pat_", "xoxb-", "AKIA", "eyJ", "Bearer "];

/// Whether a name says that its value is a credential.
pub(crate) fn is_credential_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    NAMES.iter().any(|part| name.contains(part))
}

/// Whether a value looks like a credential whatever its name.
pub(crate) fn is_credential(value: &str) -> bool {
    PREFIXES.iter().any(|prefix| value.starts_with(prefix)) || words(value).any(is_token)
}

/// Long words with letters and digits mixed are keys far more often than anything else.
fn is_token(word: &str) -> bool {
    word.len() >= 20
        && word.bytes().any(|byte| byte.is_ascii_digit())
        && word.bytes().any(|byte| byte.is_ascii_lowercase())
        && word.bytes().any(|byte| byte.is_ascii_alphabetic())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !is_word(c)).filter(|word| !word.is_empty())
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '=' | '_' | '-' | '~')
}

/// The text with every literal credential replaced by asterisks of the same length.
pub(crate) fn mask(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut secret_lines = None;
    for line in text.split_inclusive('\n') {
        out.push_str(&mask_line(line, &mut secret_lines));
    }
    out
}

/// Masks one line; `block` is the closing quotes of a credential that spans lines.
fn mask_line(line: &str, block: &mut Option<&'static str>) -> String {
    if let Some(quotes) = *block {
        let end = line.find(quotes);
        if end.is_some() {
            *block = None;
        }
        let (hidden, rest) = line.split_at(end.unwrap_or(line.len()));
        return stars(hidden) + rest;
    }
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((key, value)) = split_assignment(rest) {
        let (name, head) = key;
        out.push_str(head);
        let (literal, tail, opened) = take_literal(value);
        let table = literal.trim_start().starts_with('{');
        if is_credential_name(name) && !table && !PLACES.contains(&name) {
            out.push_str(&stars(literal));
            *block = opened;
        } else {
            out.push_str(&mask_value(literal));
        }
        rest = tail;
    }
    out.push_str(&mask_value(rest));
    out
}

/// Splits `head` up to and with the next `=`, its last word as the name, from what follows.
fn split_assignment(text: &str) -> Option<((&str, &str), &str)> {
    let at = text.find('=')?;
    let (head, value) = text.split_at_checked(at + 1)?;
    let name = head.strip_suffix('=')?.trim_end().trim_end_matches(['"', '\'']);
    let start = name.rfind(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.')));
    let name = name.get(start.map_or(0, |start| start + 1)..).unwrap_or("");
    Some(((name, head), value))
}

/// Takes the literal that a value starts with; without quotes or unclosed it is the whole line.
fn take_literal(value: &str) -> (&str, &str, Option<&'static str>) {
    let blanks = value.len() - value.trim_start().len();
    let body = value.trim_start();
    for quotes in ["\"\"\"", "'''"] {
        if let Some(inner) = body.strip_prefix(quotes) {
            return match inner.find(quotes) {
                Some(end) => split(value, blanks + end + 2 * quotes.len()),
                None => (value, "", Some(quotes)),
            };
        }
    }
    for quote in ['"', '\''] {
        if let Some(inner) = body.strip_prefix(quote) {
            return match closing(inner, quote) {
                Some(end) => split(value, blanks + end + 2),
                None => (value, "", None),
            };
        }
    }
    if body.starts_with(['{', '[']) {
        return split(value, blanks + 1);
    }
    (value, "", None)
}

fn split(value: &str, at: usize) -> (&str, &str, Option<&'static str>) {
    let (literal, tail) = value.split_at_checked(at).unwrap_or((value, ""));
    (literal, tail, None)
}

fn closing(inner: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    inner.char_indices().find_map(|(at, c)| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped && quote == '"';
        ends.then_some(at)
    })
}

/// Masks what looks like a credential whatever its name: user info and long tokens.
fn mask_value(text: &str) -> String {
    let mut out = mask_userinfo(text);
    for prefix in PREFIXES {
        if let Some(at) = out.find(prefix)
            && at > 0
            && let Some((head, tail)) = out.split_at_checked(at)
        {
            let end = tail.find(['"', '\'', '\n']).unwrap_or(tail.len());
            let (secret, rest) = tail.split_at(end);
            let outer =
                if head.ends_with(['"', '\'', ' ']) { stars(secret) } else { secret.to_owned() };
            out = format!("{head}{outer}{rest}");
        }
    }
    let mut masked = String::with_capacity(out.len());
    let mut rest = out.as_str();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        let host = masked.ends_with(['.', '@']) || masked.ends_with("//") || tail.starts_with('.');
        if is_token(word) && !host && !masked.ends_with("${") {
            masked.push_str(&stars(word));
        } else {
            masked.push_str(word);
        }
        let next = tail.chars().next().map_or(0, char::len_utf8);
        let (other, tail) = tail.split_at(next);
        masked.push_str(other);
        rest = tail;
    }
    masked
}

fn mask_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        let end = tail.find(['/', '"', '\'', ' ', '?', '#', '\n']).unwrap_or(tail.len());
        let user = tail.get(..end).and_then(|authority| authority.rfind('@')).unwrap_or(0);
        let (user, tail) = tail.split_at(user);
        out.push_str(head);
        out.push_str(&stars(user));
        rest = tail;
    }
    out + rest
}

/// Asterisks for everything but quotes at the ends, blanks, line breaks and `${…}`.
fn stars(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("${")
            && let Some(end) = rest.find('}')
            && let Some((braced, tail)) = rest.split_at_checked(end + 1)
            && !braced.contains('\n')
        {
            let shown = braced.find(":-").map_or(braced.len(), |at| at + 2);
            let (shown, default) = braced.split_at(shown);
            out.push_str(shown);
            out.push_str(&"*".repeat(default.len().saturating_sub(1)));
            if !default.is_empty() {
                out.push('}');
            }
            rest = tail;
            continue;
        }
        if c.is_whitespace() || matches!(c, '"' | '\'') {
            out.push(c);
        } else {
            out.push_str(&"*".repeat(c.len_utf8()));
        }
        rest = rest.get(c.len_utf8()..).unwrap_or("");
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn literal_credentials_are_hidden_and_references_are_not() {
        for (line, shown) in [
            ("PINECONE_API_KEY = \"abc\"", "PINECONE_API_KEY = \"***\""),
            (
                "env = { API_KEY = \"${API_KEY}\", HOST = \"h\" }",
                "env = { API_KEY = \"${API_KEY}\", HOST = \"h\" }",
            ),
            ("env = { API_KEY = \"x\", HOST = \"h\" }", "env = { API_KEY = \"*\", HOST = \"h\" }"),
            ("Authorization = \"Bearer abc\"", "Authorization = \"****** ***\""),
            ("API_KEY = \"${A:-fallback}\"", "API_KEY = \"${A:-********}\""),
            ("url = \"redis://user:pass@h:1\"", "url = \"redis://*********@h:1\""),
            ("API_KEY = \"unclosed", "API_KEY = \"********"),
            ("x = \"pcsk_12\"", "x = \"*******\""),
            ("x = \"abcdefghij0123456789\"", "x = \"********************\""),
            ("interval = \"10s\"", "interval = \"10s\""),
            ("token = { jwt = { secret = \"abc\" } }", "token = { jwt = { secret = \"***\" } }"),
            ("token_url = \"https://u:p@h/t\"", "token_url = \"https://***@h/t\""),
            (
                "url = \"https://abcdefghij0123456789.example.com\"",
                "url = \"https://abcdefghij0123456789.example.com\"",
            ),
            (
                "url = \"https://index-1.svc.example.com/a\"",
                "url = \"https://index-1.svc.example.com/a\"",
            ),
        ] {
            assert_eq!(mask(line), shown);
        }
    }

    #[test]
    fn a_key_over_several_lines_is_hidden_to_its_end() {
        let shown = mask("PRIVATE_KEY = '''\nabc\ndef'''\nname = 'x'\n");
        assert_eq!(shown, "PRIVATE_KEY = '''\n***\n***'''\nname = 'x'\n");
    }

    proptest! {
        #[test]
        fn nothing_moves(text in "(?s).{0,200}") {
            let shown = mask(&text);
            prop_assert_eq!(shown.len(), text.len());
            prop_assert_eq!(shown.matches('\n').count(), text.matches('\n').count());
        }
    }
}

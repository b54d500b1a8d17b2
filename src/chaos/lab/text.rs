//! A policy as a table, and the table as text again.
//!
//! Owns the little that a lab changes in somebody's policy before it plays it.

use std::collections::BTreeMap;

use toml::{Table, Value};

/// Before the names of variables in a lab: none of the real ones is read.
const PREFIX: &str = "CHAOS_";

/// Values of a lab's variables.
pub(super) type Variables = BTreeMap<String, String>;

/// Gives every variable and file that a policy names a name of the lab's own, and a value that is
/// no secret.
pub(super) fn rename(value: &mut Value, variables: &mut Variables) {
    match value {
        Value::String(text) => *text = renamed(text, variables),
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, variables)),
        Value::Table(table) => table.iter_mut().for_each(|(_, item)| rename(item, variables)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

fn renamed(text: &str, variables: &mut Variables) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            out.push_str("${");
            out.push_str(after);
            return out;
        };
        rest = tail;
        // A dollar sign that is doubled stands for itself; what an endpoint knows of itself stays.
        if before.ends_with('$') || name.starts_with("endpoint.") {
            let line = format!("${{{name}}}");
            out.push_str(&line);
            continue;
        }
        let (plain, default) = name.split_once(":-").unwrap_or((name, ""));
        let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let word: String = plain.chars().map(letter).collect();
        let own = format!("{PREFIX}{word}");
        let value = if default.is_empty() { format!("lab-{word}") } else { default.to_owned() };
        variables.insert(own.clone(), value);
        let line = format!("${{{own}}}");
        out.push_str(&line);
    }
    out.push_str(rest);
    out
}

/// The table as TOML, one line a key at the top.
pub(super) fn write(table: &Table) -> String {
    let lines = table.iter().map(|(key, value)| format!("{} = {}\n", quoted(key), inline(value)));
    lines.collect()
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(truth) => truth.to_string(),
        Value::Datetime(time) => time.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(table) => {
            let pair =
                |(key, value): (&String, &Value)| format!("{} = {}", quoted(key), inline(value));
            let pairs: Vec<String> = table.iter().map(pair).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

/// A basic string: JSON's escapes are TOML's, but for one character that JSON does not escape.
fn quoted(text: &str) -> String {
    let text = serde_json::Value::from(text).to_string();
    text.replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_variable_of_the_real_environment_is_read() {
        let mut variables = Variables::new();
        let text = "a ${KEY} b ${file:/run/k} c ${X:-d} ${endpoint.env.Y} $${Z}";
        let out = renamed(text, &mut variables);
        assert_eq!(
            out,
            "a ${CHAOS_KEY} b ${CHAOS_file__run_k} c ${CHAOS_X} ${endpoint.env.Y} $${Z}"
        );
        assert_eq!(variables.get("CHAOS_KEY").map(String::as_str), Some("lab-KEY"));
        assert_eq!(variables.get("CHAOS_X").map(String::as_str), Some("d"));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(
            text in ".*", number in any::<i64>(), truth in any::<bool>(), key in ".+",
        ) {
            let mut inner = Table::new();
            inner.insert(key, Value::String(text.clone()));
            inner.insert("n".into(), Value::Integer(number));
            let mut table = Table::new();
            table.insert("list".into(), Value::Array(vec![Value::Table(inner), Value::Boolean(truth)]));
            table.insert("text".into(), Value::String(text));
            table.insert("rate".into(), Value::Float(0.25));
            let back: Table = write(&table).parse().expect("what we write is TOML");
            prop_assert_eq!(back, table);
        }

        #[test]
        fn renaming_leaves_nothing_of_other_names(text in "[a-z${}:-]*") {
            let mut variables = Variables::new();
            let out = renamed(&text, &mut variables);
            // Doing it again changes nothing but the prefix: it never loses text.
            prop_assert!(out.len() >= text.len() || text.contains(":-"));
        }
    }
}

//! How a value is written so that the format's own reader gets it back.
//!
//! Lies with the policy, because a value that its format cannot carry is a fault of the policy:
//! it is refused there, before a switch would fail on it. The outputs write with the same code.
//!
//! A value that would come back changed is refused: a wrong credential is worse than an old one.

use crate::policy::model::EnvFormat;

/// Docker's client reads lines into a buffer of this size.
const DOCKER_LINE: usize = 64 * 1024;

/// One assignment, with its line break.
///
/// # Errors
/// Why the format cannot carry the value; goes on from "the value …" and holds none of it.
pub fn line(format: EnvFormat, name: &str, value: &str) -> Result<String, &'static str> {
    match format {
        EnvFormat::Dotenv => dotenv(value).map(|value| format!("{name}={value}\n")),
        EnvFormat::Docker => docker(name, value).map(|value| format!("{name}={value}\n")),
        EnvFormat::Systemd => systemd(value).map(|value| format!("{name}={value}\n")),
        EnvFormat::Shell => Ok(format!("export {name}='{}'\n", value.replace('\'', r"'\''"))),
        EnvFormat::Json => Ok(format!("  {}: {},\n", json(name), json(value))),
    }
}

/// The format's name in the policy.
#[must_use]
pub const fn label(format: EnvFormat) -> &'static str {
    match format {
        EnvFormat::Dotenv => "dotenv",
        EnvFormat::Docker => "docker",
        EnvFormat::Systemd => "systemd",
        EnvFormat::Shell => "shell",
        EnvFormat::Json => "json",
    }
}

fn json(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}

/// python-dotenv and node's dotenv disagree on escapes, so only quotings that both read the same
/// are used: neither undoes `\"` alike, both take a single-quoted value almost as it stands.
fn dotenv(value: &str) -> Result<String, &'static str> {
    let expands = value.split_once("${").is_some_and(|(_, rest)| rest.contains('}'));
    if expands {
        return Err("has ${…}, which python-dotenv expands even between quotes");
    }
    if !value.is_empty() && value.chars().all(plain) {
        Ok(value.to_owned())
    } else if fits_single_quotes(value) {
        Ok(format!("'{value}'"))
    } else if fits_double_quotes(value) {
        Ok(format!("\"{}\"", value.replace('\r', "\\r")))
    } else if fits_bare(value) {
        Ok(value.to_owned())
    } else {
        Err("has no quoting that python-dotenv and node's dotenv read alike")
    }
}

const fn plain(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(c, '_' | '-' | '.' | '/' | ':' | '@' | '%' | '+' | ',' | '=' | '~')
}

/// Python undoes `\\` and `\'` in there, node nothing; both would turn a carriage return around.
fn fits_single_quotes(value: &str) -> bool {
    !value.contains(['\'', '\r']) && !value.contains("\\\\") && !value.ends_with('\\')
}

/// Both undo `\n` and `\r`, python alone everything else that it knows.
fn fits_double_quotes(value: &str) -> bool {
    let undone = |next: char| "\\'\"abfnrtv\r".contains(next);
    let mut pairs = value.chars().zip(value.chars().skip(1));
    !value.contains('"')
        && !value.ends_with('\\')
        && !pairs.any(|(first, second)| first == '\\' && undone(second))
}

/// Without quotes both take the rest of the line, cut at `#` and trimmed.
fn fits_bare(value: &str) -> bool {
    let odd = |c: char| c.is_control() || "#\u{2028}\u{2029}\u{feff}".contains(c);
    !value.is_empty()
        && value.trim() == value
        && !value.starts_with(['\'', '"', '`'])
        && !value.contains(odd)
}

/// Docker takes the rest of the line as it stands.
fn docker<'a>(name: &str, value: &'a str) -> Result<&'a str, &'static str> {
    if value.contains(['\n', '\r']) {
        Err("has a line break")
    } else if name.len() + value.len() + 2 > DOCKER_LINE {
        Err("is longer than the 64 KiB that docker reads as a line")
    } else {
        Ok(value)
    }
}

/// Within double quotes systemd undoes exactly these four, in every release.
fn systemd(value: &str) -> Result<String, &'static str> {
    if value.contains(|c: char| c.is_control() && c != '\n' && c != '\t') {
        return Err("has a control character, for which systemd drops the whole variable");
    }
    let mut quoted = String::with_capacity(value.len() * 2 + 2);
    quoted.push('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '`' | '$') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    Ok(quoted)
}

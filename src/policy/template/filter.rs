//! The filters that stand beside the engine's own.

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};

use crate::policy::escape;
use crate::policy::model::EnvFormat;
use crate::policy::template::quote::{self, refused};

/// Adds all of them.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("tojson", to_json);
    environment.add_filter("shell", shell);
    environment.add_filter("systemd", systemd);
    environment.add_filter("ini", ini);
}

/// As JSON, which YAML reads too, and TOML but for tables.
#[expect(clippy::needless_pass_by_value, reason = "the engine hands options over")]
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let pretty = options.get::<Option<bool>>("pretty")?.unwrap_or(false);
    options.assert_all_used()?;
    Ok(Value::from_safe_string(quote::to_json(value, pretty)?))
}

/// As one word of a POSIX shell.
fn shell(value: &Value) -> Result<Value, Error> {
    quoted(EnvFormat::Shell, value)
}

/// As a value in a unit file or an `EnvironmentFile=`.
fn systemd(value: &Value) -> Result<Value, Error> {
    quoted(EnvFormat::Systemd, value)
}

fn quoted(format: EnvFormat, value: &Value) -> Result<Value, Error> {
    let line = escape::line(format, "X", text(value)?)
        .map_err(|_why| refused("a control character, which this quoting cannot carry"))?;
    let quoted = line.split_once('=').map_or("", |(_, quoted)| quoted);
    Ok(Value::from_safe_string(quoted.strip_suffix('\n').unwrap_or(quoted).to_owned()))
}

/// As the rest of a line: refuses what would end the line or be trimmed.
fn ini(value: &Value) -> Result<Value, Error> {
    let text = text(value)?;
    if text.chars().any(char::is_control) || text.contains(['\u{2028}', '\u{2029}']) {
        return Err(refused("a line break or control character, which would start a new line"));
    }
    if text.trim() != text {
        return Err(refused("a blank at its beginning or end, which a reader would drop"));
    }
    Ok(Value::from_safe_string(text.to_owned()))
}

fn text(value: &Value) -> Result<&str, Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    value.as_str().ok_or_else(|| refused("this filter takes text only"))
}

//! How a value is written.
//!
//! One way of quoting serves JSON, YAML and TOML: a double-quoted string whose escapes all three
//! read alike, with everything escaped that only one of them would stumble over.

use std::fmt::Write as _;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Output, Value};

use crate::policy::model::Quoting;
use crate::policy::template::fault::Anything;

/// Lists and tables nest no deeper.
const DEPTH: usize = 32;

/// Why a value cannot be written; it goes on from "…: ".
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refusal(pub(super) &'static str);

/// An error that may be shown as it is.
pub(super) fn refused(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, why).with_source(Refusal(why))
}

/// Writes a value into the text.
pub(super) fn write(out: &mut Output<'_>, quoting: Quoting, value: &Value) -> Result<(), Error> {
    if let (Quoting::Plain, Some(text)) = (quoting, value.as_str()) {
        return Ok(out.write_str(text)?);
    }
    if value.downcast_object_ref::<Anything>().is_some() {
        return Ok(());
    }
    let text = match (quoting, value.kind()) {
        (Quoting::Plain, ValueKind::Undefined) => String::new(),
        (_, ValueKind::Undefined) => return Err(refused("an `if` without `else` gave nothing")),
        (Quoting::Plain | Quoting::Toml, ValueKind::None) => {
            return Err(refused("`none` has no text of its own"));
        }
        (Quoting::Plain, ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) => {
            return Err(refused("a list or table has no text of its own; `|tojson` gives it one"));
        }
        (Quoting::Toml, ValueKind::Map) => {
            return Err(refused("a table is not written in one go"));
        }
        _ => json(value)?.to_string(),
    };
    Ok(out.write_str(&unambiguous(&text))?)
}

/// As JSON, which YAML and, tables apart, TOML read alike.
pub(super) fn to_json(value: &Value, pretty: bool) -> Result<String, Error> {
    let json = json(value)?;
    let text = if pretty { format!("{json:#}") } else { json.to_string() };
    Ok(unambiguous(&text))
}

fn json(value: &Value) -> Result<serde_json::Value, Error> {
    nested(value, DEPTH)
}

fn nested(value: &Value, depth: usize) -> Result<serde_json::Value, Error> {
    let Some(below) = depth.checked_sub(1) else {
        return Err(refused("lists or tables that nest too deep"));
    };
    if let Some(text) = value.as_str() {
        return Ok(text.into());
    }
    match value.kind() {
        ValueKind::Undefined => Err(ErrorKind::UndefinedError.into()),
        ValueKind::None => Ok(serde_json::Value::Null),
        ValueKind::Bool => Ok(value.is_true().into()),
        ValueKind::Number => number(value),
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter()?.map(|item| nested(&item, below)).collect()
        }
        ValueKind::Map => {
            let member = |key: Value| {
                let name = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                Ok((name, nested(&value.get_item(&key)?, below)?))
            };
            let members = value.try_iter()?.map(member).collect::<Result<_, Error>>()?;
            Ok(serde_json::Value::Object(members))
        }
        ValueKind::String | ValueKind::Bytes | ValueKind::Plain | ValueKind::Invalid | _ => {
            Err(refused("a value of a kind that has no text"))
        }
    }
}

fn number(value: &Value) -> Result<serde_json::Value, Error> {
    if let Ok(whole) = i64::try_from(value.clone()) {
        return Ok(whole.into());
    }
    if let Ok(whole) = u64::try_from(value.clone()) {
        return Ok(whole.into());
    }
    let real = f64::try_from(value.clone())?;
    serde_json::Number::from_f64(real).map(Into::into).ok_or_else(|| refused("not a number"))
}

/// Escapes what only some readers take as it is. In JSON it can stand within quotes only.
fn unambiguous(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        let odd = matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
            || matches!(c, '\u{fffe}' | '\u{ffff}');
        if odd {
            // Writing to a string cannot fail.
            write!(out, "\\u{:04x}", u32::from(c)).unwrap_or_default();
        } else {
            out.push(c);
        }
    }
    out
}

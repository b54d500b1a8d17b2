//! How a value is written so that the format's own reader gets it back, with this room's error.

use crate::output::OutputError;
use crate::policy::escape;
use crate::policy::model::EnvFormat;

/// One assignment, with its line break.
pub(super) fn line(format: EnvFormat, name: &str, value: &str) -> Result<String, OutputError> {
    escape::line(format, name, value).map_err(|why| refused(format, name, why))
}

pub(super) fn refused(format: EnvFormat, name: &str, why: &'static str) -> OutputError {
    OutputError::Uncarriable { name: name.into(), format: escape::label(format), why }
}

pub(super) fn json(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}

//! The JSON Schema of `failover.toml`, for completion in editors.
//!
//! Made from the same definitions that read the file; a test keeps the copy in `policies/` current.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::policy::raw::File;

/// The schema.
#[must_use]
pub fn json() -> Value {
    let schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<File>();
    let mut schema = schema.to_value();
    if let Some(top) = schema.as_object_mut() {
        top.insert("title".to_owned(), Value::from("mcp-failover policy"));
    }
    schema
}

//! The JSON Schema of `failover.toml`, for completion in editors.
//!
//! The copy in `policies/` is the schema; a test makes it from the same definitions that read the file
//! and keeps it current. Making it costs a quarter of a megabyte of code, which a sidecar need not carry.

/// The schema, as JSON.
pub const TEXT: &str = include_str!("../../policies/failover.schema.json");

#[cfg(test)]
mod tests {
    use std::path::Path;

    use schemars::generate::SchemaSettings;
    use serde_json::Value;

    use super::TEXT;
    use crate::policy::raw::File;

    #[test]
    fn the_schema_in_the_tree_is_current() {
        let schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<File>();
        let mut schema = schema.to_value();
        let top = schema.as_object_mut().expect("an object");
        top.insert("title".to_owned(), Value::from("mcp-failover policy"));
        let now = format!("{schema:#}\n");
        if std::env::var_os("MCPF_BLESS").is_some() {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/failover.schema.json");
            std::fs::write(path, &now).expect("written");
            return;
        }
        assert!(now == TEXT, "policies/failover.schema.json is old; MCPF_BLESS=1 writes it anew");
    }
}

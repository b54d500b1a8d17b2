//! Fills arbitrary text in as a template. It must end, stay within its bound, and say nothing of
//! the values.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use mcp_failover::core::id::Revision;
use mcp_failover::policy::model::{Quoting, Template};
use mcp_failover::policy::secret::Secret;
use mcp_failover::policy::template::{Context, Facts, MAX_BYTES, render};

const CANARY: &str = "canary-6c1f0d";

fuzz_target!(|text: &str| {
    if text.contains(CANARY) {
        return;
    }
    let env = BTreeMap::from([("KEY".to_owned(), Secret::from(CANARY))]);
    let facts =
        Facts { endpoint: "primary", url: "", env: &env, from: "backup", cause: "", kind: "" };
    let services = BTreeMap::from([("search", facts), ("graph-db", facts)]);
    let context = Context { revision: Revision::new(7), services };
    for quoting in [Quoting::Plain, Quoting::Json, Quoting::Yaml, Quoting::Toml] {
        let template = Template { text: Secret::from(text), quoting };
        match render(&template, &context) {
            Ok(bytes) => assert!(bytes.len() <= MAX_BYTES),
            Err(fault) => assert!(!format!("{fault} {fault:?}").contains(CANARY), "{fault:?}"),
        }
    }
});

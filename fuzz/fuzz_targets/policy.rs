//! Compiles arbitrary text. It must not panic, and nothing that is said about a policy may hold
//! the value of a variable or a file.
//!
//! `cargo +nightly fuzz run policy fuzz/corpus/policy policies` starts from the samples.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mcp_failover::policy::{Lookup, Source, compile, diagnostic};

const CANARY: &str = "canary-6c1f0d";

/// Every variable is set and every file exists; the value's shape depends on the name.
struct Canaries;

impl Canaries {
    fn value(name: &str) -> String {
        match name.len() % 4 {
            0 => format!("https://{CANARY}.example.com/x"),
            1 => format!("{CANARY}\nmore"),
            2 => format!("gopher://{CANARY}:x@y z"),
            _ => CANARY.to_owned(),
        }
    }
}

impl Lookup for Canaries {
    fn var(&self, name: &str) -> Option<String> {
        Some(Self::value(name))
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        Ok(Self::value(&path.to_string_lossy()))
    }
}

fuzz_target!(|text: &str| {
    if text.contains(CANARY) {
        return;
    }
    let source = Source { name: "failover.toml", text };
    let found = match compile(&source, &Canaries) {
        Ok(compiled) => compiled.warnings,
        Err(found) => {
            assert!(found.errors() > 0, "refused without an error");
            found.0
        }
    };
    let text = diagnostic::render_text(&found, &source, false);
    let json = diagnostic::render_json(&found, &source).to_string();
    assert!(!text.contains(CANARY) && !json.contains(CANARY), "{text}");
});

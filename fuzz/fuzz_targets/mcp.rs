//! Reads arbitrary bytes as an MCP server's answer. It must not panic, and how an event stream is
//! cut up must not matter.
//!
//! `cargo +nightly fuzz run mcp`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_failover::probe::codec::mcp::dissect;

fuzz_target!(|bytes: &[u8]| {
    let whole = dissect(bytes, bytes.len());
    for piece in [1, 2, 7] {
        assert_eq!(dissect(bytes, piece), whole);
    }
});

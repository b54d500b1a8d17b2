//! Reads arbitrary bytes as messages of a PostgreSQL server, and what they carry as steps of a
//! login. It must not panic, must end, and must not take on more work than its limit.
//!
//! `cargo +nightly fuzz run postgres` starts from nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_failover::probe::codec::postgres::{self, Authentication, Message};
use mcp_failover::probe::codec::scram::Challenge;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some((message, used))) = postgres::read(rest) {
        assert!(used > 0 && used <= rest.len());
        if let Message::Authentication(Authentication::SaslContinue(step)) = message {
            drop(Challenge::read("nonce", step));
        }
        rest = &rest[used..];
    }
    drop(Challenge::read("nonce", bytes));
});

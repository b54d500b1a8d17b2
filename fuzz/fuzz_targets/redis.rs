//! Reads arbitrary bytes as replies of Redis. It must not panic, must end, and a reply must not
//! depend on what comes after it.
//!
//! `cargo +nightly fuzz run redis` starts from nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_failover::resp;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some((reply, used))) = resp::read(rest) {
        assert!(used > 0 && used <= rest.len());
        assert_eq!(resp::read(&rest[..used]), Ok(Some((reply, used))));
        rest = &rest[used..];
    }
});

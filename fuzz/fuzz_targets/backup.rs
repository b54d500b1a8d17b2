//! Reads arbitrary bytes as a backup of the state. It must not panic, and what it takes for a backup
//! must come out again as the bytes that went in.
//!
//! `cargo +nightly fuzz run backup` starts from nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_failover::store::backup::Backup;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(backup) = Backup::decode(bytes) {
        let again = backup.encode().expect("it was read");
        assert_eq!(Backup::decode(&again).as_ref(), Ok(&backup));
    }
});

//! Reads arbitrary bytes as Bolt's chunks, and as values of `PackStream`. It must not panic, keep
//! more than a message, or read a value that it cannot write again.
//!
//! `cargo +nightly fuzz run bolt`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_failover::probe::codec::chunk::{Assembler, MESSAGE_MAX};
use mcp_failover::probe::codec::packstream::{Packer, decode};

fn read(message: &[u8]) {
    if let Ok(value) = decode(message) {
        let mut packer = Packer::new();
        packer.value(&value);
        let written = packer.into_bytes();
        let again = decode(&written).expect("what was read can be written");
        // By their looks: a `NaN` differs from itself.
        assert_eq!(format!("{again:?}"), format!("{value:?}"));
    }
}

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    let mut assembler = Assembler::default();
    let mut rest = bytes;
    while let Ok(Some(message)) = assembler.take(&mut rest) {
        assert!(message.len() <= MESSAGE_MAX);
        read(&message);
    }
});

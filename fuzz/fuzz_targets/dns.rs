//! Reads arbitrary bytes as the answer to a DNS question, of every kind of record. It must not
//! panic, and pointers must not lead it round in circles.
//!
//! `cargo +nightly fuzz run dns` starts from nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_failover::probe::codec::dns::{Question, kind};

fuzz_target!(|bytes: &[u8]| {
    for kind in [kind::A, kind::AAAA, kind::CNAME, kind::TXT, kind::SRV] {
        let Some(question) = Question::new(0, "www.example.com", kind) else { return };
        drop(question.read(bytes));
        // Past the head and the question, which would be hard to guess.
        let mut message = question.message();
        message[2] = 0x81;
        message[7] = 9;
        message.extend(bytes);
        drop(question.read(&message));
    }
});

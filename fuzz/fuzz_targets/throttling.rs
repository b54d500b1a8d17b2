//! Reads arbitrary headers as waits and rate limits. It must not panic, and nobody is obeyed for
//! longer than a day.
//!
//! `cargo +nightly fuzz run throttling`

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_failover::probe::fuzz_throttling;

fuzz_target!(|values: [&[u8]; 3]| fuzz_throttling(values));

//! Reads arbitrary bytes as the body of a gRPC answer, cut into pieces of any size. It must not
//! panic.
//!
//! `cargo +nightly fuzz run grpc`

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_failover::probe::fuzz_grpc;

fuzz_target!(|input: (usize, &[u8])| fuzz_grpc(input.1, input.0));

//! Finds out whether an endpoint serves: one file a protocol over one dialler.
//!
//! A probe never errs. Whatever happens, from a name that does not resolve to a server that
//! sends garbage for ever, ends in a [`Report`] with a typed outcome within the deadline of the
//! attempt. It decides nothing: what an outcome means for health is the core's business.
//!
//! Invariants
//! 1. One deadline covers the whole attempt: resolving, connecting, TLS, request and body.
//! 2. One attempt uses one address, on a fresh connection: a kept one would hide a dead listener.
//!    Every address is tried where the policy asks for that, each by an attempt of its own.
//!    Only where the policy asks for it, a connection or a stream of health outlives its attempt.
//! 3. What is read from a peer is bounded, and what is kept of it more so.
//! 4. No redirect is followed, no proxy variable is read, and TLS never falls back to plain text.
//! 5. A detail holds nothing that a peer sent beyond its status, and no secret of ours.
//! 6. Our own faults (no route, no descriptors, no resolver) are `local`, never the endpoint's.

mod address;
mod bolt;
mod channel;
mod clock;
pub mod codec;
mod dial;
mod digest;
mod dns;
mod exec;
mod expect;
mod finding;
mod grpc;
mod http;
mod identity;
mod kept;
mod link;
mod mcp;
mod neo4j;
mod neo4j_code;
mod panel;
mod postgres;
mod prober;
mod quota;
mod random;
mod redis;
mod report;
mod resolve;
mod retry_after;
mod several;
mod span;
mod tcp;
mod tls;
mod token;
mod trace;
mod wire;

#[doc(hidden)]
pub use grpc::message::fuzz as fuzz_grpc;
#[doc(hidden)]
pub use retry_after::fuzz as fuzz_throttling;

pub use prober::{ProbeSetupError, Prober};
pub use report::{Phases, Quota, Report};

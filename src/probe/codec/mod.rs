//! Foreign bytes to values and back: pure, bounded, and public so that they can be fuzzed.
//!
//! Every reader takes what has come so far and says one of three things: a value and how many
//! bytes it took, nothing yet, or that this is not the protocol. None allocates by a length that
//! only a peer claims.

pub mod chunk;
pub mod dns;
pub mod mcp;
pub mod packstream;
pub mod postgres;
pub mod scram;

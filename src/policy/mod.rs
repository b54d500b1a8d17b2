//! `failover.toml` text to a compiled policy, or every diagnostic at once.
//!
//! Pure: text and a lookup for variables and files in, values out. No clock, no I/O.

pub mod model;
pub mod secret;

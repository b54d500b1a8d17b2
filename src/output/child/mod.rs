//! The MCP server as a child of ours.
//!
//! Owns the way a switch becomes effective in a server that speaks over its standard streams,
//! without its client noticing: [`session`] keeps the client's session over a change of the
//! server's process.

pub mod session;

//! What an MCP server answers: JSON-RPC, on its own or in an event stream.

/// Reads the bytes in every way that an attempt might: as an event stream that comes in pieces of
/// this size, and as one message, and each reply as the answer to every question. Says how many
/// replies there were.
#[must_use]
pub fn dissect(bytes: &[u8], piece: usize) -> usize {
    crate::probe::mcp::dissect(bytes, piece)
}

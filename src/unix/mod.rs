//! Unix sockets: making the file, telling who calls, and reading lines of bounded length.
//!
//! What the operators' socket and the one for servers have in common. Knows neither's protocol.
//!
//! Invariants
//! 1. A live socket is never taken over: only one on which nobody accepts is replaced.
//! 2. A line costs at most what its reader allows, whatever is sent.

mod lines;
mod socket;

pub use lines::{Line, LineReader};
pub use socket::{Access, SocketFile};

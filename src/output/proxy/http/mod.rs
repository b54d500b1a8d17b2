//! HTTP: request by request, to whichever endpoint serves.
//!
//! | File | Owns |
//! |---|---|
//! | `serve` | a caller's connection |
//! | `exchange` | one request over all its attempts |
//! | `head` | what is changed about heads |
//! | `replay`, `tied` | bodies, up and down |
//! | `pool` | connections kept to an upstream |
//! | `verdict` | what an answer says about an upstream |
//! | `budget` | how much may be sent twice |
//! | `affinity`, `session`, `reopen` | MCP sessions that outlive the server that opened them |
//! | `upgrade` | `WebSocket` and whatever else goes on after a request |

mod affinity;
mod budget;
mod exchange;
mod head;
pub(super) mod pool;
mod reopen;
mod replay;
mod serve;
mod session;
mod tied;
mod upgrade;
mod verdict;

pub(super) use budget::Budget;
pub(super) use exchange::exchange;
pub(super) use head::set_headers;
pub(super) use serve::{Arrival, Refusal, Reply, converse, converse_h1, converse_h2};
pub(super) use session::Sessions;

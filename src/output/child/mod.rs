//! The MCP server as a child of ours.
//!
//! Owns the server's processes and the way a switch becomes effective in them. A server that
//! speaks over its standard streams is replaced without its client noticing: [`session`] decides
//! what each side reads, [`plan`] when a process is started and ended, and `supervisor` does it.
//! Any other server has its streams to itself and is restarted or signalled.
//!
//! Invariants
//! 1. A process is started with our environment and the variables of the active endpoints, which
//!    go nowhere else: not to a log, not to a command line.
//! 2. No process outlives us: each has a group of its own that is ended with it, dies when we die,
//!    and is ended by force when it does not heed.
//! 3. A new process that does not come up costs nothing: the old one goes on, it is said, and tried
//!    again.
//! 4. Whatever its client does not read, or the server does not, nothing is kept without bound.

mod event;
mod follow;
mod guard;
mod init;
pub mod plan;
mod process;
mod reaper;
pub mod session;
mod settings;
mod streams;
mod supervisor;
mod way;

pub use event::ChildEvent;
pub use follow::{DOORS_WAIT, follow};
pub use guard::{Guard, guard};
pub use init::{become_command, die_with_parent};
pub use settings::{CONFIG_WAIT, Command, Given};
pub use supervisor::{Ended, Orders, supervise};

//! Wires everything: start, loop, reload, drain.
//!
//! Owns the clocks, the one task that owns the engine, and the order in which things begin and
//! end. It decides nothing: it tells the engine what happened and carries out what it asks.

mod alarm;
mod backup;
mod begin;
mod calls;
mod clock;
mod dispatch;
mod driver;
mod keeper;
mod lapse;
mod lifecycle;
mod orders;
mod outputs;
mod readers;
mod recover;
mod redis;
mod references;
mod reload;
mod server;
mod sharing;
mod start;
mod surfaces;
mod uptake;

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::output::child::Command;

pub use clock::{Clock, rfc3339};
pub use start::run;

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The policy file.
    pub policy_path: PathBuf,
    /// Where state is kept, instead of where the policy says.
    pub state_dir: Option<PathBuf>,
    /// Cancelled from outside to drain and return.
    pub shutdown: CancellationToken,
    /// Whether SIGTERM, SIGINT and SIGHUP are taken over.
    pub handle_signals: bool,
    /// Whether an invalid policy at start is fatal even if a last good one is on disk.
    pub strict: bool,
    /// The MCP server, when we are the one who runs it.
    pub command: Option<Command>,
}

impl RunOptions {
    /// Runs `policy_path` as a service would: signals taken over, last good policy accepted.
    #[must_use]
    pub fn new(policy_path: PathBuf) -> Self {
        Self {
            policy_path,
            state_dir: None,
            shutdown: CancellationToken::new(),
            handle_signals: true,
            strict: false,
            command: None,
        }
    }
}

/// Why the sidecar did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The policy file cannot be read, and no last good policy is on disk.
    #[error("read the policy")]
    PolicyUnreadable(#[source] crate::watch::ReadError),
    /// The policy does not compile, and no last good one is on disk.
    #[error("compile the policy {path}")]
    PolicyInvalid {
        /// The file.
        path: PathBuf,
        /// The diagnostics, for people.
        text: String,
        /// The diagnostics, for programs.
        json: serde_json::Value,
    },
    /// Another sidecar holds the state directory.
    #[error("use the state directory {dir}")]
    State {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        #[source]
        source: crate::store::StoreError,
    },
    /// Probing cannot be set up.
    #[error("set up probing")]
    Probing(#[source] crate::probe::ProbeSetupError),
    /// The system refuses something basic.
    #[error("start")]
    System(#[from] std::io::Error),
}

//! What becomes of the server, for logs, metrics and status.

use std::time::Duration;

use crate::core::id::Revision;
use crate::output::child::session::{Generation, Unfit};

/// Something that a person or a metric should know. No text in here holds a value of a variable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ChildEvent {
    /// A process was started.
    Started {
        /// Which.
        generation: Generation,
        /// The revision whose variables it has.
        revision: Revision,
        /// Its process id.
        pid: u32,
    },
    /// A revision is effective: the process that serves has its variables, proven by its answer to
    /// the handshake where it gives one.
    Effective {
        /// The process.
        generation: Generation,
        /// The revision.
        revision: Revision,
        /// From taking up the revision.
        took: Duration,
    },
    /// The process that serves was signalled that there is a new revision.
    Signalled {
        /// The revision.
        revision: Revision,
    },
    /// A process with a new revision did not come up; the one before goes on if there is one.
    SwitchFailed {
        /// The process.
        generation: Generation,
        /// The revision.
        revision: Revision,
        /// Why.
        why: Unfit,
        /// When it is tried again.
        retry: Duration,
    },
    /// A process ended.
    Ended {
        /// Which.
        generation: Generation,
        /// Its exit code, or 128 and the signal.
        code: u8,
        /// Whether it was told to.
        wanted: bool,
        /// How long it lived.
        uptime: Duration,
    },
    /// A process could not be started.
    NotStarted {
        /// The revision.
        revision: Revision,
        /// When it is tried again.
        retry: Duration,
    },
    /// A request of the client was answered in the server's place.
    Substituted {
        /// Why.
        reason: &'static str,
    },
}

impl ChildEvent {
    /// Writes it to the log.
    pub fn log(&self) {
        match self {
            Self::Started { generation, revision, pid } => {
                tracing::info!(%generation, %revision, pid, "the server was started");
            }
            Self::Effective { generation, revision, took } => {
                let took_seconds = took.as_secs_f64();
                tracing::info!(%generation, %revision, took_seconds, "the server uses the revision");
            }
            Self::Signalled { revision } => tracing::info!(%revision, "the server was signalled"),
            Self::SwitchFailed { generation, revision, why, retry } => {
                let retry_seconds = retry.as_secs_f64();
                tracing::error!(
                    %generation, %revision, retry_seconds,
                    "the new server process does not take over: {why}"
                );
            }
            Self::Ended { generation, code, wanted: true, uptime } => {
                let uptime_seconds = uptime.as_secs_f64();
                tracing::info!(%generation, code, uptime_seconds, "a server process ended");
            }
            Self::Ended { generation, code, wanted: false, uptime } => {
                let uptime_seconds = uptime.as_secs_f64();
                tracing::error!(%generation, code, uptime_seconds, "the server's process ended");
            }
            Self::NotStarted { revision, retry } => {
                let retry_seconds = retry.as_secs_f64();
                tracing::error!(%revision, retry_seconds, "the server cannot be started");
            }
            Self::Substituted { reason } => {
                tracing::warn!(reason, "a request was answered in the server's place");
            }
        }
    }
}

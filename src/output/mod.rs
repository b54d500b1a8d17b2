//! Where the active configuration goes.
//!
//! Owns the path from a published configuration to bytes that a server reads, and the word to
//! that server that there is something to read. It decides nothing: which endpoint is active is
//! settled before it is called. It never writes a value anywhere but into its own file.
//!
//! Invariants
//! 1. A reader that opens the file at any instant, and after any crash, sees one whole published
//!    revision: a host and its key are always of the same endpoint.
//! 2. A write that fails leaves the old file as it was and is tried again until it works or a
//!    newer configuration takes its place.
//! 3. A hook runs only after the file it speaks of is on disk, and until it works or a newer
//!    change takes its place, even if the sidecar is killed meanwhile and started again.
//! 4. No output waits for another, and no write waits for a hook.
//! 5. Where a file has a check, what its readers see has passed it.

mod board;
mod check;
pub mod child;
mod content;
mod door;
mod due;
mod env_file;
mod error;
mod hook;
mod place;
pub mod proxy;
mod publish;
mod socket;
mod template;
mod witness;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::core::action::MoveKind;
use crate::core::id::{EndpointName, Revision, ServiceName};
use crate::policy::model::Output;
use crate::policy::secret::Secret;

pub use board::{Board, Effect, Feedback, Lease, Offers, Proof, ServiceOffer};
pub use content::{Change, render};
pub use door::{Door, Doors, Shown, complete};
pub use env_file::{Verified, VerifyError, verify};
pub use error::OutputError;
pub use publish::{Published, publish};

/// What is active now, for every service.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ActiveConfig {
    /// The publication's number.
    pub revision: Revision,
    /// Every service of the policy.
    pub services: BTreeMap<ServiceName, ActiveService>,
}

/// What is active for one service.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ActiveService {
    /// The active endpoint; `None` when the service is to fail rather than to be served.
    pub endpoint: Option<EndpointName>,
    /// Its address, without user info and query, if it has one.
    pub url: Option<String>,
    /// The endpoint's variables; empty when there is no endpoint.
    pub env: BTreeMap<String, Secret>,
    /// The latest move; `None` when nothing has moved since the sidecar started.
    pub moved: Option<Moved>,
}

/// How a service came to its active endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Moved {
    /// The revision that made it visible.
    pub revision: Revision,
    /// Where it was.
    pub from: Option<EndpointName>,
    /// What sort of move; after a failover the former endpoint is not worth waiting for.
    pub kind: MoveKind,
    /// Why, in one line.
    pub cause: Arc<str>,
}

/// What became of an output.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutputReport {
    /// The output's name, as in the policy.
    pub output: Arc<str>,
    /// The revision that it was about.
    pub revision: Revision,
    /// What happened.
    pub kind: ReportKind,
}

/// What happened to an output. No text in here holds a value of a variable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReportKind {
    /// The file holds the revision, durably.
    Wrote {
        /// Whether a variable other than the revision's number differs from before, or may do so
        /// for all that is known after a failure or a crash.
        changed: bool,
        /// From taking up the configuration to the file being durable, this attempt only.
        took: Duration,
    },
    /// The file could not be written; the old one stands and the write is tried again.
    Failed {
        /// Why: a fragment that follows "failed to", with what a person can do about it.
        error: Arc<str>,
    },
    /// A hook did its work.
    HookRan {
        /// Which hook.
        hook: Arc<str>,
        /// How long it took.
        took: Duration,
    },
    /// A hook did not do its work and is tried again.
    HookFailed {
        /// Which hook.
        hook: Arc<str>,
        /// Why.
        error: Arc<str>,
    },
    /// Somebody changed or removed the file; it is as it should be again.
    DriftRepaired,
    /// Something that a person should know, said once.
    Warning(Arc<str>),
}

/// Runs one output until cancelled, and follows its part of the policy where it can do so without
/// a break.
pub async fn follow(specs: watch::Receiver<Output>, board: Board, cancel: CancellationToken) {
    let first = specs.borrow().clone();
    let Output::Proxy(first) = first else { return run(first, board, cancel).await };
    let (proxies, following) = watch::channel(*first);
    let forward = async {
        let mut specs = specs;
        while specs.changed().await.is_ok() {
            if let Output::Proxy(proxy) = &*specs.borrow_and_update() {
                proxies.send_replace((**proxy).clone());
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = forward => {}
        () = Box::pin(proxy::run(following, board, cancel)) => {}
    }
}

/// Runs one output until cancelled.
pub async fn run(output: Output, board: Board, cancel: CancellationToken) {
    match output {
        Output::File(file) => worker::run(file, board, cancel).await,
        Output::Socket(socket) => socket::run(socket, board, cancel).await,
        Output::Proxy(proxy) => {
            let (_kept, specs) = watch::channel(*proxy);
            Box::pin(proxy::run(specs, board, cancel)).await;
        }
    }
}

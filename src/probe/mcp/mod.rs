//! MCP servers, in both eras of the protocol, over streamable HTTP and standard streams.
//!
//! | era | versions | what is asked |
//! |---|---|---|
//! | modern | from 2026-07-28 | `server/discover`, then `tools/list` where tools are expected |
//! | legacy | up to 2025-11-25 | `initialize`, `notifications/initialized`, `ping` or `tools/list`, `DELETE` |
//!
//! A server that is not yet known is asked in the modern way first: a legacy one refuses that
//! without a session, while a legacy question would cost a server of both eras a session. What
//! was found is remembered, and found out again when it stops matching.
//!
//! Invariants
//! 1. No session outlives its attempt: it is ended in the version agreed on, also when a later
//!    step fails, when the deadline comes, and when the attempt is dropped.
//! 2. The farewell changes no verdict and no latency.
//! 3. Every request has an id that this process gives once, so an old answer is no answer.
//! 4. A server that speaks the other era is never called down for it.
//! 5. A child is ours alone, and dies with all its children when its attempt ends, or is kept for
//!    the next one when the policy says so.

mod attempt;
mod child;
mod dissect;
mod era;
mod farewell;
mod line;
mod message;
mod pool;
mod reading;
mod result;
mod sse;
mod stdio;

pub(super) use dissect::dissect;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::policy::model::{McpCheck, McpStdioCheck};
use crate::policy::secret::Secret;
use crate::probe::dial::Dialler;
use crate::probe::finding::Step;
use crate::probe::trace::Trace;

/// What attempts learn for each other.
#[derive(Debug, Default)]
pub(super) struct Memory {
    eras: era::Eras,
    farewells: farewell::Farewells,
    children: pool::Pool,
    ids: AtomicU64,
}

impl Memory {
    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Waits until no session is left to be ended.
    pub(super) async fn settled(&self) {
        self.farewells.done().await;
    }
}

/// Asks a server over HTTP.
pub(super) async fn run(
    dialler: &Arc<Dialler>,
    memory: &Memory,
    check: &McpCheck,
    token: Option<&Secret>,
    trace: &mut Trace,
) -> Step {
    attempt::run(attempt::Shared { dialler, memory }, check, token, trace).await
}

/// Asks a server over the standard streams of a child.
pub(super) async fn run_stdio(memory: &Memory, check: &McpStdioCheck, trace: &mut Trace) -> Step {
    stdio::run(memory, check, trace).await
}

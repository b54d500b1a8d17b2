//! Ends the sessions of attempts that were given up, so that no server keeps one for nobody.
//!
//! An attempt that comes to its end takes leave itself. One that is dropped, by its deadline or
//! by whoever runs it, cannot wait any more; its session is ended by a task of its own.
//!
//! Invariants
//! 1. A farewell never changes a verdict, and ends within [`FAREWELL_MAX`].
//! 2. At most [`FAREWELLS_MAX`] are under way. Beyond, sessions are left to the server: only
//!    hundreds of hung servers at a time get there, and those keep none.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::policy::model::HttpCheck;
use crate::probe::dial::Dialler;
use crate::probe::finding::Step;
use crate::probe::mcp::line::{Kept, Line, Session};
use crate::probe::trace::Trace;

/// How long one may take.
const FAREWELL_MAX: Duration = Duration::from_secs(10);
/// How many may be under way.
const FAREWELLS_MAX: usize = 256;

/// What an attempt leaves behind.
#[derive(Debug)]
pub(super) enum Left {
    /// A request for a session whose answer is still to come.
    Asked,
    /// A session.
    Session(Session),
}

/// An attempt's remains.
#[derive(Debug)]
pub(super) struct Farewell {
    pub(super) dialler: Arc<Dialler>,
    pub(super) http: HttpCheck,
    pub(super) kept: Kept,
    pub(super) left: Left,
}

impl Farewell {
    async fn take(mut self) -> Step {
        let session = match self.left {
            Left::Session(session) => {
                // It may be busy with what nobody waits for any more.
                self.kept.hang_up();
                session
            }
            Left::Asked => {
                let mut line = Line::resume(&self.dialler, &self.http, self.kept);
                let id = line.overhear().await?;
                self.kept = line.keep();
                // Without a version every server takes the request for one it knows.
                Session { id, version: None }
            }
        };
        if session.id.is_none() {
            return Ok(());
        }
        let mut line = Line::resume(&self.dialler, &self.http, self.kept);
        line.leave(&session, &mut Trace::begin()).await
    }
}

/// The farewells under way.
#[derive(Debug)]
pub(super) struct Farewells {
    tasks: TaskTracker,
    slots: Arc<Semaphore>,
}

impl Default for Farewells {
    fn default() -> Self {
        let tasks = TaskTracker::new();
        // Only for its wait to end when there is none; more can be added all the same.
        tasks.close();
        Self { tasks, slots: Arc::new(Semaphore::new(FAREWELLS_MAX)) }
    }
}

impl Farewells {
    /// Sees to it in the background.
    pub(super) fn begin(&self, farewell: Farewell) {
        let (Ok(runtime), Ok(slot)) =
            (Handle::try_current(), Arc::clone(&self.slots).try_acquire_owned())
        else {
            return;
        };
        let task = async move {
            // It did what it could: nobody is told how it went.
            drop(timeout(FAREWELL_MAX, Box::pin(farewell.take())).await);
            drop(slot);
        };
        drop(self.tasks.spawn_on(task, &runtime));
    }

    /// Waits until none is under way.
    pub(super) async fn done(&self) {
        self.tasks.wait().await;
    }
}

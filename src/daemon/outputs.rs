//! One task an output, replaced when its part of the policy changes.

use std::collections::BTreeMap;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::output::Board;
use crate::policy::model::Output;

/// The running outputs.
#[derive(Debug)]
pub(crate) struct Outputs {
    running: BTreeMap<String, Running>,
    board: Board,
}

#[derive(Debug)]
struct Running {
    spec: Output,
    specs: watch::Sender<Output>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Outputs {
    /// None yet.
    pub(crate) const fn new(board: Board) -> Self {
        Self { running: BTreeMap::new(), board }
    }

    /// Starts what is new, replaces what changed, stops what is gone; the rest runs on untouched.
    ///
    /// A replaced output's task begins only after the old one has ended, so that two never write
    /// the same file.
    pub(crate) fn apply(&mut self, wanted: &[Output]) {
        self.board.doors.expect(wanted);
        let mut before = std::mem::take(&mut self.running);
        for spec in wanted {
            let old = before.remove(spec.name());
            let running = match old {
                Some(running) if running.spec == *spec => running,
                Some(running) if running.follows(spec) => running.with(spec),
                old => self.start(spec, old),
            };
            self.running.insert(spec.name().to_owned(), running);
        }
        for gone in before.into_values() {
            gone.stop.cancel();
        }
    }

    /// The names of the running outputs.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.running.keys().map(String::as_str)
    }

    /// Lets every output finish the write it is in, then ends it.
    pub(crate) async fn stop(self) {
        for running in self.running.values() {
            running.stop.cancel();
        }
        for running in self.running.into_values() {
            // A task that panicked has been logged by the panic hook.
            running.task.await.ok();
        }
    }

    fn start(&self, spec: &Output, old: Option<Running>) -> Running {
        let stop = CancellationToken::new();
        let board = self.board.clone();
        let (specs, following) = watch::channel(spec.clone());
        let own_stop = stop.clone();
        let task = tokio::spawn(async move {
            if let Some(old) = old {
                old.stop.cancel();
                old.task.await.ok();
            }
            crate::output::follow(following, board, own_stop).await;
        });
        Running { spec: spec.clone(), specs, stop, task }
    }
}

impl Running {
    /// Whether it can go on with another part of the policy: an address that never changes must
    /// not be let go, nor must those be cut off who use it.
    fn follows(&self, spec: &Output) -> bool {
        match (&self.spec, spec) {
            (Output::Proxy(old), Output::Proxy(new)) => old.becomes(new),
            _ => false,
        }
    }

    fn with(self, spec: &Output) -> Self {
        self.specs.send_replace(spec.clone());
        Self { spec: spec.clone(), ..self }
    }
}

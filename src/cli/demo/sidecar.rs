//! The sidecar of the demo: the real one, on a thread and a runtime of its own.

use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::cli::connect::block_on;
use crate::cli::failure::Failure;
use crate::daemon::{self, RunOptions};

/// A running sidecar; stops and is waited for when dropped.
#[derive(Debug)]
pub(super) struct Sidecar {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    ended: oneshot::Receiver<Failure>,
}

impl Sidecar {
    /// Starts it on a policy.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(policy: PathBuf) -> Result<Self, Failure> {
        let stop = CancellationToken::new();
        let mut options = RunOptions::new(policy);
        options.shutdown = stop.clone();
        options.handle_signals = false;
        options.strict = true;
        let (tell, ended) = oneshot::channel();
        let thread = thread::Builder::new().name("sidecar".into()).spawn(move || {
            let run = block_on(daemon::run(options));
            if let Err(failure) = run.and_then(|ended| ended.map_err(Failure::Run)) {
                // Nobody listens any more when the demo has ended by itself.
                drop(tell.send(failure));
            }
        });
        Ok(Self { stop, thread: Some(thread.map_err(Failure::Stage)?), ended })
    }

    /// Waits for it to fail; for ever while it runs.
    pub(super) async fn failed(&mut self) -> Failure {
        match (&mut self.ended).await {
            Ok(failure) => failure,
            Err(_) => Failure::SidecarLeft,
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic has been told by the panic hook.
            drop(thread.join());
        }
    }
}

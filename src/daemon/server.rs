//! The MCP server, when we are the one who runs it.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::daemon::uptake::CHILD;
use crate::output::child::{CONFIG_WAIT, ChildEvent, Command, Ended, Orders, supervise};
use crate::output::{Board, Effect, Feedback, Proof};
use crate::policy::model::Child;

/// Events and signals that wait at most.
const WAITING_MAX: usize = 64;

/// The running server.
#[derive(Debug)]
pub(crate) struct Server {
    task: JoinHandle<Ended>,
}

impl Server {
    /// Starts it as soon as there is a configuration. When it ends, so do we.
    pub(crate) fn start(
        command: Command,
        settings: Child,
        board: &Board,
        shutdown: &CancellationToken,
    ) -> std::io::Result<Self> {
        let (events, effects) = mpsc::channel(WAITING_MAX);
        tokio::spawn(prove(effects, board.feedback.clone()));
        let orders = Orders {
            configs: board.configs.clone(),
            signals: passed_on()?,
            config_wait: CONFIG_WAIT,
            stop: shutdown.child_token(),
            events,
        };
        let shutdown = shutdown.clone();
        let task = tokio::spawn(async move {
            let ended = Box::pin(supervise(command, settings, orders)).await;
            shutdown.cancel();
            ended
        });
        Ok(Self { task })
    }

    /// Waits for its end; the exit code is ours.
    pub(crate) async fn ended(self) -> u8 {
        // A task that panicked has been logged by the panic hook.
        self.task.await.map_or(1, |ended| ended.code)
    }
}

/// Tells the engine's side what is proven to be in use.
async fn prove(mut events: mpsc::Receiver<ChildEvent>, feedback: mpsc::Sender<Feedback>) {
    let output: Arc<str> = Arc::from(CHILD);
    while let Some(event) = events.recv().await {
        let (revision, proof) = match event {
            ChildEvent::Effective { revision, .. } => (revision, Proof::Handshake),
            ChildEvent::Signalled { revision } => (revision, Proof::Told),
            ChildEvent::Started { .. }
            | ChildEvent::SwitchFailed { .. }
            | ChildEvent::Ended { .. }
            | ChildEvent::NotStarted { .. }
            | ChildEvent::Substituted { .. } => continue,
        };
        let effect = Effect { output: Arc::clone(&output), service: None, revision, proof };
        if feedback.send(Feedback::Effective(effect)).await.is_err() {
            return;
        }
    }
}

/// The signals that mean nothing to us and may mean something to the server. SIGHUP is ours: most
/// servers end on it.
fn passed_on() -> std::io::Result<mpsc::Receiver<i32>> {
    let (sender, signals) = mpsc::channel(WAITING_MAX);
    for kind in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
        let (mut caught, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move {
            while caught.recv().await.is_some() && sender.send(kind.as_raw_value()).await.is_ok() {}
        });
    }
    Ok(signals)
}

//! The MCP server, when we are the one who runs it.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::daemon::uptake::CHILD;
use crate::output::child::{
    CONFIG_WAIT, ChildEvent, Command, DOORS_WAIT, Ended, Given, Orders, supervise,
};
use crate::output::{ActiveConfig, Board, Door, Effect, Feedback, Proof, Shown, complete};
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
        settings: watch::Receiver<Child>,
        board: &Board,
        shutdown: &CancellationToken,
    ) -> std::io::Result<Self> {
        let (give, given) = watch::channel(None);
        tokio::spawn(prepare(board.configs.clone(), board.doors.watch(), give));
        let (events, effects) = mpsc::channel(WAITING_MAX);
        tokio::spawn(prove(effects, board.feedback.clone()));
        let orders = Orders {
            configs: given,
            settings,
            signals: passed_on()?,
            config_wait: CONFIG_WAIT,
            stop: shutdown.child_token(),
            events,
        };
        let shutdown = shutdown.clone();
        let task = tokio::spawn(async move {
            let ended = Box::pin(supervise(command, orders)).await;
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

/// Puts together what the server is started with: what is active, and the ways through proxies.
///
/// A proxy that does not come up must not keep the server from being started, so those that are
/// still to come are waited for a while only.
async fn prepare(
    mut configs: watch::Receiver<Option<Arc<ActiveConfig>>>,
    mut doors: watch::Receiver<Shown>,
    give: watch::Sender<Option<Arc<Given>>>,
) {
    let until = Instant::now() + DOORS_WAIT;
    let mut latest: Option<Vec<Door>> = None;
    loop {
        let config = configs.borrow_and_update().clone();
        latest = complete(&doors.borrow_and_update()).or(latest);
        if let (Some(config), Some(doors)) = (config, &latest) {
            let given = Given { config: ActiveConfig::clone(&config), doors: doors.clone() };
            let given = Some(Arc::new(given));
            give.send_if_modified(|shown| {
                let changed = *shown != given;
                *shown = given;
                changed
            });
        }
        tokio::select! {
            changed = configs.changed() => if changed.is_err() { return },
            changed = doors.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(until), if latest.is_none() => {
                tracing::error!("a proxy does not come up; the server is not sent through it");
                latest = Some(Vec::new());
            }
        }
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

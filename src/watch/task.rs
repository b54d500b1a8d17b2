//! When to look: at a hint once it is quiet, at a request at once, and every two seconds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::core::ordered::Gather as _;
use crate::watch::event::SourceEvent;
use crate::watch::lookup::Seen;
use crate::watch::scout::{Extra, Scout, Survey, known};
use crate::watch::sight::Look;

/// How long it must be quiet after a hint.
const QUIET: Duration = Duration::from_millis(100);

/// How long a hint waits at most while there is no quiet.
const RESTLESS: Duration = Duration::from_secs(1);

/// How often we look without any hint.
const POLL: Duration = Duration::from_secs(2);

/// When we look again before bad news is told: most of it is a writer between two steps.
const DOUBTS: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(300), Duration::from_secs(1)];

/// A handle on the watching task. The task ends with its cancellation token or its receiver.
#[derive(Clone, Debug)]
pub struct Watcher {
    extra: watch::Sender<Extra>,
    poke: Arc<Notify>,
}

impl Watcher {
    /// Replaces the set of secret files. What a new one holds now counts as known.
    pub fn also(&self, files: Vec<PathBuf>) {
        self.extra.send_replace(files.into_iter().map(|path| (path, None)).gather_map());
    }

    /// Replaces the set of secret files by those that a compilation read, see
    /// [`crate::watch::SystemLookup::seen`]. One that holds something else by now is told at once.
    pub fn also_seen(&self, seen: Seen) {
        self.extra.send_replace(known(seen));
    }

    /// Reads the policy file now and tells what is there even if nothing differs. Requests that
    /// come while one is waiting are answered together.
    pub fn poke(&self) {
        self.poke.notify_one();
    }
}

/// Starts to watch. Must be called within a tokio runtime.
///
/// The first look tells [`SourceEvent::Mode`] and [`SourceEvent::Changed`], so that a change
/// between the caller's own first reading and this call is not lost.
pub fn spawn(
    policy: PathBuf,
    events: mpsc::Sender<SourceEvent>,
    cancel: CancellationToken,
) -> Watcher {
    let (extra, wanted) = watch::channel(Extra::new());
    let poke = Arc::new(Notify::new());
    let hint = Arc::new(Notify::new());
    let scout = Scout::new(policy, Arc::clone(&hint));
    let listener = events.clone();
    let task = Task { wanted, poke: Arc::clone(&poke), hint, events };
    tokio::spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = listener.closed() => {}
            () = task.run(scout) => {}
        }
    });
    Watcher { extra, poke }
}

struct Task {
    wanted: watch::Receiver<Extra>,
    poke: Arc<Notify>,
    hint: Arc<Notify>,
    events: mpsc::Sender<SourceEvent>,
}

impl Task {
    async fn run(mut self, mut scout: Scout) {
        let mut look = Look::Patient;
        let mut doubts = DOUBTS.iter();
        loop {
            let Some((back, survey)) = self.survey(scout, look).await else { return };
            scout = back;
            for event in survey.events {
                if self.events.send(event).await.is_err() {
                    return;
                }
            }
            let doubt = if survey.again { doubts.next() } else { None };
            if doubt.is_none() && !survey.again {
                doubts = DOUBTS.iter();
            }
            let pause = doubt.copied().unwrap_or(POLL);
            look = self.pause(pause, doubts.as_slice().is_empty()).await;
        }
    }

    /// Looks on a blocking thread; a file system that hangs must not stop anything else.
    async fn survey(&mut self, mut scout: Scout, look: Look) -> Option<(Scout, Survey)> {
        let wanted = match self.wanted.has_changed() {
            Ok(true) => Some(self.wanted.borrow_and_update().clone()),
            Ok(false) | Err(_) => None,
        };
        let look = move || {
            if let Some(extra) = wanted {
                scout.watch_secrets(&extra);
            }
            let survey = scout.survey(look);
            (scout, survey)
        };
        tokio::task::spawn_blocking(look).await.ok()
    }

    /// Waits until it is time to look, and says how.
    async fn pause(&mut self, pause: Duration, firm: bool) -> Look {
        let look = if firm { Look::Firm } else { Look::Patient };
        let handles_left = self.wanted.has_changed().is_ok();
        tokio::select! {
            biased;
            () = self.poke.notified() => Look::Forced,
            changed = self.wanted.changed(), if handles_left => {
                drop(changed);
                self.wanted.mark_changed();
                look
            }
            () = settle(&self.hint) => look,
            () = sleep_until(Instant::now() + pause) => look,
        }
    }
}

/// Waits for a hint, and then until there was none for [`QUIET`], but no longer than [`RESTLESS`].
async fn settle(hint: &Notify) {
    hint.notified().await;
    let end = Instant::now() + RESTLESS;
    loop {
        let quiet = end.min(Instant::now() + QUIET);
        let more = timeout_at(quiet, hint.notified()).await;
        if more.is_err() || end <= Instant::now() {
            return;
        }
    }
}

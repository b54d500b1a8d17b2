//! Makes backups of the state, in a task of its own.
//!
//! Invariants
//! 1. Nothing waits for it. The loop leaves a note when something moved, and is left one when there
//!    is something to tell; neither can be refused in a way that matters.
//! 2. One attempt at a time, each ended by [`ATTEMPT`], another place to go to or the order to stop.
//!    A place that hangs changes what is said of it, and nothing else.
//! 3. Failed attempts are repeated with growing, jittered waits; people are told of the
//!    [`FAILURES_TOLD`]th in a row, and of the first that works again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::admin::document::BackupDocument;
use crate::admin::protocol::{Answer, ControlFailure, FailureCode, Response};
use crate::core::action::Event;
use crate::core::backoff::{Backoff, added};
use crate::core::id::Revision;
use crate::core::rng::Rng;
use crate::daemon::clock::{Clock, rfc3339};
use crate::daemon::keeper::Keeper;
use crate::policy::model::{self, Policy};
use crate::store::backup::{
    Backup, BackupError, HISTORY_BYTES, Made, Name, Parts, Round, Vault, make,
};
use crate::telemetry::metric::{self, BackupResult};

/// How long an attempt may take: less than whoever asks for one waits.
const ATTEMPT: Duration = Duration::from_secs(25);
/// First wait after an attempt that failed.
const RETRY_MIN: Duration = Duration::from_secs(5);
/// Longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(5 * 60);
/// Failures in a row that people are told of: a blip is no news.
const FAILURES_TOLD: u32 = 3;
/// Wait for the snapshot in which a change stands: not each one is stored at once.
const SETTLED: Duration = Duration::from_secs(2);
/// Wait after an attempt that a new policy broke off, so that edits in a row break off one.
const AGAIN: Duration = Duration::from_secs(1);
/// Random part of a wait: the sidecars of a fleet do not come in step.
const JITTER: u32 = 100;
/// People who wait for a backup at most.
const ASKED_MAX: usize = 8;

/// Something to be told by the loop; `None` when only the status changed.
pub(crate) type Notice = Option<Event>;

/// The task, from outside.
#[derive(Debug)]
pub(crate) struct Backups {
    wanted: watch::Sender<Wanted>,
    asks: mpsc::Sender<oneshot::Sender<Response>>,
    shown: watch::Receiver<Option<BackupDocument>>,
    task: JoinHandle<()>,
}

/// What is to be backed up, and where to.
#[derive(Clone, Debug)]
struct Wanted {
    policy: Option<Arc<model::Backup>>,
    sidecar: String,
    digest: String,
}

impl Wanted {
    fn of(policy: &Policy) -> Self {
        Self {
            policy: policy.backup.clone(),
            sidecar: policy.sidecar.name.clone(),
            digest: policy.digest.to_string(),
        }
    }
}

/// What the task works with.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) clock: Clock,
    pub(crate) keeper: Keeper,
    /// Notes of the loop: something moved, or a person ordered something.
    pub(crate) changed: Arc<Notify>,
    /// Notes to the loop.
    pub(crate) notices: mpsc::Sender<Notice>,
    /// The backup that this run started from.
    pub(crate) recovered: Option<String>,
    pub(crate) stop: CancellationToken,
}

impl Backups {
    /// Starts the task; without `[backup]` in the policy it waits for one.
    pub(crate) fn start(policy: &Policy, tools: Tools) -> Self {
        let (wanted, wants) = watch::channel(Wanted::of(policy));
        let (asks, asked) = mpsc::channel(ASKED_MAX);
        let (show, shown) = watch::channel(None);
        let rng = Rng::new(tools.clock.wall_ms() ^ u64::from(std::process::id()));
        let mut maker =
            Maker { tools, wants, show, rng, work: None, due: None, failures: 0, told: false };
        maker.take_up();
        let task = tokio::spawn(maker.run(asked));
        Self { wanted, asks, shown, task }
    }

    /// Takes a new policy.
    pub(crate) fn apply(&self, policy: &Policy) {
        self.wanted.send_replace(Wanted::of(policy));
    }

    /// Makes one now, and answers when it is there.
    pub(crate) fn ask(&self, reply: oneshot::Sender<Response>) {
        if let Err(refused) = self.asks.try_send(reply) {
            let failure = ControlFailure::new(FailureCode::Busy, "too many ask for a backup");
            // Whoever asked may have hung up.
            refused.into_inner().send(Err(failure)).ok();
        }
    }

    /// How they stand; `None` when the policy asks for none.
    pub(crate) fn document(&self) -> Option<BackupDocument> {
        self.shown.borrow().clone()
    }

    /// Waits for the task, which has been told to stop and gives up what it is at.
    pub(crate) async fn stopped(self) {
        // A task that panicked has been logged by the panic hook.
        self.task.await.ok();
    }
}

/// Where backups go now.
#[derive(Debug)]
struct Work {
    policy: Arc<model::Backup>,
    vault: Result<Vault, Arc<str>>,
    /// The newest backup as we left it.
    left: Option<Name>,
    document: BackupDocument,
}

#[derive(Debug)]
struct Maker {
    tools: Tools,
    wants: watch::Receiver<Wanted>,
    show: watch::Sender<Option<BackupDocument>>,
    rng: Rng,
    work: Option<Work>,
    due: Option<Instant>,
    failures: u32,
    /// Whether people were told that backups fail.
    told: bool,
}

/// Why there is no backup, and what to do about it.
struct Failed {
    why: String,
    help: &'static str,
}

impl From<BackupError> for Failed {
    fn from(error: BackupError) -> Self {
        Self { why: error.explain(), help: error.help() }
    }
}

impl Maker {
    async fn run(mut self, mut asked: mpsc::Receiver<oneshot::Sender<Response>>) {
        let (stop, changed) = (self.tools.stop.clone(), Arc::clone(&self.tools.changed));
        loop {
            let due = self.due;
            let timer = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let reply = tokio::select! {
                () = stop.cancelled() => return,
                other = self.wants.changed() => match other {
                    Ok(()) => {
                        self.take_up();
                        continue;
                    }
                    Err(_) => return,
                },
                () = changed.notified() => {
                    self.hurry();
                    continue;
                }
                Some(reply) = asked.recv() => Some(reply),
                () = timer => None,
            };
            let attempt = Box::pin(self.attempt());
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = attempt => ended,
            };
            let response = self.conclude(ended);
            if let Some(reply) = reply {
                // Whoever asked may have hung up.
                reply.send(response).ok();
            }
        }
    }

    /// Takes up what the policy in force wants.
    fn take_up(&mut self) {
        let Wanted { policy, .. } = self.wants.borrow_and_update().clone();
        let Some(policy) = policy else {
            (self.work, self.due) = (None, None);
            self.say(None);
            return;
        };
        if self.work.as_ref().is_some_and(|work| work.policy == policy) {
            // Another policy of the same place is a reason for a backup, but none for haste.
            self.hurry();
            return;
        }
        let clock = self.tools.clock;
        let vault = Vault::new(&policy, Arc::new(move || clock.wall_ms()))
            .map_err(|error| Arc::from(error.explain()));
        let document = BackupDocument {
            to: policy.to.to_string(),
            recovered_from: self.tools.recovered.clone(),
            ..BackupDocument::default()
        };
        self.work = Some(Work { policy, vault, left: None, document });
        (self.failures, self.told, self.due) = (0, false, None);
        self.hurry();
        self.say(None);
    }

    /// Something changed: a backup is due soon, unless failures make it wait longer.
    fn hurry(&mut self) {
        let Some(work) = &self.work else { return };
        let wait = work.policy.after_switch.max(SETTLED);
        let soon = Instant::now() + wait;
        if self.failures == 0 && self.due.is_none_or(|due| soon < due) {
            self.wait(wait);
        }
    }

    /// One attempt; `None` when another place broke it off.
    async fn attempt(&mut self) -> Option<(Duration, Result<Round, Failed>)> {
        let began = Instant::now();
        let wanted = self.wants.borrow().clone();
        let Self { work, tools, wants, .. } = self;
        let mut round = Box::pin(timeout(ATTEMPT, round(work.as_ref(), &wanted, tools)));
        let ended = loop {
            tokio::select! {
                ended = &mut round => break ended,
                other = wants.changed() => {
                    if other.is_err() || wants.borrow().policy != wanted.policy {
                        return None;
                    }
                    // The same place under another policy: this attempt goes on, another follows.
                    tools.changed.notify_one();
                }
            }
        };
        let ended = ended.unwrap_or_else(|_late| {
            let why = format!("no end within {} s", ATTEMPT.as_secs());
            Err(Failed { why, help: "is the network, or the file system, as slow as that?" })
        });
        Some((began.elapsed(), ended))
    }

    fn conclude(&mut self, ended: Option<(Duration, Result<Round, Failed>)>) -> Response {
        let Some((took, ended)) = ended else {
            self.take_up();
            self.due = self.work.as_ref().map(|_| Instant::now() + AGAIN);
            let failure = ControlFailure::new(FailureCode::Busy, "a new policy came in between");
            return Err(failure.with_help("try again"));
        };
        let Some(work) = &mut self.work else {
            let failure =
                ControlFailure::new(FailureCode::Failed, "the policy asks for no backups");
            return Err(failure.with_help("add `[backup]` with `to = \"…\"` to failover.toml"));
        };
        match ended {
            Ok(round) => {
                let now_ms = self.tools.clock.wall_ms();
                took_well(&mut work.document, &round, (now_ms, took));
                let foreign = round.before > work.left && work.left.is_some();
                if foreign {
                    let help = "give each sidecar a place of its own, or a recovery takes the other's state";
                    tracing::warn!(to = work.document.to, help, "somebody else backs up there too");
                }
                work.left = Some(round.name);
                let wait = added(work.policy.interval, &mut self.rng, JITTER);
                let answer = Ok(Answer::Backup(work.document.clone()));
                self.failures = 0;
                let event = std::mem::take(&mut self.told).then(|| self.event(None)).flatten();
                self.wait(wait);
                self.say(event);
                answer
            }
            Err(Failed { why, help }) => {
                metric::backup(BackupResult::Failed, took);
                self.failures = self.failures.saturating_add(1);
                work.document.failure = Some(why.clone());
                work.document.failures = self.failures;
                let retry = Backoff::doubling(RETRY_MIN.min(work.policy.interval), RETRY_MAX);
                let wait = retry.delay(self.failures - 1, &mut self.rng, 5 * JITTER);
                tracing::warn!(
                    to = work.document.to,
                    help,
                    retry_seconds = wait.as_secs_f64(),
                    "the state is not backed up: failed to {why}"
                );
                let news = self.failures >= FAILURES_TOLD && !self.told;
                let event = news.then(|| self.event(Some(Arc::from(why.as_str())))).flatten();
                self.told |= news;
                self.wait(wait);
                self.say(event);
                Err(ControlFailure::new(FailureCode::Failed, &why).with_help(help))
            }
        }
    }

    fn wait(&mut self, span: Duration) {
        self.due = Some(Instant::now() + span);
        if let Some(work) = &mut self.work {
            let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            work.document.next_at = Some(rfc3339(self.tools.clock.wall_ms().saturating_add(span)));
        }
    }

    fn event(&self, failure: Option<Arc<str>>) -> Option<Event> {
        let to = Arc::from(self.work.as_ref()?.document.to.as_str());
        Some(Event::Backup { to, failure })
    }

    /// Shows how things stand, and lets the loop know.
    fn say(&self, event: Option<Event>) {
        self.show.send_replace(self.work.as_ref().map(|work| work.document.clone()));
        // A loop that is a thousand notes behind has other troubles, and the status shows this one.
        self.tools.notices.try_send(event).ok();
    }
}

fn took_well(document: &mut BackupDocument, round: &Round, (now_ms, took): (u64, Duration)) {
    let name = round.name.to_string();
    match round.made {
        Made::Stored => {
            metric::backup(BackupResult::Stored, took);
            tracing::info!(to = document.to, name, bytes = round.bytes, "the state is backed up");
        }
        Made::Unchanged => metric::backup(BackupResult::Unchanged, took),
    }
    metric::backup_good(Duration::from_millis(now_ms).as_secs_f64(), round.bytes, round.kept);
    if let Some(error) = &round.left {
        let help = error.help();
        tracing::warn!(to = document.to, help, "old backups stay: failed to {}", error.explain());
    }
    document.good_at = Some(rfc3339(now_ms));
    document.newest = Some(name);
    document.revision = Some(Revision::new(round.name.revision));
    document.bytes = Some(round.bytes);
    document.kept = Some(round.kept);
    (document.failure, document.failures) = (None, 0);
}

async fn round(work: Option<&Work>, wanted: &Wanted, tools: &Tools) -> Result<Round, Failed> {
    let nowhere = || Failed { why: "find where to".to_owned(), help: "" };
    let work = work.ok_or_else(nowhere)?;
    let setup = |why: &Arc<str>| Failed { why: why.to_string(), help: "check `[backup]`" };
    let vault = work.vault.as_ref().map_err(setup)?;
    let Some((saved, history)) = tools.keeper.export(HISTORY_BYTES).await else {
        let why = "make a backup: there is no state yet".to_owned();
        return Err(Failed { why, help: "wait until the first services are published" });
    };
    let parts = Parts {
        snapshot: saved.json,
        at_ms: saved.saved_at_ms,
        history,
        sidecar: wanted.sidecar.clone(),
        policy: wanted.digest.clone(),
    };
    let made = tokio::task::spawn_blocking(move || Backup::new(parts)).await;
    let made = made.unwrap_or_else(|_ended| Err("cannot be worked through".to_owned()));
    let backup = made.map_err(|why| Failed::from(BackupError::Unfit { why }))?;
    Ok(make(vault, backup, work.policy.keep, tools.clock.wall_ms()).await?)
}

//! Keeps the copy of state and history in Redis, in a task of its own.
//!
//! Invariants
//! 1. Nothing waits for it. The store's thread leaves a note when it has stored something, and this
//!    task reads from there what to write; what it says of itself goes into a cell and a queue that
//!    may refuse.
//! 2. Every exchange has a deadline, and all of it is given up at once for the order to stop and for
//!    a change of the policy.
//! 3. Failed attempts are repeated with growing waits of full jitter. A failure is logged once until
//!    it is another one or over; people are told of the [`FAILURES_TOLD`]th in a row, of a conflict
//!    at once, and of the end of either.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::admin::document::{RedisDocument, RedisState, ServiceDocument, StatusDocument};
use crate::core::action::Event;
use crate::core::backoff::{Backoff, either_way};
use crate::core::id::Revision;
use crate::core::rng::Rng;
use crate::daemon::backup::Notice;
use crate::daemon::clock::{Clock, rfc3339};
use crate::daemon::keeper::{Exported, Keeper};
use crate::daemon::readers::Readers;
use crate::policy::model::{self, Policy};
use crate::store::backup::{Backup, HISTORY_BYTES, Parts};
use crate::store::redis::{
    Answer, Client, Commit, Keys, Ledger, Need, RedisError, SEED_REFRESH, Seed, State, Writer,
    entries,
};
use crate::telemetry::metric;

/// How often Redis is told that we live, and asked whether it still has what it had.
const REFRESH: Duration = Duration::from_secs(10);
/// Random part of that.
const REFRESH_JITTER: u32 = 200;
/// After how long a silence another run is taken for gone.
const SILENCE: Duration = Duration::from_secs(35);
/// First wait after a failure, before its jitter.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Failures in a row that people are told of: a blip is no news.
const FAILURES_TOLD: u32 = 8;
/// Least gap between two looks at what there is to write.
const LOOK_GAP: Duration = Duration::from_millis(50);
/// When to look again after a note: readers are shown a status that may be a moment old.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long the store may take to say what there is.
const STORE_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of history that a look reads: a few decisions.
const TAIL: usize = 64 * 1024;
/// Writes in one round at most: a history that needs more goes on in the next.
const WRITES_MAX: usize = 10_000;

/// The task, from outside.
#[derive(Debug)]
pub(crate) struct RedisCopy {
    wanted: watch::Sender<Wanted>,
    shown: watch::Receiver<Option<RedisDocument>>,
    task: JoinHandle<()>,
}

/// What is to be written, and where to.
#[derive(Clone, Debug)]
struct Wanted {
    policy: Option<Arc<model::Redis>>,
    sidecar: String,
    digest: String,
}

impl Wanted {
    fn of(policy: &Policy) -> Self {
        Self {
            policy: policy.redis.clone(),
            sidecar: policy.sidecar.name.clone(),
            digest: policy.digest.to_string(),
        }
    }
}

/// What the task works with.
#[derive(Debug)]
pub(crate) struct RedisTools {
    pub(crate) clock: Clock,
    pub(crate) keeper: Keeper,
    pub(crate) readers: Readers,
    /// Notes to the loop.
    pub(crate) notices: mpsc::Sender<Notice>,
    /// Tells this run from others.
    pub(crate) run: Arc<str>,
    /// What this run started from.
    pub(crate) recovered: Option<String>,
    pub(crate) stop: CancellationToken,
}

impl RedisCopy {
    /// Starts the task; without `[redis]` in the policy it waits for one.
    pub(crate) fn start(policy: &Policy, tools: RedisTools) -> Self {
        let (wanted, wants) = watch::channel(Wanted::of(policy));
        let (show, shown) = watch::channel(None);
        let rng = Rng::new(tools.clock.wall_ms() ^ u64::from(std::process::id()) << 16);
        let copier = Copier { tools, show, rng, work: None };
        let task = tokio::spawn(copier.run(wants));
        Self { wanted, shown, task }
    }

    /// Takes a new policy.
    pub(crate) fn apply(&self, policy: &Policy) {
        self.wanted.send_replace(Wanted::of(policy));
    }

    /// How it stands; `None` when the policy asks for none.
    pub(crate) fn document(&self) -> Option<RedisDocument> {
        self.shown.borrow().clone()
    }

    /// Waits for the task, which has been told to stop and gives up what it is at.
    pub(crate) async fn stopped(self) {
        // A task that panicked has been logged by the panic hook.
        self.task.await.ok();
    }
}

/// One server, and what we know of it.
#[derive(Debug)]
struct Work {
    policy: Arc<model::Redis>,
    writer: Writer,
    /// Digest of the policy, for the state.
    digest: String,
    ledger: Ledger,
    client: Option<Client>,
    /// The state as it was looked at last: revision, facts, bytes.
    state: Option<(u64, State)>,
    document: RedisDocument,
    /// Something may be there to be written.
    dirty: bool,
    again: bool,
    /// When it was looked at last.
    looked_at: Option<Instant>,
    wake_at: Instant,
    refresh_at: Instant,
    /// No attempt before this.
    not_before: Instant,
    seed_at: Instant,
    failure: Option<RedisError>,
    /// Whether people were told that it fails.
    told: bool,
}

#[derive(Debug)]
struct Copier {
    tools: RedisTools,
    show: watch::Sender<Option<RedisDocument>>,
    rng: Rng,
    work: Option<Work>,
}

impl Copier {
    async fn run(mut self, mut wants: watch::Receiver<Wanted>) {
        let (stop, stored) = (self.tools.stop.clone(), self.tools.keeper.stored());
        let first = wants.borrow_and_update().clone();
        self.take_up(first);
        loop {
            let wake = self.work.as_ref().map(|work| work.wake_at);
            let timer = async {
                match wake {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let wanted = tokio::select! {
                () = stop.cancelled() => return,
                other = wants.changed() => match other {
                    Ok(()) => Some(wants.borrow_and_update().clone()),
                    Err(_) => return,
                },
                () = stored.notified() => {
                    self.hurry();
                    continue;
                }
                () = timer => None,
            };
            if let Some(wanted) = wanted {
                self.take_up(wanted);
                continue;
            }
            let round = Box::pin(self.round());
            tokio::select! {
                () = stop.cancelled() => return,
                other = wants.changed() => match other {
                    Ok(()) => {
                        let wanted = wants.borrow_and_update().clone();
                        self.take_up(wanted);
                    }
                    Err(_) => return,
                },
                () = round => {}
            }
        }
    }

    /// Takes up what the policy in force wants.
    fn take_up(&mut self, wanted: Wanted) {
        let Wanted { policy, sidecar, digest } = wanted;
        let now = Instant::now();
        let Some(policy) = policy else {
            if self.work.take().is_some() {
                metric::redis_up(None);
            }
            self.say(None);
            return;
        };
        let keys = Keys::new(&policy, &sidecar);
        let same = |work: &&mut Work| work.policy == policy && work.writer.sidecar == sidecar;
        if let Some(work) = self.work.as_mut().filter(same) {
            work.digest = digest;
            work.hurry(now);
            return;
        }
        let document = RedisDocument {
            url: policy.to_string(),
            keys: keys.tag().to_owned(),
            recovered_from: self.tools.recovered.clone(),
            ..RedisDocument::default()
        };
        let writer = Writer {
            keys,
            sidecar,
            run: self.tools.run.to_string(),
            history: policy.history,
            patience_ms: u64::try_from(SILENCE.as_millis()).unwrap_or(u64::MAX),
        };
        // What waits and what is known goes on; a conflict too, unless it is about other keys.
        let mut ledger = Ledger::new(policy.history);
        if let Some(old) = self.work.take() {
            let (url, keys) = (&document.url, &document.keys);
            let stays = (url, keys) == (&old.document.url, &old.document.keys);
            ledger = old.ledger;
            ledger.keep(policy.history);
            if stays { ledger.lost() } else { ledger.moved() }
        }
        self.work = Some(Work {
            policy,
            writer,
            digest,
            ledger,
            client: None,
            state: None,
            document,
            dirty: true,
            again: true,
            looked_at: None,
            wake_at: now,
            refresh_at: now,
            not_before: now,
            seed_at: now,
            failure: None,
            told: false,
        });
        metric::redis_up(Some(false));
        self.say(None);
    }

    fn hurry(&mut self) {
        if let Some(work) = &mut self.work {
            work.hurry(Instant::now());
        }
    }

    /// Looks at what there is to write, and writes it unless failures make it wait.
    async fn round(&mut self) {
        let Some(work) = &mut self.work else { return };
        let now = Instant::now();
        let due = now >= work.refresh_at;
        if due || work.dirty {
            work.looked_at = Some(now);
            work.look(&self.tools).await;
        }
        let event = if now < work.not_before {
            None
        } else {
            let before = work.ledger.conflict();
            let ended = work.deliver(due, &self.tools).await;
            work.conclude(ended, before, &mut self.rng)
        };
        work.schedule();
        metric::redis_outbox(work.ledger.waiting());
        work.document.outbox = work.ledger.waiting();
        work.document.dropped = work.ledger.dropped();
        self.say(event);
    }

    /// Shows how things stand, and lets the loop know.
    fn say(&self, event: Option<Event>) {
        let document = self.work.as_ref().map(|work| work.document.clone());
        let changed = self.show.send_if_modified(|shown| {
            let changed = *shown != document;
            *shown = document;
            changed
        });
        if changed || event.is_some() {
            // A loop that is a thousand notes behind has other troubles; the status shows this one.
            self.tools.notices.try_send(event).ok();
        }
    }
}

impl Work {
    /// Something was stored.
    fn hurry(&mut self, now: Instant) {
        (self.dirty, self.again) = (true, true);
        let soon = self.looked_at.map_or(now, |at| now.max(at + LOOK_GAP));
        self.wake_at = self.wake_at.min(soon);
    }

    /// When to wake next.
    fn schedule(&mut self) {
        let now = Instant::now();
        let next = self.refresh_at.max(self.not_before);
        let again = self.dirty.then(|| now + LOOK_AGAIN);
        self.wake_at = again.map_or(next, |again| next.min(again));
    }

    /// Reads from the store and the status what there is to write.
    async fn look(&mut self, tools: &RedisTools) {
        self.dirty = std::mem::take(&mut self.again);
        let Some((saved, lines)) = export(tools, TAIL).await else { return };
        let shown = timeout(STORE_PATIENCE, tools.readers.document()).await.ok().flatten();
        let services = shown.map(|document| services(&document));
        let parts = Parts {
            at_ms: saved.saved_at_ms,
            history: Vec::new(),
            sidecar: self.writer.sidecar.clone(),
            policy: self.digest.clone(),
            snapshot: saved.json,
        };
        let before = self.state.take();
        let work = tokio::task::spawn_blocking(move || {
            (state(parts, services, before), entries(&lines, false))
        });
        let Ok((state, entries)) = work.await else { return };
        if let Some((revision, state)) = &state {
            self.ledger.observe(*revision, state.clone());
        }
        self.state = state;
        let dropped = self.ledger.note(entries, false);
        if dropped > 0 {
            metric::redis_dropped(dropped);
        }
    }

    /// Writes all there is to write.
    async fn deliver(&mut self, due: bool, tools: &RedisTools) -> Result<(), RedisError> {
        let mut due = due;
        for _ in 0..WRITES_MAX {
            match self.ledger.next(due) {
                Need::Nothing => return Ok(()),
                Need::Refill => {
                    let Some((_, lines)) = export(tools, HISTORY_BYTES).await else {
                        return Ok(());
                    };
                    let read = tokio::task::spawn_blocking(move || entries(&lines, true)).await;
                    self.ledger.refill(read.unwrap_or_default());
                }
                Need::Commit(commit) => {
                    due = false;
                    self.write(&commit, tools).await?;
                }
            }
        }
        Ok(())
    }

    async fn write(&mut self, commit: &Commit, tools: &RedisTools) -> Result<(), RedisError> {
        // Whoever gives this up in between gives up the connection.
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Box::pin(Client::connect(&self.policy)).await?,
        };
        let began = Instant::now();
        let now_ms = tools.clock.wall_ms();
        let age = u64::try_from(self.policy.history_age.as_millis()).unwrap_or(u64::MAX);
        let oldest_ms = now_ms.saturating_sub(age);
        let answer = Box::pin(client.commit(&self.writer, commit, oldest_ms)).await?;
        self.ledger.answered(commit, &answer);
        if matches!(answer, Answer::Written { .. }) {
            metric::redis_committed(Duration::from_millis(now_ms).as_secs_f64(), began.elapsed());
            self.document.committed_at = Some(rfc3339(now_ms));
            self.document.revision = Some(Revision::new(commit.revision));
            if self.policy.compat {
                self.seed(&mut client, commit, now_ms).await?;
            }
        }
        self.client = Some(client);
        Ok(())
    }

    /// Writes the prototype's keys; that the server refuses is no failure.
    async fn seed(
        &mut self,
        client: &mut Client,
        commit: &Commit,
        now_ms: u64,
    ) -> Result<(), RedisError> {
        let due = Instant::now() >= self.seed_at;
        let services = commit
            .state
            .as_ref()
            .or_else(|| self.state.as_ref().map(|(_, state)| state).filter(|_| due));
        let services = services.map_or(&[][..], |state| &state.services);
        if !services.is_empty() {
            self.seed_at = Instant::now() + SEED_REFRESH;
        }
        let seed = Seed { services, entries: &commit.entries, now_ms, revision: commit.revision };
        let refused = client.tell(&seed.commands()).await?;
        if refused > 0 {
            tracing::debug!(refused, "keys of the prototype were refused");
        }
        Ok(())
    }

    /// Takes note of how a round ended; what is to be told of it.
    fn conclude(
        &mut self,
        ended: Result<(), RedisError>,
        before: Option<u64>,
        rng: &mut Rng,
    ) -> Option<Event> {
        let now = Instant::now();
        match ended {
            Ok(()) => {
                if now >= self.refresh_at || self.document.failures > 0 {
                    self.refresh_at = now + either_way(REFRESH, rng, REFRESH_JITTER);
                }
                let failed = self.failure.take().is_some();
                self.document.failures = 0;
                self.concur(before, failed)
            }
            Err(error) => {
                self.client = None;
                self.ledger.lost();
                self.fail(error, rng)
            }
        }
    }

    /// The server answered.
    fn concur(&mut self, before: Option<u64>, failed: bool) -> Option<Event> {
        let conflict = self.ledger.conflict();
        let url = self.document.url.clone();
        metric::redis_up(Some(conflict.is_none() && self.document.committed_at.is_some()));
        if let Some(theirs) = conflict {
            let why = format!(
                "write to {url}: somebody else writes under the same name, at revision {theirs}"
            );
            let help =
                "give each sidecar a name of its own; or restart this one if the other is gone";
            self.document.state = RedisState::Conflict;
            self.document.failure = Some(why.clone());
            self.document.reason = Some("conflict".to_owned());
            self.document.help = Some(help.to_owned());
            if before.is_some() {
                return None;
            }
            metric::redis_conflict();
            tracing::error!(help, "nothing is overwritten: failed to {why}");
            self.told = true;
            return Some(self.event(Some(&why)));
        }
        // Nothing was wanted of it, so nothing is known.
        if self.client.is_some() {
            self.document.state = RedisState::Up;
        }
        (self.document.failure, self.document.reason, self.document.help) = (None, None, None);
        if failed || before.is_some() {
            tracing::info!(url, "the state is kept in Redis again");
        }
        std::mem::take(&mut self.told).then(|| self.event(None))
    }

    fn fail(&mut self, error: RedisError, rng: &mut Rng) -> Option<Event> {
        let (reason, help) = (error.reason(), error.reason().help());
        metric::redis_failed(reason.label());
        metric::redis_up(Some(false));
        let retry = Backoff::doubling(RETRY_MIN, RETRY_MAX).period(self.document.failures);
        let wait = either_way(retry / 2, rng, 1000);
        let now = Instant::now();
        // The next attempt asks whether all is still there.
        (self.not_before, self.refresh_at) = (now + wait, now);
        self.document.failures = self.document.failures.saturating_add(1);
        self.document.state = RedisState::Down;
        self.document.failure = Some(error.to_string());
        self.document.reason = Some(reason.label().to_owned());
        self.document.help = Some(help.to_owned());
        if self.failure.as_ref() != Some(&error) {
            tracing::warn!(help, "the state is not kept in Redis: failed to {error}");
        }
        let why = error.to_string();
        self.failure = Some(error);
        let news = self.document.failures >= FAILURES_TOLD && !self.told;
        self.told |= news;
        news.then(|| self.event(Some(&why)))
    }

    fn event(&self, failure: Option<&str>) -> Event {
        Event::Redis { to: Arc::from(self.document.url.as_str()), failure: failure.map(Arc::from) }
    }
}

/// What is to be written, from the store; `None` while there is no state, or it does not answer.
async fn export(tools: &RedisTools, bytes: usize) -> Option<Exported> {
    timeout(STORE_PATIENCE, tools.keeper.export(bytes)).await.ok().flatten()
}

/// The state as it is written, unless it makes no sense; the bytes of before where it is the same.
fn state(
    parts: Parts,
    services: Option<Vec<(String, String)>>,
    before: Option<(u64, State)>,
) -> Option<(u64, State)> {
    let backup = Backup::new(parts).ok()?;
    let (revision, facts) = (backup.revision().get(), backup.facts());
    let known = before.as_ref().map(|(_, state)| state.services.clone());
    let services = services.or(known).unwrap_or_default();
    let same = before.filter(|(at, state)| (*at, state.facts) == (revision, facts));
    let bytes = match same {
        Some((_, state)) => state.bytes,
        None => backup.encode().ok()?.into(),
    };
    Some((revision, State { facts, bytes, services }))
}

/// JSON for each service, for readers.
fn services(document: &StatusDocument) -> Vec<(String, String)> {
    let one = |service: &ServiceDocument| {
        let ServiceDocument { active, active_since, state, pinned, paused, .. } = service;
        serde_json::json!({
            "active": active,
            "state": state,
            "revision": document.revision,
            "since": active_since,
            "pinned": pinned,
            "paused": paused,
            "critical": service.critical,
        })
    };
    document.services.iter().map(|(name, seen)| (name.to_string(), one(seen).to_string())).collect()
}

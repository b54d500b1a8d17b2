//! One thread that owns the store, so that a slow disk never holds up the loop.
//!
//! Invariants
//! 1. Jobs are done in the order given: a record is never stored before the snapshot it belongs to.
//! 2. The queue is bounded; when it is full the job is refused and counted, never waited for.
//! 3. Without a store (it could not be opened) every job still answers: the sidecar goes on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::core::id::ServiceName;
use crate::core::record::HistoryRecord;
use crate::store::{HistoryQuery, Saved, Store, history_line};
use crate::telemetry::metric;

/// Jobs waiting at most: a switch makes two, and there are a handful of switches an hour.
const QUEUE_MAX: usize = 1_024;
/// Records kept in memory for the time that no store is there.
const MEMORY_RECORDS_MAX: usize = 1_000;

/// Records with the time they were made, oldest first.
type Memory = VecDeque<(u64, HistoryRecord)>;

enum Job {
    Save { snapshot: Vec<u8>, revision: u64, at_ms: u64, done: oneshot::Sender<bool> },
    Append { record: Box<HistoryRecord>, at_ms: u64 },
    Policy { text: Arc<str>, digest: [u8; 32], at_ms: u64 },
    History { query: Query, reply: oneshot::Sender<Vec<HistoryRecord>> },
    Export { bytes: usize, reply: oneshot::Sender<Option<Exported>> },
    Replace { store: Box<Store> },
    Stop,
}

/// What a backup is made from: the latest snapshot, and the history as it lies on disk.
pub(crate) type Exported = (Saved, Vec<u8>);

/// Which records are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// Only of this service.
    pub(crate) service: Option<ServiceName>,
    /// At most this many, newest first.
    pub(crate) limit: usize,
}

impl From<crate::admin::protocol::HistoryQuery> for Query {
    fn from(asked: crate::admin::protocol::HistoryQuery) -> Self {
        let limit = asked.n.min(crate::admin::protocol::HistoryQuery::COUNT_MAX);
        Self { service: asked.service, limit }
    }
}

/// A handle on the store's thread.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    jobs: SyncSender<Job>,
    stored: Arc<Notify>,
}

impl Keeper {
    /// Starts the thread; without a store it keeps a short history in memory. `latest` is the
    /// snapshot of the run before, where no store has it.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub(crate) fn start(
        store: Option<Store>,
        latest: Option<Saved>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, queue) = sync_channel(QUEUE_MAX);
        let noted: Arc<Notify> = Arc::default();
        let stored = Arc::clone(&noted);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || work(&queue, &noted, store, latest))?;
        Ok((Self { jobs, stored }, thread))
    }

    /// Notes to the one who copies what is stored: there is something new.
    pub(crate) fn stored(&self) -> Arc<Notify> {
        Arc::clone(&self.stored)
    }

    /// Stores a snapshot; the answer says whether it is durable.
    pub(crate) fn save(
        &self,
        snapshot: Vec<u8>,
        revision: u64,
        at_ms: u64,
    ) -> oneshot::Receiver<bool> {
        let (done, answer) = oneshot::channel();
        self.give(Job::Save { snapshot, revision, at_ms, done });
        answer
    }

    /// Appends to the history.
    pub(crate) fn append(&self, record: HistoryRecord, at_ms: u64) {
        self.give(Job::Append { record: Box::new(record), at_ms });
    }

    /// Keeps the text of a policy that was proven good.
    pub(crate) fn keep_policy(&self, text: Arc<str>, digest: [u8; 32], at_ms: u64) {
        self.give(Job::Policy { text, digest, at_ms });
    }

    /// Reads the history, newest first; empty when the store does not answer.
    pub(crate) async fn history(&self, query: Query) -> Vec<HistoryRecord> {
        let (reply, answer) = oneshot::channel();
        self.give(Job::History { query, reply });
        answer.await.unwrap_or_default()
    }

    /// What a backup is made from, with at most so many bytes of the newest history; `None` while
    /// there is no state, or the store does not answer.
    pub(crate) async fn export(&self, bytes: usize) -> Option<Exported> {
        let (reply, answer) = oneshot::channel();
        self.give(Job::Export { bytes, reply });
        answer.await.ok().flatten()
    }

    /// Moves to another store.
    pub(crate) fn replace(&self, store: Store) {
        self.give(Job::Replace { store: Box::new(store) });
    }

    /// Lets the thread end once everything before this is done.
    pub(crate) fn stop(&self) {
        self.give(Job::Stop);
    }

    fn give(&self, job: Job) {
        if let Err(TrySendError::Full(_)) = self.jobs.try_send(job) {
            metric::store_written(false, Duration::ZERO);
            tracing::error!(help = "is the state directory's disk stuck?", "store queue is full");
        }
    }
}

fn work(
    queue: &Receiver<Job>,
    noted: &Notify,
    mut store: Option<Store>,
    mut latest: Option<Saved>,
) {
    let mut memory = Memory::new();
    while let Ok(job) = queue.recv() {
        match job {
            Job::Save { snapshot, revision, at_ms, done } => {
                let kept = store.as_mut().is_some_and(|store| {
                    told("snapshot", || store.save(&snapshot, revision, at_ms))
                });
                // The loop may have stopped waiting; then nobody needs the answer.
                done.send(kept).ok();
                // A backup is wanted most when our own disk is gone.
                let saved = Saved { json: snapshot, revision, saved_at_ms: at_ms };
                latest = Some(saved).filter(|_| !kept);
                noted.notify_one();
            }
            Job::Append { record, at_ms } => {
                append(store.as_mut(), &mut memory, *record, at_ms);
                noted.notify_one();
            }
            Job::Policy { text, digest, at_ms } => {
                if let Some(store) = store.as_mut() {
                    told("policy", || store.save_policy(&text, &digest, at_ms));
                }
            }
            Job::History { query, reply } => {
                reply.send(history(store.as_ref(), &memory, &query)).ok();
            }
            Job::Export { bytes, reply } => {
                let saved = latest.clone().or_else(|| saved(store.as_ref()));
                let exported = saved.map(|saved| (saved, lines(store.as_ref(), &memory, bytes)));
                // Whoever asked may have given up.
                reply.send(exported).ok();
            }
            Job::Replace { store: other } => store = Some(*other),
            Job::Stop => break,
        }
    }
}

/// The latest snapshot as it lies on disk.
fn saved(store: Option<&Store>) -> Option<Saved> {
    let read = store?.latest();
    read.map_err(|error| tracing::warn!(%error, "state unreadable")).ok().flatten()
}

/// The history as it lies on disk, or would.
fn lines(store: Option<&Store>, memory: &Memory, bytes: usize) -> Vec<u8> {
    let stored = store.map(|store| {
        let read = store.history_lines(bytes);
        read.map_err(|error| tracing::warn!(%error, "history unreadable")).unwrap_or_default()
    });
    stored.unwrap_or_else(|| {
        let line = |(at_ms, record): &(u64, HistoryRecord)| history_line(record, *at_ms).ok();
        memory.iter().filter_map(line).collect::<String>().into_bytes()
    })
}

fn append(store: Option<&mut Store>, memory: &mut Memory, record: HistoryRecord, at_ms: u64) {
    if let Some(store) = store {
        told("history", || store.append(&record, at_ms));
    }
    if memory.len() == MEMORY_RECORDS_MAX {
        memory.pop_front();
    }
    memory.push_back((at_ms, record));
}

fn history(store: Option<&Store>, memory: &Memory, query: &Query) -> Vec<HistoryRecord> {
    let stored = store.and_then(|store| {
        let query = HistoryQuery {
            service: query.service.clone(),
            limit: Some(query.limit),
            ..HistoryQuery::default()
        };
        store.history(&query).map_err(|error| tracing::warn!(%error, "history unreadable")).ok()
    });
    stored.unwrap_or_else(|| {
        let wanted = |record: &&HistoryRecord| {
            query.service.as_ref().is_none_or(|service| record.decision.service == *service)
        };
        memory
            .iter()
            .rev()
            .map(|(_, record)| record)
            .filter(wanted)
            .take(query.limit)
            .cloned()
            .collect()
    })
}

/// Does a write, times it, and says whether it worked.
fn told<E: std::fmt::Display>(what: &'static str, write: impl FnOnce() -> Result<(), E>) -> bool {
    let began = tokio::time::Instant::now();
    let result = write();
    metric::store_written(result.is_ok(), began.elapsed());
    if let Err(error) = &result {
        tracing::error!(what, %error, "failed to store");
    }
    result.is_ok()
}

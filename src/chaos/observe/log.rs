//! What was seen in a drill, by the time since its beginning.
//!
//! Only data: who judges it needs no clock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::chaos::fault::Fault;
use crate::chaos::scenario::{Goal, Whom};
use crate::core::action::{Decision, Event};
use crate::core::id::{EndpointName, Revision};

/// Most entries of one sort: a drill of a day with a client that never rests stays below.
const ENTRIES_MAX: usize = 2_000_000;
/// Most unusable readings that are told one by one.
const BAD_MAX: usize = 16;

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Every content of the env file, oldest first.
    pub files: Vec<Written>,
    /// How often the env file was read.
    pub reads: u64,
    /// How often it could not be used.
    pub bad_reads: u64,
    /// The first of those, and why.
    pub bad: Vec<(Duration, String)>,
    /// What the sidecar told.
    pub events: Vec<(Duration, Event)>,
    /// How many of those were lost on the way.
    pub lost_events: u64,
    /// The history that the sidecar showed at the end; `None` when it could not be asked.
    pub history: Option<Vec<Decision>>,
    /// What the client did.
    pub calls: Vec<Call>,
    /// What was done, and what came about.
    pub marks: Vec<(Duration, Mark)>,
    /// Whether faults showed to a probe of our own.
    pub canaries: Vec<Canary>,
}

/// One content of the env file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Written {
    /// When it was first seen.
    pub at: Duration,
    /// Its revision.
    pub revision: Revision,
    /// The endpoint that it names.
    pub active: Option<EndpointName>,
}

/// One call of the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Call {
    /// When the file was read for it.
    pub begun: Duration,
    /// When it was over.
    pub ended: Duration,
    /// What came of it.
    pub end: CallEnd,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallEnd {
    /// The endpoint that the file names answered.
    Good,
    /// No answer, or none that can be used.
    Failed,
    /// Another endpoint than the file names answered, or one that does not know the key.
    Wrong,
}

/// Something done, or come about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mark {
    /// The steady state was reached: from here on it counts.
    Steady,
    /// A fault was put in force.
    Armed(Whom, Fault),
    /// It is being undone.
    Healed(Whom),
    /// It is undone.
    Serving(Whom),
    /// The policy was spoilt.
    Spoiled,
    /// The policy was repaired.
    Mended,
    /// The sidecar was killed.
    Killed,
    /// Another one was started.
    Restarted,
    /// What was waited for has come about.
    Reached(Goal),
    /// What was waited for has not come about.
    Missed(Goal),
    /// The sidecar ended by itself.
    Lost,
    /// The steady state after everything was reached.
    SteadyAgain,
}

/// Whether a fault showed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Canary {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The fault.
    pub fault: Fault,
    /// What the probe found.
    pub outcome: String,
    /// Whether that is what the fault is to bring about.
    pub effective: bool,
}

impl Log {
    /// The endpoint that the file names now.
    #[must_use]
    pub fn active(&self) -> Option<&EndpointName> {
        self.files.last().and_then(|file| file.active.as_ref())
    }

    /// When the first of these marks was made.
    pub fn marked(&self, wanted: impl Fn(&Mark) -> bool) -> Option<Duration> {
        self.marks.iter().find(|(_, mark)| wanted(mark)).map(|(at, _)| *at)
    }

    /// When the last of them was made.
    pub fn marked_last(&self, wanted: impl Fn(&Mark) -> bool) -> Option<Duration> {
        self.marks.iter().rev().find(|(_, mark)| wanted(mark)).map(|(at, _)| *at)
    }

    /// Notes a content of the env file that cannot be used.
    pub fn note_bad(&mut self, at: Duration, why: &str) {
        self.bad_reads += 1;
        if self.bad.len() < BAD_MAX {
            self.bad.push((at, why.to_owned()));
        }
    }

    /// Notes a call.
    pub fn note_call(&mut self, call: Call) {
        if self.calls.len() < ENTRIES_MAX {
            self.calls.push(call);
        }
    }

    /// Notes an event.
    pub fn note_event(&mut self, at: Duration, event: Event) {
        if self.events.len() < ENTRIES_MAX {
            self.events.push((at, event));
        }
    }
}

/// A log that several write into.
#[derive(Clone, Debug)]
pub struct Notebook {
    begun: Instant,
    log: Arc<Mutex<Log>>,
}

impl Notebook {
    /// An empty one that begins now.
    #[must_use]
    pub fn begin() -> Self {
        Self { begun: Instant::now(), log: Arc::default() }
    }

    /// The time since the beginning.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Writes into it, or reads it.
    pub fn with<T>(&self, does: impl FnOnce(&mut Log) -> T) -> T {
        does(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Marks this moment.
    pub fn mark(&self, mark: Mark) {
        let now = self.now();
        self.with(|log| log.marks.push((now, mark)));
    }
}

//! What is to be written when: a state machine without clock and I/O.
//!
//! It is told what there is to write, what the server answered, and that a connection was lost; it
//! says what is wanted next. Nothing is known of a server before it has answered on this
//! connection: it may be another one behind the same address, or one that has lost something.
//!
//! Invariants
//! 1. Decisions are offered in the order of their ids, each until it is known to be there, and none
//!    that is there.
//! 2. It holds [`OUTBOX_MAX`] decisions at most while nobody takes them. What it had to drop, or
//!    never knew, it asks to be [`Need::Refill`]ed from the disk before it goes on.
//! 3. After a [`Answer::Conflict`] nothing is taken over any more in this run.
//! 4. A state that stands is not written again.

use std::collections::VecDeque;

use crate::store::redis::commit::{Answer, Commit, State};
use crate::store::redis::entry::{Entry, Id};

/// Decisions that wait at most.
pub const OUTBOX_MAX: usize = 256;

/// Decisions in one write.
const BATCH: usize = 64;

/// Bytes of decisions in one write, about.
const BATCH_BYTES: usize = 1024 * 1024;

/// What is wanted next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// All decisions that the disk has.
    Refill,
    /// This to be written.
    Commit(Commit),
}

/// The state and its revision.
#[derive(Clone, Debug)]
struct Known {
    revision: u64,
    state: State,
}

/// What of a state stands on the server.
#[derive(Debug)]
struct Standing {
    revision: u64,
    facts: u32,
    services: Vec<(String, String)>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Decisions kept on the server.
    keep: usize,
    known: Option<Known>,
    standing: Option<Standing>,
    outbox: VecDeque<Entry>,
    /// More than [`OUTBOX_MAX`] after a refill.
    room: usize,
    /// Whether the decisions of before this run were told.
    begun: bool,
    /// The latest decision heard of.
    newest: Id,
    /// The latest that the server has; `None` before it was asked on this connection.
    last: Option<Id>,
    /// Decisions are missing in the outbox, or may be.
    gap: bool,
    dropped: u64,
    taken: bool,
    conflict: Option<u64>,
}

impl Ledger {
    /// Knows nothing, of a server that is to keep so many decisions.
    #[must_use]
    pub fn new(keep: usize) -> Self {
        Self { keep, gap: true, room: OUTBOX_MAX, ..Self::default() }
    }

    /// Another number of decisions is to be kept.
    pub const fn keep(&mut self, keep: usize) {
        self.keep = keep;
    }

    /// The state is this.
    pub fn observe(&mut self, revision: u64, state: State) {
        if self.known.as_ref().is_none_or(|known| known.revision <= revision) {
            self.known = Some(Known { revision, state });
        }
    }

    /// These are the newest decisions; `whole` when they are all there are. Returns how many had
    /// to be dropped.
    pub fn note(&mut self, entries: Vec<Entry>, whole: bool) -> u64 {
        let begun = std::mem::replace(&mut self.begun, true);
        if !begun {
            // What was decided before is on the disk, and most of it there: it is asked for.
            self.newest = entries.last().map_or(self.newest, |entry| entry.id.max(self.newest));
            return 0;
        }
        let reaches = whole || entries.first().is_some_and(|entry| entry.id <= self.newest);
        self.gap |= !reaches;
        let mut dropped = 0;
        for entry in entries {
            if entry.id > self.newest {
                self.newest = entry.id;
                self.outbox.push_back(entry);
            }
        }
        while self.outbox.len() > self.room {
            self.outbox.pop_front();
            dropped += 1;
        }
        self.gap |= dropped > 0;
        self.dropped = self.dropped.saturating_add(dropped);
        dropped
    }

    /// These are all decisions that the disk has.
    pub fn refill(&mut self, mut entries: Vec<Entry>) {
        let last = self.last.unwrap_or_default();
        let beyond = entries.len().saturating_sub(self.keep);
        entries.drain(..beyond);
        entries.retain(|entry| entry.id > last);
        if let Some(entry) = entries.last() {
            self.newest = self.newest.max(entry.id);
        }
        self.room = OUTBOX_MAX.max(entries.len());
        self.outbox = entries.into();
        (self.gap, self.dropped) = (false, 0);
    }

    /// What is wanted next; `due` when the server is to be told that we live, and asked whether it
    /// still has what it had.
    #[must_use]
    pub fn next(&self, due: bool) -> Need {
        let Some(known) = &self.known else { return Need::Nothing };
        let look = || Need::Commit(self.commit(known, None, Vec::new()));
        if self.conflict.is_some() {
            return if due { look() } else { Need::Nothing };
        }
        // First, it says where it stands.
        let Some(last) = self.last else { return look() };
        if self.gap {
            return Need::Refill;
        }
        let entries = self.batch(last);
        let stands = self.standing.as_ref().is_some_and(|standing| {
            (standing.revision, standing.facts) == (known.revision, known.state.facts)
                && standing.services == known.state.services
        });
        if stands && entries.is_empty() && !due {
            return Need::Nothing;
        }
        let state = (!stands).then(|| known.state.clone());
        Need::Commit(self.commit(known, state, entries))
    }

    fn commit(&self, known: &Known, state: Option<State>, entries: Vec<Entry>) -> Commit {
        let last = self.last.unwrap_or_default();
        Commit { revision: known.revision, takes: !self.taken, last, state, entries }
    }

    fn batch(&self, last: Id) -> Vec<Entry> {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.line.len();
            bytes <= BATCH_BYTES || bytes == entry.line.len()
        };
        let waiting = self.outbox.iter().filter(|entry| entry.id > last);
        waiting.take(BATCH).take_while(fits).cloned().collect()
    }

    /// The server answered this to that.
    pub fn answered(&mut self, commit: &Commit, answer: &Answer) {
        match *answer {
            Answer::Written { last } => {
                self.conflict = None;
                self.taken = true;
                self.arrived(last);
                // One that makes no sense is not sent, and must not be waited for.
                let sent = commit.entries.last().map_or(last, |entry| entry.id);
                self.outbox.retain(|entry| entry.id > sent);
                if let Some(State { facts, services, .. }) = &commit.state {
                    let (revision, facts) = (commit.revision, *facts);
                    let services = services.clone();
                    self.standing = Some(Standing { revision, facts, services });
                }
            }
            Answer::Missing { last } => {
                self.conflict = None;
                self.standing = None;
                self.arrived(last);
            }
            Answer::Conflict { revision, .. } => {
                self.conflict = Some(revision);
                self.taken = true;
                self.lost();
            }
        }
    }

    /// The server's latest decision is this one.
    fn arrived(&mut self, last: Id) {
        let before = self.last.replace(last);
        // It has less than it had, or than we are about to go on from.
        let first = self.outbox.front().map(|entry| entry.id);
        let back = before.is_some_and(|before| last < before);
        let behind =
            before.is_none() && first.is_none_or(|first| last < first) && last < self.newest;
        self.gap |= back || behind;
        self.outbox.retain(|entry| entry.id > last);
        if self.outbox.len() <= OUTBOX_MAX {
            self.room = OUTBOX_MAX;
        }
    }

    /// The connection is gone: whatever is behind the address may have changed when it is back.
    pub fn lost(&mut self) {
        self.last = None;
        self.standing = None;
    }

    /// It is another server, which has nothing of ours to its knowledge.
    pub fn moved(&mut self) {
        self.lost();
        (self.taken, self.conflict, self.gap) = (false, None, true);
    }

    /// Decisions that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// Decisions that were dropped and are still to be read from the disk.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The revision at which somebody else writes under our name.
    #[must_use]
    pub const fn conflict(&self) -> Option<u64> {
        self.conflict
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;

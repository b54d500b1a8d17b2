//! Remembers who wants to be woken when; each has one alarm at most.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::id::LeaseId;
use crate::core::time::Instant;

/// Who wants to be woken.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Timer {
    /// The shallow watch of a slot.
    Shallow(u32),
    /// The deep watch of a slot.
    Deep(u32),
    /// Breaker and throttling of a slot.
    Machines(u32),
    /// A service's decision.
    Service(u32),
    /// The end of a lease.
    Lease(LeaseId),
    /// The end of the wait after a stall.
    Stall,
}

/// All alarms.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    queue: BTreeSet<(Instant, Timer)>,
    armed: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Sets, moves or takes back the one alarm of `timer`.
    pub(super) fn set(&mut self, timer: Timer, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.armed.insert(timer, at),
            None => self.armed.remove(&timer),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.queue.remove(&(before, timer));
        }
        if let Some(at) = at {
            self.queue.insert((at, timer));
        }
    }

    /// The next alarm.
    pub(super) fn first(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// When `timer` will fire.
    pub(super) fn of(&self, timer: Timer) -> Option<Instant> {
        self.armed.get(&timer).copied()
    }

    /// Takes the first alarm that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        self.queue.first().filter(|(at, _)| *at <= now)?;
        let (_, timer) = self.queue.pop_first()?;
        self.armed.remove(&timer);
        Some(timer)
    }

    /// Takes back all alarms.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.armed.clear();
    }

    /// All alarms, for comparing two engines.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Instant, Timer)> + '_ {
        self.queue.iter().copied()
    }
}

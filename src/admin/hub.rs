//! Tells events to everybody who listens, and remembers the latest ones.
//!
//! Invariants
//! 1. Publishing never waits: a listener who falls [`RING_MAX`] events behind loses its place and
//!    is told so.
//! 2. What a subscription replays and what it then hears leaves no gap and repeats nothing.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::core::record::EventRecord;

/// Events remembered, and how far a listener may fall behind.
pub const RING_MAX: usize = 256;

/// Where a listener stopped: the run of the daemon and the event's number in it.
///
/// Numbers start anew with each run, so a number alone would mean two events.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EventId {
    run: u32,
    seq: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.run, self.seq)
    }
}

/// The text is no event id of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("read an event id")]
pub struct ParseEventIdError;

impl FromStr for EventId {
    type Err = ParseEventIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text
            .split_once('-')
            .and_then(|(run, seq)| Some((u32::from_str_radix(run, 16).ok()?, seq.parse().ok()?)));
        let (run, seq) = parts.ok_or(ParseEventIdError)?;
        Ok(Self { run, seq })
    }
}

/// What a new listener wants to hear of the past.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replay {
    /// Nothing.
    Nothing,
    /// At most so many of the latest events.
    Last(usize),
    /// Everything after this event.
    After(EventId),
    /// Everything, because it is not known where the listener stopped.
    AfterUnknown,
}

/// Tells events to everybody who listens. Clones share one hub.
#[derive(Clone, Debug)]
pub struct EventHub {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    run: u32,
    sender: broadcast::Sender<Arc<EventRecord>>,
    ring: Mutex<VecDeque<Arc<EventRecord>>>,
}

impl Default for EventHub {
    fn default() -> Self {
        Self::new()
    }
}

impl EventHub {
    /// A hub for this run of the daemon.
    #[must_use]
    pub fn new() -> Self {
        // The hasher's keys come from the system's randomness: enough to tell two runs apart.
        let [a, b, c, d, ..] = RandomState::new().hash_one(()).to_ne_bytes();
        let (sender, _) = broadcast::channel(RING_MAX);
        let ring = Mutex::new(VecDeque::with_capacity(RING_MAX));
        let shared = Shared { run: u32::from_ne_bytes([a, b, c, d]), sender, ring };
        Self { shared: Arc::new(shared) }
    }

    /// Tells an event to all listeners, now and later ones. Never waits.
    pub fn publish(&self, record: EventRecord) {
        let record = Arc::new(record);
        let mut ring = self.ring();
        if ring.len() == RING_MAX {
            ring.pop_front();
        }
        ring.push_back(Arc::clone(&record));
        // An error only means that nobody listens.
        self.shared.sender.send(record).ok();
    }

    /// Starts listening, after the part of the past that `replay` asks for.
    #[must_use]
    pub fn subscribe(&self, replay: Replay) -> Subscription {
        // Under the lock of the ring nothing is published: invariant 2.
        let ring = self.ring();
        let live = self.shared.sender.subscribe();
        let (backlog, missed) = self.past(&ring, replay);
        drop(ring);
        Subscription { run: self.shared.run, backlog, missed, live }
    }

    /// The raw feed, for a listener who wants nothing of the past.
    #[must_use]
    pub fn feed(&self) -> broadcast::Receiver<Arc<EventRecord>> {
        self.shared.sender.subscribe()
    }

    fn past(
        &self,
        ring: &VecDeque<Arc<EventRecord>>,
        replay: Replay,
    ) -> (VecDeque<Arc<EventRecord>>, bool) {
        match replay {
            Replay::Nothing => (VecDeque::new(), false),
            Replay::Last(count) => {
                (ring.iter().skip(ring.len().saturating_sub(count)).cloned().collect(), false)
            }
            Replay::AfterUnknown => (ring.clone(), true),
            Replay::After(id) if id.run != self.shared.run => (ring.clone(), true),
            Replay::After(id) => {
                let later = ring.iter().filter(|record| record.seq > id.seq).cloned().collect();
                let oldest = ring.front().map_or(0, |record| record.seq);
                (later, oldest > id.seq.saturating_add(1))
            }
        }
    }

    fn ring(&self) -> MutexGuard<'_, VecDeque<Arc<EventRecord>>> {
        self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One listener.
#[derive(Debug)]
pub struct Subscription {
    run: u32,
    backlog: VecDeque<Arc<EventRecord>>,
    missed: bool,
    live: broadcast::Receiver<Arc<EventRecord>>,
}

/// Why no further event comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Ended {
    /// The listener was too slow; this many events are lost to it.
    #[error("keep up with events: {0} were lost")]
    Lagged(u64),
    /// The sidecar is going down.
    #[error("hear more events: the sidecar stops")]
    Closed,
}

impl Subscription {
    /// Whether events that were asked for are no longer remembered.
    #[must_use]
    pub const fn missed(&self) -> bool {
        self.missed
    }

    /// Waits for the next event. Cancel-safe.
    ///
    /// # Errors
    /// When the listener fell too far behind, or the sidecar is going down.
    pub async fn next(&mut self) -> Result<Arc<EventRecord>, Ended> {
        if let Some(record) = self.backlog.pop_front() {
            return Ok(record);
        }
        self.live.recv().await.map_err(|error| match error {
            RecvError::Lagged(lost) => Ended::Lagged(lost),
            RecvError::Closed => Ended::Closed,
        })
    }

    /// The id under which a listener can later resume after `record`.
    #[must_use]
    pub const fn id_of(&self, record: &EventRecord) -> EventId {
        EventId { run: self.run, seq: record.seq }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::action::Event;
    use crate::core::record::SCHEMA;

    fn record(seq: u64) -> EventRecord {
        let event = Event::Isolation { isolated: false, cause: String::from("test") };
        EventRecord { schema: SCHEMA, seq, at: String::from("2026-01-01T00:00:00.000Z"), event }
    }

    async fn heard(subscription: &mut Subscription, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        for _ in 0..count {
            seqs.push(subscription.next().await.expect("an event").seq);
        }
        seqs
    }

    #[tokio::test]
    async fn a_listener_resumes_where_it_stopped() {
        let hub = EventHub::new();
        (1..=5).for_each(|seq| hub.publish(record(seq)));
        let mut first = hub.subscribe(Replay::Last(3));
        let third = first.next().await.expect("an event");
        let id = first.id_of(&third).to_string().parse().expect("our own id");
        let mut second = hub.subscribe(Replay::After(id));
        hub.publish(record(6));
        assert!(!second.missed());
        assert_eq!(heard(&mut second, 3).await, [4, 5, 6]);
    }

    #[tokio::test]
    async fn a_listener_of_an_earlier_run_hears_everything_and_is_told() {
        let hub = EventHub::new();
        (1..=2).for_each(|seq| hub.publish(record(seq)));
        let other = EventId { run: hub.shared.run.wrapping_add(1), seq: 500 };
        let mut subscription = hub.subscribe(Replay::After(other));
        assert!(subscription.missed());
        assert_eq!(heard(&mut subscription, 2).await, [1, 2]);
    }

    #[tokio::test]
    async fn what_is_forgotten_is_said() {
        let hub = EventHub::new();
        (1..=300).for_each(|seq| hub.publish(record(seq)));
        let id = |seq| EventId { run: hub.shared.run, seq };
        assert!(hub.subscribe(Replay::After(id(10))).missed());
        assert!(!hub.subscribe(Replay::After(id(44))).missed());
    }

    #[tokio::test]
    async fn a_listener_who_falls_behind_is_told_how_far() {
        let hub = EventHub::new();
        let mut slow = hub.subscribe(Replay::Nothing);
        (1..=300).for_each(|seq| hub.publish(record(seq)));
        assert_eq!(slow.next().await, Err(Ended::Lagged(44)));
    }
}

//! Doubts itself: isolation and stalls, and what they make of the evidence.

use std::collections::BTreeSet;

use crate::core::action::{Event, ProbeKind};
use crate::core::isolation::Turn;
use crate::core::outcome::{Observation, Verdict};
use crate::core::schedule::splay;
use crate::core::time::Instant;

use super::timers::Timer;
use super::{Engine, count};

/// The wait for fresh evidence after a stall.
#[derive(Clone, Debug)]
pub(super) struct Stall {
    pub(super) until: Instant,
    /// Slots that have not answered since.
    pub(super) waiting: BTreeSet<u32>,
}

impl Engine {
    pub(super) fn suspect(&mut self, slot: u32, observation: &Observation, now: Instant) {
        let Some(endpoint) = self.slot(slot) else { return };
        let (host, service) = (endpoint.rules.host, endpoint.service);
        let turn = match observation.outcome.verdict() {
            Verdict::Pass => self.isolation.pass(now),
            Verdict::Fail | Verdict::Neutral if observation.outcome.may_be_ours() => {
                self.isolation.silence(&self.rules.isolation, host, service, now)
            }
            Verdict::Fail | Verdict::Neutral => None,
        };
        self.turn(turn, now);
    }

    /// Whether the reference targets, if there are any, should be asked at once.
    #[must_use]
    pub fn doubts_itself(&self, now: Instant) -> bool {
        self.isolation.doubts(&self.rules.isolation, now)
    }

    pub(super) fn turn(&mut self, turn: Option<Turn>, now: Instant) {
        let (isolated, cause) = match turn {
            None => return,
            Some(Turn::Began(cause)) => (true, cause.sentence()),
            Some(Turn::Ended { tainted_since }) => {
                self.forget_tainted(tainted_since, now);
                (false, "somebody answers again".to_owned())
            }
        };
        self.batch.tell(Event::Isolation { isolated, cause });
        self.touch_all();
    }

    /// What failed while we were cut off says nothing about the endpoints: it is asked again.
    fn forget_tainted(&mut self, since: Instant, now: Instant) {
        self.share_after = now;
        for slot in 0..count(self.slots.len()) {
            let Some(rules) = self.rules_of(slot) else { continue };
            let Some(endpoint) = self.slot_mut(slot) else { continue };
            let tainted = endpoint.tainted(since, &rules);
            if tainted {
                endpoint.forget_health();
                endpoint.shallow.hot = endpoint.shallow.hot.max(1);
            }
            let tripped = endpoint.tripped_since(since);
            let reset = if tripped { endpoint.breaker.reset() } else { None };
            self.breaker_turned(slot, reset, now);
            if tainted || reset.is_some() {
                self.reassess(slot, now);
                self.retime(slot, now);
            }
        }
    }

    /// The process was not looking: nothing seen before now, and nothing asked before now, counts
    /// until every endpoint was asked again, or `tilt` is over.
    pub(super) fn stalled(&mut self, now: Instant) {
        self.attempts.clear();
        self.fresh_after = now;
        self.share_after = now;
        let n = count(self.slots.len());
        let mut waiting = BTreeSet::new();
        for slot in 0..n {
            let Some(rules) = self.rules_of(slot) else { continue };
            let first = now + splay(rules.probe.interval, n).saturating_mul(slot);
            let Some(endpoint) = self.slot_mut(slot) else { continue };
            endpoint.vouched_until = None;
            for kind in [ProbeKind::Shallow, ProbeKind::Deep] {
                let Some(watch) = endpoint.watch_mut(kind) else { continue };
                for attempt in std::mem::take(&mut watch.flight) {
                    if let Some(permit) = attempt.permit {
                        endpoint.breaker.release(permit);
                    }
                }
            }
            endpoint.shallow.first = first;
            endpoint.shallow.hot = endpoint.shallow.hot.max(1);
            if endpoint.throttled_until().is_none() {
                waiting.insert(slot);
            }
        }
        let until = now + self.rules.isolation.tilt;
        self.stall = (!waiting.is_empty()).then_some(Stall { until, waiting });
        self.timers.set(Timer::Stall, self.stall.as_ref().map(|stall| stall.until));
        self.run_due(now);
        for slot in 0..n {
            self.retime(slot, now);
        }
        self.touch_all();
    }

    pub(super) fn answered(&mut self, slot: u32) {
        let Some(stall) = &mut self.stall else { return };
        stall.waiting.remove(&slot);
        if stall.waiting.is_empty() {
            self.stall_over();
        }
    }

    pub(super) fn stall_over(&mut self) {
        self.stall = None;
        self.timers.set(Timer::Stall, None);
        self.touch_all();
    }
}

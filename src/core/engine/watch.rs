//! One endpoint seen through one of its two checks: attempts out, and the health they add up to.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::action::ProbeKind;
use crate::core::breaker::PermitId;
use crate::core::health::{Health, HealthTracker};
use crate::core::id::AttemptId;
use crate::core::outcome::{Outcome, Verdict};
use crate::core::rules::Cadence;
use crate::core::schedule::{GRACE, Pace, Rhythm, longer_down_gap};
use crate::core::time::Instant;

/// Attempts named as evidence of the current run of results; older ones say nothing new.
const ROW_MAX: usize = 8;

/// An attempt that is out.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) id: AttemptId,
    pub(super) started: Instant,
    /// Its trial of a half-open breaker.
    pub(super) permit: Option<PermitId>,
}

/// One check of one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) kind: ProbeKind,
    pub(super) health: HealthTracker,
    /// Oldest first.
    pub(super) flight: Vec<Attempt>,
    pub(super) last_start: Option<Instant>,
    /// When the first attempt starts, and none before.
    pub(super) first: Instant,
    pub(super) down_gap: Duration,
    pub(super) dice: u32,
    /// A confirmation waits for this moment, because too many endpoints waver at once.
    pub(super) put_off: Option<Instant>,
    /// Results wanted at the fast pace whatever else is known.
    pub(super) hot: u32,
    /// Results in a row that said nothing.
    pub(super) neutrals: u32,
    /// Start of the current run of failures.
    pub(super) failing_since: Option<Instant>,
    /// The attempts of the current run of results.
    pub(super) row: VecDeque<AttemptId>,
}

impl Watch {
    pub(super) fn new(kind: ProbeKind, cadence: &Cadence, first: Instant) -> Self {
        Self {
            kind,
            health: HealthTracker::new(),
            flight: Vec::new(),
            last_start: None,
            first,
            down_gap: cadence.down_interval,
            dice: 1000,
            put_off: None,
            hot: 0,
            neutrals: 0,
            failing_since: None,
            row: VecDeque::new(),
        }
    }

    /// Whether a flip is being confirmed. Results that say nothing confirm nothing, so after a row
    /// of them there is no hurry.
    pub(super) const fn wobbling(&self, cadence: &Cadence) -> bool {
        self.hot > 0 || (self.neutrals < cadence.fall && self.health.wobbling(cadence))
    }

    pub(super) fn unhealthy(&self) -> bool {
        self.health.base() == Health::Unhealthy
    }

    pub(super) fn pace(&self, cadence: &Cadence, hurry: Hurry, active: bool) -> Pace {
        if self.wobbling(cadence) || hurry == Hurry::Trial {
            return Pace::Fast;
        }
        if self.unhealthy() {
            return Pace::Down;
        }
        let strange = self.health.base() == Health::Unknown || hurry == Hurry::Alarm;
        if strange && self.neutrals < cadence.fall {
            return Pace::Fast;
        }
        if active { Pace::Steady } else { Pace::Standby }
    }

    /// When the next attempt starts.
    pub(super) fn due(&self, cadence: &Cadence, hurry: Hurry, active: bool) -> Option<Instant> {
        if self.flight.len() >= usize::try_from(cadence.fall.max(1)).unwrap_or(usize::MAX) {
            return None;
        }
        let rhythm = self.rhythm(self.pace(cadence, hurry, active));
        let due = rhythm.next(cadence, self.first)?;
        let put_off = self.put_off.map_or(due, |at| at.min(self.unhurried(cadence, active)));
        let throttled = self.health.throttled_until().unwrap_or(due);
        Some(due.max(self.first).max(put_off).max(throttled))
    }

    /// When the next attempt would start if nothing were being confirmed: what starts then, or
    /// later, is part of the plan.
    pub(super) fn unhurried(&self, cadence: &Cadence, active: bool) -> Instant {
        let pace = match (self.unhealthy(), active) {
            (true, _) => Pace::Down,
            (false, true) => Pace::Steady,
            (false, false) => Pace::Standby,
        };
        let alone = Rhythm { outstanding: 0, ..self.rhythm(pace) };
        alone.next(cadence, self.first).unwrap_or(self.first)
    }

    fn rhythm(&self, pace: Pace) -> Rhythm {
        Rhythm {
            pace,
            last_start: self.last_start,
            outstanding: u32::try_from(self.flight.len()).unwrap_or(u32::MAX),
            overlap: !self.unhealthy(),
            down_gap: self.down_gap,
            dice: self.dice,
        }
    }

    /// When the oldest attempt out counts as lost.
    pub(super) fn lost_at(&self, cadence: &Cadence) -> Option<Instant> {
        self.flight.first().map(|attempt| attempt.started + cadence.timeout + GRACE)
    }

    /// An identical attempt that began at `began` stands in for this one: the rhythm counts from
    /// there, so that no gap between two looks is longer than the cadence says.
    pub(super) fn backdate(&mut self, id: AttemptId, began: Instant) {
        let Some(attempt) = self.flight.iter_mut().find(|one| one.id == id) else { return };
        let started = attempt.started;
        attempt.started = started.min(began);
        if self.last_start == Some(started) {
            self.last_start = Some(attempt.started);
        }
    }

    /// Takes an attempt off the list; one that was given up is not there.
    pub(super) fn land(&mut self, id: AttemptId) -> Option<Attempt> {
        let at = self.flight.iter().position(|attempt| attempt.id == id)?;
        Some(self.flight.remove(at))
    }

    /// Gives up the attempts that started before `start`: a later one has passed, so whatever they
    /// still bring is old news.
    pub(super) fn outdate(&mut self, start: Instant) -> Vec<Attempt> {
        if self.flight.first().is_none_or(|attempt| attempt.started >= start) {
            return Vec::new();
        }
        let (stale, kept) =
            std::mem::take(&mut self.flight).into_iter().partition(|a| a.started < start);
        self.flight = kept;
        stale
    }

    /// Counts one result.
    pub(super) fn count(
        &mut self,
        cadence: &Cadence,
        landed: &Attempt,
        outcome: Outcome,
        now: Instant,
    ) {
        let verdict = outcome.verdict();
        let was_down = self.unhealthy();
        let turned = match verdict {
            Verdict::Pass => self.health.passes() == 0,
            Verdict::Fail => self.health.failures() == 0,
            Verdict::Neutral => false,
        };
        if turned {
            self.row.clear();
        }
        if verdict != Verdict::Neutral {
            if self.row.len() >= ROW_MAX {
                self.row.pop_front();
            }
            self.row.push_back(landed.id);
        }
        self.neutrals =
            if verdict == Verdict::Neutral { self.neutrals.saturating_add(1) } else { 0 };
        self.hot = self.hot.saturating_sub(1);
        // The change is seen by comparing what the endpoint shows before and after.
        let _change = self.health.record(cadence, outcome, now);
        self.failing_since = match verdict {
            Verdict::Fail => self.failing_since.or(Some(landed.started)),
            Verdict::Pass if !self.unhealthy() => None,
            Verdict::Pass | Verdict::Neutral => self.failing_since,
        };
        self.down_gap = match (was_down, self.unhealthy(), verdict) {
            (true, true, Verdict::Fail) => longer_down_gap(self.down_gap, cadence),
            (true, true, _) => self.down_gap,
            _ => cadence.down_interval,
        };
    }
}

/// Why an endpoint is to be watched fast although nothing of its own asks for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hurry {
    /// It is not.
    None,
    /// Its service may have to move soon, or has just moved there.
    Alarm,
    /// Its breaker tries it out.
    Trial,
}

//! Decides whether an endpoint may be tried at all.
//!
//! Owns the circuit of one endpoint. It reads no clock: time comes in, and the caller acts on the
//! [`Transition`] it gets back. Probes are recorded without asking; live calls ask first.
//!
//! Invariants
//! 1. Reaching a limit and opening are one step: `closed` never holds `failure_threshold` failures.
//! 2. Open, nothing is admitted before its time; a call's late result changes nothing, and neither
//!    does a reload (I9).
//! 3. Half-open, never more trials are out than `half_open_permits`; one that does not come back
//!    within its lease counts as failed (I8).
//! 4. Within one outage each open period, before jitter, is at least as long as the last, up to the
//!    longest; none is shorter than the endpoint asked for, up to five minutes.
//! 5. Only a person opens or closes a forced breaker.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::backoff::{Backoff, RETRY_AFTER_MAX};
use crate::core::input::Forced;
use crate::core::outcome::Verdict;
use crate::core::rng::Rng;
use crate::core::rules::{BreakerMode, BreakerRules};
use crate::core::time::Instant;
use crate::core::window::{Counts, Sample, Window};

/// What the breaker does with traffic, as shown to people.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls flow.
    #[default]
    Closed,
    /// Calls are blocked.
    Open,
    /// Trials are allowed.
    HalfOpen,
    /// Blocked by hand.
    ForcedOpen,
    /// Flowing by hand.
    ForcedClosed,
    /// Switched off: always flows, counts nothing.
    Disabled,
    /// Counts and says when it would trip, but never blocks.
    MetricsOnly,
}

impl BreakerState {
    /// Every label; the bound of the metric label `state`.
    pub const LABELS: [&'static str; 7] =
        ["closed", "open", "half_open", "forced_open", "forced_closed", "disabled", "metrics_only"];

    /// Its name in JSON, metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics_only",
        }
    }
}

/// Why a breaker tripped: for people, not for behaviour.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TripReason {
    /// Too many failures in a row.
    Consecutive,
    /// Too high a share of failures in the window.
    FailureRate,
    /// Too high a share of slow calls in the window.
    SlowRate,
    /// A trial failed, or did not come back.
    TrialFailed,
    /// By hand.
    Forced,
}

impl TripReason {
    /// Its name in JSON, metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::FailureRate => "failure_rate",
            Self::SlowRate => "slow_rate",
            Self::TrialFailed => "trial_failed",
            Self::Forced => "forced",
        }
    }
}

/// A change of the state shown; in `metrics_only`, from and to are the same and `reason` says what
/// would have tripped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Transition {
    /// Before.
    pub from: BreakerState,
    /// After.
    pub to: BreakerState,
    /// Why it opened, if it did.
    pub reason: Option<TripReason>,
}

/// One finished call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Call {
    /// How it counts.
    pub verdict: Verdict,
    /// How long it took.
    pub latency: Duration,
    /// How long the endpoint asked to be left alone, if it did.
    pub retry_after: Option<Duration>,
}

/// Names one trial of a half-open breaker; never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PermitId(u64);

/// One endpoint's circuit.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Breaker {
    mode: BreakerMode,
    forced: Option<Forced>,
    phase: Phase,
    window: Window,
    /// Trips of the current outage.
    trips: u32,
    /// In `metrics_only`: whether the current would-be outage has been told.
    told: bool,
    next_permit: u64,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Phase {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { permits: Vec<Permit>, passes: u32 },
}

impl Phase {
    const CLOSED: Self = Self::Closed { failures: 0 };
    const HALF_OPEN: Self = Self::HalfOpen { permits: Vec::new(), passes: 0 };
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Permit {
    id: PermitId,
    expires: Instant,
}

/// A [`Breaker`] on disk. The window is not kept: rates are judged afresh within one span.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(default)]
pub struct BreakerSnapshot {
    /// How a person set it, if one did.
    pub forced: Option<Forced>,
    /// Trips of the current outage; above zero unless it was closed.
    pub trips: u32,
    /// Failures in a row while closed.
    pub failures: u32,
    /// What was left of its open period, if it was open.
    pub open_for: Option<Duration>,
    /// Trials passed, if it was half-open.
    pub half_open_passes: Option<u32>,
}

impl Breaker {
    /// Starts closed: an unproven endpoint is the health check's problem, not ours.
    #[must_use]
    pub fn new(rules: &BreakerRules) -> Self {
        Self {
            mode: rules.mode,
            forced: None,
            phase: Phase::CLOSED,
            window: Window::new(rules.window, rules.window_buckets),
            trips: 0,
            told: false,
            next_permit: 0,
        }
    }

    /// The state shown: a person's order first, then the policy's mode.
    #[must_use]
    pub const fn state(&self) -> BreakerState {
        match (self.forced, self.mode, &self.phase) {
            (Some(Forced::Open), ..) => BreakerState::ForcedOpen,
            (Some(Forced::Closed), ..) => BreakerState::ForcedClosed,
            (None, BreakerMode::Disabled, _) => BreakerState::Disabled,
            (None, BreakerMode::MetricsOnly, _) => BreakerState::MetricsOnly,
            (None, BreakerMode::Auto, Phase::Closed { .. }) => BreakerState::Closed,
            (None, BreakerMode::Auto, Phase::Open { .. }) => BreakerState::Open,
            (None, BreakerMode::Auto, Phase::HalfOpen { .. }) => BreakerState::HalfOpen,
        }
    }

    /// Whether a normal call may flow; half-open admits only trials, by [`Self::try_acquire`].
    #[must_use]
    pub const fn admits(&self) -> bool {
        match self.state() {
            BreakerState::Closed
            | BreakerState::ForcedClosed
            | BreakerState::Disabled
            | BreakerState::MetricsOnly => true,
            BreakerState::Open | BreakerState::HalfOpen | BreakerState::ForcedOpen => false,
        }
    }

    /// What the window holds.
    #[must_use]
    pub fn counts(&self, now: Instant) -> Counts {
        self.window.counts(now)
    }

    /// Feeds the result of a call that needed no permit. Not closed, it changes nothing.
    pub fn record(
        &mut self,
        rules: &BreakerRules,
        call: Call,
        now: Instant,
        rng: &mut Rng,
    ) -> Option<Transition> {
        let Phase::Closed { failures } = self.phase else { return None };
        let state = self.state();
        let deaf = matches!(state, BreakerState::Disabled | BreakerState::ForcedOpen);
        if deaf || call.verdict == Verdict::Neutral {
            return None;
        }
        let failure = call.verdict == Verdict::Fail;
        self.window.record(now, Sample { failure, slow: call.latency >= rules.slow_call });
        let failures = if failure { failures.saturating_add(1) } else { 0 };
        let over = over_limit(rules, failures, self.window.counts(now));
        self.told &= over.is_some();
        let failures = failures.min(rules.failure_threshold.saturating_sub(1));
        self.phase = Phase::Closed { failures };
        match (state, over) {
            (BreakerState::Closed, Some(reason)) => {
                self.trip(rules, reason, call.retry_after, (now, rng))
            }
            (BreakerState::MetricsOnly, Some(_)) if !self.told => {
                self.told = true;
                Some(Transition { from: state, to: state, reason: over })
            }
            _ => None,
        }
    }

    /// Leases one trial, if half-open and one is free. It must come back by [`Self::settle`] or
    /// [`Self::release`] within `permit_lease`.
    #[must_use]
    pub fn try_acquire(&mut self, rules: &BreakerRules, now: Instant) -> Option<PermitId> {
        let id = PermitId(self.next_permit);
        let Phase::HalfOpen { permits, .. } = &mut self.phase else { return None };
        let out = u32::try_from(permits.len()).unwrap_or(u32::MAX);
        if out >= rules.half_open_permits {
            return None;
        }
        permits.push(Permit { id, expires: now + rules.permit_lease });
        self.next_permit += 1;
        Some(id)
    }

    /// Feeds the result of a trial. A neutral one gives the permit back and counts as nothing, and
    /// so does one whose permit has expired.
    pub fn settle(
        &mut self,
        rules: &BreakerRules,
        (permit, call): (PermitId, Call),
        now: Instant,
        rng: &mut Rng,
    ) -> Option<Transition> {
        if !self.release(permit) || call.verdict == Verdict::Neutral {
            return None;
        }
        let too_slow = rules.slow_rate_permille <= 1000 && call.latency >= rules.slow_call;
        if call.verdict == Verdict::Fail || too_slow {
            return self.trip(rules, TripReason::TrialFailed, call.retry_after, (now, rng));
        }
        let Phase::HalfOpen { passes, .. } = &mut self.phase else { return None };
        *passes = passes.saturating_add(1);
        if *passes < rules.half_open_passes {
            return None;
        }
        self.close()
    }

    /// Gives a permit back unused; says whether it was still out.
    pub fn release(&mut self, permit: PermitId) -> bool {
        let Phase::HalfOpen { permits, .. } = &mut self.phase else { return false };
        let before = permits.len();
        permits.retain(|one| one.id != permit);
        permits.len() < before
    }

    /// Lets time pass: an open period ends, an expired trial fails.
    pub fn advance(
        &mut self,
        rules: &BreakerRules,
        now: Instant,
        rng: &mut Rng,
    ) -> Option<Transition> {
        match &self.phase {
            Phase::Open { until } if *until <= now => self.enter(Phase::HALF_OPEN, None),
            Phase::HalfOpen { permits, .. } if permits.iter().any(|one| one.expires <= now) => {
                self.trip(rules, TripReason::TrialFailed, None, (now, rng))
            }
            Phase::Closed { .. } | Phase::Open { .. } | Phase::HalfOpen { .. } => None,
        }
    }

    /// When [`Self::advance`] next has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Closed { .. } => None,
            Phase::Open { until } => Some(*until),
            Phase::HalfOpen { permits, .. } => permits.iter().map(|one| one.expires).min(),
        }
    }

    /// When an open breaker lets a trial through.
    #[must_use]
    pub const fn retry_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open { until } => Some(until),
            Phase::Closed { .. } | Phase::HalfOpen { .. } => None,
        }
    }

    /// A person sets it, or with `None` gives it back to the policy, closed and with a clean slate.
    pub fn force(&mut self, forced: Option<Forced>) -> Option<Transition> {
        let from = self.state();
        self.forced = forced;
        self.wipe();
        let reason = (forced == Some(Forced::Open)).then_some(TripReason::Forced);
        self.told_from(from, reason)
    }

    /// Takes up a new policy. An open period, its trials and the counts stay as they are; only a
    /// change of mode wipes them, and shows in the state.
    pub fn rules_replaced(&mut self, rules: &BreakerRules) -> Option<Transition> {
        let from = self.state();
        self.window.reshape(rules.window, rules.window_buckets);
        if let Phase::Closed { failures } = &mut self.phase {
            *failures = (*failures).min(rules.failure_threshold.saturating_sub(1));
        }
        if self.mode != rules.mode {
            self.mode = rules.mode;
            self.wipe();
        }
        self.told_from(from, None)
    }

    /// Closes it with a clean slate, whatever it was, and ends a person's order.
    pub fn reset(&mut self) -> Option<Transition> {
        self.force(None)
    }

    /// What to keep over a restart.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> BreakerSnapshot {
        let kept = BreakerSnapshot { forced: self.forced, trips: self.trips, ..Default::default() };
        match self.phase {
            Phase::Closed { failures } => BreakerSnapshot { failures, ..kept },
            Phase::Open { until } => BreakerSnapshot { open_for: Some(until.since(now)), ..kept },
            Phase::HalfOpen { passes, .. } => {
                BreakerSnapshot { half_open_passes: Some(passes), ..kept }
            }
        }
    }

    /// Takes up a snapshot made `elapsed` ago. Trials that were out are gone with the process that
    /// ran them. An open period goes on, but not beyond the longest that the policy allows.
    #[must_use]
    pub fn restore(
        rules: &BreakerRules,
        kept: &BreakerSnapshot,
        elapsed: Duration,
        now: Instant,
    ) -> Self {
        let mut breaker = Self::new(rules);
        breaker.forced = kept.forced;
        if kept.forced.is_some() || rules.mode != BreakerMode::Auto {
            return breaker;
        }
        breaker.trips = kept.trips;
        breaker.phase = if let Some(left) = kept.open_for {
            let left = left.saturating_sub(elapsed).min(longest(rules));
            Phase::Open { until: now + left }
        } else if let Some(passes) = kept.half_open_passes {
            Phase::HalfOpen { permits: Vec::new(), passes }
        } else {
            Phase::Closed { failures: kept.failures.min(rules.failure_threshold.saturating_sub(1)) }
        };
        breaker
    }

    fn trip(
        &mut self,
        rules: &BreakerRules,
        reason: TripReason,
        retry_after: Option<Duration>,
        (now, rng): (Instant, &mut Rng),
    ) -> Option<Transition> {
        let backoff = Backoff::doubling(rules.reset_timeout, rules.reset_timeout_max);
        let period = backoff.delay(self.trips, rng, rules.jitter_permille);
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        self.trips = self.trips.saturating_add(1);
        self.window.clear();
        self.enter(Phase::Open { until: now + period.max(asked) }, Some(reason))
    }

    fn close(&mut self) -> Option<Transition> {
        let from = self.state();
        self.wipe();
        self.told_from(from, None)
    }

    fn wipe(&mut self) {
        self.phase = Phase::CLOSED;
        self.window.clear();
        self.trips = 0;
        self.told = false;
    }

    fn enter(&mut self, phase: Phase, reason: Option<TripReason>) -> Option<Transition> {
        let from = self.state();
        self.phase = phase;
        self.told_from(from, reason)
    }

    fn told_from(&self, from: BreakerState, reason: Option<TripReason>) -> Option<Transition> {
        let to = self.state();
        (from != to).then_some(Transition { from, to, reason })
    }
}

/// The longest an open period can be.
fn longest(rules: &BreakerRules) -> Duration {
    let most = rules.reset_timeout_max.max(rules.reset_timeout);
    let jitter = most.saturating_mul(rules.jitter_permille) / 1000;
    most.saturating_add(jitter).max(RETRY_AFTER_MAX)
}

/// The limit that is reached, if one is.
fn over_limit(rules: &BreakerRules, failures: u32, counts: Counts) -> Option<TripReason> {
    let judged = counts.calls >= rules.min_calls.max(1);
    let reaches = |part: u32, limit: u32| {
        judged && u64::from(part) * 1000 >= u64::from(limit) * u64::from(counts.calls)
    };
    if failures >= rules.failure_threshold {
        Some(TripReason::Consecutive)
    } else if reaches(counts.failures, rules.failure_rate_permille) {
        Some(TripReason::FailureRate)
    } else if reaches(counts.slow, rules.slow_rate_permille) {
        Some(TripReason::SlowRate)
    } else {
        None
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;

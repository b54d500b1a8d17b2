//! Turns a run of outcomes into a verdict with hysteresis.
//!
//! Owns what was *observed* of one endpoint; what a person ordered, and what the breaker thinks, is
//! kept elsewhere. Health has a base, moved only by rows of passes or failures, and overlays that
//! cover it without touching it: a refused credential, and throttling.
//!
//! Invariants
//! 1. The base moves only by `rise` passes or `fall` failures in a row (once proven), never by a
//!    neutral outcome; a neutral outcome interrupts no row.
//! 2. An overlay never changes the base. Throttling ends by time alone and is never shortened; a
//!    refused credential, a wrong role and a wrong probe end by a pass.
//! 3. `usable_since` is set exactly while the endpoint serves, in the role wanted, uncovered.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::backoff::RETRY_AFTER_MAX;
use crate::core::outcome::{Outcome, Verdict};
use crate::core::rules::Cadence;
use crate::core::time::Instant;

/// How long a throttled endpoint is left alone when it does not say.
pub const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(30);
/// The least time a throttled endpoint is left alone, whatever it says.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// Observed health of an endpoint.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Never proven either way.
    #[default]
    Unknown,
    /// It serves.
    Healthy,
    /// It serves, with a warning.
    Degraded,
    /// It does not serve.
    Unhealthy,
    /// It asked to be left alone for a while.
    Throttled,
    /// It refuses our credential.
    AuthFailed,
}

impl Health {
    /// Every label; the bound of the metric label `state`.
    pub const LABELS: [&'static str; 6] =
        ["unknown", "healthy", "degraded", "unhealthy", "throttled", "auth_failed"];

    /// Its name in JSON, metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
            Self::Throttled => "throttled",
            Self::AuthFailed => "auth_failed",
        }
    }
}

/// A change of the health shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Change {
    /// Before.
    pub from: Health,
    /// After.
    pub to: Health,
}

/// Health of one endpoint over time.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct HealthTracker {
    base: Health,
    passes: u32,
    failures: u32,
    /// Passes in a row that came with a warning.
    warned: u32,
    /// Passes in a row that came without.
    clean: u32,
    last_pass_at: Option<Instant>,
    usable_since: Option<Instant>,
    /// What the current run had lasted already when it was restored.
    usable_before: Duration,
    throttled_until: Option<Instant>,
    auth_failed: bool,
    wrong_role: bool,
    misconfigured: bool,
}

/// A [`HealthTracker`] on disk.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(default)]
pub struct HealthSnapshot {
    /// The verdict below the overlays.
    pub base: Health,
    /// Passes in a row.
    pub passes: u32,
    /// Failures in a row.
    pub failures: u32,
    /// Passes in a row with a warning.
    pub warned: u32,
    /// Passes in a row without one.
    pub clean: u32,
    /// How long it had been usable, if it was.
    pub usable_for: Option<Duration>,
    /// How much of its throttling was left.
    pub throttled_for: Option<Duration>,
    /// Whether it refused our credential.
    pub auth_failed: bool,
    /// Whether it served in the wrong role.
    pub wrong_role: bool,
    /// Whether it called our request malformed.
    pub misconfigured: bool,
}

impl HealthTracker {
    /// Nothing known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Feeds one outcome.
    pub fn record(&mut self, cadence: &Cadence, outcome: Outcome, now: Instant) -> Option<Change> {
        let from = self.health();
        match outcome.verdict() {
            Verdict::Pass => self.pass(cadence, outcome == Outcome::Degraded, now),
            Verdict::Fail => self.fail(cadence),
            Verdict::Neutral => self.note(outcome, now),
        }
        self.settle(from, now)
    }

    /// Lets time pass: throttling ends.
    pub fn advance(&mut self, now: Instant) -> Option<Change> {
        let from = self.health();
        self.throttled_until = self.throttled_until.filter(|until| *until > now);
        self.settle(from, now)
    }

    /// When [`Self::advance`] next has something to do.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.throttled_until
    }

    /// The health shown: overlays first.
    #[must_use]
    pub const fn health(&self) -> Health {
        if self.auth_failed {
            Health::AuthFailed
        } else if self.throttled_until.is_some() {
            Health::Throttled
        } else {
            self.base
        }
    }

    /// The health below the overlays: never throttled or `auth_failed`.
    #[must_use]
    pub const fn base(&self) -> Health {
        self.base
    }

    /// Passes in a row.
    #[must_use]
    pub const fn passes(&self) -> u32 {
        self.passes
    }

    /// Failures in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// The latest pass of this run of the daemon: the proof, as long as it is fresh.
    #[must_use]
    pub const fn last_pass_at(&self) -> Option<Instant> {
        self.last_pass_at
    }

    /// Start of the current unbroken usable run, as far as this run of the daemon has seen it.
    #[must_use]
    pub const fn usable_since(&self) -> Option<Instant> {
        self.usable_since
    }

    /// When the current usable run will have lasted `hold`, with what it had lasted before a
    /// restart; `None` when the endpoint is not usable.
    #[must_use]
    pub fn usable_until_held(&self, hold: Duration) -> Option<Instant> {
        self.usable_since.map(|since| since + hold.saturating_sub(self.usable_before))
    }

    /// The latest pass was found at `at` already, by somebody else.
    pub fn date_pass(&mut self, at: Instant) {
        self.last_pass_at = self.last_pass_at.map(|latest| latest.min(at));
    }

    /// Whether a flip between usable and unusable is being confirmed, so that probes should hurry.
    #[must_use]
    pub const fn wobbling(&self, cadence: &Cadence) -> bool {
        match self.base {
            Health::Unhealthy => self.passes > 0 && self.passes < cadence.rise,
            Health::Unknown
            | Health::Healthy
            | Health::Degraded
            | Health::Throttled
            | Health::AuthFailed => self.failures > 0 && self.failures < cadence.fall,
        }
    }

    /// When throttling ends.
    #[must_use]
    pub const fn throttled_until(&self) -> Option<Instant> {
        self.throttled_until
    }

    /// Whether it serves, but not in the role wanted.
    #[must_use]
    pub const fn wrong_role(&self) -> bool {
        self.wrong_role
    }

    /// Whether it called our request malformed: the probe is wrong, not the service.
    #[must_use]
    pub const fn misconfigured(&self) -> bool {
        self.misconfigured
    }

    /// What to keep over a restart.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> HealthSnapshot {
        HealthSnapshot {
            base: self.base,
            passes: self.passes,
            failures: self.failures,
            warned: self.warned,
            clean: self.clean,
            usable_for: self
                .usable_since
                .map(|since| now.since(since).saturating_add(self.usable_before)),
            throttled_for: self.throttled_until.map(|until| until.since(now)),
            auth_failed: self.auth_failed,
            wrong_role: self.wrong_role,
            misconfigured: self.misconfigured,
        }
    }

    /// Takes up a snapshot made `elapsed` ago.
    ///
    /// Throttling has run on meanwhile. A usable run has not: nobody watched. And the latest pass
    /// is forgotten, so that nothing is chosen as proven on evidence from before the restart.
    #[must_use]
    pub fn restore(kept: &HealthSnapshot, elapsed: Duration, now: Instant) -> Self {
        let base = match kept.base {
            Health::Healthy | Health::Degraded | Health::Unhealthy => kept.base,
            Health::Unknown | Health::Throttled | Health::AuthFailed => Health::Unknown,
        };
        let throttled_for = kept.throttled_for.map(|left| left.min(RETRY_AFTER_MAX));
        let mut tracker = Self {
            base,
            passes: kept.passes,
            failures: kept.failures,
            warned: kept.warned,
            clean: kept.clean,
            last_pass_at: None,
            usable_since: None,
            usable_before: kept.usable_for.unwrap_or_default(),
            throttled_until: throttled_for
                .and_then(|left| left.checked_sub(elapsed))
                .map(|left| now + left),
            auth_failed: kept.auth_failed,
            wrong_role: kept.wrong_role,
            misconfigured: kept.misconfigured,
        };
        tracker.throttled_until = tracker.throttled_until.filter(|until| *until > now);
        if tracker.usable() {
            tracker.usable_since = Some(now);
        } else {
            tracker.usable_before = Duration::ZERO;
        }
        tracker
    }

    fn pass(&mut self, cadence: &Cadence, warned: bool, now: Instant) {
        self.passes = self.passes.saturating_add(1);
        self.failures = 0;
        (self.warned, self.clean) = if warned {
            (self.warned.saturating_add(1), 0)
        } else {
            (0, self.clean.saturating_add(1))
        };
        self.last_pass_at = Some(now);
        self.auth_failed = false;
        self.wrong_role = false;
        self.misconfigured = false;
        self.base = match self.base {
            Health::Unhealthy if self.passes < cadence.rise => Health::Unhealthy,
            Health::Degraded if self.clean < cadence.rise => Health::Degraded,
            Health::Unknown
            | Health::Healthy
            | Health::Degraded
            | Health::Unhealthy
            | Health::Throttled
            | Health::AuthFailed => {
                if self.warned >= cadence.fall {
                    Health::Degraded
                } else {
                    Health::Healthy
                }
            }
        };
    }

    fn fail(&mut self, cadence: &Cadence) {
        self.failures = self.failures.saturating_add(1);
        self.passes = 0;
        self.warned = 0;
        self.clean = 0;
        if self.failures >= cadence.fall {
            self.base = Health::Unhealthy;
        }
    }

    fn note(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Throttled { retry_after } => {
                let asked = retry_after.unwrap_or(RETRY_AFTER_DEFAULT);
                let until = now + asked.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX);
                self.throttled_until = self.throttled_until.max(Some(until));
            }
            Outcome::Auth => self.auth_failed = true,
            Outcome::WrongRole => self.wrong_role = true,
            Outcome::ClientError => self.misconfigured = true,
            Outcome::Local
            | Outcome::Ok
            | Outcome::Degraded
            | Outcome::Refused
            | Outcome::Timeout
            | Outcome::Reset
            | Outcome::Dns
            | Outcome::Tls
            | Outcome::ServerError
            | Outcome::Protocol => {}
        }
    }

    fn settle(&mut self, from: Health, now: Instant) -> Option<Change> {
        if !self.usable() {
            self.usable_since = None;
            self.usable_before = Duration::ZERO;
        } else if self.usable_since.is_none() {
            self.usable_since = Some(now);
        }
        let to = self.health();
        (from != to).then_some(Change { from, to })
    }

    const fn usable(&self) -> bool {
        matches!(self.health(), Health::Healthy | Health::Degraded) && !self.wrong_role
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;

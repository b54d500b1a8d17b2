//! One endpoint: its machines, and what they add up to.

use std::sync::Arc;
use std::time::Duration;

use crate::core::action::ProbeKind;
use crate::core::breaker::{Breaker, BreakerState, Call};
use crate::core::ewma::LatencyEwma;
use crate::core::failover::Fault;
use crate::core::flap::Flap;
use crate::core::health::{Health, HealthTracker};
use crate::core::id::EndpointName;
use crate::core::outcome::{Observation, Outcome, Verdict};
use crate::core::rules::{BreakerRules, EndpointRules, ServiceRules};
use crate::core::score::{MIN_CHOOSABLE, score};
use crate::core::time::Instant;
use crate::core::window::{Sample, Window};

use super::effect::Bar;
use super::watch::Watch;

/// The latest result, for people.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) outcome: Outcome,
    pub(super) at: Instant,
    pub(super) latency: Duration,
    pub(super) detail: Option<Arc<str>>,
}

/// An unbroken usable time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) since: Instant,
    /// What it had lasted already before a restart.
    pub(super) before: Duration,
}

impl Run {
    /// When it will have lasted `span`.
    pub(super) fn reaches(self, span: Duration) -> Instant {
        self.since + span.saturating_sub(self.before)
    }

    pub(super) const fn lasted(self, now: Instant) -> Duration {
        now.since(self.since).saturating_add(self.before)
    }
}

/// Calls counted towards a score.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) window: Window,
    latency: LatencyEwma,
}

impl Tally {
    fn new(rules: &BreakerRules) -> Self {
        let window = Window::new(rules.window, rules.window_buckets);
        Self { window, latency: LatencyEwma::new(rules.window) }
    }

    fn count(&mut self, rules: &BreakerRules, observation: &Observation, now: Instant) {
        let failure = match observation.outcome.verdict() {
            Verdict::Neutral => return,
            Verdict::Fail => true,
            Verdict::Pass => false,
        };
        let slow = observation.latency >= rules.slow_call;
        self.window.record(now, Sample { failure, slow });
        if !failure {
            self.latency.record(now, observation.latency);
        }
    }

    fn score(&self, rules: &BreakerRules, throttled: bool, now: Instant) -> u16 {
        score(self.window.counts(now), self.latency.value(), rules.slow_call, throttled)
    }
}

/// One endpoint in its slot.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// Its service.
    pub(super) service: u32,
    /// Its place in the order of the file.
    pub(super) index: u32,
    pub(super) rules: EndpointRules,
    pub(super) shallow: Watch,
    /// Boxed: most endpoints have none, and there may be thousands of them.
    pub(super) deep: Option<Box<Watch>>,
    pub(super) breaker: Breaker,
    pub(super) tripped_at: Option<Instant>,
    /// What probes found: they alone may make an endpoint unusable.
    pub(super) probed: Tally,
    /// What probes and reports found: it weighs the endpoint among its peers.
    pub(super) all: Tally,
    pub(super) flap: Flap,
    /// Whether the flap penalty for the present trouble has been added.
    pub(super) struck: bool,
    pub(super) drained: bool,
    /// Moves there that did not take effect.
    pub(super) bar: Bar,
    pub(super) seen: Option<Seen>,
    pub(super) leases: u32,
    /// Until when a pass from before a restart still proves it.
    pub(super) vouched_until: Option<Instant>,
    /// Why it is not usable, as of the latest look.
    pub(super) fault: Option<Fault>,
    /// Since when it is usable, drained or not.
    pub(super) run: Option<Run>,
    /// The health last told.
    pub(super) told_health: Health,
    pub(super) told_misconfigured: bool,
}

impl Endpoint {
    pub(super) fn new(rules: &ServiceRules, endpoint: &EndpointRules, first: Instant) -> Self {
        let deep = rules.deep_probe.as_ref();
        Self {
            service: 0,
            index: 0,
            rules: endpoint.clone(),
            shallow: Watch::new(ProbeKind::Shallow, &rules.probe, first),
            deep: deep.map(|cadence| Box::new(Watch::new(ProbeKind::Deep, cadence, first))),
            breaker: Breaker::new(&rules.breaker),
            tripped_at: None,
            probed: Tally::new(&rules.breaker),
            all: Tally::new(&rules.breaker),
            flap: Flap::default(),
            struck: false,
            drained: false,
            bar: Bar::default(),
            seen: None,
            leases: 0,
            vouched_until: None,
            fault: Some(Fault::Unknown),
            run: None,
            told_health: Health::Unknown,
            told_misconfigured: false,
        }
    }

    pub(super) fn name(&self) -> &EndpointName {
        &self.rules.name
    }

    pub(super) fn watch(&self, kind: ProbeKind) -> Option<&Watch> {
        match kind {
            ProbeKind::Shallow => Some(&self.shallow),
            ProbeKind::Deep => self.deep.as_deref(),
        }
    }

    pub(super) fn watch_mut(&mut self, kind: ProbeKind) -> Option<&mut Watch> {
        match kind {
            ProbeKind::Shallow => Some(&mut self.shallow),
            ProbeKind::Deep => self.deep.as_deref_mut(),
        }
    }

    pub(super) fn watches(&self) -> impl Iterator<Item = &Watch> {
        std::iter::once(&self.shallow).chain(self.deep.as_deref())
    }

    /// The worse of the two checks; a rare check that has not run yet says nothing.
    pub(super) fn health(&self) -> Health {
        let shallow = self.shallow.health.health();
        match self.deep.as_ref().map(|deep| deep.health.health()) {
            None | Some(Health::Unknown) => shallow,
            Some(deep) if gravity(deep) > gravity(shallow) => deep,
            Some(_) => shallow,
        }
    }

    pub(super) fn failures(&self) -> u32 {
        self.watches().map(|watch| watch.health.failures()).max().unwrap_or(0)
    }

    pub(super) fn throttled_until(&self) -> Option<Instant> {
        self.watches().filter_map(|watch| watch.health.throttled_until()).max()
    }

    pub(super) fn misconfigured(&self) -> bool {
        self.watches().any(|watch| watch.health.misconfigured())
    }

    /// By everything that was seen.
    pub(super) fn score(&self, rules: &ServiceRules, now: Instant) -> u16 {
        self.all.score(&rules.breaker, self.throttled_until().is_some(), now)
    }

    /// By probes alone: one reporter must not make an endpoint unusable.
    pub(super) fn probe_score(&self, rules: &ServiceRules, now: Instant) -> u16 {
        self.probed.score(&rules.breaker, self.throttled_until().is_some(), now)
    }

    /// Why it is not usable, worst first.
    pub(super) fn diagnose(&self, rules: &ServiceRules, now: Instant) -> Option<Fault> {
        let health = self.health();
        let state = self.breaker.state();
        if matches!(state, BreakerState::Open | BreakerState::ForcedOpen) {
            Some(Fault::BreakerOpen)
        } else if self.watches().any(Watch::unhealthy) {
            Some(Fault::Unhealthy)
        } else if self.watches().any(|watch| watch.health.health() == Health::AuthFailed) {
            Some(Fault::AuthFailed)
        } else if self.watches().any(|watch| watch.health.wrong_role()) {
            Some(Fault::WrongRole)
        } else if health == Health::Throttled {
            Some(Fault::Throttled)
        } else if state == BreakerState::HalfOpen {
            Some(Fault::BreakerTrial)
        } else if self.shallow.health.base() == Health::Unknown {
            Some(Fault::Unknown)
        } else if self.probe_score(rules, now) < MIN_CHOOSABLE {
            Some(Fault::LowScore)
        } else {
            None
        }
    }

    /// Whether a fresh pass proves it: within `freshness`, or since `wobble`, when its service
    /// began to look for somewhere to go; and nothing has failed since.
    pub(super) fn proven(&self, proof: &Proof, now: Instant) -> bool {
        if self.shallow.unhealthy() || self.failures() > 0 {
            return false;
        }
        let passed = self.shallow.health.last_pass_at().filter(|at| *at >= proof.not_before);
        let fresh = |at: Instant| {
            now.since(at) <= proof.freshness || proof.wobble.is_some_and(|wobble| at >= wobble)
        };
        passed.is_some_and(fresh) || self.vouched_until.is_some_and(|until| now < until)
    }

    /// Counts the result of a probe towards both scores.
    pub(super) fn weigh_probe(&mut self, rules: &ServiceRules, seen: &Observation, now: Instant) {
        self.probed.count(&rules.breaker, seen, now);
        self.all.count(&rules.breaker, seen, now);
    }

    /// Counts what somebody else saw.
    pub(super) fn weigh_report(&mut self, rules: &ServiceRules, seen: &Observation, now: Instant) {
        self.all.count(&rules.breaker, seen, now);
    }

    pub(super) fn reshape(&mut self, rules: &BreakerRules) {
        for tally in [&mut self.probed, &mut self.all] {
            tally.window.reshape(rules.window, rules.window_buckets);
        }
    }

    /// Forgets what the checks found, as if they had never run.
    pub(super) fn forget_health(&mut self) {
        for watch in std::iter::once(&mut self.shallow).chain(self.deep.as_deref_mut()) {
            watch.health = HealthTracker::new();
            watch.failing_since = None;
            watch.neutrals = 0;
            watch.row.clear();
        }
        self.vouched_until = None;
    }

    /// Whether its failures are from the time since `since`, in which we were cut off.
    pub(super) fn tainted(&self, since: Instant, rules: &ServiceRules) -> bool {
        let from = since.back(rules.probe.timeout);
        self.watches().any(|watch| watch.failing_since.is_some_and(|at| at >= from))
    }

    /// Whether its breaker keeps calls away for what happened since then, and for no order.
    pub(super) fn tripped_since(&self, since: Instant) -> bool {
        let forced = self.breaker.state() == BreakerState::ForcedOpen;
        self.tripped_at.is_some_and(|at| at >= since) && !self.breaker.admits() && !forced
    }

    /// When breaker or throttling have something to do.
    pub(super) fn machines_at(&self) -> Option<Instant> {
        let throttle = self.watches().filter_map(|watch| watch.health.deadline()).min();
        let times = [self.breaker.deadline(), throttle, self.vouched_until];
        times.into_iter().flatten().min()
    }
}

/// What counts as a proof.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proof {
    pub(super) freshness: Duration,
    pub(super) wobble: Option<Instant>,
    pub(super) not_before: Instant,
}

/// What a breaker makes of an observation.
pub(super) const fn call(observation: &Observation) -> Call {
    let retry_after = if let Outcome::Throttled { retry_after } = observation.outcome {
        retry_after
    } else {
        None
    };
    Call { verdict: observation.outcome.verdict(), latency: observation.latency, retry_after }
}

const fn gravity(health: Health) -> u8 {
    match health {
        Health::Healthy => 0,
        Health::Degraded => 1,
        Health::Unknown => 2,
        Health::Throttled => 3,
        Health::AuthFailed => 4,
        Health::Unhealthy => 5,
    }
}

//! What the engine decides by: the compiled, already valid part of the policy.
//!
//! Holds no address, no credential and no text to parse. `policy::compile` builds it; the engine
//! trusts it. Everything that tells one configuration of an endpoint from another is folded into
//! [`EndpointRules::identity`], so that a reload keeps the state of what did not change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::id::{EndpointName, ServiceName};

/// Everything the engine needs to know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// The services by name.
    pub services: BTreeMap<ServiceName, Arc<ServiceRules>>,
    /// How to tell our own fault from theirs.
    pub isolation: IsolationRules,
    /// Distinguishes this sidecar from its peers, so that a fleet does not return in step.
    pub instance: u64,
}

/// One logical upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceRules {
    /// Its name.
    pub name: ServiceName,
    /// Whether its loss raises a critical-failure event.
    pub critical: bool,
    /// How one of several usable endpoints of a tier is chosen.
    pub strategy: Strategy,
    /// The frequent, cheap check.
    pub probe: Cadence,
    /// The rarer, dearer check with its own verdict.
    pub deep_probe: Option<Cadence>,
    /// Limits of the circuit breaker of each endpoint.
    pub breaker: BreakerRules,
    /// When to move and when to return.
    pub failover: FailoverRules,
    /// The endpoints in the order of the file; never empty.
    pub endpoints: Vec<EndpointRules>,
}

/// One address and credential.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointRules {
    /// Its name, unique within the service.
    pub name: EndpointName,
    /// Endpoints of equal tier are peers; tier 0 is preferred.
    pub tier: u32,
    /// Share among peers under a weighted strategy; at least 1.
    pub weight: u32,
    /// Fingerprint of address, credential and probes: unchanged means its state is still true.
    pub identity: u64,
    /// Fingerprint of the credential: a refused credential is escaped only to another one.
    pub credential: u64,
    /// Fingerprint of whoever's quota is used: throttling is escaped only to another one.
    pub account: u64,
    /// Fingerprint of the host: two endpoints with different ones are unrelated.
    pub host: u64,
}

/// How one of several usable endpoints of a tier is chosen.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The first in the order of the file; stays while it is usable.
    #[default]
    Priority,
    /// Smooth weighted rotation.
    RoundRobin,
    /// Fewest leases in proportion to weight.
    LeastConnections,
    /// In proportion to weight times health score.
    HealthWeighted,
}

impl Strategy {
    /// Its name in the policy and in JSON.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Priority => "priority",
            Self::RoundRobin => "round_robin",
            Self::LeastConnections => "least_connections",
            Self::HealthWeighted => "health_weighted",
        }
    }
}

/// When a probe runs and how many results flip a verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Cadence {
    /// Gap between starts while nothing changes on the active endpoint.
    pub interval: Duration,
    /// Gap while a flip is being confirmed.
    pub fast_interval: Duration,
    /// First gap while unhealthy; grows by half each time up to `down_interval_max`.
    pub down_interval: Duration,
    /// Longest gap while unhealthy.
    pub down_interval_max: Duration,
    /// Gap for endpoints that are not active.
    pub standby_interval: Duration,
    /// Deadline of one attempt.
    pub timeout: Duration,
    /// Passes in a row that make an endpoint healthy; at least 1.
    pub rise: u32,
    /// Failures in a row that make it unhealthy; at least 1.
    pub fall: u32,
    /// Random part of each gap, in per mille of it, either way; at most 500.
    pub jitter_permille: u32,
}

/// Limits of one breaker.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerRules {
    /// Which way the breaker is set by policy.
    pub mode: BreakerMode,
    /// Failures in a row that trip; at least 1.
    pub failure_threshold: u32,
    /// Failure rate over the window that trips, in per mille; 1001 means never.
    pub failure_rate_permille: u32,
    /// Slow-call rate over the window that trips, in per mille; 1001 means never.
    pub slow_rate_permille: u32,
    /// A call that takes at least this long is slow.
    pub slow_call: Duration,
    /// Calls in the window below which no rate is judged; at least 1.
    pub min_calls: u32,
    /// Span of the window.
    pub window: Duration,
    /// Buckets the window is cut into; at least 1.
    pub window_buckets: u32,
    /// First open period.
    pub reset_timeout: Duration,
    /// Longest open period; each trip within one outage doubles it up to here.
    pub reset_timeout_max: Duration,
    /// Random part added to an open period, in per mille of it; 0 for exact times.
    pub jitter_permille: u32,
    /// Trials at a time in half-open; at least 1.
    pub half_open_permits: u32,
    /// Trials that must pass to close; at least 1.
    pub half_open_passes: u32,
    /// A trial that does not come back within this counts as failed.
    pub permit_lease: Duration,
}

/// How a breaker is set by policy.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerMode {
    /// It trips and resets by itself.
    #[default]
    Auto,
    /// It never trips and counts nothing.
    Disabled,
    /// It counts and says when it would trip, but never blocks.
    MetricsOnly,
}

/// When to move and when to return.
#[derive(Clone, Debug, PartialEq)]
pub struct FailoverRules {
    /// What to publish when no endpoint is alive.
    pub on_all_down: OnAllDown,
    /// How to return to a preferred tier.
    pub failback: FailbackRules,
    /// Automatic moves allowed within `budget_window`; at least 1.
    pub budget: u32,
    /// The span over which `budget` is counted.
    pub budget_window: Duration,
    /// How long a pass proves an endpoint.
    pub freshness: Duration,
    /// How long to wait for a proven candidate before taking the best unproven one.
    pub proof_timeout: Duration,
    /// After a move, how long one failure of the new endpoint is enough to move on.
    pub verify: Duration,
    /// How flapping is damped.
    pub flap: FlapRules,
}

/// What to publish when no endpoint is alive.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnAllDown {
    /// Whatever is published stays.
    #[default]
    Hold,
    /// Go to the preferred endpoint once and stay there.
    Preferred,
    /// Publish the service without an endpoint.
    Fail,
}

/// How to return to a preferred tier.
#[derive(Clone, Debug, PartialEq)]
pub struct FailbackRules {
    /// Whether to return.
    pub mode: FailbackMode,
    /// How long the preferred endpoint must have been usable without a break.
    pub hold: Duration,
    /// Passes in a row it must have.
    pub rise: u32,
    /// Largest extra wait, spread over the fleet by [`Rules::instance`].
    pub spread: Duration,
}

/// Whether to return to a preferred tier.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailbackMode {
    /// When it has held long enough.
    #[default]
    Auto,
    /// Only when a person orders it.
    Manual,
    /// Not even when it would be offered; only a failure moves.
    Never,
}

/// How flapping is damped, after BGP route-flap damping (RFC 2439).
#[derive(Clone, Debug, PartialEq)]
pub struct FlapRules {
    /// Added to the penalty each time the endpoint is left or goes down.
    pub penalty: u32,
    /// The penalty halves in this time.
    pub half_life: Duration,
    /// At or above this a return is refused.
    pub suppress: u32,
    /// Below this it is allowed again.
    pub reuse: u32,
    /// No penalty suppresses longer than this.
    pub max_suppress: Duration,
}

/// How to tell our own fault from theirs.
#[derive(Clone, Debug, PartialEq)]
pub struct IsolationRules {
    /// Unrelated hosts that must fail together before we suspect ourselves; 0 disables.
    pub min_hosts: u32,
    /// How close together they must have failed.
    pub window: Duration,
    /// How long evidence gathered before a stall is refused; bounded by one fresh probe round.
    pub tilt: Duration,
}

impl Default for IsolationRules {
    fn default() -> Self {
        Self { min_hosts: 3, window: Duration::from_secs(10), tilt: Duration::from_secs(10) }
    }
}

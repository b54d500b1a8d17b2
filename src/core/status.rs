//! What the engine shows of itself: read-only, owned, free of secrets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::action::HoldReason;
use crate::core::breaker::BreakerState;
use crate::core::health::Health;
use crate::core::id::{EndpointName, Revision, ServiceName};
use crate::core::outcome::Outcome;
use crate::core::rules::Strategy;
use crate::core::select::Candidate;
use crate::core::time::Instant;

/// Everything at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// The revision in force.
    pub revision: Revision,
    /// Whether we believe that we are cut off.
    pub isolated: bool,
    /// How long the confirmation of a change waits because too many endpoints waver at once.
    pub confirmation_wait: Duration,
    /// The services by name.
    pub services: BTreeMap<ServiceName, ServiceStatus>,
    /// What each output has written.
    pub outputs: BTreeMap<Arc<str>, OutputStatus>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceStatus {
    /// The endpoint published.
    pub active: Option<EndpointName>,
    /// Since when.
    pub active_since: Option<Instant>,
    /// Whether its loss is critical.
    pub critical: bool,
    /// How peers are chosen.
    pub strategy: Strategy,
    /// In one word.
    pub state: ServiceState,
    /// What stops a move that is due.
    pub held: Option<HoldReason>,
    /// The breaker of the active endpoint.
    pub breaker: BreakerState,
    /// Where a person pinned it.
    pub pinned: Option<EndpointName>,
    /// When that ends by itself.
    pub pinned_until: Option<Instant>,
    /// Whether a person paused it.
    pub paused: bool,
    /// Automatic moves left in the budget's window.
    pub budget_left: u32,
    /// When a return to a preferred tier will happen if nothing changes.
    pub failback_at: Option<Instant>,
    /// The endpoints by name.
    pub endpoints: BTreeMap<EndpointName, EndpointStatus>,
}

/// Which endpoints may take calls to a service now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Offer {
    /// The endpoint published.
    pub active: Option<EndpointName>,
    /// How one of the candidates is chosen.
    pub strategy: Strategy,
    /// The service in one word.
    pub state: ServiceState,
    /// The peers to choose from; the published one alone where it is the only choice.
    pub candidates: Vec<(EndpointName, Candidate)>,
    /// Others that serve, best first: for a call that none of the candidates took.
    pub fallbacks: Vec<EndpointName>,
}

/// A service in one word.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Nothing is published yet.
    #[default]
    Starting,
    /// The active endpoint is usable and of the best tier.
    Healthy,
    /// The active endpoint is usable, but not of the best tier.
    FailedOver,
    /// The active endpoint is not usable, but a move is held back.
    Holding,
    /// No endpoint is usable.
    AllDown,
}

impl ServiceState {
    /// Every label; the bound of the metric label `state`.
    pub const LABELS: [&'static str; 5] =
        ["starting", "healthy", "failed_over", "holding", "all_down"];

    /// Its name in JSON and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::FailedOver => "failed_over",
            Self::Holding => "holding",
            Self::AllDown => "all_down",
        }
    }
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndpointStatus {
    /// Observed health.
    pub health: Health,
    /// Ordered state: `active`, or `drained`.
    pub admin: AdminState,
    /// Whether it could be chosen now, and if not, why.
    pub unusable: Option<String>,
    /// Score, 0 to 1000.
    pub score: u16,
    /// Its breaker.
    pub breaker: BreakerState,
    /// When an open breaker lets a trial through.
    pub breaker_retry_at: Option<Instant>,
    /// Its tier.
    pub tier: u32,
    /// The latest outcome.
    pub last_outcome: Option<Outcome>,
    /// What was seen then; free of secrets.
    pub last_detail: Option<Arc<str>>,
    /// When.
    pub last_probe_at: Option<Instant>,
    /// How long that took.
    pub latency: Option<Duration>,
    /// Passes in a row.
    pub passes: u32,
    /// Failures in a row.
    pub failures: u32,
    /// When throttling ends.
    pub throttled_until: Option<Instant>,
    /// Flap penalty.
    pub flap_penalty: u32,
    /// Whether the flap penalty forbids a return.
    pub suppressed: bool,
    /// Leases out.
    pub leases: u32,
    /// When the next probe is due.
    pub next_probe_at: Option<Instant>,
}

/// What a person ordered for an endpoint.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum AdminState {
    /// It may be chosen.
    #[default]
    Enabled,
    /// It is never chosen by itself.
    Drained,
}

/// What one output has written.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OutputStatus {
    /// The latest revision written.
    pub revision: Option<Revision>,
    /// What went wrong since, if anything.
    pub failure: Option<Arc<str>>,
    /// When it last succeeded or failed.
    pub at: Option<Instant>,
}

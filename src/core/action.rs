//! Everything the engine can ask for, and the records it leaves.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::breaker::{BreakerState, TripReason};
use crate::core::health::Health;
use crate::core::id::{AttemptId, EndpointName, LeaseId, Revision, ServiceName, Ticket};
use crate::core::input::Command;
use crate::core::outcome::Outcome;
use crate::core::time::Instant;

/// What the engine wants done, in this order.
pub type Actions = Vec<Action>;

/// One effect.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Action {
    /// Run a probe and answer with [`crate::core::input::Input::Probed`].
    Probe(ProbeOrder),
    /// Durable facts changed: store [`crate::core::engine::Engine::snapshot`] before any later
    /// [`Action::Publish`] of the same batch.
    Persist,
    /// Make this configuration visible through every output.
    Publish(Publication),
    /// Append to the history.
    Record(Decision),
    /// Tell whoever listens.
    Emit(Event),
    /// Answer a command.
    Answer {
        /// The command's ticket.
        ticket: Ticket,
        /// What became of it.
        result: Result<Receipt, Refusal>,
    },
    /// Answer a lease request.
    Granted {
        /// The request's ticket.
        ticket: Ticket,
        /// The lease and its endpoint, or why not.
        result: Result<(LeaseId, EndpointName), LeaseRefusal>,
    },
}

/// A probe to run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProbeOrder {
    /// Names this run.
    pub attempt: AttemptId,
    /// The service.
    pub service: ServiceName,
    /// The endpoint.
    pub endpoint: EndpointName,
    /// Which of the two checks.
    pub kind: ProbeKind,
    /// Deadline of the whole attempt, from its start.
    pub timeout: Duration,
    /// An attempt of an identical check that began at or after this may stand in for this one.
    pub not_before: Instant,
}

/// Which of an endpoint's two checks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// The frequent, cheap one.
    Shallow,
    /// The rarer, dearer one.
    Deep,
}

/// The active endpoint of every service, at one revision.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Publication {
    /// Strictly greater than that of any earlier publication.
    pub revision: Revision,
    /// The chosen endpoint, or `None` when the service is published without one.
    pub active: BTreeMap<ServiceName, Option<EndpointName>>,
}

/// One move, with its evidence: a line of the history.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Decision {
    /// The revision that made it visible.
    pub revision: Revision,
    /// The service.
    pub service: ServiceName,
    /// Where it was.
    pub from: Option<EndpointName>,
    /// Where it went.
    pub to: Option<EndpointName>,
    /// What sort of move.
    pub kind: MoveKind,
    /// Why, in one line.
    pub cause: String,
    /// What was known of each endpoint at that moment.
    pub evidence: Vec<Evidence>,
}

/// What sort of move.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveKind {
    /// The first choice after a start without state.
    Start,
    /// Forced away from an unusable endpoint.
    Failover,
    /// Return to a preferred endpoint.
    Failback,
    /// Ordered by a person.
    Switchover,
    /// The active endpoint was removed from the policy.
    Reload,
    /// Back to where it was, because the reader did not take up the last move.
    Rollback,
}

impl MoveKind {
    /// Its name in JSON, metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Failover => "failover",
            Self::Failback => "failback",
            Self::Switchover => "switchover",
            Self::Reload => "reload",
            Self::Rollback => "rollback",
        }
    }
}

/// What was known of one endpoint when a decision fell.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Evidence {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// Its health.
    pub health: Health,
    /// Its breaker.
    pub breaker: BreakerState,
    /// Its score by the probes, in per mille: the one that decides. Reports weigh only what is shown
    /// and lent.
    pub score: u16,
    /// Whether a fresh pass proved it.
    pub proven: bool,
    /// The latest outcome.
    pub last_outcome: Option<Outcome>,
    /// How long before the decision that was.
    pub age: Option<Duration>,
    /// What was seen then.
    pub detail: Option<Arc<str>>,
    /// The attempts that form the current run of results, newest last.
    pub attempts: Vec<AttemptId>,
}

/// Something worth telling.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// An endpoint's health changed.
    StatusChange {
        /// The service.
        service: ServiceName,
        /// The endpoint.
        endpoint: EndpointName,
        /// Before.
        from: Health,
        /// After.
        to: Health,
        /// The outcome that tipped it.
        cause: String,
    },
    /// A critical service has lost its active endpoint.
    CriticalFailure {
        /// The service.
        service: ServiceName,
        /// The endpoint lost.
        endpoint: Option<EndpointName>,
        /// Why.
        cause: String,
    },
    /// A breaker changed.
    BreakerChange {
        /// The service.
        service: ServiceName,
        /// The endpoint.
        endpoint: EndpointName,
        /// Before.
        from: BreakerState,
        /// After.
        to: BreakerState,
        /// Why it tripped, when it did.
        reason: Option<TripReason>,
    },
    /// A service moved.
    Switched(Decision),
    /// A service should move, but does not.
    Held {
        /// The service.
        service: ServiceName,
        /// What stops it.
        why: HoldReason,
        /// In words.
        cause: String,
    },
    /// No endpoint of a service is alive; told once an outage.
    AllDown {
        /// The service.
        service: ServiceName,
        /// Whether it is critical.
        critical: bool,
    },
    /// An endpoint of a service that had none is alive again.
    Revived {
        /// The service.
        service: ServiceName,
        /// The endpoint.
        endpoint: EndpointName,
    },
    /// A credential was refused: a person must act.
    AuthFailed {
        /// The service.
        service: ServiceName,
        /// The endpoint.
        endpoint: EndpointName,
    },
    /// An endpoint told us to slow down.
    Throttled {
        /// The service.
        service: ServiceName,
        /// The endpoint.
        endpoint: EndpointName,
        /// How long it is left alone.
        retry_after: Duration,
    },
    /// The probe itself is wrong: a person must act.
    ProbeMisconfigured {
        /// The service.
        service: ServiceName,
        /// The endpoint.
        endpoint: EndpointName,
        /// What was seen.
        cause: String,
    },
    /// We believe that we are cut off, or no longer do.
    Isolation {
        /// Whether we are.
        isolated: bool,
        /// Why.
        cause: String,
    },
    /// A person's order was carried out.
    Commanded(Command),
    /// A new policy is in force.
    RulesReplaced {
        /// Endpoints that are new, as `service/endpoint`.
        added: Vec<String>,
        /// Endpoints that are gone.
        removed: Vec<String>,
        /// Endpoints that lost their state because they changed.
        changed: Vec<String>,
    },
    /// An output failed to write, or works again.
    Output {
        /// The output.
        output: Arc<str>,
        /// The revision.
        revision: Revision,
        /// What went wrong; `None` when it works again.
        failure: Option<Arc<str>>,
    },
    /// A move was published, but its reader has not taken it up in time; told once a move.
    Ineffective {
        /// The service.
        service: ServiceName,
        /// Who should have taken it up.
        output: Arc<str>,
        /// The move.
        revision: Revision,
        /// What was done about it, and why.
        cause: String,
    },
    /// A move that was told to be ineffective has been taken up after all.
    Effective {
        /// The service.
        service: ServiceName,
        /// Who took it up.
        output: Arc<str>,
        /// The move.
        revision: Revision,
    },
    /// Backups of the state fail, or work again.
    Backup {
        /// Where they go.
        to: Arc<str>,
        /// What is wrong; `None` when they work again.
        failure: Option<Arc<str>>,
    },
    /// The copy of the state in Redis cannot be kept, or can be again.
    Redis {
        /// Which Redis.
        to: Arc<str>,
        /// What is wrong; `None` when it works again.
        failure: Option<Arc<str>>,
    },
}

impl Event {
    /// Every name of an event; the bound of the metric label `event` and of `alerts.events`.
    pub const LABELS: [&'static str; 18] = [
        "status_change",
        "critical_failure",
        "breaker_change",
        "switched",
        "held",
        "all_down",
        "revived",
        "auth_failed",
        "throttled",
        "probe_misconfigured",
        "isolation",
        "commanded",
        "rules_replaced",
        "output",
        "ineffective",
        "effective",
        "backup",
        "redis",
    ];

    /// Its name in JSON, metrics and the policy.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::StatusChange { .. } => "status_change",
            Self::CriticalFailure { .. } => "critical_failure",
            Self::BreakerChange { .. } => "breaker_change",
            Self::Switched(_) => "switched",
            Self::Held { .. } => "held",
            Self::AllDown { .. } => "all_down",
            Self::Revived { .. } => "revived",
            Self::AuthFailed { .. } => "auth_failed",
            Self::Throttled { .. } => "throttled",
            Self::ProbeMisconfigured { .. } => "probe_misconfigured",
            Self::Isolation { .. } => "isolation",
            Self::Commanded(_) => "commanded",
            Self::RulesReplaced { .. } => "rules_replaced",
            Self::Output { .. } => "output",
            Self::Ineffective { .. } => "ineffective",
            Self::Effective { .. } => "effective",
            Self::Backup { .. } => "backup",
            Self::Redis { .. } => "redis",
        }
    }
}

/// What stops a move that the evidence asks for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// A person pinned the service.
    Pinned,
    /// A person paused it.
    Paused,
    /// We believe that we are cut off.
    Isolated,
    /// The process was stalled; waiting for fresh evidence.
    Stalled,
    /// Candidates are being proven.
    AwaitingProof,
    /// Too many moves within the budget's window.
    Budget,
    /// Every candidate shares the refused credential or the used-up quota.
    SameCredential,
}

impl HoldReason {
    /// Every label; the bound of the metric label `reason`.
    pub const LABELS: [&'static str; 7] =
        ["pinned", "paused", "isolated", "stalled", "awaiting_proof", "budget", "same_credential"];

    /// Its name in JSON and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Paused => "paused",
            Self::Isolated => "isolated",
            Self::Stalled => "stalled",
            Self::AwaitingProof => "awaiting_proof",
            Self::Budget => "budget",
            Self::SameCredential => "same_credential",
        }
    }
}

/// What became of a command.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Receipt {
    /// The revision in force afterwards.
    pub revision: Revision,
    /// What happened, in one line.
    pub message: String,
}

/// Why a command was refused; nothing changed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum Refusal {
    /// No such service.
    UnknownService {
        /// As asked for.
        service: ServiceName,
    },
    /// No such endpoint.
    UnknownEndpoint {
        /// The service.
        service: ServiceName,
        /// As asked for.
        endpoint: EndpointName,
    },
    /// The target is not usable, and force was not given.
    TargetUnusable {
        /// The target.
        endpoint: EndpointName,
        /// What is wrong with it.
        why: String,
    },
    /// There is nowhere else to go.
    NoOtherEndpoint {
        /// The service.
        service: ServiceName,
    },
    /// The service is pinned; unpin it first.
    Pinned {
        /// Where to.
        endpoint: EndpointName,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownService { service } => write!(f, "no service named `{service}`"),
            Self::UnknownEndpoint { service, endpoint } => {
                write!(f, "service `{service}` has no endpoint named `{endpoint}`")
            }
            Self::TargetUnusable { endpoint, why } => {
                write!(f, "endpoint `{endpoint}` is not usable: {why}")
            }
            Self::NoOtherEndpoint { service } => {
                write!(f, "service `{service}` has no other usable endpoint")
            }
            Self::Pinned { endpoint } => write!(f, "the service is pinned to `{endpoint}`"),
        }
    }
}

/// Why no lease was granted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseRefusal {
    /// No such service.
    UnknownService,
    /// No usable endpoint: every breaker is open or everything is down.
    NoEndpoint,
    /// Too many leases.
    Busy,
}

//! Everything the engine can be told.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::id::{AttemptId, EndpointName, LeaseId, Revision, ServiceName, Ticket};
use crate::core::outcome::Observation;
use crate::core::rules::Rules;
use crate::core::time::Instant;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed; the driver sends it when [`crate::core::engine::Engine::deadline`] is reached.
    Tick,
    /// A probe ended.
    Probed {
        /// Which one.
        attempt: AttemptId,
        /// What it found.
        observation: Observation,
    },
    /// An attempt of an identical check has stood in for a probe.
    Shared {
        /// The probe it stood in for.
        attempt: AttemptId,
        /// When the attempt began; not before the moment that the order named.
        began: Instant,
        /// What it found.
        observation: Observation,
    },
    /// The MCP process, or the proxy, saw a call end.
    Reported {
        /// The service called.
        service: ServiceName,
        /// The endpoint called.
        endpoint: EndpointName,
        /// What it found.
        observation: Observation,
    },
    /// A new policy is in force.
    RulesReplaced(Arc<Rules>),
    /// A person ordered something.
    Commanded {
        /// Ties the answer to the question.
        ticket: Ticket,
        /// The order.
        command: Command,
    },
    /// An output wrote a revision, or failed to.
    Written {
        /// The output's name.
        output: Arc<str>,
        /// The revision it was asked to write.
        revision: Revision,
        /// What went wrong, if anything; free of secrets.
        failure: Option<Arc<str>>,
    },
    /// A move was published, but its reader did not take it up in time.
    Ineffective {
        /// The service.
        service: ServiceName,
        /// Who should have: an output, or the server's process.
        output: Arc<str>,
        /// The move.
        revision: Revision,
        /// How long was waited.
        waited: Duration,
        /// Whether the policy asks to move back.
        roll_back: bool,
    },
    /// A move has been taken up.
    Effective {
        /// The service.
        service: ServiceName,
        /// Who took it up.
        output: Arc<str>,
        /// The move.
        revision: Revision,
        /// Whether it was told to be ineffective before.
        late: bool,
    },
    /// A client asks for an endpoint.
    LeaseRequested {
        /// Ties the answer to the question.
        ticket: Ticket,
        /// The service wanted.
        service: ServiceName,
        /// How long the lease lives without renewal.
        ttl: Duration,
    },
    /// A client still uses its lease.
    LeaseRenewed(LeaseId),
    /// A client returns its lease, with what it saw if it says so.
    LeaseReleased {
        /// Which one.
        lease: LeaseId,
        /// The result of the calls made under it.
        observation: Option<Observation>,
    },
    /// The process looked at itself.
    Sensed(Sense),
}

/// What the process noticed about itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sense {
    /// The loop was late by this much: suspended, starved, or the clock jumped.
    Stalled(Duration),
    /// Reference targets that answered, of all that were asked.
    References {
        /// How many answered.
        reachable: u32,
        /// How many were asked.
        total: u32,
    },
}

/// An order by a person.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Command {
    /// What to do.
    pub order: Order,
    /// Why, for the record.
    pub reason: Option<String>,
    /// Who, as far as known.
    pub by: Option<String>,
}

/// What a person can order.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Move now; without `endpoint`, to the best other one.
    Switch {
        /// The service.
        service: ServiceName,
        /// Where to.
        endpoint: Option<EndpointName>,
        /// Even to a dead target.
        force: bool,
    },
    /// Move there and stay, whatever happens.
    Pin {
        /// The service.
        service: ServiceName,
        /// Where to.
        endpoint: EndpointName,
        /// How long; for ever when absent.
        duration: Option<Duration>,
    },
    /// Let the service move by itself again.
    Unpin {
        /// The service.
        service: ServiceName,
    },
    /// Never choose this endpoint by itself; move away if it is active.
    Drain {
        /// The service.
        service: ServiceName,
        /// The endpoint.
        endpoint: EndpointName,
    },
    /// The opposite of drain.
    Undrain {
        /// The service.
        service: ServiceName,
        /// The endpoint.
        endpoint: EndpointName,
    },
    /// Observe only; all services when absent.
    Pause {
        /// The service.
        service: Option<ServiceName>,
    },
    /// The opposite of pause.
    Resume {
        /// The service.
        service: Option<ServiceName>,
    },
    /// Set a breaker by hand.
    Breaker {
        /// The service.
        service: ServiceName,
        /// The endpoint.
        endpoint: EndpointName,
        /// How; `None` returns it to the policy's mode.
        forced: Option<Forced>,
    },
}

/// A breaker set by hand.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Forced {
    /// Nothing flows.
    Open,
    /// Everything flows.
    Closed,
}

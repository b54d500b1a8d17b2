//! What survives a restart: durable facts in names and relative times.
//!
//! Data only. No absolute time is kept, for the clock of the next run starts anew; no slot and no
//! index, for the policy may have changed meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::breaker::BreakerSnapshot;
use crate::core::flap::FlapSnapshot;
use crate::core::health::HealthSnapshot;
use crate::core::id::{EndpointName, Revision, ServiceName};

/// Version of [`Snapshot`]; a reader refuses a newer one.
pub const VERSION: u32 = 1;

/// The whole durable state.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Snapshot {
    /// [`VERSION`].
    pub version: u32,
    /// The latest revision published.
    pub revision: Revision,
    /// Whether a person paused everything, services to come included.
    #[serde(default)]
    pub paused_all: bool,
    /// The services by name.
    pub services: BTreeMap<ServiceName, ServiceSnapshot>,
}

impl Snapshot {
    /// Nothing to remember; a start from it is a start from nothing, but for the revision.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            version: VERSION,
            revision: Revision::new(0),
            paused_all: false,
            services: BTreeMap::new(),
        }
    }
}

/// One service.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(default)]
pub struct ServiceSnapshot {
    /// Whether it was published.
    pub published: bool,
    /// Where it was.
    pub active: Option<EndpointName>,
    /// For how long.
    pub active_for: Option<Duration>,
    /// Where a person pinned it.
    pub pin: Option<PinSnapshot>,
    /// Whether a person paused it.
    pub paused: bool,
    /// Whether a person chose the place it was in.
    pub manual: bool,
    /// Whether an outage of everything was told and dealt with.
    pub outage: bool,
    /// How long ago the automatic moves of the budget's window were, oldest first.
    pub moves: Vec<Duration>,
    /// The endpoints by name.
    pub endpoints: BTreeMap<EndpointName, EndpointSnapshot>,
}

/// A pin.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct PinSnapshot {
    /// Where to.
    pub endpoint: EndpointName,
    /// How much of it is left; for ever when absent.
    pub left: Option<Duration>,
}

/// One endpoint.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(default)]
pub struct EndpointSnapshot {
    /// Fingerprint of what it was; another one means that nothing below is true of it.
    pub identity: u64,
    /// Whether a person took it out.
    pub drained: bool,
    /// Its breaker.
    pub breaker: BreakerSnapshot,
    /// Its flap penalty.
    pub flap: FlapSnapshot,
    /// Health by the frequent check.
    pub shallow: HealthSnapshot,
    /// Health by the rare one.
    pub deep: Option<HealthSnapshot>,
    /// How long it had been usable.
    pub usable_for: Option<Duration>,
    /// Age of the latest pass.
    pub proof_age: Option<Duration>,
    /// Moves there in a row that did not take effect.
    pub rolled_back: u32,
    /// For how long no return to it is tried for that.
    pub barred_for: Option<Duration>,
}

/// A [`Snapshot`] with the time that has passed since it was made.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What was kept.
    pub snapshot: Snapshot,
    /// How long ago; by the wall clock, so at best a good guess.
    pub elapsed: Duration,
}

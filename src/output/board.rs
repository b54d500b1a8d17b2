//! What outputs see of the sidecar, and what they tell it.
//!
//! Outputs that are asked for each call read the latest [`Offers`] and never wait for the engine;
//! what they learn on the way goes back to it as [`Feedback`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::core::action::LeaseRefusal;
use crate::core::id::{EndpointName, LeaseId, Revision, ServiceName};
use crate::core::outcome::Observation;
use crate::core::status::Offer;
use crate::output::{ActiveConfig, Doors, OutputReport};
use crate::policy::model::Endpoint;

/// Everything an output is given.
#[derive(Clone, Debug)]
pub struct Board {
    /// The latest published configuration; `None` before the first.
    pub configs: watch::Receiver<Option<Arc<ActiveConfig>>>,
    /// Who may take calls now.
    pub offers: watch::Receiver<Arc<Offers>>,
    /// Takes what became of the output.
    pub reports: mpsc::Sender<OutputReport>,
    /// Takes what the output learned, and its questions. Bounded: a report that does not fit is
    /// dropped, never waited for.
    pub feedback: mpsc::Sender<Feedback>,
    /// Changes with each start of the sidecar.
    pub generation: Arc<str>,
    /// Where proxies show what a server must be told to go through them.
    pub doors: Doors,
}

/// Who may take calls now, of the services that some output serves call by call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offers {
    /// The services by name.
    pub services: BTreeMap<ServiceName, ServiceOffer>,
}

/// Who may take calls to one service.
#[derive(Clone, Debug)]
pub struct ServiceOffer {
    /// What the engine allows.
    pub offer: Offer,
    /// Every endpoint of the service.
    pub endpoints: Arc<BTreeMap<EndpointName, Endpoint>>,
}

impl PartialEq for ServiceOffer {
    fn eq(&self, other: &Self) -> bool {
        self.offer == other.offer && Arc::ptr_eq(&self.endpoints, &other.endpoints)
    }
}

/// What outputs tell the engine, and ask of it.
#[derive(Debug)]
pub enum Feedback {
    /// A call ended.
    Reported {
        /// The service called.
        service: ServiceName,
        /// The endpoint called.
        endpoint: EndpointName,
        /// What was seen.
        observation: Observation,
    },
    /// Somebody wants an endpoint.
    Lease {
        /// The service wanted.
        service: ServiceName,
        /// How long it lives without renewal.
        ttl: Duration,
        /// Takes the answer.
        reply: oneshot::Sender<Result<Lease, LeaseRefusal>>,
    },
    /// A lease is still used.
    Renewed(LeaseId),
    /// A lease is returned.
    Released {
        /// Which one.
        lease: LeaseId,
        /// What was seen under it, if its user says so.
        observation: Option<Observation>,
    },
    /// A revision is known to be in use.
    Effective(Effect),
}

/// A lease that was granted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lease {
    /// Its number.
    pub id: LeaseId,
    /// The endpoint lent.
    pub endpoint: EndpointName,
}

/// A revision that is known to be in use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Effect {
    /// The output that proved it.
    pub output: Arc<str>,
    /// The service that it is proven of; all when `None`.
    pub service: Option<ServiceName>,
    /// The revision.
    pub revision: Revision,
    /// How it is known.
    pub proof: Proof,
}

/// How a revision is known to be in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proof {
    /// The server acknowledged it.
    Acknowledged,
    /// A server started with it answered.
    Handshake,
    /// A call went the new way and was answered.
    FirstByte,
    /// The server was told, and is trusted to have listened.
    Told,
    /// The server started after the file was written.
    Started,
}

impl Proof {
    /// Every label; the bound of the metric label `proof`.
    pub const LABELS: [&'static str; 5] =
        ["acknowledged", "handshake", "first_byte", "told", "started"];

    /// Its name in JSON and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Handshake => "handshake",
            Self::FirstByte => "first_byte",
            Self::Told => "told",
            Self::Started => "started",
        }
    }
}

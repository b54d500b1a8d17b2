//! Answers what clients ask, whichever way they ask it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::core::action::LeaseRefusal;
use crate::core::id::{EndpointName, LeaseId, ServiceName};
use crate::core::ordered::Gather as _;
use crate::core::outcome::Observation;
use crate::output::board::{Effect, Feedback, Lease, Offers, Proof};
use crate::output::door::{Shown, complete};
use crate::output::socket::protocol::Failure;
use crate::output::socket::view::{Painter, View, Views, millis};

/// Leases of one client at a time.
const LEASES_MAX: usize = 1_024;
/// Shortest and longest life of a lease without renewal.
const TTL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));
/// How long the engine may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// When it is worth asking again for an endpoint that is not there.
const RETRY: Duration = Duration::from_secs(1);
/// Reports a second that one client may make, and how many may come at once.
const REPORTS: (u32, u32) = (100, 100);

/// What every client is served from.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    pub(super) output: Arc<str>,
    pub(super) painter: Painter,
    pub(super) views: watch::Receiver<Arc<Views>>,
    pub(super) offers: watch::Receiver<Arc<Offers>>,
    /// The ways through the sidecar's proxies.
    pub(super) doors: watch::Receiver<Shown>,
    pub(super) feedback: mpsc::Sender<Feedback>,
    /// What clients without a connection of their own hold.
    pub(super) shared: Arc<tokio::sync::Mutex<Held>>,
}

type Answer = Result<Map<String, Value>, Failure>;

impl Desk {
    /// What is active now; nothing yet for a service that was never published.
    pub(super) fn get(&self, service: &str) -> Answer {
        let name = self.known(service)?;
        let views = Arc::clone(&self.views.borrow());
        let offers = self.offers.borrow();
        let offer = offers.services.get(&name);
        Ok(match views.services.get(&name) {
            Some(view) => self.painter.snapshot(&name, view, offer),
            None => self.painter.unpublished(&name, offer),
        })
    }

    /// The names of the services this socket speaks of.
    pub(super) fn services(&self) -> BTreeSet<ServiceName> {
        let published = self.views.borrow();
        let offers = self.offers.borrow();
        let offered = offers.services.keys().filter(|name| self.painter.wants(name));
        published.services.keys().chain(offered).cloned().gather_set()
    }

    /// The ways through proxies to the services this socket speaks of; `null` while one is still to
    /// come.
    pub(super) fn proxies(&mut self) -> Value {
        let Some(doors) = complete(&self.doors.borrow_and_update()) else { return Value::Null };
        let spoken = &self.painter.spec.services;
        let doors = doors.iter().filter(|door| spoken.is_empty() || spoken.contains(&door.service));
        doors.map(|door| json!({ "service": door.service, "env": door.variables })).collect()
    }

    /// The name of a service, if this socket speaks of it: from the start, and not only once it
    /// has been published, so that a client that is first to come need not ask again.
    pub(super) fn known(&self, service: &str) -> Result<ServiceName, Failure> {
        let views = self.views.borrow();
        if let Some((name, _)) = views.services.get_key_value(service) {
            return Ok(name.clone());
        }
        let offers = self.offers.borrow();
        let offered = offers.services.get_key_value(service).map(|(name, _)| name.clone());
        offered.filter(|name| self.painter.wants(name)).ok_or(Failure::UNKNOWN_SERVICE)
    }

    /// Somebody uses a change. An older one than the latest says nothing of the latest.
    pub(super) fn ack(&self, service: &str, generation: &str, seq: u64) {
        if *generation != *self.painter.generation {
            return;
        }
        let views = Arc::clone(&self.views.borrow());
        let current = |view: &&View| view.seq == seq;
        if let Some((name, view)) =
            views.services.get_key_value(service).filter(|(_, view)| current(view))
        {
            self.tell(Feedback::Effective(Effect {
                output: Arc::clone(&self.output),
                service: Some(name.clone()),
                revision: view.revision,
                proof: Proof::Acknowledged,
            }));
        }
    }

    /// Lends an endpoint.
    pub(super) async fn lease(&self, service: &str, ttl: Duration, held: &mut Held) -> Answer {
        let name = self.known(service)?;
        if held.leases.len() >= LEASES_MAX {
            return Err(Failure::new("busy", "too many leases of one client").retry(RETRY));
        }
        let ttl = ttl.clamp(TTL.0, TTL.1);
        let (reply, answer) = oneshot::channel();
        let asked = Feedback::Lease { service: name.clone(), ttl, reply };
        let answered = timeout(ANSWER_TIMEOUT, async {
            self.feedback.send(asked).await.map_err(|_gone| Failure::STOPPING)?;
            answer.await.map_err(|_gone| Failure::STOPPING)
        });
        let busy = Failure::new("busy", "the sidecar did not answer in time").retry(RETRY);
        let lease = answered.await.unwrap_or(Err(busy))?.map_err(refused)?;
        Ok(self.lent(&name, lease, ttl, held))
    }

    fn lent(
        &self,
        service: &ServiceName,
        lease: Lease,
        ttl: Duration,
        held: &mut Held,
    ) -> Map<String, Value> {
        let Lease { id, endpoint } = lease;
        let offers = self.offers.borrow();
        let known = offers.services.get(service).and_then(|one| one.endpoints.get(&endpoint));
        let empty = BTreeMap::new();
        let env = known.map_or(&empty, |known| &known.env);
        let shown = self.painter.endpoint(&endpoint, known, env);
        let seq = self.views.borrow().services.get(service).map_or(0, |view| view.seq);
        let held_one = HeldLease {
            service: service.clone(),
            endpoint,
            ttl,
            until: Instant::now() + ttl,
            revoked: false,
        };
        held.leases.insert(id, held_one);
        let mut members = Map::new();
        members.insert("lease".to_owned(), json!(format!("L{id}")));
        members.insert("service".to_owned(), json!(service));
        members.insert("gen".to_owned(), json!(self.painter.generation));
        members.insert("seq".to_owned(), json!(seq));
        members.insert("endpoint".to_owned(), shown);
        members.insert("ttl_ms".to_owned(), json!(millis(ttl)));
        members
    }

    /// A lease lives on.
    pub(super) fn renew(&self, lease: u64, held: &mut Held) -> Answer {
        let id = LeaseId::new(lease);
        let now = Instant::now();
        let known = held.leases.get_mut(&id).filter(|one| one.until > now);
        let known = known.ok_or(Failure::UNKNOWN_LEASE)?;
        known.until = now + known.ttl;
        let ttl = known.ttl;
        self.tell(Feedback::Renewed(id));
        Ok(Map::from_iter([("ttl_ms".to_owned(), json!(millis(ttl)))]))
    }

    /// A lease is over.
    pub(super) fn release(
        &self,
        lease: u64,
        observation: Option<Observation>,
        held: &mut Held,
    ) -> Answer {
        let id = LeaseId::new(lease);
        let ended = held.leases.remove(&id).ok_or(Failure::UNKNOWN_LEASE)?;
        if ended.until > Instant::now() {
            self.tell(Feedback::Released { lease: id, observation });
        }
        Ok(Map::new())
    }

    /// A call ended.
    pub(super) fn report(
        &self,
        service: &str,
        endpoint: &str,
        observation: Observation,
        held: &mut Held,
    ) -> Answer {
        let service = self.known(service)?;
        let offers = self.offers.borrow();
        let known = offers.services.get(&service);
        let known = known.is_some_and(|one| one.endpoints.contains_key(endpoint));
        drop(offers);
        if !known {
            return Err(Failure::new("unknown_endpoint", "the service has no such endpoint"));
        }
        if !held.may_report(Instant::now()) {
            return Err(Failure::new("busy", "too many reports").retry(RETRY));
        }
        let endpoint = EndpointName::new(endpoint);
        self.tell(Feedback::Reported { service, endpoint, observation });
        Ok(Map::new())
    }

    /// The client is gone, and so are its leases.
    pub(super) fn farewell(&self, held: &mut Held) {
        for (lease, _) in std::mem::take(&mut held.leases) {
            self.tell(Feedback::Released { lease, observation: None });
        }
    }

    /// Leases that should be given back, each named once: their endpoints may take no calls now.
    pub(super) fn revoked(&self, held: &mut Held) -> Vec<Value> {
        let offers = Arc::clone(&self.offers.borrow());
        let serves = |one: &HeldLease| {
            offers.services.get(&one.service).is_some_and(|service| {
                let offer = &service.offer;
                offer.candidates.iter().any(|(name, _)| *name == one.endpoint)
                    || offer.fallbacks.contains(&one.endpoint)
            })
        };
        let mut out = Vec::new();
        for (id, one) in &mut held.leases {
            if one.revoked || serves(one) {
                continue;
            }
            one.revoked = true;
            out.push(json!({
                "event": "revoke", "lease": format!("L{id}"), "service": one.service,
                "reason": "the endpoint takes no calls now", "deadline_ms": 5_000,
            }));
        }
        out
    }

    /// What does not fit in the queue is dropped: no client waits for the engine.
    fn tell(&self, feedback: Feedback) {
        if self.feedback.try_send(feedback).is_err() {
            tracing::debug!(output = &*self.output, "feedback dropped: the queue is full");
        }
    }
}

fn refused(refusal: LeaseRefusal) -> Failure {
    match refusal {
        LeaseRefusal::UnknownService => Failure::UNKNOWN_SERVICE,
        LeaseRefusal::NoEndpoint => {
            Failure::new("no_endpoint", "no endpoint may take calls now").retry(RETRY)
        }
        LeaseRefusal::Busy => Failure::new("busy", "too many leases").retry(RETRY),
    }
}

/// What one client holds.
#[derive(Debug)]
pub(super) struct Held {
    leases: BTreeMap<LeaseId, HeldLease>,
    /// Reports it may still make, and when that was counted.
    reports: (u32, Instant),
}

#[derive(Debug)]
struct HeldLease {
    service: ServiceName,
    endpoint: EndpointName,
    ttl: Duration,
    until: Instant,
    revoked: bool,
}

impl Held {
    pub(super) fn new() -> Self {
        Self { leases: BTreeMap::new(), reports: (REPORTS.1, Instant::now()) }
    }

    /// Whether it holds any lease.
    pub(super) fn any(&self) -> bool {
        !self.leases.is_empty()
    }

    /// Forgets leases that ended by their time.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.leases.retain(|_, one| one.until > now);
    }

    fn may_report(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.reports.1).as_millis();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX).saturating_mul(REPORTS.0) / 1_000;
        if earned > 0 {
            self.reports = (self.reports.0.saturating_add(earned).min(REPORTS.1), now);
        }
        let allowed = self.reports.0 > 0;
        self.reports.0 = self.reports.0.saturating_sub(1);
        allowed
    }
}

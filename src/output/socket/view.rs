//! What the socket says of each service, drawn up once for all its clients.
//!
//! Invariants
//! 1. Every message about an endpoint is a complete snapshot: one that was lost or replaced by a
//!    later one does no harm.
//! 2. Within one generation the number of a service's changes only rises, and a change of its
//!    endpoint or of any variable raises it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::core::action::MoveKind;
use crate::core::id::{EndpointName, Revision, ServiceName};
use crate::output::{ActiveConfig, ActiveService, ServiceOffer};
use crate::policy::model::{ConfigSocket, Endpoint, Upstream};

/// How long calls on the way may go on at the old endpoint after a planned move.
const DRAIN: Duration = Duration::from_secs(30);
/// After how long without news a client may ask again; news comes by itself.
const FRESH: Duration = Duration::from_secs(60);

/// All services as they were last published.
#[derive(Clone, Default)]
pub(super) struct Views {
    pub(super) services: BTreeMap<ServiceName, View>,
}

/// One service.
#[derive(Clone)]
pub(super) struct View {
    /// The number of the latest change.
    pub(super) seq: u64,
    /// The revision that brought it.
    pub(super) revision: Revision,
    /// What is active.
    pub(super) active: ActiveService,
    /// The change as an event, line break included; holds secrets.
    pub(super) event: Arc<str>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("seq", &self.seq).finish_non_exhaustive()
    }
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.services).finish()
    }
}

/// Draws messages for one socket.
#[derive(Clone, Debug)]
pub(super) struct Painter {
    pub(super) spec: Arc<ConfigSocket>,
    pub(super) generation: Arc<str>,
}

impl Painter {
    /// Whether the socket speaks of a service.
    pub(super) fn wants(&self, name: &ServiceName) -> bool {
        self.spec.services.is_empty() || self.spec.services.contains(name)
    }

    /// The views after a publication.
    pub(super) fn next(
        &self,
        before: &Views,
        config: &ActiveConfig,
        offers: &BTreeMap<ServiceName, ServiceOffer>,
    ) -> Views {
        let services = config.services.iter().filter(|(name, _)| self.wants(name));
        let services = services.map(|(name, active)| {
            let known = before.services.get(name);
            let same = known.filter(|view| {
                view.active.endpoint == active.endpoint && view.active.env == active.env
            });
            let view = same.cloned().unwrap_or_else(|| {
                let seq = config.revision.get().max(known.map_or(0, |view| view.seq + 1));
                let offer = offers.get(name);
                let event = Arc::from(self.event(name, seq, active, offer));
                View { seq, revision: config.revision, active: active.clone(), event }
            });
            (name.clone(), view)
        });
        Views { services: services.collect() }
    }

    /// The members that say what is active.
    pub(super) fn snapshot(
        &self,
        name: &ServiceName,
        view: &View,
        offer: Option<&ServiceOffer>,
    ) -> Map<String, Value> {
        self.members(name, view.seq, &view.active, offer)
    }

    /// The same before the first publication: no endpoint, and a number below every change's.
    pub(super) fn unpublished(
        &self,
        name: &ServiceName,
        offer: Option<&ServiceOffer>,
    ) -> Map<String, Value> {
        self.members(name, 0, &ActiveService::default(), offer)
    }

    fn members(
        &self,
        name: &ServiceName,
        seq: u64,
        active: &ActiveService,
        offer: Option<&ServiceOffer>,
    ) -> Map<String, Value> {
        let state = offer.map_or("starting", |offer| offer.offer.state.label());
        let endpoint = active.endpoint.as_ref().map(|endpoint| {
            let known = offer.and_then(|offer| offer.endpoints.get(endpoint));
            self.endpoint(endpoint, known, &active.env)
        });
        let fallbacks = offer.map(|offer| others(offer, active.endpoint.as_ref()));
        let mut members = Map::new();
        members.insert("service".to_owned(), json!(name));
        members.insert("gen".to_owned(), json!(self.generation));
        members.insert("seq".to_owned(), json!(seq));
        members.insert("state".to_owned(), json!(state));
        members.insert("endpoint".to_owned(), json!(endpoint));
        members.insert("fallbacks".to_owned(), json!(fallbacks.unwrap_or_default()));
        members.insert("ttl_ms".to_owned(), json!(millis(FRESH)));
        members
    }

    /// One endpoint: its name, its address without credentials, and its variables if they may be
    /// told.
    pub(super) fn endpoint(
        &self,
        name: &EndpointName,
        known: Option<&Endpoint>,
        env: &BTreeMap<String, crate::policy::secret::Secret>,
    ) -> Value {
        let url = known.and_then(|known| known.upstream.as_ref()).map(address);
        let mut endpoint = json!({ "id": name, "url": url });
        if self.spec.expose_env
            && let Some(members) = endpoint.as_object_mut()
        {
            let env = env.iter().map(|(name, value)| (name.clone(), json!(value.expose())));
            members.insert("env".to_owned(), Value::Object(env.collect()));
        }
        endpoint
    }

    fn event(
        &self,
        name: &ServiceName,
        seq: u64,
        active: &ActiveService,
        offer: Option<&ServiceOffer>,
    ) -> String {
        let mut members = self.members(name, seq, active, offer);
        let down = active.endpoint.is_none();
        members.insert("event".to_owned(), json!(if down { "down" } else { "switch" }));
        if let Some(moved) = &active.moved {
            let planned = moved.kind != MoveKind::Failover;
            let drain = if planned { DRAIN } else { Duration::ZERO };
            members.insert("from".to_owned(), json!(moved.from));
            members.insert("kind".to_owned(), json!(moved.kind));
            members.insert("reason".to_owned(), json!(moved.cause));
            members.insert("mode".to_owned(), json!(if planned { "drain" } else { "immediate" }));
            members.insert("drain_ms".to_owned(), json!(millis(drain)));
        }
        line(&Value::Object(members))
    }
}

/// Where to go when the active endpoint fails a call, best first.
fn others(offer: &ServiceOffer, active: Option<&EndpointName>) -> Vec<EndpointName> {
    let peers = offer.offer.candidates.iter().map(|(name, _)| name);
    peers.chain(&offer.offer.fallbacks).filter(|name| Some(*name) != active).cloned().collect()
}

/// An address without user info and query.
fn address(upstream: &Upstream) -> String {
    let path = upstream.path.expose();
    let path = path.split('?').next().unwrap_or_default();
    format!("{}://{}{path}", upstream.scheme, upstream.target)
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A message as a line.
pub(super) fn line(message: &Value) -> String {
    let mut text = message.to_string();
    text.push('\n');
    text
}

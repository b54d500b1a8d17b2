//! What all connections of one proxy share, and how it follows the engine and the policy.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::id::{EndpointName, Revision};
use crate::core::ordered::Gather as _;
use crate::core::rng::mix;
use crate::output::proxy::authority::Authority;
use crate::output::proxy::choose::{Chooser, Lanes, Placed};
use crate::output::proxy::http::{Budget, Sessions, set_headers};
use crate::output::proxy::lane::Lane;
use crate::output::proxy::latest::Latest;
use crate::output::proxy::routing::{Part, Peer, Routing};
use crate::output::proxy::tally::Labels;
use crate::output::{Effect, Feedback, Proof};
use crate::policy::model::Proxy;

/// The policy, with what is made of it once.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) policy: Proxy,
    headers: BTreeMap<EndpointName, Vec<(HeaderName, HeaderValue)>>,
}

impl Spec {
    fn new(policy: Proxy) -> Self {
        let headers = policy.headers.iter();
        let headers = headers.map(|(name, set)| (name.clone(), set_headers(set))).gather_map();
        Self { policy, headers }
    }

    /// The headers set for an endpoint.
    pub(super) fn headers(&self, endpoint: &EndpointName) -> &[(HeaderName, HeaderValue)] {
        self.headers.get(endpoint).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether the credential of an endpoint's requests is set here.
    pub(super) fn credential(&self, endpoint: &EndpointName) -> bool {
        !self.headers(endpoint).is_empty()
    }
}

/// What all connections of one proxy share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) spec: Latest<Spec>,
    pub(super) lanes: Latest<Lanes>,
    pub(super) feedback: mpsc::Sender<Feedback>,
    /// Connections that may still come in.
    pub(super) places: Latest<Semaphore>,
    /// Requests that may still come in.
    pub(super) requests: Latest<Semaphore>,
    pub(super) budget: Budget,
    pub(super) sessions: Sessions,
    /// Connections that went on after a request.
    pub(super) tunnels: TaskTracker,
    /// Issues certificates for the hosts that are opened; made before the proxy listens.
    pub(super) authority: OnceLock<Arc<Authority>>,
    /// Cancelled when the proxy ends.
    pub(super) closing: CancellationToken,
    /// The revision shown last, and the one that an answer has proven to be in use.
    revision: AtomicU64,
    proven: AtomicU64,
    /// The latest move away from an unusable endpoint that was followed.
    moved: AtomicU64,
    chooser: Chooser,
    /// Lanes that calls no longer go to, while something is open on them.
    old: std::sync::Mutex<Vec<Arc<Lane>>>,
}

impl Desk {
    pub(super) fn new(spec: Proxy, feedback: mpsc::Sender<Feedback>) -> Self {
        let seed = mix(u64::from(spec.listen.port()) ^ mix(u64::from(std::process::id())));
        Self {
            lanes: Latest::default(),
            feedback,
            places: Latest::new(Semaphore::new(spec.max_connections)),
            requests: Latest::new(Semaphore::new(spec.max_connections)),
            budget: Budget::new(Instant::now()),
            sessions: Sessions::default(),
            tunnels: TaskTracker::new(),
            authority: OnceLock::new(),
            closing: CancellationToken::new(),
            revision: AtomicU64::new(0),
            proven: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            chooser: Chooser::new(seed),
            old: std::sync::Mutex::default(),
            spec: Latest::new(Spec::new(spec)),
        }
    }

    /// The endpoints to try for one call, best first.
    pub(super) fn order(&self) -> Vec<Arc<Lane>> {
        self.chooser.order(&self.lanes.load(), Instant::now())
    }

    /// Follows a new policy. What is open lives by the old one.
    pub(super) fn replace(&self, spec: Proxy) {
        if spec.max_connections != self.spec.load().policy.max_connections {
            self.places.store(Semaphore::new(spec.max_connections));
            self.requests.store(Semaphore::new(spec.max_connections));
        }
        self.spec.store(Spec::new(spec));
    }

    /// Follows the engine: where calls go, and what becomes of those that are open elsewhere.
    pub(super) fn follow(&self, routing: &Routing) {
        let spec = self.spec.load();
        let spec = &spec.policy;
        let before = self.lanes.load();
        let peers = routing.peers.iter();
        let all: Vec<Placed> =
            peers.map(|peer| Placed { lane: lane(peer, &before, spec), part: peer.part }).collect();
        let place = |name: &EndpointName| routing.peers.iter().position(|peer| peer.name == *name);
        let active = routing.active.as_ref().and_then(place);
        // Once for each move: later it may serve again, as the next best.
        let lost = routing.lost.as_ref().filter(|(_, revision)| self.is_news(*revision));
        let lost = lost.and_then(|(name, _)| place(name));
        let lanes = Lanes { strategy: routing.strategy, active, all };
        self.part(&before, &lanes, lost, Instant::now() + spec.drain);
        self.lanes.store(lanes);
    }

    /// Whether an endpoint is among those that calls are sent to first.
    pub(super) fn offers(&self, endpoint: &EndpointName) -> bool {
        let lanes = self.lanes.load();
        let mut known = lanes.all.iter();
        known.any(|one| {
            one.lane.labels.endpoint == *endpoint && matches!(one.part, Part::Candidate(_))
        })
    }

    /// This revision is what calls go by.
    pub(super) fn shown(&self, revision: Revision) {
        self.revision.store(revision.get(), Ordering::Relaxed);
    }

    /// An endpoint answered a call: the first such proves that its revision is in use.
    pub(super) fn proven(&self, endpoint: &EndpointName) {
        let revision = self.revision.load(Ordering::Relaxed);
        if self.proven.load(Ordering::Relaxed) == revision || !self.is_active(endpoint) {
            return;
        }
        self.proven.store(revision, Ordering::Relaxed);
        let output = Arc::from(self.spec.load().policy.name.as_str());
        let (service, revision, proof) = (None, Revision::new(revision), Proof::FirstByte);
        // When the engine has too much to hear this is the least of it.
        self.feedback
            .try_send(Feedback::Effective(Effect { output, service, revision, proof }))
            .ok();
    }

    fn is_active(&self, endpoint: &EndpointName) -> bool {
        let lanes = self.lanes.load();
        let active = lanes.active.and_then(|place| lanes.all.get(place));
        active.is_some_and(|one| one.lane.labels.endpoint == *endpoint)
    }

    /// When the next connection is due to be cut.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let lanes = self.lanes.load();
        let old = self.old();
        let known = lanes.all.iter().map(|one| &one.lane).chain(old.iter());
        known.filter_map(|lane| lane.drain_until()).min()
    }

    /// Cuts what had time enough to end by itself.
    pub(super) fn end_drains(&self, now: Instant) {
        let lanes = self.lanes.load();
        let mut old = self.old();
        for lane in lanes.all.iter().map(|one| &one.lane).chain(old.iter()) {
            if lane.drain_until().is_some_and(|until| until <= now) {
                lane.clear(true);
            }
        }
        old.retain(|lane| lane.tally.open() > 0);
    }

    /// Hands the counts to the metrics.
    pub(super) fn show(&self) {
        for one in &self.lanes.load().all {
            one.lane.tally.show(&one.lane.labels);
        }
    }

    /// Everybody leaves at once.
    pub(super) fn close(&self) {
        let lanes = self.lanes.load();
        let old = self.old();
        for lane in lanes.all.iter().map(|one| &one.lane).chain(old.iter()) {
            lane.clear(true);
        }
    }

    fn is_news(&self, moved: Revision) -> bool {
        self.moved.fetch_max(moved.get(), Ordering::Relaxed) < moved.get()
    }

    /// Decides for every lane whether what is open on it stays, drains or is cut.
    fn part(&self, before: &Lanes, after: &Lanes, lost: Option<usize>, drained_by: Instant) {
        let offered = |one: &Placed| matches!(one.part, Part::Candidate(_));
        for (place, one) in after.all.iter().enumerate() {
            let active = after.active == Some(place);
            let others = after.all.iter().enumerate();
            let elsewhere = others.filter(|(other, _)| *other != place).any(|(_, it)| offered(it));
            if active || offered(one) {
                // Until the engine moves, or offers somebody else, this is as good as it gets.
                let unusable = !offered(one) && elsewhere;
                if unusable { one.lane.clear(false) } else { one.lane.keep() }
            } else if one.part == Part::Nothing || lost == Some(place) {
                let instead = elsewhere || after.active.is_some();
                if instead { one.lane.clear(false) } else { one.lane.drain(drained_by) }
            } else {
                one.lane.drain(drained_by);
            }
        }
        let mut old = self.old();
        for gone in before.all.iter().map(|one| &one.lane) {
            if !after.all.iter().any(|one| Arc::ptr_eq(&one.lane, gone)) {
                gone.drain(drained_by);
                gone.tally.show(&gone.labels);
                old.push(Arc::clone(gone));
            }
        }
        old.retain(|lane| lane.tally.open() > 0);
    }

    fn old(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Lane>>> {
        self.old.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The lane of an endpoint: the one that is there, unless something about it changed.
fn lane(peer: &Peer, before: &Lanes, spec: &Proxy) -> Arc<Lane> {
    let labels = Labels {
        output: spec.name.clone(),
        service: spec.service.clone(),
        endpoint: peer.name.clone(),
    };
    let same = |lane: &&Arc<Lane>| lane.is(&labels, &peer.upstream, &spec.tls);
    let known = before.all.iter().map(|one| &one.lane).find(same);
    known.map_or_else(|| Lane::new(labels.clone(), peer.upstream.clone(), spec), Arc::clone)
}

/// How often counts are handed to the metrics.
pub(super) const SHOW_GAP: Duration = Duration::from_millis(500);

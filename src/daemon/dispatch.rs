//! Carries out what the engine asks for.
//!
//! Invariants
//! 1. Nothing in here waits: a stuck disk, hook, webhook or client never delays the next decision.
//! 2. A publication is shown to the outputs only after its snapshot is durable, or after
//!    [`DURABLE_WAIT`]: a stuck disk may cost the memory of a switch, never the switch.
//! 3. A publication never replaces a later one.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::document::{PhasesDocument, QuotaDocument, StatusDocument};
use crate::admin::hub::EventHub;
use crate::admin::protocol::{Answer, ControlFailure, Response};
use crate::core::action::{
    Action, Actions, Decision, Event, LeaseRefusal, MoveKind, ProbeKind, ProbeOrder, Publication,
    Receipt, Refusal,
};
use crate::core::id::{AttemptId, EndpointName, LeaseId, Revision, ServiceName, Ticket};
use crate::core::ordered::Gather as _;
use crate::core::outcome::{Observation, Outcome};
use crate::core::record::{EventRecord, HistoryRecord, SCHEMA};
use crate::core::snapshot::Snapshot;
use crate::core::time::Instant;
use crate::daemon::clock::Clock;
use crate::daemon::keeper::Keeper;
use crate::daemon::sharing::{Place, Sharing, Stood};
use crate::daemon::uptake::Uptake;
use crate::output::{ActiveConfig, ActiveService, Lease, Moved, Offers};
use crate::policy::model::{Child, Endpoint, Policy, Probe};
use crate::probe::{Phases, Prober, Quota, Report};
use crate::store::Store;
use crate::telemetry::{log, metric};

/// How long a publication waits for its snapshot to be durable.
const DURABLE_WAIT: Duration = Duration::from_millis(250);
/// Snapshots that no publication waits for are stored at most this often.
const SAVE_GAP: Duration = Duration::from_secs(1);
/// Attempts whose start is remembered, to tell how long a detection took.
const ATTEMPTS_REMEMBERED: usize = 4_096;
/// Revisions whose decision is remembered, to tell how long a publication took.
const REVISIONS_REMEMBERED: usize = 64;

/// A probe that ended.
#[derive(Debug)]
pub(crate) struct Probed {
    /// What was ordered.
    pub(crate) order: ProbeOrder,
    /// What was found.
    pub(crate) report: Report,
    /// When the attempt began, if it was somebody else's.
    pub(crate) began: Option<Instant>,
    /// What others can share.
    pub(crate) fingerprint: u64,
}

/// The latest timings of one endpoint, which the engine does not need.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Where the time went.
    phases: Phases,
    /// Time until the certificate ends, as seen last.
    certificate_expires_in: Option<Duration>,
    /// What is left of a quota, as told last.
    quota: Option<Quota>,
}

impl Seen {
    /// Takes in the latest report. Not every probe of an endpoint sees a certificate or a quota,
    /// so what an earlier one saw stays.
    pub(crate) fn update(&mut self, report: &Report) {
        self.phases = report.phases;
        self.certificate_expires_in = report.certificate_expires_in.or(self.certificate_expires_in);
        self.quota = report.quota.or(self.quota);
    }
}

/// Everything the effects reach.
#[derive(Debug)]
pub(crate) struct Effects {
    pub(crate) clock: Clock,
    pub(crate) policy: Arc<Policy>,
    pub(crate) keeper: Keeper,
    pub(crate) hub: EventHub,
    pub(crate) configs: watch::Sender<Option<Arc<ActiveConfig>>>,
    pub(crate) offers: watch::Sender<Arc<Offers>>,
    /// How the server is run, if it is ours.
    pub(crate) child: watch::Sender<Child>,
    pub(crate) prober: Prober,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) probed: mpsc::Sender<Probed>,
    pub(crate) tasks: TaskTracker,
    /// Attempts under way are given up.
    pub(crate) ending: CancellationToken,
    pub(crate) seen: BTreeMap<(ServiceName, EndpointName), Seen>,
    /// How late the present round is, for the probes that it starts.
    pub(crate) late: Duration,
    pub(crate) sharing: Sharing,
    pub(crate) uptake: Uptake,
    /// Notes to whoever makes backups: something moved, or a person ordered something.
    pub(crate) changed: Arc<Notify>,
    probes_max: usize,
    waiting: BTreeMap<Ticket, oneshot::Sender<Response>>,
    started: VecDeque<(AttemptId, Instant)>,
    decided: BTreeMap<Revision, Instant>,
    published: Option<Publication>,
    moved: BTreeMap<ServiceName, Moved>,
    lending: BTreeMap<Ticket, oneshot::Sender<Result<Lease, LeaseRefusal>>>,
    save_at: Option<Instant>,
    tickets: Ticket,
    seq: u64,
}

/// What [`Effects`] is made from.
#[derive(Debug)]
pub(crate) struct Means {
    pub(crate) clock: Clock,
    pub(crate) policy: Arc<Policy>,
    pub(crate) keeper: Keeper,
    pub(crate) hub: EventHub,
    pub(crate) prober: Prober,
    pub(crate) probes_max: usize,
    pub(crate) probed: mpsc::Sender<Probed>,
}

impl Effects {
    /// Nothing published, nothing waiting.
    pub(crate) fn new(means: Means) -> Self {
        let mut sharing = Sharing::default();
        sharing.apply(&means.policy);
        let child = watch::Sender::new(means.policy.child.clone());
        Self {
            clock: means.clock,
            policy: means.policy,
            keeper: means.keeper,
            hub: means.hub,
            configs: watch::Sender::new(None),
            offers: watch::Sender::new(Arc::new(Offers::default())),
            child,
            prober: means.prober,
            permits: Arc::new(Semaphore::new(means.probes_max)),
            probed: means.probed,
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
            seen: BTreeMap::new(),
            late: Duration::ZERO,
            sharing,
            uptake: Uptake::default(),
            changed: Arc::default(),
            probes_max: means.probes_max,
            waiting: BTreeMap::new(),
            started: VecDeque::new(),
            decided: BTreeMap::new(),
            published: None,
            moved: BTreeMap::new(),
            lending: BTreeMap::new(),
            save_at: None,
            tickets: Ticket::default(),
            seq: 0,
        }
    }

    /// Carries out a batch; `snapshot` is called at most once, and only if something changed.
    pub(crate) fn carry_out(
        &mut self,
        actions: Actions,
        now: Instant,
        snapshot: impl FnOnce() -> Snapshot,
    ) {
        let publishes = actions.iter().any(|action| matches!(action, Action::Publish(_)));
        let persists = actions.iter().any(|action| matches!(action, Action::Persist));
        let durable = (publishes && persists).then(|| self.save(&snapshot(), now));
        if persists && !publishes {
            self.save_at.get_or_insert(now + SAVE_GAP);
        }
        let mut durable = durable.flatten();
        self.note_moves(&actions);
        for action in actions {
            match action {
                Action::Probe(order) => self.probe(order, now),
                Action::Publish(publication) => self.publish(publication, now, durable.take()),
                Action::Record(decision) => self.record(decision, now),
                Action::Emit(event) => self.emit(event, now),
                Action::Answer { ticket, result } => self.answer(ticket, result),
                Action::Granted { ticket, result } => self.lend(ticket, result),
                // Stored above.
                Action::Persist => {}
            }
        }
    }

    /// When a snapshot that no publication waits for is due.
    pub(crate) const fn save_at(&self) -> Option<Instant> {
        self.save_at
    }

    /// Stores a snapshot; the receiver tells when it is durable.
    pub(crate) fn save(
        &mut self,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Option<oneshot::Receiver<bool>> {
        self.save_at = None;
        match serde_json::to_vec(snapshot) {
            Ok(bytes) => {
                let revision = snapshot.revision.get();
                Some(self.keeper.save(bytes, revision, self.clock.wall_ms_at(now)))
            }
            Err(error) => {
                tracing::error!(%error, "failed to write down the state");
                None
            }
        }
    }

    /// Remembers who asked, until the engine answers.
    pub(crate) fn expect_answer(&mut self, reply: oneshot::Sender<Response>) -> Ticket {
        self.tickets = self.tickets.next();
        self.waiting.insert(self.tickets, reply);
        self.tickets
    }

    /// Remembers who wants a lease, until the engine answers.
    pub(crate) fn expect_lease(
        &mut self,
        reply: oneshot::Sender<Result<Lease, LeaseRefusal>>,
    ) -> Ticket {
        self.tickets = self.tickets.next();
        self.lending.insert(self.tickets, reply);
        self.tickets
    }

    /// Gives up every attempt under way, and waits until nothing of them is left in servers.
    pub(crate) async fn leave_servers(&self) {
        self.ending.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.prober.settled().await;
    }

    /// Probes that run now.
    pub(crate) fn in_flight(&self) -> usize {
        self.probes_max.saturating_sub(self.permits.available_permits())
    }

    /// How long ago the decision behind a revision fell; each revision is told once.
    pub(crate) fn since_decision(&mut self, revision: Revision, now: Instant) -> Option<Duration> {
        self.decided.remove(&revision).map(|at| now - at)
    }

    /// Shows the outputs the current publication again, with the values of the current policy.
    pub(crate) fn republish(&mut self, now: Instant) {
        if let Some(publication) = self.published.clone() {
            self.publish(publication, now, None);
        }
    }

    /// Whether the policy in force has this endpoint.
    pub(crate) fn knows(&self, service: &ServiceName, endpoint: &EndpointName) -> bool {
        endpoint_of(&self.policy, service, endpoint).is_some()
    }

    /// Drops what is known of endpoints and outputs that the policy no longer has.
    pub(crate) fn forget_missing(&mut self, old: &Policy) {
        let Self { policy, seen, .. } = self;
        let known = |service: &str, endpoint: Option<&str>| {
            let service = policy.services.get(service);
            service.is_some_and(|s| endpoint.is_none_or(|name| s.endpoints.contains_key(name)))
        };
        seen.retain(|(service, endpoint), _| known(service.as_str(), Some(endpoint.as_str())));
        metric::keep(known);
        let kept = |name: &str| self.policy.outputs.iter().any(|output| output.name() == name);
        for output in old.outputs.iter().filter(|output| !kept(output.name())) {
            metric::forget_output(output.name());
        }
    }

    /// Goes on in another state directory; when it cannot be used, stays with the present one.
    pub(crate) fn move_store(&self, dir: &Path) {
        match Store::open(dir, self.clock.wall_ms()) {
            Ok(opened) => self.keeper.replace(opened.store),
            Err(error) => {
                tracing::error!(dir = %dir.display(), %error, "state stays where it was");
            }
        }
    }

    /// Adds what only the probes know to a status.
    pub(crate) fn with_phases(&self, mut document: StatusDocument) -> StatusDocument {
        for ((service, endpoint), seen) in &self.seen {
            let shown = document
                .services
                .get_mut(service)
                .and_then(|service| service.endpoints.get_mut(endpoint));
            if let Some(shown) = shown {
                let seconds = |span: Option<Duration>| span.map(|span| span.as_secs_f64());
                shown.phases = Some(PhasesDocument {
                    resolve: seconds(seen.phases.resolve),
                    connect: seconds(seen.phases.connect),
                    tls: seconds(seen.phases.tls),
                    first_byte: seconds(seen.phases.first_byte),
                    total: seen.phases.total.as_secs_f64(),
                });
                shown.certificate_expires_in_seconds = seconds(seen.certificate_expires_in);
                shown.quota = seen.quota.map(|quota| QuotaDocument {
                    limit: quota.limit,
                    remaining: quota.remaining,
                    resets_in_seconds: seconds(quota.resets_in),
                });
            }
        }
        document
    }

    fn probe(&mut self, order: ProbeOrder, now: Instant) {
        let Some(probe) = find_probe(&self.policy, &order) else { return };
        metric::probe_started(self.late);
        if self.started.len() == ATTEMPTS_REMEMBERED {
            self.started.pop_front();
        }
        self.started.push_back((order.attempt, now));
        let (probed, fingerprint) = (self.probed.clone(), probe.fingerprint);
        // The loop is gone only when the process ends.
        match self.sharing.place(order, &probe, now) {
            Place::Joined => {}
            Place::Answered(order, stood) => {
                let Stood { began, report } = *stood;
                let told = Probed { order, report, began: Some(began), fingerprint };
                self.tasks.spawn(async move {
                    probed.send(told).await.ok();
                });
            }
            Place::Alone(order) => {
                let (prober, permits) = (self.prober.clone(), Arc::clone(&self.permits));
                let ending = self.ending.clone();
                self.tasks.spawn(async move {
                    let attempt = Box::pin(run_probe(&prober, &permits, &probe, order.timeout));
                    let Some(report) = ending.run_until_cancelled(attempt).await else { return };
                    probed.send(Probed { order, report, began: None, fingerprint }).await.ok();
                });
            }
        }
    }

    fn publish(
        &mut self,
        publication: Publication,
        now: Instant,
        durable: Option<oneshot::Receiver<bool>>,
    ) {
        let config = Arc::new(configuration(&self.policy, &publication, &self.moved));
        self.uptake.published(&config, now);
        self.decided.insert(publication.revision, now);
        while self.decided.len() > REVISIONS_REMEMBERED {
            self.decided.pop_first();
        }
        self.published = Some(publication);
        let configs = self.configs.clone();
        self.tasks.spawn(async move {
            if let Some(durable) = durable
                && !matches!(tokio::time::timeout(DURABLE_WAIT, durable).await, Ok(Ok(true)))
            {
                tracing::warn!("publishing a switch before it is durable");
            }
            configs.send_if_modified(|current| {
                let newer = current.as_ref().is_none_or(|known| known.revision <= config.revision);
                if newer {
                    *current = Some(config);
                }
                newer
            });
        });
    }

    /// A configuration says how each service came where it is, so moves are noted before it is made.
    fn note_moves(&mut self, actions: &Actions) {
        for action in actions {
            let Action::Record(decision) = action else { continue };
            let moved = Moved {
                revision: decision.revision,
                from: decision.from.clone(),
                kind: decision.kind,
                cause: Arc::from(decision.cause.as_str()),
            };
            self.moved.insert(decision.service.clone(), moved);
        }
    }

    fn lend(&mut self, ticket: Ticket, result: Result<(LeaseId, EndpointName), LeaseRefusal>) {
        if let Some(reply) = self.lending.remove(&ticket) {
            // Whoever asked may have hung up; the lease then ends by its time.
            reply.send(result.map(|(id, endpoint)| Lease { id, endpoint })).ok();
        }
    }

    fn record(&mut self, decision: Decision, now: Instant) {
        if decision.kind == MoveKind::Failover
            && let Some(took) = self.detection(&decision, now)
        {
            metric::detected(&decision.service, took);
        }
        let record = HistoryRecord { schema: SCHEMA, at: self.clock.rfc3339(now), decision };
        self.keeper.append(record, self.clock.wall_ms_at(now));
        self.changed.notify_one();
    }

    /// From the start of the first attempt that failed to the decision.
    fn detection(&self, decision: &Decision, now: Instant) -> Option<Duration> {
        let lost = decision.from.as_ref()?;
        let evidence = decision.evidence.iter().find(|evidence| evidence.endpoint == *lost)?;
        let first = evidence.attempts.first()?;
        let place = self.started.binary_search_by_key(first, |(attempt, _)| *attempt).ok()?;
        self.started.get(place).map(|(_, at)| now - *at)
    }

    pub(super) fn emit(&mut self, event: Event, now: Instant) {
        if matches!(event, Event::Commanded(_)) {
            self.changed.notify_one();
        }
        self.seq = self.seq.saturating_add(1);
        let at = self.clock.rfc3339(now);
        let record = EventRecord { schema: SCHEMA, seq: self.seq, at, event };
        metric::event(&record.event);
        log::event(&record);
        self.hub.publish(record);
    }

    fn answer(&mut self, ticket: Ticket, result: Result<Receipt, Refusal>) {
        if let Some(reply) = self.waiting.remove(&ticket) {
            // Whoever asked may have hung up.
            reply.send(result.map(Answer::Receipt).map_err(ControlFailure::from)).ok();
        }
    }
}

fn endpoint_of<'a>(
    policy: &'a Policy,
    service: &ServiceName,
    endpoint: &EndpointName,
) -> Option<&'a Endpoint> {
    policy.services.get(service)?.endpoints.get(endpoint)
}

fn find_probe(policy: &Policy, order: &ProbeOrder) -> Option<Arc<Probe>> {
    let endpoint = endpoint_of(policy, &order.service, &order.endpoint)?;
    match order.kind {
        ProbeKind::Shallow => Some(Arc::clone(&endpoint.probe)),
        ProbeKind::Deep => endpoint.deep_probe.clone(),
    }
}

async fn run_probe(
    prober: &Prober,
    permits: &Semaphore,
    probe: &Probe,
    timeout: Duration,
) -> Report {
    // Too many probes at once is our own fault and must not look like theirs.
    match tokio::time::timeout(timeout, permits.acquire()).await {
        Ok(Ok(_permit)) => prober.run(probe, timeout).await,
        Ok(Err(_)) | Err(_) => Report {
            observation: Observation::new(Outcome::Local, timeout)
                .with_detail("too many probes in flight"),
            phases: Phases { total: timeout, ..Phases::default() },
            address: None,
            certificate_expires_in: None,
            status: None,
            quota: None,
        },
    }
}

/// The active endpoints' variables, all of one revision.
pub(crate) fn configuration(
    policy: &Policy,
    publication: &Publication,
    moved: &BTreeMap<ServiceName, Moved>,
) -> ActiveConfig {
    let services = publication.active.iter().filter_map(|(name, endpoint)| {
        let service = policy.services.get(name)?;
        let known = endpoint.as_ref().and_then(|endpoint| service.endpoints.get(endpoint));
        let active = ActiveService {
            endpoint: endpoint.clone(),
            url: known.and_then(|endpoint| endpoint.url.clone()),
            env: known.map(|endpoint| endpoint.env.clone()).unwrap_or_default(),
            moved: moved.get(name).cloned(),
        };
        Some((name.clone(), active))
    });
    ActiveConfig { revision: publication.revision, services: services.gather_map() }
}

//! What must hold whatever happens, judged from outside: by what is published, told and shown.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mcp_failover::core::action::{
    Decision, Event, Evidence, HoldReason, MoveKind, Publication, Receipt, Refusal,
};
use mcp_failover::core::breaker::BreakerState;
use mcp_failover::core::health::Health;
use mcp_failover::core::id::{AttemptId, EndpointName, Revision, ServiceName, Ticket};
use mcp_failover::core::input::Order;
use mcp_failover::core::rules::{FailbackMode, OnAllDown, Rules, ServiceRules};
use mcp_failover::core::schedule::detection_bound;
use mcp_failover::core::score::MIN_CHOOSABLE;
use mcp_failover::core::status::{AdminState, Status};
use mcp_failover::core::time::Instant;

use super::policy::Unit;
use super::world::Upstream;

/// A call that was on its way when an upstream broke may still pass; so much later it has not.
const IN_FLIGHT: Duration = Duration::from_millis(50);

/// What a run has seen, by name.
pub(crate) type Seen = BTreeMap<&'static str, u64>;

#[derive(Clone, Debug)]
struct Pin {
    endpoint: EndpointName,
    until: Option<Duration>,
}

#[derive(Debug, Default)]
pub(crate) struct Checks {
    revision: Revision,
    published: BTreeMap<ServiceName, Option<EndpointName>>,
    attempts: BTreeSet<(u64, AttemptId)>,
    pins: BTreeMap<ServiceName, Pin>,
    manual: BTreeSet<ServiceName>,
    pending: BTreeMap<Ticket, Order>,
    /// When the automatic moves of each service were.
    moves: BTreeMap<ServiceName, Vec<Duration>>,
    /// Moves since everything of a service was told to be down.
    down: BTreeMap<ServiceName, u32>,
    usable_since: BTreeMap<Upstream, Duration>,
    /// When all was looked at last.
    looked: Duration,
    /// Open breakers and when they may let a trial through, on the clock of the process.
    open: BTreeMap<Upstream, Option<Instant>>,
    /// Until when a broken active endpoint must have been noticed.
    unnoticed: BTreeMap<Upstream, Duration>,
    drained: BTreeSet<Upstream>,
    /// The latest move of each service.
    moved: BTreeMap<ServiceName, (Revision, MoveKind)>,
    step: Vec<(ServiceName, MoveKind)>,
    stalled: bool,
    excused: bool,
    quiet: bool,
    seen: Seen,
}

impl Checks {
    pub(crate) fn into_seen(self) -> Seen {
        self.seen
    }

    pub(crate) fn active(&self, service: &ServiceName) -> Option<EndpointName> {
        self.published.get(service).cloned().flatten()
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub(crate) fn probe_started(&mut self, attempt: AttemptId, process: u64) {
        self.attempts.retain(|(of, _)| *of == process);
        assert!(self.attempts.insert((process, attempt)), "an attempt is named once");
        if self.attempts.len() > 1000 {
            self.attempts.pop_first();
        }
    }

    /// I5: revisions rise over crashes, restarts and reloads, and none has two contents.
    pub(crate) fn published(&mut self, publication: &Publication, now: Duration) {
        assert!(!self.quiet, "I11: a publication although all is well: {publication:?}");
        assert!(publication.revision > self.revision, "I5: {:?}", publication.revision);
        self.revision = publication.revision;
        self.published.clone_from(&publication.active);
        self.pins.retain(|_, pin| pin.until.is_none_or(|until| now < until));
        for (service, pin) in &self.pins {
            let active = publication.active.get(service).cloned().flatten();
            assert_eq!(active.as_ref(), Some(&pin.endpoint), "I3: {service} left its pin");
        }
    }

    pub(crate) fn decided(&mut self, rules: &Rules, decision: &Decision, now: Duration) {
        assert!(!self.quiet, "I11: a move although all is well: {decision:?}");
        let service = &rules.services[&decision.service];
        self.step.push((decision.service.clone(), decision.kind));
        let before =
            self.moved.insert(decision.service.clone(), (decision.revision, decision.kind));
        if let Some(moves) = self.down.get_mut(&decision.service) {
            let by_itself = matches!(
                decision.kind,
                MoveKind::Failover | MoveKind::Failback | MoveKind::Rollback
            );
            *moves += u32::from(by_itself);
            let revived = decision.to.as_ref().is_some_and(|to| usable(witness(decision, to)));
            assert!(*moves <= 1 || revived, "I10: rotation while all is down: {decision:?}");
        }
        if decision.kind != MoveKind::Switchover {
            self.manual.remove(&decision.service);
        }
        self.judge_target(service, decision, now);
        match decision.kind {
            MoveKind::Failover => self.judge_failover(service, decision, now),
            MoveKind::Failback => self.judge_failback(service, decision, now),
            MoveKind::Rollback => {
                let undone = before.map(|(_, kind)| kind);
                assert_ne!(undone, Some(MoveKind::Failover), "an emergency undone: {decision:?}");
                assert_ne!(undone, Some(MoveKind::Rollback), "a roll-back undone: {decision:?}");
                self.judge_rollback(service, decision, now);
            }
            MoveKind::Start | MoveKind::Switchover | MoveKind::Reload => {}
        }
        self.saw(match decision.kind {
            MoveKind::Failover => "failover",
            MoveKind::Failback => "failback",
            MoveKind::Switchover => "switchover",
            MoveKind::Start => "start",
            MoveKind::Reload => "reload",
            MoveKind::Rollback => "rollback",
        });
    }

    /// I3, I4: a pin is obeyed, and nothing moves to a drained endpoint by itself.
    fn judge_target(&self, rules: &ServiceRules, decision: &Decision, now: Duration) {
        let pin =
            self.pins.get(&decision.service).filter(|pin| pin.until.is_none_or(|at| now < at));
        if let Some(pin) = pin {
            assert_eq!(decision.to.as_ref(), Some(&pin.endpoint), "I3: {decision:?}");
            return;
        }
        let drained = |endpoint: &EndpointName| {
            self.drained.contains(&(decision.service.clone(), endpoint.clone()))
        };
        let every = rules.endpoints.iter().all(|one| drained(&one.name));
        if let Some(to) = decision.to.as_ref().filter(|_| decision.kind != MoveKind::Switchover) {
            assert!(every || !drained(to), "I4: {decision:?}");
        }
    }

    /// I1, I2, I12: only from what fails, not to what is known worse, within the budget, and not
    /// on what was seen before a stall.
    fn judge_failover(&mut self, rules: &ServiceRules, decision: &Decision, now: Duration) {
        assert!(!self.stalled, "I12: a failover on evidence from before a stall: {decision:?}");
        if let Some(from) = &decision.from {
            let fine = witness(decision, from).is_some_and(|from| {
                usable(Some(from)) && from.last_outcome.is_some_and(|o| o.label() == "ok")
            });
            assert!(!fine, "I1: left an endpoint that serves: {decision:?}");
            self.spend(rules, decision, now);
        }
        let alive = decision.evidence.iter().any(|one| {
            let of = (decision.service.clone(), one.endpoint.clone());
            usable(Some(one)) && one.proven && !self.drained.contains(&of)
        });
        let guess = decision.to.as_ref().and_then(|to| witness(decision, to)).is_some_and(|to| {
            matches!(to.health, Health::Unknown | Health::Healthy | Health::Degraded)
        });
        let given_up = !alive && rules.failover.on_all_down != OnAllDown::Hold;
        assert!(guess || given_up, "I1: moved to an endpoint known to be down: {decision:?}");
    }

    fn judge_failback(&mut self, rules: &ServiceRules, decision: &Decision, now: Duration) {
        assert!(!self.stalled, "I12: a return on evidence from before a stall: {decision:?}");
        assert_eq!(rules.failover.failback.mode, FailbackMode::Auto, "{decision:?}");
        let tier = |name: &Option<EndpointName>| {
            let name = name.as_ref().unwrap();
            rules.endpoints.iter().find(|one| one.name == *name).unwrap().tier
        };
        assert!(tier(&decision.to) < tier(&decision.from), "I1: no better tier: {decision:?}");
        let to = decision.to.clone().unwrap();
        let proven = witness(decision, &to).is_some_and(|to| usable(Some(to)) && to.proven);
        assert!(proven, "I1: returned to what is not proven: {decision:?}");
        let since = self.usable_since.get(&(decision.service.clone(), to)).copied();
        let held = since.map_or(Duration::ZERO, |since| now - since);
        assert!(held >= rules.failover.failback.hold, "I2: returned after {held:?}: {decision:?}");
        self.spend(rules, decision, now);
    }

    /// I1, I2, I3, I12: only to what serves, within the budget, never against a person, and not on
    /// what was seen before a stall.
    fn judge_rollback(&mut self, rules: &ServiceRules, decision: &Decision, now: Duration) {
        assert!(!self.stalled, "I12: a roll-back on evidence from before a stall: {decision:?}");
        assert!(!self.pins.contains_key(&decision.service), "I3: {decision:?}");
        let to = decision.to.as_ref().and_then(|to| witness(decision, to));
        assert!(usable(to), "I1: back to what does not serve: {decision:?}");
        self.spend(rules, decision, now);
    }

    /// The latest move of a service.
    pub(crate) fn moved(&self, service: &ServiceName) -> Option<Revision> {
        self.moved.get(service).map(|(revision, _)| *revision)
    }

    fn spend(&mut self, rules: &ServiceRules, decision: &Decision, now: Duration) {
        let moves = self.moves.entry(decision.service.clone()).or_default();
        moves.retain(|at| now - *at < rules.failover.budget_window);
        moves.push(now);
        let used = u32::try_from(moves.len()).unwrap();
        assert!(used <= rules.failover.budget, "I2: over budget: {decision:?}");
    }

    pub(crate) fn told(&mut self, event: &Event) {
        assert!(!self.quiet, "I11: news although all is well: {event:?}");
        match event {
            Event::AllDown { service, .. } => {
                let before = self.down.insert(service.clone(), 0);
                assert!(before.is_none(), "I10: told twice that all is down: {service}");
                self.saw("all down");
            }
            Event::Revived { service, .. } => {
                self.down.remove(service);
                self.saw("revived");
            }
            Event::BreakerChange { to: BreakerState::HalfOpen, .. } => self.saw("half-open"),
            Event::Isolation { isolated, .. } => {
                self.unnoticed.clear();
                self.excused = true;
                if *isolated {
                    self.saw("isolation");
                }
            }
            Event::Throttled { .. } => self.saw("throttled"),
            Event::AuthFailed { .. } => self.saw("auth failed"),
            Event::ProbeMisconfigured { .. } => self.saw("probe misconfigured"),
            Event::CriticalFailure { .. } => self.saw("critical failure"),
            Event::Output { failure: Some(_), .. } => self.saw("output failure"),
            Event::Held { why, .. } => self.saw(match why {
                HoldReason::Pinned => "held by pin",
                HoldReason::Paused => "held by pause",
                HoldReason::Isolated => "held by isolation",
                HoldReason::Stalled => "held by stall",
                HoldReason::AwaitingProof => "held for proof",
                HoldReason::Budget => "held by budget",
                HoldReason::SameCredential => "held by credential",
            }),
            Event::StatusChange { .. }
            | Event::BreakerChange { .. }
            | Event::Switched(_)
            | Event::Commanded(_)
            | Event::RulesReplaced { .. }
            | Event::Output { failure: None, .. }
            | Event::Backup { .. }
            | Event::Redis { .. } => {}
            Event::Ineffective { .. } => self.saw("ineffective"),
            Event::Effective { .. } => self.saw("effective at last"),
        }
    }

    pub(crate) fn ordered(&mut self, ticket: Ticket, order: &Order) {
        // What an order ends is no longer demanded from the moment it is given.
        match order {
            Order::Pin { service, .. } | Order::Unpin { service } => {
                self.pins.remove(service);
            }
            Order::Undrain { service, endpoint } => {
                self.drained.remove(&(service.clone(), endpoint.clone()));
            }
            Order::Breaker { .. } | Order::Switch { force: true, .. } => self.excused = true,
            Order::Switch { .. }
            | Order::Drain { .. }
            | Order::Pause { .. }
            | Order::Resume { .. } => {}
        }
        self.pending.insert(ticket, order.clone());
    }

    pub(crate) fn answered(
        &mut self,
        ticket: Ticket,
        result: &Result<Receipt, Refusal>,
        now: Duration,
    ) {
        let order = self.pending.remove(&ticket).expect("an answer to a question");
        if result.is_err() {
            self.saw("refusal");
            return;
        }
        match order {
            Order::Pin { service, endpoint, duration } => {
                let until = duration.map(|duration| now + duration);
                self.manual.remove(&service);
                self.pins.insert(service, Pin { endpoint, until });
            }
            Order::Unpin { service } => {
                self.manual.remove(&service);
            }
            Order::Switch { service, .. } => drop(self.manual.insert(service)),
            Order::Drain { service, endpoint } => {
                self.drained.insert((service, endpoint));
            }
            Order::Resume { service: None } => self.manual.clear(),
            Order::Resume { service: Some(service) } => drop(self.manual.remove(&service)),
            Order::Undrain { .. } | Order::Pause { .. } | Order::Breaker { .. } => {}
        }
    }

    pub(crate) fn lent(status: &Status, endpoint: &EndpointName) {
        let closed = status.services.values().any(|service| {
            service.endpoints.get(endpoint).is_some_and(|one| {
                !matches!(one.breaker, BreakerState::Open | BreakerState::ForcedOpen)
            })
        });
        assert!(closed, "I9: lent an endpoint behind an open breaker");
    }

    pub(crate) fn after_step(
        &mut self,
        rules: &Rules,
        status: &Status,
        now: Duration,
        booted: Duration,
    ) {
        self.pins.retain(|_, pin| pin.until.is_none_or(|until| now < until));
        for (name, service) in &status.services {
            if let Some(pin) = self.pins.get(name) {
                assert_eq!(service.pinned.as_ref(), Some(&pin.endpoint), "I3: {name}");
                assert_eq!(service.active.as_ref(), Some(&pin.endpoint), "I3: {name}");
            }
            assert!(service.budget_left <= rules.services[name].failover.budget, "I2");
            for (endpoint, shown) in &service.endpoints {
                let upstream = (name.clone(), endpoint.clone());
                let open = shown.breaker == BreakerState::Open;
                if let Some(retry_at) = self.open.get(&upstream).filter(|_| !self.excused) {
                    let due = retry_at.is_some_and(|at| booted + at.since_start() <= now);
                    assert!(
                        due || (open && shown.breaker_retry_at == *retry_at),
                        "I9: {upstream:?}"
                    );
                }
                if shown.unusable.is_none()
                    || shown.admin == AdminState::Drained
                        && shown.unusable.as_deref() == Some("drained")
                {
                    // It may have begun at any moment since the last look.
                    self.usable_since.entry(upstream.clone()).or_insert(self.looked);
                    let due = self.unnoticed.get(&upstream).copied();
                    assert!(
                        due.is_none_or(|due| now <= due),
                        "nobody noticed that {upstream:?} is down"
                    );
                } else {
                    self.usable_since.remove(&upstream);
                    self.unnoticed.remove(&upstream);
                }
                if open {
                    self.open.insert(upstream, shown.breaker_retry_at);
                } else {
                    self.open.remove(&upstream);
                }
            }
        }
        self.unnoticed.retain(|(service, endpoint), _| {
            status.services.get(service).is_some_and(|s| s.active.as_ref() == Some(endpoint))
        });
        self.excused = false;
        self.looked = now;
    }

    /// A step was carried out.
    pub(crate) fn stepped(&mut self) {
        self.stalled = false;
        self.step.clear();
    }

    /// An upstream broke: from now on the detection bound of the policy runs.
    pub(crate) fn outage_began(
        &mut self,
        rules: &Rules,
        status: &Status,
        of: Upstream,
        now: Duration,
    ) {
        let Some(service) = status.services.get(&of.0) else { return };
        let Some(shown) = service.endpoints.get(&of.1) else { return };
        let watched = service.active.as_ref() == Some(&of.1)
            && shown.unusable.is_none()
            && shown.failures == 0
            && !status.isolated;
        if watched {
            let bound = detection_bound(&rules.services[&of.0].probe).silent;
            self.unnoticed.insert(of, now + bound + IN_FLIGHT);
            self.saw("outage of the active endpoint");
        }
    }

    /// It cannot be told when the upstream must be noticed.
    pub(crate) fn outage_unclear(&mut self, of: &Upstream) {
        self.unnoticed.remove(of);
    }

    pub(crate) fn anything_may_happen(&mut self) {
        self.unnoticed.clear();
    }

    pub(crate) fn stalled(&mut self) {
        self.unnoticed.clear();
        self.stalled = true;
        self.excused = true;
    }

    pub(crate) fn restarted(&mut self) {
        self.unnoticed.clear();
        self.open.clear();
        self.down.clear();
        self.attempts.clear();
        self.step.clear();
    }

    /// What was answered before a crash was durable; what was not may be either way.
    pub(crate) fn after_restart(&mut self, status: &Status, now: Duration) {
        for order in std::mem::take(&mut self.pending).into_values() {
            match order {
                Order::Pin { service, .. } | Order::Unpin { service } => {
                    let shown = status.services.get(&service).and_then(|s| s.pinned.clone());
                    match shown {
                        Some(endpoint) => {
                            let until = status.services[&service].pinned_until;
                            let until = until.map(|at| now + at.since_start());
                            self.pins.insert(service, Pin { endpoint, until });
                        }
                        None => drop(self.pins.remove(&service)),
                    }
                }
                Order::Drain { service, endpoint } | Order::Undrain { service, endpoint } => {
                    let shown = status.services.get(&service);
                    let shown = shown.and_then(|s| s.endpoints.get(&endpoint)).map(|e| e.admin);
                    if shown == Some(AdminState::Drained) {
                        self.drained.insert((service, endpoint));
                    } else {
                        self.drained.remove(&(service, endpoint));
                    }
                }
                Order::Switch { service, .. } => drop(self.manual.insert(service)),
                Order::Pause { .. } | Order::Resume { .. } | Order::Breaker { .. } => {}
            }
        }
    }

    /// The policy is about to change: what is gone from it is forgotten.
    pub(crate) fn reloading(&mut self, old: &Rules, new: &Rules) {
        self.unnoticed.clear();
        self.excused = true;
        let find = |rules: &Rules, (service, endpoint): &Upstream| {
            let endpoints = &rules.services.get(service)?.endpoints;
            endpoints.iter().find(|one| one.name == *endpoint).map(|one| one.identity)
        };
        self.pins
            .retain(|service, pin| find(new, &(service.clone(), pin.endpoint.clone())).is_some());
        let same = |of: &Upstream| find(old, of) == find(new, of);
        // A person's order outlives a change of what it was given for.
        self.drained.retain(|of| find(new, of).is_some());
        self.usable_since.retain(|of, _| same(of));
        self.open.retain(|of, _| same(of));
        // What a former policy's window has let go of, a longer one does not bring back.
        let window = |rules: &Rules, of: &ServiceName| {
            rules.services.get(of).map(|service| service.failover.budget_window)
        };
        self.moves.retain(|of, _| window(old, of) == window(new, of));
    }

    /// I15: what did not change keeps its state; losing the active endpoint is one move.
    pub(crate) fn reloaded(
        &mut self,
        (old, before): (&Rules, &Status),
        (new, after): (&Rules, &Status),
    ) {
        for (name, service) in &new.services {
            let was = &old.services[name];
            for endpoint in &service.endpoints {
                let kept = was
                    .endpoints
                    .iter()
                    .any(|one| one.name == endpoint.name && one.identity == endpoint.identity);
                if !kept {
                    continue;
                }
                let (a, b) = (
                    &before.services[name].endpoints[&endpoint.name],
                    &after.services[name].endpoints[&endpoint.name],
                );
                assert_eq!(
                    (a.health, a.passes, a.failures, a.admin, a.throttled_until, a.leases),
                    (b.health, b.passes, b.failures, b.admin, b.throttled_until, b.leases),
                    "I15: {name}/{}",
                    endpoint.name
                );
                assert_eq!((a.breaker, a.breaker_retry_at), (b.breaker, b.breaker_retry_at), "I15");
            }
            let active = before.services[name].active.as_ref();
            let gone = active.is_some_and(|one| service.endpoints.iter().all(|e| e.name != *one));
            let moves = self.step.iter().filter(|(of, _)| of == name).count();
            let by_reload = self.step.iter().any(|one| *one == (name.clone(), MoveKind::Reload));
            assert!(!gone || (moves == 1 && by_reload), "I15: {moves} moves from what is gone");
        }
    }

    /// Everything is healed, and every order taken back, from now on.
    pub(crate) fn calmed(&mut self) {
        self.unnoticed.clear();
        assert!(self.pins.is_empty(), "every pin was taken back");
    }

    /// The longest it can take from calm to the last move of a policy.
    pub(crate) fn settling_time(rules: &Rules, unit: Unit) -> Duration {
        let longest = |service: &std::sync::Arc<ServiceRules>| {
            let (probe, breaker) = (&service.probe, &service.breaker);
            let (failover, flap) = (&service.failover, &service.failover.flap);
            let rounds = probe.rise + failover.failback.rise + breaker.half_open_passes + 2;
            let probing = (probe.down_interval_max.max(probe.standby_interval) * 2) * rounds;
            probing
                + breaker.reset_timeout_max * 2
                + failover.failback.hold
                + failover.failback.spread
                + failover.budget_window
                + flap.max_suppress
                + failover.proof_timeout
        };
        let slowest = rules.services.values().map(longest).max().unwrap_or_default();
        // Throttling and a `Retry-After` last five minutes at most, whatever the unit.
        slowest + unit.times(100) + Duration::from_secs(600)
    }

    /// I11: with nothing wrong every service is at a preferred endpoint, unless its policy or a
    /// person leaves it elsewhere.
    pub(crate) fn settled(&mut self, rules: &Rules, status: &Status) {
        for (name, service) in &rules.services {
            let shown = &status.services[name];
            let active = shown.active.as_ref().expect("I11: something is published");
            assert_eq!(shown.endpoints[active].unusable, None, "I11: {name} at {active}");
            let best = service.endpoints.iter().map(|one| one.tier).min();
            let here = service.endpoints.iter().find(|one| one.name == *active).unwrap().tier;
            let auto = service.failover.failback.mode == FailbackMode::Auto;
            let free = auto && !self.manual.contains(name);
            assert!(!free || Some(here) == best, "I11: {name} stays at {active}: {shown:?}");
        }
        self.quiet = true;
    }
}

fn witness<'a>(decision: &'a Decision, endpoint: &EndpointName) -> Option<&'a Evidence> {
    decision.evidence.iter().find(|one| one.endpoint == *endpoint)
}

fn usable(evidence: Option<&Evidence>) -> bool {
    evidence.is_some_and(|one| {
        matches!(one.health, Health::Healthy | Health::Degraded)
            && !matches!(
                one.breaker,
                BreakerState::Open | BreakerState::HalfOpen | BreakerState::ForcedOpen
            )
            && one.score >= MIN_CHOOSABLE
    })
}

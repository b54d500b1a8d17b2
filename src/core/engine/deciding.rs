//! Shows each service to `failover` and carries out the verdict.

use std::sync::Arc;
use std::time::Duration;

use crate::core::action::{Decision, Event, HoldReason, MoveKind};
use crate::core::failover::{Candidate, Loss, Next, Place, Verdict, View, decide};
use crate::core::health::Health;
use crate::core::id::{EndpointName, Revision};
use crate::core::rng::mix;
use crate::core::rules::ServiceRules;
use crate::core::schedule::detection_bound;
use crate::core::time::Instant;

use super::endpoint::Endpoint;
use super::probing::{usize_of, wobbling};
use super::service::{Left, Service};
use super::timers::Timer;
use super::{Engine, count};

/// A move about to happen.
pub(super) struct Move {
    /// Where it was, if that no longer exists.
    pub(super) from: Option<EndpointName>,
    pub(super) to: Option<u32>,
    pub(super) kind: MoveKind,
    pub(super) cause: String,
    /// Whether one failure is enough to leave the new place.
    pub(super) verify: bool,
}

/// After a move the service is looked at once more, as soon as the move is out.
const AFTERTHOUGHT: Duration = Duration::from_millis(1);

impl Engine {
    /// Decides about every service that something happened to.
    pub(super) fn settle_all(&mut self, now: Instant) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for service in dirty.drain(..) {
            self.settle(service, now);
        }
        // What a decision touches again is its own service: the next tick looks at that.
        for service in std::mem::replace(&mut self.dirty, dirty) {
            if let Some(state) = self.service_mut(service) {
                state.dirty = false;
                self.timers.set(Timer::Service(service), Some(now + AFTERTHOUGHT));
            }
        }
    }

    fn settle(&mut self, service: u32, now: Instant) {
        self.end_pin_if_due(service, now);
        let Some(state) = self.service_mut(service) else { return };
        state.dirty = false;
        if state.verify_until.is_some_and(|until| until <= now) {
            state.verify_until = None;
            self.retime_service(service, now);
        }
        let Some(state) = self.service(service) else { return };
        let candidates = self.candidates(state, now);
        let view = self.view(state, &candidates, now);
        let verdict = decide(&view, &state.rules.failover, now);
        self.carry_out(service, &verdict, &candidates, now);
    }

    fn carry_out(&mut self, service: u32, verdict: &Verdict, all: &[Candidate], now: Instant) {
        let Some(state) = self.service_mut(service) else { return };
        state.loss = verdict.loss;
        state.comeback = verdict.comeback;
        if verdict.loss.is_none() {
            state.waiting_since = None;
            state.critical_told = false;
        }
        self.tell_hold(service, verdict, now);
        self.tell_outage(service, verdict, all, now);
        if let Next::Go { to, kind } = verdict.next {
            self.go(service, to.map(count), kind, now);
            return;
        }
        self.raise_alarm(service, now);
        let Some(state) = self.service(service) else { return };
        let pin = state.pin.and_then(|pin| pin.until);
        let times = [verdict.wake, pin, state.verify_until];
        let wake = times.into_iter().flatten().min().map(|at| at.max(now + AFTERTHOUGHT));
        let proving = state.comeback.filter(|comeback| comeback.wants_proof());
        let slot = proving.map(|comeback| state.first + count(comeback.to));
        self.timers.set(Timer::Service(service), wake);
        if let Some(slot) = slot {
            self.retime(slot, now);
        }
    }

    fn tell_hold(&mut self, service: u32, verdict: &Verdict, now: Instant) {
        let held = match verdict.next {
            Next::Hold { why } => Some(why),
            Next::Stay | Next::Go { .. } => None,
        };
        let Some(state) = self.service_mut(service) else { return };
        if held == Some(HoldReason::AwaitingProof) {
            state.waiting_since = state.waiting_since.or(Some(now));
        }
        let before = std::mem::replace(&mut state.held, held);
        let Some(why) = held.filter(|why| Some(*why) != before) else { return };
        let Some(state) = self.service(service) else { return };
        let cause = self.hold_sentence(state, why, now);
        let named = state.name().clone();
        self.batch.tell(Event::Held { service: named, why, cause: cause.clone() });
        let by_hand = matches!(
            why,
            HoldReason::Pinned
                | HoldReason::Paused
                | HoldReason::Budget
                | HoldReason::SameCredential
        );
        if by_hand {
            self.tell_critical(service, cause);
        }
    }

    fn tell_outage(&mut self, service: u32, verdict: &Verdict, all: &[Candidate], now: Instant) {
        let Some(state) = self.service_mut(service) else { return };
        let before = std::mem::replace(&mut state.outage, verdict.outage);
        if before == verdict.outage {
            return;
        }
        let (named, critical) = (state.name().clone(), state.rules.critical);
        let Some(state) = self.service(service) else { return };
        if verdict.outage {
            let cause = match verdict.loss {
                Some(loss) => self.loss_sentence(state, loss, now),
                None => "nothing could be proven after the start".to_owned(),
            };
            self.batch.tell(Event::AllDown { service: named, critical });
            self.tell_critical(service, format!("{cause}; no endpoint is usable"));
            return;
        }
        let target = match verdict.next {
            Next::Go { to, .. } => to,
            Next::Stay | Next::Hold { .. } => {
                let active = state.active.map(usize_of);
                let usable = |at: &usize| all.get(*at).is_some_and(|c| c.fault.is_none());
                active.filter(usable).or_else(|| (0..all.len()).find(usable))
            }
        };
        let alive = target.and_then(|at| state.endpoint_name(count(at))).cloned();
        if let Some(endpoint) = alive {
            self.batch.tell(Event::Revived { service: named, endpoint });
        }
    }

    fn tell_critical(&mut self, service: u32, cause: String) {
        let Some(state) = self.service_mut(service) else { return };
        if !state.rules.critical || std::mem::replace(&mut state.critical_told, true) {
            return;
        }
        let (service, endpoint) = (state.name().clone(), state.active_name().cloned());
        self.batch.tell(Event::CriticalFailure { service, endpoint, cause });
    }

    fn go(&mut self, service: u32, to: Option<u32>, kind: MoveKind, now: Instant) {
        let Some(state) = self.service(service) else { return };
        let target = self.target_sentence(state, to, now);
        let cause = match (kind, to, state.loss) {
            (MoveKind::Failback, Some(to), _) => self.return_sentence(state, to, now),
            _ if state.pin.is_some_and(|pin| Some(pin.index) == to) => "pinned".to_owned(),
            (_, _, Some(loss)) => {
                let lost = self.loss_sentence(state, loss, now);
                format!("{lost}; {target}")
            }
            _ => target,
        };
        self.relocate(
            service,
            Move { from: None, to, kind, cause, verify: kind != MoveKind::Start },
            now,
        );
    }

    /// Moves a service; the only writer of `active`, but for reloads that renumber it.
    pub(super) fn relocate(&mut self, service: u32, order: Move, now: Instant) {
        let Some(state) = self.service(service) else { return };
        let evidence = self.evidence(state, now);
        let from = order.from.or_else(|| state.active_name().cloned());
        let (left, loss) = (state.active, state.loss);
        let revision = self.next_revision();
        let Some(state) = self.service_mut(service) else { return };
        let rules = Arc::clone(&state.rules);
        state.active = order.to;
        state.active_since = order.to.is_some().then_some(now);
        state.published = true;
        state.left = Some(Left { revision, kind: order.kind, endpoint: from.clone() });
        if matches!(order.kind, MoveKind::Failover | MoveKind::Failback | MoveKind::Rollback) {
            state.spend(now);
        }
        if order.kind != MoveKind::Switchover {
            state.manual = false;
        }
        state.verify_until = order.verify.then_some(now + rules.failover.verify);
        state.waiting_since = None;
        state.alarm_since = None;
        state.held = None;
        state.loss = None;
        state.comeback = None;
        let to = state.active_name().cloned();
        let first = state.first;
        if loss == Some(Loss::VerifyFailed)
            && let Some(slot) = left.map(|index| first + index)
        {
            self.strike(slot, &rules, now);
        }
        let (kind, cause) = (order.kind, order.cause);
        let service_name = rules.name.clone();
        self.batch.record(Decision {
            revision,
            service: service_name,
            from,
            to,
            kind,
            cause,
            evidence,
        });
        self.retime_service(service, now);
        self.timers.set(Timer::Service(service), Some(now + AFTERTHOUGHT));
    }

    fn strike(&mut self, slot: u32, rules: &ServiceRules, now: Instant) {
        let Some(endpoint) = self.slot_mut(slot) else { return };
        if !std::mem::replace(&mut endpoint.struck, true) {
            endpoint.flap.strike(&rules.failover.flap, now);
        }
    }

    /// The revision of this step's publication; all that is published in one step shares it.
    pub(super) fn next_revision(&mut self) -> Revision {
        if !self.batch.publishes() {
            self.revision = self.revision.next();
            self.batch.publish();
        }
        self.revision
    }

    /// While the active endpoint wobbles or is lost, and a move could follow, the others are
    /// watched fast, so that one is proven by the time it is needed.
    fn raise_alarm(&mut self, service: u32, now: Instant) {
        let Some(state) = self.service(service) else { return };
        let active = state.active.and_then(|index| self.slot(state.first + index));
        let trouble = state.loss.is_some()
            || active.is_some_and(|active| {
                active.shallow.health.base() != Health::Unknown && wobbling(&state.rules, active)
            });
        let stuck = matches!(
            state.held,
            Some(
                HoldReason::Pinned
                    | HoldReason::Paused
                    | HoldReason::Budget
                    | HoldReason::SameCredential
            )
        );
        let ordered = state.pin.is_some() || state.paused;
        let alarm = state.published && trouble && !stuck && !ordered && !state.outage;
        if alarm == state.alarm_since.is_some() {
            return;
        }
        let Some(state) = self.service_mut(service) else { return };
        state.alarm_since = alarm.then_some(now);
        let (slots, active) = (state.slots(), state.active);
        for slot in slots {
            if let Some(endpoint) = self.slot_mut(slot)
                && alarm
                && active != Some(endpoint.index)
            {
                endpoint.shallow.hot = endpoint.shallow.hot.max(1);
            }
            self.retime(slot, now);
        }
    }

    pub(super) fn candidates(&self, service: &Service, now: Instant) -> Vec<Candidate> {
        let endpoints = service.slots().filter_map(|slot| self.slot(slot));
        endpoints.map(|endpoint| self.candidate(service, endpoint, now)).collect()
    }

    fn candidate(&self, service: &Service, endpoint: &Endpoint, now: Instant) -> Candidate {
        let rules = &service.rules.failover;
        let hold = rules.failback.hold.saturating_add(self.spread(service));
        Candidate {
            tier: endpoint.rules.tier,
            drained: endpoint.drained,
            fault: endpoint.fault,
            degraded: endpoint.health() == Health::Degraded,
            proven: endpoint.proven(&self.proof(service), now),
            failures: endpoint.failures(),
            passes: endpoint.shallow.health.passes(),
            score: endpoint.probe_score(&service.rules, now),
            held_at: endpoint.run.map(|run| run.reaches(hold)),
            suppressed_until: endpoint.flap.clears_at(&rules.flap, now),
            barred_until: endpoint.bar.until.filter(|until| *until > now),
            credential: endpoint.rules.credential,
            account: endpoint.rules.account,
        }
    }

    /// This sidecar's share of the spread, so that a fleet does not return in step.
    fn spread(&self, service: &Service) -> Duration {
        let name = service.name().as_str().bytes();
        let hashed = name.fold(self.rules.instance, |hash, byte| mix(hash ^ u64::from(byte)));
        let share = u32::try_from(mix(hashed) % 1000).unwrap_or(0);
        service.rules.failover.failback.spread.saturating_mul(share) / 1000
    }

    pub(super) fn view<'a>(
        &self,
        service: &Service,
        candidates: &'a [Candidate],
        now: Instant,
    ) -> View<'a> {
        let rules = &service.rules;
        let patience = rules.failover.proof_timeout.max(detection_bound(&rules.probe).silent);
        let place = match (service.published, service.active) {
            (false, _) => Place::Starting { since: service.started_at, patience },
            (true, None) => Place::Nowhere,
            (true, Some(at)) => Place::At(usize_of(at)),
        };
        let blind = if self.stall.is_some() {
            Some(HoldReason::Stalled)
        } else {
            self.isolation.isolated().then_some(HoldReason::Isolated)
        };
        View {
            place,
            pinned: service.pin.map(|pin| usize_of(pin.index)),
            paused: service.paused,
            blind,
            manual: service.manual,
            verifying: service.verify_until.is_some(),
            outage: service.outage,
            waiting_since: service.waiting_since,
            budget: service.budget(now),
            candidates,
        }
    }
}

//! Starts probes, takes their results, and lets time pass.

use std::sync::Arc;
use std::time::Duration;

use crate::core::action::{Event, ProbeKind, ProbeOrder};
use crate::core::breaker::{BreakerState, PermitId, Transition};
use crate::core::failover::Fault;
use crate::core::health::Health;
use crate::core::id::{AttemptId, EndpointName, ServiceName};
use crate::core::outcome::{Observation, Outcome, Verdict};
use crate::core::rules::{Cadence, ServiceRules};
use crate::core::time::Instant;

use super::Engine;
use super::endpoint::{Endpoint, Run, Seen, call};
use super::service::Service;
use super::timers::Timer;
use super::watch::{Attempt, Hurry};

/// Where an attempt that is out belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Out {
    pub(super) slot: u32,
    pub(super) kind: ProbeKind,
}

/// An attempt whose result is awaited.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outstanding {
    /// Which one.
    pub attempt: AttemptId,
    /// The service.
    pub service: ServiceName,
    /// The endpoint.
    pub endpoint: EndpointName,
    /// Which check.
    pub kind: ProbeKind,
    /// How long it has been out.
    pub age: Duration,
}

impl Engine {
    /// The attempts whose results are awaited, in the order they were started.
    #[must_use]
    pub fn outstanding(&self, now: Instant) -> Vec<Outstanding> {
        self.attempts.iter().filter_map(|(id, out)| self.describe(*id, *out, now)).collect()
    }

    fn describe(&self, attempt: AttemptId, out: Out, now: Instant) -> Option<Outstanding> {
        let endpoint = self.slot(out.slot)?;
        let flight = &endpoint.watch(out.kind)?.flight;
        let started = flight.iter().find(|one| one.id == attempt)?.started;
        Some(Outstanding {
            attempt,
            service: self.service(endpoint.service)?.name().clone(),
            endpoint: endpoint.name().clone(),
            kind: out.kind,
            age: now.since(started),
        })
    }

    /// Carries out everything whose time has come.
    pub(super) fn run_due(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Shallow(slot) => self.watch_due(slot, ProbeKind::Shallow, now),
                Timer::Deep(slot) => self.watch_due(slot, ProbeKind::Deep, now),
                Timer::Machines(slot) => self.advance(slot, now),
                Timer::Service(service) => self.touch(service),
                Timer::Lease(lease) => self.lease_expired(lease),
                Timer::Stall => self.stall_over(),
            }
        }
    }

    fn watch_due(&mut self, slot: u32, kind: ProbeKind, now: Instant) {
        let Some(rules) = self.rules_of(slot) else { return };
        let Some(cadence) = cadence(&rules, kind) else { return };
        while let Some(lost) = self.lost(slot, kind, cadence, now) {
            self.attempts.remove(&lost);
            let silent = Observation::new(Outcome::Local, cadence.timeout)
                .with_detail("the attempt never came back");
            self.conclude(Out { slot, kind }, lost, &silent, now);
        }
        self.retime(slot, now);
    }

    fn lost(
        &self,
        slot: u32,
        kind: ProbeKind,
        cadence: &Cadence,
        now: Instant,
    ) -> Option<AttemptId> {
        let watch = self.slot(slot)?.watch(kind)?;
        watch.lost_at(cadence).filter(|at| *at <= now)?;
        watch.flight.first().map(|attempt| attempt.id)
    }

    fn due(&self, slot: u32, kind: ProbeKind, cadence: &Cadence) -> Option<Instant> {
        let endpoint = self.slot(slot)?;
        let watch = endpoint.watch(kind)?;
        let service = self.service(endpoint.service)?;
        let hurry = match kind {
            ProbeKind::Shallow => hurry(service, endpoint),
            ProbeKind::Deep => Hurry::None,
        };
        watch.due(cadence, hurry, service.is_active(endpoint.index))
    }

    /// Whether an attempt that is due may start. If it is a confirmation and too many are wanted at
    /// once, it is put off, up to when it would have started without any hurry.
    fn admit(&mut self, slot: u32, kind: ProbeKind, cadence: &Cadence, now: Instant) -> bool {
        let Some(endpoint) = self.slot(slot) else { return false };
        let Some(watch) = endpoint.watch(kind) else { return false };
        let active = self.service(endpoint.service).is_some_and(|s| s.is_active(endpoint.index));
        let planned = watch.unhurried(cadence, active);
        if planned <= now || watch.put_off.is_some() {
            return true;
        }
        let at = self.allowance.admit(now, planned).unwrap_or(planned);
        if at <= now {
            return true;
        }
        if let Some(watch) = self.slot_mut(slot).and_then(|one| one.watch_mut(kind)) {
            watch.put_off = Some(at);
        }
        false
    }

    fn launch(&mut self, slot: u32, kind: ProbeKind, rules: &ServiceRules, now: Instant) {
        let Some(cadence) = cadence(rules, kind) else { return };
        let id = self.next_attempt;
        let dice = self.dice(cadence);
        let Some(endpoint) = self.slot_mut(slot) else { return };
        let permit = endpoint.breaker.try_acquire(&rules.breaker, now);
        let name = endpoint.name().clone();
        let Some(watch) = endpoint.watch_mut(kind) else { return };
        let gap = watch.last_start.map_or(cadence.fast_interval, |last| now.since(last));
        watch.flight.push(Attempt { id, started: now, permit });
        watch.last_start = Some(now);
        watch.put_off = None;
        watch.dice = dice;
        self.next_attempt = id.next();
        self.attempts.insert(id, Out { slot, kind });
        self.batch.probe(ProbeOrder {
            attempt: id,
            service: rules.name.clone(),
            endpoint: name,
            kind,
            timeout: cadence.timeout,
            not_before: self.not_before(slot, gap.min(cadence.interval), now),
        });
    }

    /// From when on somebody else's attempt is news to this endpoint: within the latter half of the
    /// gap since its own last one, and not before its service began to look for somewhere to go.
    fn not_before(&self, slot: u32, gap: Duration, now: Instant) -> Instant {
        let service = self.slot(slot).and_then(|endpoint| self.service(endpoint.service));
        let alarm = service.and_then(|service| service.alarm_since).unwrap_or_default();
        now.back(gap / 2).max(self.share_after).max(alarm)
    }

    /// Without jitter nothing is drawn, so that equal states stay equal.
    fn dice(&mut self, cadence: &Cadence) -> u32 {
        if cadence.jitter_permille == 0 {
            return 1000;
        }
        u32::try_from(self.rng.below(2001)).unwrap_or(1000)
    }

    /// Sets the alarms of one endpoint to what it now needs.
    pub(super) fn retime(&mut self, slot: u32, now: Instant) {
        let Some(rules) = self.rules_of(slot) else { return };
        // A timer must lie ahead, or a tick would make no progress.
        let soonest = now + Duration::from_micros(1);
        for (kind, timer) in
            [(ProbeKind::Shallow, Timer::Shallow(slot)), (ProbeKind::Deep, Timer::Deep(slot))]
        {
            let Some(cadence) = cadence(&rules, kind) else { continue };
            let ready = self.due(slot, kind, cadence).is_some_and(|due| due <= now);
            if ready && self.admit(slot, kind, cadence, now) {
                self.launch(slot, kind, &rules, now);
            }
            let due = self.due(slot, kind, cadence);
            let lost = self.slot(slot).and_then(|e| e.watch(kind)).and_then(|w| w.lost_at(cadence));
            let at = due.into_iter().chain(lost).min();
            self.timers.set(timer, at.map(|at| at.max(soonest)));
        }
        let at = self.slot(slot).and_then(Endpoint::machines_at);
        self.timers.set(Timer::Machines(slot), at.map(|at| at.max(soonest)));
    }

    pub(super) fn retime_service(&mut self, service: u32, now: Instant) {
        for slot in self.service(service).map_or(0..0, Service::slots) {
            self.retime(slot, now);
        }
    }

    pub(super) fn probed(&mut self, attempt: AttemptId, observation: &Observation, now: Instant) {
        // Unknown means given up: lost, outdated by a later pass, or of an endpoint that is gone.
        let Some(out) = self.attempts.remove(&attempt) else { return };
        self.conclude(out, attempt, observation, now);
        self.retime(out.slot, now);
    }

    /// Somebody else's attempt stands in for a probe: it counts as if it had been made here, with
    /// its own beginning.
    pub(super) fn shared(
        &mut self,
        attempt: AttemptId,
        began: Instant,
        observation: &Observation,
        now: Instant,
    ) {
        let Some(out) = self.attempts.get(&attempt).copied() else { return };
        let began = began.min(now);
        if let Some(watch) = self.slot_mut(out.slot).and_then(|one| one.watch_mut(out.kind)) {
            watch.backdate(attempt, began);
        }
        self.probed(attempt, observation, now);
        if let Some(watch) = self.slot_mut(out.slot).and_then(|one| one.watch_mut(out.kind)) {
            watch.health.date_pass(began);
        }
    }

    fn conclude(
        &mut self,
        Out { slot, kind }: Out,
        attempt: AttemptId,
        observation: &Observation,
        now: Instant,
    ) {
        let Some(rules) = self.rules_of(slot) else { return };
        let Some(cadence) = cadence(&rules, kind) else { return };
        self.suspect(slot, observation, now);
        let Some(endpoint) = self.slot_mut(slot) else { return };
        let Some(watch) = endpoint.watch_mut(kind) else { return };
        let Some(landed) = watch.land(attempt) else { return };
        watch.count(cadence, &landed, observation.outcome, now);
        if observation.outcome.verdict() == Verdict::Pass {
            let stale = watch.outdate(landed.started);
            self.give_up(slot, &stale);
        }
        self.see(slot, observation, now);
        self.feed_breaker(slot, landed.permit, observation, now);
        self.answered(slot);
        self.reassess(slot, now);
    }

    fn give_up(&mut self, slot: u32, attempts: &[Attempt]) {
        for attempt in attempts {
            self.attempts.remove(&attempt.id);
            if let (Some(permit), Some(endpoint)) = (attempt.permit, self.slot_mut(slot)) {
                endpoint.breaker.release(permit);
            }
        }
    }

    fn see(&mut self, slot: u32, observation: &Observation, now: Instant) {
        let Some(rules) = self.rules_of(slot) else { return };
        let Some(endpoint) = self.slot_mut(slot) else { return };
        endpoint.weigh_probe(&rules, observation, now);
        endpoint.seen = Some(Seen {
            outcome: observation.outcome,
            at: now,
            latency: observation.latency,
            detail: observation.detail.clone(),
        });
    }

    /// A call seen from outside: it moves breaker and score, and makes the probes look at once; the
    /// verdict on health stays with the probes.
    pub(super) fn reported(
        &mut self,
        slot: u32,
        permit: Option<PermitId>,
        observation: &Observation,
        now: Instant,
    ) {
        let Some(rules) = self.rules_of(slot) else { return };
        let verdict = observation.outcome.verdict();
        if verdict == Verdict::Pass {
            let turn = self.isolation.pass(now);
            self.turn(turn, now);
        }
        let Some(endpoint) = self.slot_mut(slot) else { return };
        endpoint.weigh_report(&rules, observation, now);
        let watch = &mut endpoint.shallow;
        watch.hot = match verdict {
            Verdict::Pass => watch.hot,
            Verdict::Fail => watch.hot.max(rules.probe.fall),
            Verdict::Neutral => watch.hot.max(1),
        };
        self.feed_breaker(slot, permit, observation, now);
        self.reassess(slot, now);
        self.retime(slot, now);
    }

    pub(super) fn feed_breaker(
        &mut self,
        slot: u32,
        permit: Option<PermitId>,
        observation: &Observation,
        now: Instant,
    ) {
        let Some(rules) = self.rules_of(slot) else { return };
        let Some(endpoint) = usize::try_from(slot).ok().and_then(|at| self.slots.get_mut(at))
        else {
            return;
        };
        let call = call(observation);
        let breaker = &mut endpoint.breaker;
        let transition = match permit {
            Some(permit) => breaker.settle(&rules.breaker, (permit, call), now, &mut self.rng),
            None => breaker.record(&rules.breaker, call, now, &mut self.rng),
        };
        self.breaker_turned(slot, transition, now);
    }

    pub(super) fn breaker_turned(&mut self, slot: u32, turned: Option<Transition>, now: Instant) {
        let (Some(turned), Some(rules)) = (turned, self.rules_of(slot)) else { return };
        let Some(endpoint) = self.slot_mut(slot) else { return };
        if turned.to == BreakerState::Open {
            endpoint.tripped_at = Some(now);
        }
        let endpoint = endpoint.name().clone();
        let Transition { from, to, reason } = turned;
        self.batch.persist();
        let service = rules.name.clone();
        self.batch.tell(Event::BreakerChange { service, endpoint, from, to, reason });
    }

    /// Lets breaker and throttling of one endpoint move with time.
    fn advance(&mut self, slot: u32, now: Instant) {
        let Some(rules) = self.rules_of(slot) else { return };
        let Some(endpoint) = usize::try_from(slot).ok().and_then(|at| self.slots.get_mut(at))
        else {
            return;
        };
        let turned = endpoint.breaker.advance(&rules.breaker, now, &mut self.rng);
        for watch in std::iter::once(&mut endpoint.shallow).chain(endpoint.deep.as_deref_mut()) {
            // The change shows when the endpoint is looked at as a whole.
            let _change = watch.health.advance(now);
        }
        endpoint.vouched_until = endpoint.vouched_until.filter(|until| *until > now);
        self.breaker_turned(slot, turned, now);
        self.reassess(slot, now);
        self.retime(slot, now);
    }

    /// Looks at an endpoint as a whole: tells what changed, and asks for a decision if it matters.
    pub(super) fn reassess(&mut self, slot: u32, now: Instant) {
        let Some(rules) = self.rules_of(slot) else { return };
        self.tell_health(slot, &rules, now);
        let Some(endpoint) = self.slot_mut(slot) else { return };
        let fault = endpoint.diagnose(&rules, now);
        let before = std::mem::replace(&mut endpoint.fault, fault);
        endpoint.run = match fault {
            None => endpoint.run.or(Some(Run { since: now, before: Duration::ZERO })),
            Some(_) => None,
        };
        // What a person orders is no flap.
        let forced = endpoint.breaker.state() == BreakerState::ForcedOpen;
        let down = matches!(fault, Some(Fault::Unhealthy | Fault::BreakerOpen)) && !forced;
        let service = endpoint.service;
        if down && !endpoint.struck {
            endpoint.struck = true;
            endpoint.flap.strike(&rules.failover.flap, now);
            self.batch.persist();
        } else if fault.is_none() && endpoint.failures() == 0 {
            endpoint.struck = false;
        }
        let wobbling = self.slot(slot).is_some_and(|e| wobbling(&rules, e));
        let matters = before != fault
            || self.service(service).is_some_and(|s| s.restless() || (wobbling && s.published));
        if matters {
            self.touch(service);
        }
    }

    fn tell_health(&mut self, slot: u32, rules: &ServiceRules, now: Instant) {
        let Some(endpoint) = self.slot_mut(slot) else { return };
        let (health, wrong) = (endpoint.health(), endpoint.misconfigured());
        let from = std::mem::replace(&mut endpoint.told_health, health);
        let newly_wrong = wrong && !endpoint.told_misconfigured;
        endpoint.told_misconfigured = wrong;
        if from == health && !newly_wrong {
            return;
        }
        let (service, name) = (rules.name.clone(), endpoint.name().clone());
        let throttled = endpoint.throttled_until().map(|until| until.since(now));
        let cause = super::evidence::latest(endpoint);
        if newly_wrong {
            let (service, endpoint, cause) = (service.clone(), name.clone(), cause.clone());
            self.batch.tell(Event::ProbeMisconfigured { service, endpoint, cause });
        }
        if from == health {
            return;
        }
        let (named, endpoint) = (service.clone(), name.clone());
        self.batch.tell(Event::StatusChange { service: named, endpoint, from, to: health, cause });
        match (health, throttled) {
            (Health::AuthFailed, _) => {
                self.batch.tell(Event::AuthFailed { service, endpoint: name });
            }
            (Health::Throttled, Some(retry_after)) => {
                self.batch.persist();
                self.batch.tell(Event::Throttled { service, endpoint: name, retry_after });
            }
            _ => {}
        }
    }

    pub(super) fn rules_of(&self, slot: u32) -> Option<Arc<ServiceRules>> {
        self.service(self.slot(slot)?.service).map(|service| Arc::clone(&service.rules))
    }
}

fn hurry(service: &Service, endpoint: &Endpoint) -> Hurry {
    if endpoint.breaker.state() == BreakerState::HalfOpen {
        return Hurry::Trial;
    }
    let active = service.is_active(endpoint.index);
    let wanted = match service.comeback {
        Some(comeback) => comeback.wants_proof() && comeback.to == usize_of(endpoint.index),
        None => false,
    };
    let looking = service.alarm_since.is_some() && !active;
    let verifying = service.verify_until.is_some() && active;
    if wanted || looking || verifying { Hurry::Alarm } else { Hurry::None }
}

pub(super) fn usize_of(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// Whether a flip of this endpoint is being confirmed.
pub(super) fn wobbling(rules: &ServiceRules, endpoint: &Endpoint) -> bool {
    endpoint
        .watches()
        .any(|watch| cadence(rules, watch.kind).is_some_and(|cadence| watch.wobbling(cadence)))
}

pub(super) const fn cadence(rules: &ServiceRules, kind: ProbeKind) -> Option<&Cadence> {
    match kind {
        ProbeKind::Shallow => Some(&rules.probe),
        ProbeKind::Deep => rules.deep_probe.as_ref(),
    }
}

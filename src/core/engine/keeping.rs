//! Keeps what must survive a restart, and takes it up again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::core::backoff::Backoff;
use crate::core::breaker::Breaker;
use crate::core::flap::Flap;
use crate::core::health::{Health, HealthSnapshot, HealthTracker};
use crate::core::ordered::Gather as _;
use crate::core::rules::ServiceRules;
use crate::core::snapshot::{
    EndpointSnapshot, PinSnapshot, Restored, ServiceSnapshot, Snapshot, VERSION,
};
use crate::core::time::Instant;

use super::effect::{BAR_DOUBLINGS, Bar};
use super::endpoint::{Endpoint, Run};
use super::service::{Pin, Service};
use super::watch::Watch;
use super::{Engine, count};

impl Engine {
    /// What to keep over a restart: names and relative times only. What failed while we are cut off
    /// is left out: a restart does not make it true.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let services = self.services.iter();
        let mut kept = Snapshot {
            version: VERSION,
            revision: self.revision,
            paused_all: self.paused_all,
            services: services
                .map(|service| (service.name().clone(), self.service_snapshot(service, now)))
                .gather_map(),
        };
        if let Some(since) = self.isolation.tainted_since() {
            self.leave_out_tainted(&mut kept, since, now);
        }
        kept
    }

    fn leave_out_tainted(&self, kept: &mut Snapshot, since: Instant, now: Instant) {
        for endpoint in &self.slots {
            let Some(service) = self.service(endpoint.service) else { continue };
            let kept = kept.services.get_mut(service.name());
            let Some(kept) = kept.and_then(|kept| kept.endpoints.get_mut(endpoint.name())) else {
                continue;
            };
            if endpoint.tainted(since, &service.rules) {
                let unknown = || HealthTracker::new().snapshot(now);
                kept.shallow = unknown();
                kept.deep = kept.deep.as_ref().map(|_| unknown());
                kept.proof_age = None;
            }
            if endpoint.tripped_since(since) {
                kept.breaker = Breaker::new(&service.rules.breaker).snapshot(now);
            }
        }
    }

    fn service_snapshot(&self, service: &Service, now: Instant) -> ServiceSnapshot {
        let window = service.rules.failover.budget_window;
        let endpoints = service.slots().filter_map(|slot| self.slot(slot));
        ServiceSnapshot {
            published: service.published,
            active: service.active_name().cloned(),
            active_for: service.active_since.map(|since| now.since(since)),
            pin: service.pin.and_then(|pin| {
                let endpoint = service.endpoint_name(pin.index)?.clone();
                Some(PinSnapshot { endpoint, left: pin.until.map(|until| until.since(now)) })
            }),
            paused: service.paused,
            manual: service.manual,
            outage: service.outage,
            moves: service
                .moves
                .iter()
                .map(|at| now.since(*at))
                .filter(|age| *age < window)
                .collect(),
            endpoints: endpoints
                .map(|one| (one.name().clone(), endpoint_snapshot(one, &service.rules, now)))
                .gather_map(),
        }
    }

    /// Takes up what was kept, as far as the rules in force still know it.
    pub(super) fn take_up(&mut self, restored: &Restored, now: Instant) {
        let kept = &restored.snapshot;
        self.revision = self.revision.max(kept.revision);
        self.paused_all = kept.paused_all;
        let paused = kept.paused_all;
        let mut published = false;
        let mut orphans = Vec::new();
        for service in 0..count(self.services.len()) {
            let Some(state) = self.service_mut(service) else { continue };
            let Some(kept) = kept.services.get(state.name().as_str()) else {
                state.paused = paused;
                continue;
            };
            take_up_service(state, kept, restored.elapsed, now);
            published |= state.published;
            let known =
                |name: &&crate::core::id::EndpointName| state.index_of(name.as_str()).is_none();
            if let Some(gone) = kept.active.as_ref().filter(known) {
                orphans.push((service, gone.clone()));
            }
            self.take_up_endpoints(service, kept, restored.elapsed, now);
        }
        if published {
            self.next_revision();
        }
        for (service, gone) in orphans {
            self.move_off_removed(service, gone, now);
        }
        self.touch_all();
    }

    fn take_up_endpoints(
        &mut self,
        service: u32,
        kept: &ServiceSnapshot,
        elapsed: Duration,
        now: Instant,
    ) {
        let Some(state) = self.service(service) else { return };
        let rules = std::sync::Arc::clone(&state.rules);
        for slot in state.slots() {
            let Some(endpoint) = self.slot_mut(slot) else { continue };
            let Some(kept) = kept.endpoints.get(endpoint.name().as_str()) else { continue };
            endpoint.drained = kept.drained;
            if kept.identity == endpoint.rules.identity {
                take_up_endpoint(endpoint, kept, &rules, (elapsed, now));
            }
            self.reassess(slot, now);
            if let Some(run) = self.slot_mut(slot).and_then(|endpoint| endpoint.run.as_mut()) {
                run.before = kept.usable_for.unwrap_or_default();
            }
            self.retime(slot, now);
        }
    }

    /// Everything that decides what the engine will do in one number, relative to `now` and free of
    /// what only ever rises: two engines with equal fingerprints and equal rules behave alike from
    /// here on, as far as no jitter is drawn. For model checking.
    #[must_use]
    pub fn fingerprint(&self, now: Instant) -> u64 {
        let mut hash = DefaultHasher::new();
        let age = |at: Option<Instant>| at.map(|at| now.since(at));
        let left = |at: Option<Instant>| at.map(|at| at.since(now));
        for service in &self.services {
            past_limits_forgotten(self.service_snapshot(service, now), &service.rules)
                .hash(&mut hash);
            let patience = service.rules.failover.proof_timeout;
            let waited = age(service.waiting_since).map(|age| age.min(patience));
            (waited, service.alarm_since.is_some(), service.held).hash(&mut hash);
            let comeback = service.comeback.map(|comeback| comeback.waits_for);
            (service.critical_told, service.loss, comeback).hash(&mut hash);
            let starting = age((!service.published).then_some(service.started_at));
            (starting, left(service.verify_until)).hash(&mut hash);
            service.left.as_ref().map(|left| (&left.endpoint, left.kind)).hash(&mut hash);
        }
        for endpoint in &self.slots {
            self.mark(endpoint, now, &mut hash);
        }
        for (at, who) in self.timers.iter() {
            (at.since(now), who).hash(&mut hash);
        }
        self.isolation.relative(&self.rules.isolation, now).hash(&mut hash);
        let stall = self.stall.as_ref().map(|stall| (stall.until.since(now), &stall.waiting));
        stall.hash(&mut hash);
        if !self.allowance.ample() {
            self.allowance.backlog(now).hash(&mut hash);
        }
        hash.finish()
    }

    fn mark(&self, endpoint: &Endpoint, now: Instant, hash: &mut DefaultHasher) {
        let Some(service) = self.service(endpoint.service) else { return };
        let age = |at: Option<Instant>| at.map(|at| now.since(at));
        let (patience, passed) =
            (service.rules.failover.freshness, endpoint.shallow.health.last_pass_at());
        let fresh = age(passed).filter(|age| *age <= patience);
        let since = |moment: Instant| passed.is_some_and(|at| at >= moment);
        (fresh, since(self.fresh_after), service.alarm_since.is_some_and(since)).hash(hash);
        let vouched = endpoint.vouched_until.map(|until| until.since(now));
        (endpoint.struck, endpoint.fault, vouched).hash(hash);
        endpoint.probed.window.counts(now).hash(hash);
        for watch in endpoint.watches() {
            for attempt in &watch.flight {
                (now.since(attempt.started), attempt.permit.is_some()).hash(hash);
            }
            (watch.hot, watch.neutrals, watch.down_gap, age(watch.last_start)).hash(hash);
            watch.put_off.map(|at| at.since(now)).hash(hash);
            let suspicion = self.rules.isolation.window + service.rules.probe.timeout;
            age(watch.failing_since).map(|age| age.min(suspicion)).hash(hash);
        }
    }
}

/// The same without counts and ages past the limit up to which anything looks at them.
fn past_limits_forgotten(mut kept: ServiceSnapshot, rules: &ServiceRules) -> ServiceSnapshot {
    let (probe, failback) = (&rules.probe, &rules.failover.failback);
    let row = probe.rise.max(probe.fall).max(failback.rise);
    let hold = failback.hold.saturating_add(failback.spread);
    let open = Backoff::doubling(rules.breaker.reset_timeout, rules.breaker.reset_timeout_max);
    let longest = open.period(u32::MAX);
    let growing = (0..32).find(|trip| open.period(*trip) == longest).unwrap_or(u32::MAX);
    kept.active_for = None;
    for endpoint in kept.endpoints.values_mut() {
        endpoint.rolled_back = endpoint.rolled_back.min(BAR_DOUBLINGS);
        endpoint.usable_for = endpoint.usable_for.map(|span| span.min(hold));
        endpoint.proof_age = None;
        endpoint.breaker.trips = endpoint.breaker.trips.min(growing);
        for health in std::iter::once(&mut endpoint.shallow).chain(&mut endpoint.deep) {
            health.usable_for = None;
            for count in
                [&mut health.passes, &mut health.failures, &mut health.warned, &mut health.clean]
            {
                *count = (*count).min(row);
            }
        }
    }
    kept
}

fn endpoint_snapshot(endpoint: &Endpoint, rules: &ServiceRules, now: Instant) -> EndpointSnapshot {
    EndpointSnapshot {
        identity: endpoint.rules.identity,
        drained: endpoint.drained,
        breaker: endpoint.breaker.snapshot(now),
        flap: endpoint.flap.snapshot(&rules.failover.flap, now),
        shallow: endpoint.shallow.health.snapshot(now),
        deep: endpoint.deep.as_ref().map(|deep| deep.health.snapshot(now)),
        usable_for: endpoint.run.map(|run: Run| run.lasted(now)),
        proof_age: endpoint.shallow.health.last_pass_at().map(|at| now.since(at)),
        rolled_back: endpoint.bar.count,
        barred_for: endpoint.bar.until.filter(|until| *until > now).map(|until| until.since(now)),
    }
}

fn take_up_service(state: &mut Service, kept: &ServiceSnapshot, elapsed: Duration, now: Instant) {
    let index = |name: Option<&crate::core::id::EndpointName>| {
        name.and_then(|name| state.index_of(name.as_str()))
    };
    let active = index(kept.active.as_ref());
    let pin = kept.pin.as_ref().and_then(|pin| {
        let index = index(Some(&pin.endpoint))?;
        let left = pin.left.map(|left| left.checked_sub(elapsed));
        match left {
            None => Some(Pin { index, until: None }),
            Some(left) => left.map(|left| Pin { index, until: Some(now + left) }),
        }
    });
    state.published = kept.published;
    state.active = active;
    let lasted = kept.active_for.unwrap_or_default().saturating_add(elapsed);
    state.active_since = active.map(|_| now.back(lasted));
    state.pin = pin;
    state.paused = kept.paused;
    state.manual = kept.manual && active.is_some();
    state.outage = kept.outage;
    let ages = kept.moves.iter().map(|age| age.saturating_add(elapsed));
    let window = state.rules.failover.budget_window;
    // A moment before our own start cannot be named; it then counts as now, on the safe side.
    state.moves = ages.filter(|age| *age < window).map(|age| now.back(age)).collect();
}

fn take_up_endpoint(
    endpoint: &mut Endpoint,
    kept: &EndpointSnapshot,
    rules: &ServiceRules,
    (elapsed, now): (Duration, Instant),
) {
    let freshness = rules.failover.freshness;
    let fresh = elapsed < freshness;
    endpoint.breaker = Breaker::restore(&rules.breaker, &kept.breaker, elapsed, now);
    let left = kept.barred_for.and_then(|left| left.checked_sub(elapsed));
    endpoint.bar = Bar { count: kept.rolled_back, until: left.map(|left| now + left) };
    endpoint.flap = Flap::restore(&rules.failover.flap, &kept.flap, elapsed, now);
    restore_health(&mut endpoint.shallow, &kept.shallow, fresh, (elapsed, now));
    if let (Some(deep), Some(kept)) = (endpoint.deep.as_mut(), kept.deep.as_ref()) {
        restore_health(deep, kept, fresh, (elapsed, now));
    }
    endpoint.told_health = endpoint.health();
    let age = kept.proof_age.map(|age| age.saturating_add(elapsed));
    endpoint.vouched_until = age.and_then(|age| freshness.checked_sub(age)).map(|left| now + left);
    endpoint.struck = endpoint.watches().any(Watch::unhealthy) || !endpoint.breaker.admits();
}

/// Health that is not fresh is not believed when it is bad: nobody may be left on old news. Good
/// health is believed, but proves nothing.
fn restore_health(
    watch: &mut Watch,
    kept: &HealthSnapshot,
    fresh: bool,
    (elapsed, now): (Duration, Instant),
) {
    let mut kept = kept.clone();
    if !fresh {
        kept.failures = 0;
        kept.auth_failed = false;
        kept.wrong_role = false;
        if kept.base == Health::Unhealthy {
            kept.base = Health::Unknown;
            kept.passes = 0;
        }
    }
    watch.health = HealthTracker::restore(&kept, elapsed, now);
}

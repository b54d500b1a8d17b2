//! Takes up rules: the first ones, and later ones without losing what is still true.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::action::{Event, MoveKind, ProbeKind};
use crate::core::allowance::Allowance;
use crate::core::failover::{Place, View, refuge};
use crate::core::id::{EndpointName, ServiceName};
use crate::core::ordered::Gather as _;
use crate::core::rules::{EndpointRules, Rules, ServiceRules};
use crate::core::schedule::splay;
use crate::core::time::Instant;

use super::deciding::Move;
use super::effect::Bar;
use super::endpoint::Endpoint;
use super::service::Service;
use super::timers::Timer;
use super::watch::Watch;
use super::{Engine, count};

/// What stays of the former rules, taken apart by name.
#[derive(Default)]
struct Former {
    services: BTreeMap<ServiceName, Service>,
    endpoints: BTreeMap<(ServiceName, EndpointName), (u32, Endpoint)>,
}

/// What a reload changed, for the record.
#[derive(Default)]
struct Changes {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<String>,
}

/// What the new rules make of a service that was there before.
struct Carried {
    service: u32,
    /// Where it was, if that endpoint is gone.
    lost: Option<EndpointName>,
    /// Whether its pin pointed to an endpoint that is gone.
    unpinned: bool,
}

impl Engine {
    /// Takes up the first rules.
    pub(super) fn install(&mut self, rules: Arc<Rules>, now: Instant) {
        self.rebuild(rules, Former::default(), now);
    }

    pub(super) fn replace_rules(&mut self, rules: Arc<Rules>, now: Instant) {
        let former = self.take_apart();
        let ever_published = former.services.values().any(|service| service.published);
        let (carried, changes) = self.rebuild(rules, former, now);
        let Changes { added, removed, changed } = changes;
        self.batch.tell(Event::RulesReplaced { added, removed, changed });
        self.batch.persist();
        if ever_published {
            // Values behind the names may have changed even where no choice has.
            self.next_revision();
        }
        for one in carried {
            if one.unpinned {
                self.end_pin(one.service, "the pinned endpoint was removed from the policy");
            }
            if let Some(from) = one.lost {
                self.move_off_removed(one.service, from, now);
            }
        }
        // Whoever edits the policy may have mended what kept a move from taking effect.
        for endpoint in &mut self.slots {
            endpoint.bar = Bar::default();
        }
        self.touch_all();
    }

    /// The one move that the removal of the active endpoint causes.
    pub(super) fn move_off_removed(&mut self, service: u32, from: EndpointName, now: Instant) {
        let Some(state) = self.service(service) else { return };
        let candidates = self.candidates(state, now);
        let view = View { place: Place::Nowhere, ..self.view(state, &candidates, now) };
        let to = refuge(&view).map(count);
        let target = self.target_sentence(state, to, now);
        let cause = format!("the active endpoint was removed from the policy; {target}");
        let order = Move { from: Some(from), to, kind: MoveKind::Reload, cause, verify: true };
        self.relocate(service, order, now);
    }

    fn take_apart(&mut self) -> Former {
        let services: Vec<Service> = std::mem::take(&mut self.services);
        let mut former = Former::default();
        for (slot, endpoint) in (0_u32..).zip(std::mem::take(&mut self.slots)) {
            let service = usize::try_from(endpoint.service).ok().and_then(|at| services.get(at));
            if let Some(service) = service {
                let key = (service.name().clone(), endpoint.name().clone());
                former.endpoints.insert(key, (slot, endpoint));
            }
        }
        former.services = services.into_iter().map(|one| (one.name().clone(), one)).gather_map();
        former
    }

    fn rebuild(
        &mut self,
        rules: Arc<Rules>,
        mut former: Former,
        now: Instant,
    ) -> (Vec<Carried>, Changes) {
        let mut slots_before: BTreeMap<u32, u32> = BTreeMap::new();
        let mut services_before: BTreeMap<u32, u32> = BTreeMap::new();
        let (mut carried, mut changes) = (Vec::new(), Changes::default());
        self.timers.clear();
        self.by_name.clear();
        self.dirty.clear();
        let n = rules.services.values().map(|service| count(service.endpoints.len())).sum();
        for (name, service) in &rules.services {
            let number = count(self.services.len());
            let first = count(self.slots.len());
            for endpoint in &service.endpoints {
                let slot = count(self.slots.len());
                let spread = splay(service.probe.interval, n).saturating_mul(slot);
                let before = former.endpoints.remove(&(name.clone(), endpoint.name.clone()));
                if let Some((old, kept)) = &before {
                    services_before.insert(kept.service, number);
                    if kept.rules.identity == endpoint.identity {
                        slots_before.insert(*old, slot);
                    }
                }
                let mut placed = place(service, endpoint, before, (now + spread, &mut changes));
                (placed.service, placed.index) = (number, slot - first);
                self.slots.push(placed);
            }
            let before = former.services.remove(name);
            if let Some(before) = &before {
                carried.push(carry(number, before, service));
            }
            let mut state = adopt(before, service, now, self.paused_all);
            (state.first, state.count) = (first, count(self.slots.len()) - first);
            self.by_name.insert(name.clone(), number);
            self.services.push(state);
        }
        let gone = former.endpoints.into_keys();
        changes.removed = gone.map(|(service, endpoint)| format!("{service}/{endpoint}")).collect();
        self.allowance = Allowance::of(&rules).after(&self.allowance);
        self.rules = rules;
        self.renumber(&slots_before, &services_before, now);
        (carried, changes)
    }

    /// Points everything that names a slot to where that endpoint is now.
    fn renumber(
        &mut self,
        slots: &BTreeMap<u32, u32>,
        services: &BTreeMap<u32, u32>,
        now: Instant,
    ) {
        self.attempts.retain(|_, out| renamed(slots, &mut out.slot));
        let mut attempts = std::mem::take(&mut self.attempts);
        // A check that the new rules no longer have takes its attempts with it.
        attempts.retain(|_, out| self.slot(out.slot).and_then(|e| e.watch(out.kind)).is_some());
        self.attempts = attempts;
        let leases = &mut self.leases.out;
        leases.retain(|_, lease| renamed(slots, &mut lease.slot));
        for (id, lease) in leases.iter() {
            self.timers.set(Timer::Lease(*id), Some(lease.expires.max(now)));
        }
        self.isolation.renumber(|service| services.get(&service).copied());
        if let Some(stall) = &mut self.stall {
            stall.waiting =
                stall.waiting.iter().filter_map(|slot| slots.get(slot).copied()).gather_set();
            if stall.waiting.is_empty() {
                self.stall = None;
            }
        }
        self.timers.set(Timer::Stall, self.stall.as_ref().map(|stall| stall.until));
        for slot in 0..count(self.slots.len()) {
            self.refresh(slot, now);
        }
        self.touch_all();
    }

    /// Lets a kept endpoint take up the rules in force.
    fn refresh(&mut self, slot: u32, now: Instant) {
        let Some(rules) = self.rules_of(slot) else { return };
        let Some(endpoint) = self.slot_mut(slot) else { return };
        let turned = endpoint.breaker.rules_replaced(&rules.breaker);
        endpoint.reshape(&rules.breaker);
        self.breaker_turned(slot, turned, now);
        self.reassess(slot, now);
        self.retime(slot, now);
    }
}

fn renamed(slots: &BTreeMap<u32, u32>, slot: &mut u32) -> bool {
    match slots.get(slot) {
        Some(now) => {
            *slot = *now;
            true
        }
        None => false,
    }
}

/// The endpoint under the new rules: as it was when it is the same, else anew but still drained.
fn place(
    service: &ServiceRules,
    endpoint: &EndpointRules,
    before: Option<(u32, Endpoint)>,
    (first, changes): (Instant, &mut Changes),
) -> Endpoint {
    let name = || format!("{}/{}", service.name, endpoint.name);
    match before {
        Some((_, mut kept)) if kept.rules.identity == endpoint.identity => {
            kept.rules = endpoint.clone();
            kept.deep = match (&service.deep_probe, kept.deep.take()) {
                (None, _) => None,
                (Some(_), Some(deep)) => Some(deep),
                (Some(cadence), None) => {
                    Some(Box::new(Watch::new(ProbeKind::Deep, cadence, first)))
                }
            };
            kept
        }
        Some((_, old)) => {
            changes.changed.push(name());
            let told_health = old.told_health;
            let drained = old.drained;
            Endpoint { drained, told_health, ..Endpoint::new(service, endpoint, first) }
        }
        None => {
            changes.added.push(name());
            Endpoint::new(service, endpoint, first)
        }
    }
}

fn carry(number: u32, before: &Service, rules: &ServiceRules) -> Carried {
    let gone = |name: &&EndpointName| !rules.endpoints.iter().any(|one| one.name == **name);
    let pinned = before.pin.and_then(|pin| before.endpoint_name(pin.index));
    Carried {
        service: number,
        lost: before.active_name().filter(gone).cloned(),
        unpinned: pinned.as_ref().is_some_and(gone),
    }
}

fn adopt(
    before: Option<Service>,
    rules: &Arc<ServiceRules>,
    now: Instant,
    paused: bool,
) -> Service {
    let Some(before) = before else {
        return Service { paused, ..Service::new(Arc::clone(rules), now) };
    };
    let index = |name: Option<&EndpointName>| {
        let name = name?;
        rules.endpoints.iter().position(|one| one.name == *name).map(count)
    };
    let active = index(before.active_name());
    let pin = before.pin.and_then(|pin| {
        let index = index(before.endpoint_name(pin.index))?;
        Some(super::service::Pin { index, ..pin })
    });
    Service {
        rules: Arc::clone(rules),
        active,
        pin,
        manual: before.manual && active.is_some(),
        comeback: None,
        dirty: false,
        ..before
    }
}

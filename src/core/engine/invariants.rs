//! Checks what must hold after every step; see the list in `engine`.

use std::collections::BTreeMap;

use super::endpoint::Endpoint;
use super::probing::cadence;
use super::service::Service;
use super::timers::Timer;
use super::watch::{Hurry, Watch};
use super::{Engine, count};

impl Engine {
    /// Checks every invariant of the list above.
    ///
    /// # Panics
    /// In debug builds, when one is broken.
    pub fn check_invariants(&self) {
        for (number, service) in (0_u32..).zip(&self.services) {
            self.check_service(number, service);
        }
        self.check_attempts();
        self.check_leases();
        for (at, timer) in self.timers.iter() {
            debug_assert!(at > self.now, "invariant 4: {timer:?} at {at:?}, now {:?}", self.now);
        }
    }

    fn check_service(&self, number: u32, service: &Service) {
        debug_assert_eq!(
            service.count,
            count(service.rules.endpoints.len()),
            "invariant 1: every endpoint has its slot"
        );
        for (index, slot) in (0_u32..).zip(service.slots()) {
            self.check_slot(slot, (number, index));
        }
        let exists = |index: Option<u32>| index.is_none_or(|index| index < service.count);
        debug_assert!(exists(service.active), "invariant 2: the active endpoint exists");
        let pin = service.pin.map(|pin| pin.index);
        debug_assert!(exists(pin), "invariant 2: the pinned endpoint exists");
        let obeyed = !service.published || pin.is_none() || pin == service.active;
        debug_assert!(obeyed, "invariant 5: a pin is obeyed");
    }

    fn check_slot(&self, slot: u32, place: (u32, u32)) {
        let Some(endpoint) = self.slot(slot) else {
            debug_assert!(false, "invariant 1: slot {slot} exists");
            return;
        };
        let found = (endpoint.service, endpoint.index);
        debug_assert_eq!(found, place, "invariant 1: slot {slot} is where it belongs");
        for watch in endpoint.watches() {
            self.check_put_off(endpoint, watch);
        }
        let runs = endpoint.run.is_some();
        debug_assert_eq!(endpoint.fault.is_none(), runs, "invariant 7: slot {slot}");
    }

    fn check_put_off(&self, endpoint: &Endpoint, watch: &Watch) {
        let Some(service) = self.service(endpoint.service) else { return };
        let Some(cadence) = cadence(&service.rules, watch.kind) else { return };
        let active = service.is_active(endpoint.index);
        let free = Watch { put_off: None, ..watch.clone() };
        for hurry in [Hurry::None, Hurry::Alarm, Hurry::Trial] {
            let wanted = free.due(cadence, hurry, active).unwrap_or_default();
            let latest = wanted.max(watch.unhurried(cadence, active));
            let due = watch.due(cadence, hurry, active).unwrap_or_default();
            debug_assert!(due <= latest, "invariant 8: {due:?} is after {latest:?}");
        }
    }

    fn check_attempts(&self) {
        let mut flying = 0;
        for (slot, endpoint) in (0_u32..).zip(&self.slots) {
            for watch in endpoint.watches() {
                flying += watch.flight.len();
                for attempt in &watch.flight {
                    let out = self.attempts.get(&attempt.id).map(|out| (out.slot, out.kind));
                    debug_assert_eq!(out, Some((slot, watch.kind)), "invariant 3: attempt known");
                }
            }
        }
        debug_assert_eq!(flying, self.attempts.len(), "invariant 3: no attempt without a watch");
    }

    fn check_leases(&self) {
        let mut counted: BTreeMap<u32, u32> = BTreeMap::new();
        for (id, lease) in &self.leases.out {
            *counted.entry(lease.slot).or_default() += 1;
            debug_assert!(self.timers.of(Timer::Lease(*id)).is_some(), "invariant 6: it expires");
        }
        for (slot, endpoint) in (0_u32..).zip(&self.slots) {
            let out = counted.get(&slot).copied().unwrap_or(0);
            debug_assert_eq!(endpoint.leases, out, "invariant 6: leases are counted");
        }
    }
}

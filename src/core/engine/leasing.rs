//! Hands out endpoints one call at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::action::{Action, LeaseRefusal};
use crate::core::breaker::{BreakerState, PermitId};
use crate::core::failover::Fault;
use crate::core::id::{EndpointName, LeaseId, ServiceName, Ticket};
use crate::core::outcome::Observation;
use crate::core::rules::Strategy;
use crate::core::select::Candidate;
use crate::core::status::Offer;
use crate::core::time::Instant;

use super::endpoint::Endpoint;
use super::probing::usize_of;
use super::service::Service;
use super::timers::Timer;
use super::{Engine, count};

/// Leases out at a time: enough for any server, small enough that a leaking one harms nobody else.
pub(super) const LEASES_MAX: usize = 100_000;

/// Longest life of a lease without renewal.
const TTL_MAX: Duration = Duration::from_secs(3600);

/// One lease.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) slot: u32,
    pub(super) ttl: Duration,
    pub(super) expires: Instant,
    /// Its trial of a half-open breaker.
    pub(super) permit: Option<PermitId>,
}

/// All leases.
#[derive(Clone, Debug)]
pub(super) struct Leases {
    pub(super) out: BTreeMap<LeaseId, Lease>,
    next: LeaseId,
}

impl Leases {
    pub(super) const fn starting_at(next: LeaseId) -> Self {
        Self { out: BTreeMap::new(), next }
    }
}

impl Engine {
    pub(super) fn lease_requested(
        &mut self,
        ticket: Ticket,
        service: &ServiceName,
        ttl: Duration,
        now: Instant,
    ) {
        let result = self.grant(service, ttl, now);
        self.batch.answer(Action::Granted { ticket, result });
    }

    fn grant(
        &mut self,
        service: &ServiceName,
        ttl: Duration,
        now: Instant,
    ) -> Result<(LeaseId, EndpointName), LeaseRefusal> {
        let known = self.by_name.get(service.as_str()).copied();
        let service = known.ok_or(LeaseRefusal::UnknownService)?;
        if self.leases.out.len() >= LEASES_MAX {
            return Err(LeaseRefusal::Busy);
        }
        let (slot, permit) = self.choose(service, now).ok_or(LeaseRefusal::NoEndpoint)?;
        let endpoint = self.slot_mut(slot).ok_or(LeaseRefusal::NoEndpoint)?;
        endpoint.leases += 1;
        let name = endpoint.name().clone();
        let (id, ttl) = (self.leases.next, ttl.clamp(Duration::from_millis(1), TTL_MAX));
        self.leases.next = id.next();
        let expires = now + ttl;
        self.leases.out.insert(id, Lease { slot, ttl, expires, permit });
        self.timers.set(Timer::Lease(id), Some(expires));
        self.retime(slot, now);
        Ok((id, name))
    }

    /// The endpoint for one call: by strategy among the usable peers of the tier in use.
    fn choose(&mut self, service: u32, now: Instant) -> Option<(u32, Option<PermitId>)> {
        let state = self.service(service)?;
        let rules = std::sync::Arc::clone(&state.rules);
        let (first, strategy) = (state.first, rules.strategy);
        let candidates = self.peers(state, now);
        let mut rng = self.rng.clone();
        let order = self.service_mut(service)?.selector.order(strategy, &candidates, &mut rng);
        self.rng = rng;
        order.into_iter().find_map(|index| {
            let slot = first + count(index);
            let endpoint = self.slot_mut(slot)?;
            if endpoint.breaker.admits() {
                return Some((slot, None));
            }
            let permit = endpoint.breaker.try_acquire(&rules.breaker, now)?;
            Some((slot, Some(permit)))
        })
    }

    fn peers(&self, service: &Service, now: Instant) -> Vec<Candidate> {
        let fixed = match (service.pin, service.rules.strategy) {
            (Some(pin), _) => Some(Some(pin.index)),
            (None, Strategy::Priority) => Some(service.active),
            (None, _) => None,
        };
        let slots = || service.slots().filter_map(|slot| self.slot(slot));
        let offered = |endpoint: &&Endpoint| match fixed {
            Some(only) => {
                only == Some(endpoint.index) && (service.pin.is_some() || serves(endpoint))
            }
            None => serves(endpoint) && !endpoint.drained,
        };
        let active = service.active.and_then(|index| self.slot(service.first + index));
        // Calls stay in the tier that is published: going back to a better one is a failback.
        let in_use = active.filter(|active| offered(active)).map(|active| active.rules.tier);
        let tier = in_use.or_else(|| slots().filter(offered).map(|e| e.rules.tier).min());
        slots()
            .filter(offered)
            .filter(|endpoint| Some(endpoint.rules.tier) == tier)
            .map(|endpoint| Candidate {
                index: usize_of(endpoint.index),
                weight: endpoint.rules.weight,
                score: endpoint.score(&service.rules, now),
                leases: endpoint.leases,
            })
            .collect()
    }

    /// Which endpoints may take calls to a service now; `None` for an unknown service.
    ///
    /// A breaker in trial is no candidate: its few calls are handed out as leases only.
    #[must_use]
    pub fn offer(&self, service: &ServiceName, now: Instant) -> Option<Offer> {
        let service = self.service(self.by_name.get(service.as_str()).copied()?)?;
        let named = |candidate: Candidate| {
            let endpoint = self.slot(service.first + count(candidate.index))?;
            endpoint.breaker.admits().then(|| (endpoint.name().clone(), candidate))
        };
        let candidates: Vec<_> = self.peers(service, now).into_iter().filter_map(named).collect();
        let mut others: Vec<&Endpoint> = service
            .slots()
            .filter_map(|slot| self.slot(slot))
            .filter(|one| service.pin.is_none() && !one.drained && serves(one))
            .filter(|one| one.breaker.admits())
            .filter(|one| candidates.iter().all(|(name, _)| name != one.name()))
            .collect();
        others.sort_by_key(|one| one.rules.tier);
        Some(Offer {
            active: service.active_name().cloned(),
            strategy: service.rules.strategy,
            state: self.state(service),
            candidates,
            fallbacks: others.into_iter().map(|one| one.name().clone()).collect(),
        })
    }

    pub(super) fn lease_renewed(&mut self, lease: LeaseId, now: Instant) {
        if let Some(known) = self.leases.out.get_mut(&lease) {
            known.expires = now + known.ttl;
            self.timers.set(Timer::Lease(lease), Some(known.expires));
        }
    }

    pub(super) fn lease_released(
        &mut self,
        lease: LeaseId,
        observation: Option<&Observation>,
        now: Instant,
    ) {
        let Some(ended) = self.end_lease(lease) else { return };
        match (observation, ended.permit) {
            (Some(observation), permit) => self.reported(ended.slot, permit, observation, now),
            (None, Some(permit)) => {
                if let Some(endpoint) = self.slot_mut(ended.slot) {
                    endpoint.breaker.release(permit);
                }
                self.retime(ended.slot, now);
            }
            (None, None) => {}
        }
    }

    /// Nobody said how the call went; a trial that does not come back is the breaker's to judge.
    pub(super) fn lease_expired(&mut self, lease: LeaseId) {
        self.end_lease(lease);
    }

    fn end_lease(&mut self, lease: LeaseId) -> Option<Lease> {
        let ended = self.leases.out.remove(&lease)?;
        self.timers.set(Timer::Lease(lease), None);
        if let Some(endpoint) = self.slot_mut(ended.slot) {
            endpoint.leases = endpoint.leases.saturating_sub(1);
        }
        Some(ended)
    }
}

/// Whether calls may be sent there: usable, being tried, or not yet known to be otherwise.
fn serves(endpoint: &Endpoint) -> bool {
    let bearable = match endpoint.fault {
        None | Some(Fault::BreakerTrial | Fault::LowScore) => true,
        Some(Fault::Unknown) => endpoint.failures() == 0,
        Some(
            Fault::BreakerOpen
            | Fault::Unhealthy
            | Fault::AuthFailed
            | Fault::WrongRole
            | Fault::Throttled,
        ) => false,
    };
    bearable && !matches!(endpoint.breaker.state(), BreakerState::Open | BreakerState::ForcedOpen)
}

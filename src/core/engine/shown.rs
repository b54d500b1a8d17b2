//! Shows the state to people, read-only.

use crate::core::breaker::BreakerState;
use crate::core::ordered::Gather as _;
use crate::core::status::{AdminState, EndpointStatus, ServiceState, ServiceStatus, Status};
use crate::core::time::Instant;

use super::Engine;
use super::endpoint::Endpoint;
use super::evidence::unusable;
use super::service::Service;
use super::timers::Timer;

impl Engine {
    /// Everything at one moment.
    #[must_use]
    pub fn status(&self, now: Instant) -> Status {
        let services = self.services.iter();
        Status {
            revision: self.revision,
            isolated: self.isolation.isolated(),
            confirmation_wait: self.allowance.wait(now),
            services: services
                .map(|service| (service.name().clone(), self.service_status(service, now)))
                .gather_map(),
            outputs: self.outputs.clone(),
        }
    }

    fn service_status(&self, service: &Service, now: Instant) -> ServiceStatus {
        let active = service.active.and_then(|index| self.slot(service.first + index));
        let endpoints = service.slots().filter_map(|slot| Some((slot, self.slot(slot)?)));
        ServiceStatus {
            active: service.active_name().cloned(),
            active_since: service.active_since,
            critical: service.rules.critical,
            strategy: service.rules.strategy,
            state: self.state(service),
            held: service.held,
            breaker: active.map_or(BreakerState::Closed, |active| active.breaker.state()),
            pinned: service.pin.and_then(|pin| service.endpoint_name(pin.index)).cloned(),
            pinned_until: service.pin.and_then(|pin| pin.until),
            paused: service.paused,
            budget_left: service.budget(now).left,
            failback_at: service.comeback.and_then(|comeback| comeback.at).map(|at| at.max(now)),
            endpoints: endpoints
                .map(|(slot, one)| {
                    (one.name().clone(), self.endpoint_status(service, slot, one, now))
                })
                .gather_map(),
        }
    }

    pub(super) fn state(&self, service: &Service) -> ServiceState {
        let slots = || service.slots().filter_map(|slot| self.slot(slot));
        let best = slots().map(|endpoint| endpoint.rules.tier).min();
        let active = service.active.and_then(|index| self.slot(service.first + index));
        if !service.published {
            ServiceState::Starting
        } else if service.outage {
            ServiceState::AllDown
        } else if service.loss.is_some() {
            ServiceState::Holding
        } else if active.map(|active| active.rules.tier) == best {
            ServiceState::Healthy
        } else {
            ServiceState::FailedOver
        }
    }

    fn endpoint_status(
        &self,
        service: &Service,
        slot: u32,
        endpoint: &Endpoint,
        now: Instant,
    ) -> EndpointStatus {
        let rules = &service.rules;
        let seen = endpoint.seen.as_ref();
        let flap = &rules.failover.flap;
        EndpointStatus {
            health: endpoint.health(),
            admin: if endpoint.drained { AdminState::Drained } else { AdminState::Enabled },
            unusable: unusable(endpoint, rules, now),
            score: endpoint.score(rules, now),
            breaker: endpoint.breaker.state(),
            breaker_retry_at: endpoint.breaker.retry_at(),
            tier: endpoint.rules.tier,
            last_outcome: seen.map(|seen| seen.outcome),
            last_detail: seen.and_then(|seen| seen.detail.clone()),
            last_probe_at: seen.map(|seen| seen.at),
            latency: seen.map(|seen| seen.latency),
            passes: endpoint.shallow.health.passes(),
            failures: endpoint.failures(),
            throttled_until: endpoint.throttled_until(),
            flap_penalty: endpoint.flap.penalty(flap, now),
            suppressed: endpoint.flap.suppressed(flap, now),
            leases: endpoint.leases,
            next_probe_at: self.timers.of(Timer::Shallow(slot)),
        }
    }
}

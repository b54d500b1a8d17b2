//! Gauges of what the engine shows of itself.

use super::ledger::{self, set};
use super::{
    ENDPOINT_ACTIVE, ENDPOINT_BREAKER, ENDPOINT_DRAINED, ENDPOINT_HEALTH, ENDPOINT_LATENCY,
    ENDPOINT_LEASES, ENDPOINT_SCORE, ENDPOINT_SUPPRESSED, ISOLATED, Metric, REVISION,
    SERVICE_BUDGET, SERVICE_HELD, SERVICE_PAUSED, SERVICE_PINNED, SERVICE_STATE, flag, float,
};
use crate::core::action::HoldReason;
use crate::core::breaker::BreakerState;
use crate::core::health::Health;
use crate::core::id::{EndpointName, ServiceName};
use crate::core::status::{AdminState, EndpointStatus, ServiceState, ServiceStatus, Status};

/// Sets every gauge that `status` knows of, and forgets the services and endpoints it no longer
/// names. Best called just before a scrape: between scrapes nobody looks.
pub fn status(status: &Status) {
    set(&REVISION, &[], float(status.revision.get()));
    set(&ISOLATED, &[], flag(status.isolated));
    for (name, service) in &status.services {
        service_gauges(name.as_str(), service);
        for (endpoint, seen) in &service.endpoints {
            let active = service.active.as_ref() == Some(endpoint);
            endpoint_gauges(&[name.as_str(), endpoint.as_str()], seen, active);
        }
    }
    ledger::forget(|labels| {
        let Some(name) = labels.get("service") else { return false };
        let Some(service) = status.services.get(name) else { return true };
        labels.get("endpoint").is_some_and(|name| !service.endpoints.contains_key(name))
    });
}

/// Drops every series of one endpoint: it is gone by the second scrape from now.
pub fn forget(service: &ServiceName, endpoint: &EndpointName) {
    ledger::forget(|labels| {
        labels.get("service") == Some(service.as_str())
            && labels.get("endpoint") == Some(endpoint.as_str())
    });
}

/// Drops every series of one output that left the policy.
pub fn forget_output(name: &str) {
    ledger::forget(|labels| labels.get("output") == Some(name));
}

fn service_gauges(name: &str, service: &ServiceStatus) {
    one_of(&SERVICE_STATE, &[name], &ServiceState::LABELS, service.state.label());
    let held = service.held.map_or("", HoldReason::label);
    one_of(&SERVICE_HELD, &[name], &HoldReason::LABELS, held);
    set(&SERVICE_PINNED, &[name], flag(service.pinned.is_some()));
    set(&SERVICE_PAUSED, &[name], flag(service.paused));
    set(&SERVICE_BUDGET, &[name], f64::from(service.budget_left));
}

fn endpoint_gauges(names: &[&str], seen: &EndpointStatus, active: bool) {
    one_of(&ENDPOINT_HEALTH, names, &Health::LABELS, seen.health.label());
    one_of(&ENDPOINT_BREAKER, names, &BreakerState::LABELS, seen.breaker.label());
    set(&ENDPOINT_SCORE, names, f64::from(seen.score) / 1000.0);
    set(&ENDPOINT_ACTIVE, names, flag(active));
    set(&ENDPOINT_DRAINED, names, flag(seen.admin == AdminState::Drained));
    set(&ENDPOINT_SUPPRESSED, names, flag(seen.suppressed));
    set(&ENDPOINT_LEASES, names, f64::from(seen.leases));
    if let Some(latency) = seen.latency {
        set(&ENDPOINT_LATENCY, names, latency.as_secs_f64());
    }
}

fn one_of(metric: &'static Metric, names: &[&str], labels: &[&str], present: &str) {
    for label in labels {
        let values: Vec<&str> = names.iter().copied().chain([*label]).collect();
        set(metric, &values, flag(*label == present));
    }
}

//! Gauges of what the engine shows of itself, drawn when somebody scrapes.
//!
//! They are a view of a [`Status`], twenty lines an endpoint: nothing of them is kept.

use super::ledger::{self, Page};
use super::{
    CONFIRMATION_WAIT, ENDPOINT_ACTIVE, ENDPOINT_BREAKER, ENDPOINT_DRAINED, ENDPOINT_HEALTH,
    ENDPOINT_LATENCY, ENDPOINT_LEASES, ENDPOINT_SCORE, ENDPOINT_SUPPRESSED, ISOLATED, Metric,
    REVISION, SERVICE_BUDGET, SERVICE_HELD, SERVICE_PAUSED, SERVICE_PINNED, SERVICE_STATE, flag,
    float,
};
use crate::core::action::HoldReason;
use crate::core::breaker::BreakerState;
use crate::core::health::Health;
use crate::core::status::{AdminState, EndpointStatus, ServiceState, ServiceStatus, Status};

/// How a metric is read off a status.
enum Drawn {
    Whole(fn(&Status) -> f64),
    Service(fn(&ServiceStatus) -> f64),
    /// One series a word: 1 for the present one, 0 for the others.
    ServiceWord(&'static [&'static str], fn(&ServiceStatus) -> &'static str),
    Active,
    Endpoint(fn(&EndpointStatus) -> Option<f64>),
    EndpointWord(&'static [&'static str], fn(&EndpointStatus) -> &'static str),
}

static DRAWN: [(&Metric, Drawn); 16] = [
    (&REVISION, Drawn::Whole(|seen| float(seen.revision.get()))),
    (&ISOLATED, Drawn::Whole(|seen| flag(seen.isolated))),
    (&CONFIRMATION_WAIT, Drawn::Whole(|seen| seen.confirmation_wait.as_secs_f64())),
    (&SERVICE_STATE, Drawn::ServiceWord(&ServiceState::LABELS, |seen| seen.state.label())),
    (&SERVICE_HELD, Drawn::ServiceWord(&HoldReason::LABELS, held)),
    (&SERVICE_PINNED, Drawn::Service(|seen| flag(seen.pinned.is_some()))),
    (&SERVICE_PAUSED, Drawn::Service(|seen| flag(seen.paused))),
    (&SERVICE_BUDGET, Drawn::Service(|seen| f64::from(seen.budget_left))),
    (&ENDPOINT_HEALTH, Drawn::EndpointWord(&Health::LABELS, |seen| seen.health.label())),
    (&ENDPOINT_BREAKER, Drawn::EndpointWord(&BreakerState::LABELS, |seen| seen.breaker.label())),
    (&ENDPOINT_SCORE, Drawn::Endpoint(|seen| Some(f64::from(seen.score) / 1000.0))),
    (&ENDPOINT_ACTIVE, Drawn::Active),
    (&ENDPOINT_DRAINED, Drawn::Endpoint(|seen| Some(flag(seen.admin == AdminState::Drained)))),
    (&ENDPOINT_SUPPRESSED, Drawn::Endpoint(|seen| Some(flag(seen.suppressed)))),
    (&ENDPOINT_LEASES, Drawn::Endpoint(|seen| Some(f64::from(seen.leases)))),
    (&ENDPOINT_LATENCY, Drawn::Endpoint(|seen| seen.latency.map(|span| span.as_secs_f64()))),
];

fn held(seen: &ServiceStatus) -> &'static str {
    seen.held.map_or("", HoldReason::label)
}

/// Writes one metric, if it is read off a status; whether it is.
pub(super) fn write(metric: &'static Metric, status: &Status, page: &mut Page<'_>) -> bool {
    let Some((_, drawn)) = DRAWN.iter().find(|(known, _)| known.name == metric.name) else {
        return false;
    };
    if let Drawn::Whole(value) = drawn {
        page.sample(metric, &[], value(status));
    }
    for (name, service) in &status.services {
        let name = name.as_str();
        match drawn {
            Drawn::Whole(_) => {}
            Drawn::Service(value) => page.sample(metric, &[name], value(service)),
            Drawn::ServiceWord(words, present) => {
                let present = present(service);
                for word in *words {
                    page.sample(metric, &[name, word], flag(*word == present));
                }
            }
            Drawn::Active | Drawn::Endpoint(_) | Drawn::EndpointWord(..) => {
                endpoints((metric, drawn), name, service, page);
            }
        }
    }
    true
}

fn endpoints(
    (metric, drawn): (&Metric, &Drawn),
    service: &str,
    seen: &ServiceStatus,
    page: &mut Page<'_>,
) {
    for (name, endpoint) in &seen.endpoints {
        let names = [service, name.as_str()];
        match drawn {
            Drawn::Active => page.sample(metric, &names, flag(seen.active.as_ref() == Some(name))),
            Drawn::Endpoint(value) => {
                if let Some(value) = value(endpoint) {
                    page.sample(metric, &names, value);
                }
            }
            Drawn::EndpointWord(words, present) => {
                let present = present(endpoint);
                for word in *words {
                    page.sample(metric, &[names[0], names[1], word], flag(*word == present));
                }
            }
            Drawn::Whole(_) | Drawn::Service(_) | Drawn::ServiceWord(..) => {}
        }
    }
}

/// Drops what was counted for services and endpoints that `known` no longer knows; a service is
/// asked for without an endpoint.
pub fn keep(known: impl Fn(&str, Option<&str>) -> bool) {
    ledger::forget(|labels| {
        labels.get("service").is_some_and(|service| !known(service, labels.get("endpoint")))
    });
}

/// Drops every series of one output that left the policy.
pub fn forget_output(name: &str) {
    ledger::forget(|labels| labels.get("output") == Some(name));
}

//! Puts what is known into evidence and into words a person understands.

use std::fmt::Write as _;
use std::time::Duration;

use crate::core::action::{Evidence, HoldReason};
use crate::core::explain::span;
use crate::core::failover::{Fault, Loss};
use crate::core::rules::ServiceRules;
use crate::core::time::Instant;

use super::Engine;
use super::endpoint::{Endpoint, Proof};
use super::service::Service;

/// The latest result in words.
pub(super) fn latest(endpoint: &Endpoint) -> String {
    let Some(seen) = &endpoint.seen else { return "nothing seen yet".to_owned() };
    match &seen.detail {
        Some(detail) => format!("{}: {detail}", seen.outcome),
        None => seen.outcome.label().to_owned(),
    }
}

/// Why an endpoint is not usable, in words.
pub(super) fn fault(
    endpoint: &Endpoint,
    fault: Fault,
    rules: &ServiceRules,
    now: Instant,
) -> String {
    match fault {
        Fault::BreakerOpen => {
            let until = endpoint.breaker.retry_at().map(|at| span(at.since(now)));
            match until {
                Some(left) => format!("breaker open for {left} more, last {}", last(endpoint)),
                None => "breaker forced open".to_owned(),
            }
        }
        Fault::Unhealthy => {
            let worst = endpoint.watches().filter(|watch| watch.unhealthy());
            match worst.map(|watch| watch.health.failures()).max().unwrap_or(0) {
                0 => format!("unhealthy, last {}", last(endpoint)),
                1 => format!("1 failure, last {}", last(endpoint)),
                n => format!("{n} failures in a row, last {}", last(endpoint)),
            }
        }
        Fault::AuthFailed => "it refuses our credential".to_owned(),
        Fault::WrongRole => "it serves in another role".to_owned(),
        Fault::Throttled => {
            let left = endpoint.throttled_until().map_or(Duration::ZERO, |until| until.since(now));
            format!("throttled for {} more", span(left))
        }
        Fault::BreakerTrial => "breaker half-open, being tried".to_owned(),
        Fault::Unknown => "never proven".to_owned(),
        Fault::LowScore => {
            format!(
                "score {:.2} is below 0.30",
                f64::from(endpoint.probe_score(rules, now)) / 1000.0
            )
        }
    }
}

/// Why an endpoint would not be chosen now, in words; `None` when it would.
pub(super) fn unusable(endpoint: &Endpoint, rules: &ServiceRules, now: Instant) -> Option<String> {
    let why = endpoint.fault.map(|why| fault(endpoint, why, rules, now));
    match (endpoint.drained, why) {
        (true, None) => Some("drained".to_owned()),
        (true, Some(why)) => Some(format!("drained; {why}")),
        (false, why) => why,
    }
}

fn last(endpoint: &Endpoint) -> &'static str {
    endpoint.seen.as_ref().map_or("nothing", |seen| seen.outcome.label())
}

fn proof(endpoint: &Endpoint, now: Instant) -> String {
    match endpoint.shallow.health.last_pass_at() {
        Some(at) => format!("proven {} ago", span(now.since(at))),
        None if endpoint.vouched_until.is_some() => "proven before the restart".to_owned(),
        None => "not proven".to_owned(),
    }
}

impl Engine {
    /// What is known of every endpoint of a service.
    pub(super) fn evidence(&self, service: &Service, now: Instant) -> Vec<Evidence> {
        let proof = self.proof(service);
        let endpoints = service.slots().filter_map(|slot| self.slot(slot));
        let witness = |endpoint: &Endpoint| Evidence {
            endpoint: endpoint.name().clone(),
            health: endpoint.health(),
            breaker: endpoint.breaker.state(),
            score: endpoint.probe_score(&service.rules, now),
            proven: endpoint.fault.is_none() && endpoint.proven(&proof, now),
            last_outcome: endpoint.seen.as_ref().map(|seen| seen.outcome),
            age: endpoint.seen.as_ref().map(|seen| now.since(seen.at)),
            detail: endpoint.seen.as_ref().and_then(|seen| seen.detail.clone()),
            attempts: endpoint.watches().flat_map(|watch| watch.row.iter().copied()).collect(),
        };
        endpoints.map(witness).collect()
    }

    pub(super) fn proof(&self, service: &Service) -> Proof {
        Proof {
            freshness: service.rules.failover.freshness,
            // While starting, whatever was seen since is the best there is.
            wobble: service.alarm_since.or((!service.published).then_some(service.started_at)),
            not_before: self.fresh_after,
        }
    }

    /// Why the active endpoint must be left, in words.
    pub(super) fn loss_sentence(&self, service: &Service, loss: Loss, now: Instant) -> String {
        let active = service.active.and_then(|index| self.slot(service.first + index));
        let Some(active) = active else { return "no endpoint was published".to_owned() };
        let why = match loss {
            Loss::Fault(why) => fault(active, why, &service.rules, now),
            Loss::Drained => "drained".to_owned(),
            Loss::VerifyFailed => format!("failed right after the move, last {}", last(active)),
            Loss::Nothing => "gone".to_owned(),
        };
        format!("{}: {why}", active.name())
    }

    /// What speaks for the target of a move, in words.
    pub(super) fn target_sentence(
        &self,
        service: &Service,
        to: Option<u32>,
        now: Instant,
    ) -> String {
        let Some(target) = to.and_then(|index| self.slot(service.first + index)) else {
            return "no endpoint is usable".to_owned();
        };
        match unusable(target, &service.rules, now) {
            Some(why) => format!("{}: {why}", target.name()),
            None => format!("{} {}", target.name(), proof(target, now)),
        }
    }

    /// Why a service returns, in words.
    pub(super) fn return_sentence(&self, service: &Service, to: u32, now: Instant) -> String {
        let Some(target) = self.slot(service.first + to) else { return String::new() };
        let lasted = target.run.map_or(Duration::ZERO, |run| run.lasted(now));
        let passes = target.shallow.health.passes();
        format!("{} usable for {}, {passes} passes in a row", target.name(), span(lasted))
    }

    /// What stops a move, in words.
    pub(super) fn hold_sentence(&self, service: &Service, why: HoldReason, now: Instant) -> String {
        let lost = service.loss.map(|loss| self.loss_sentence(service, loss, now));
        let mut sentence = lost.unwrap_or_default();
        let stop = match why {
            HoldReason::Pinned => "pinned by a person".to_owned(),
            HoldReason::Paused => "paused by a person".to_owned(),
            HoldReason::Isolated => match self.isolation.cause() {
                Some(cause) => format!("we seem to be cut off: {}", cause.sentence()),
                None => "we seem to be cut off".to_owned(),
            },
            HoldReason::Stalled => "the process was stalled; asking again".to_owned(),
            HoldReason::AwaitingProof => "candidates are being proven".to_owned(),
            HoldReason::Budget => {
                let rules = &service.rules.failover;
                format!("{} automatic moves within {}", rules.budget, span(rules.budget_window))
            }
            HoldReason::SameCredential => {
                "every usable candidate shares its credential or quota".to_owned()
            }
        };
        let glue = if sentence.is_empty() { "" } else { "; " };
        // Writing to a string cannot fail.
        let _written = write!(sentence, "{glue}{stop}");
        sentence
    }
}

//! Explains where a service is, and what would have to happen for it to move.

use crate::core::explain::{BudgetView, CandidateView, DetectionView, Explanation, FailbackView};
use crate::core::failover::decide;
use crate::core::id::ServiceName;
use crate::core::schedule::{crowded_bound, detection_bound};
use crate::core::time::Instant;

use super::Engine;
use super::endpoint::Endpoint;
use super::evidence::{latest, unusable};
use super::service::Service;

impl Engine {
    /// Why a service is where it is; `None` for a service that does not exist.
    #[must_use]
    pub fn explain(&self, now: Instant, service: &ServiceName) -> Option<Explanation> {
        let service = self.service(*self.by_name.get(service.as_str())?)?;
        let candidates = self.candidates(service, now);
        let verdict = decide(&self.view(service, &candidates, now), &service.rules.failover, now);
        let name = |at: usize| service.rules.endpoints.get(at).map(|endpoint| &endpoint.name);
        let budget = service.budget(now);
        let rules = &service.rules.failover;
        Some(Explanation {
            service: service.name().clone(),
            state: self.state(service),
            active: service.active_name().cloned(),
            active_for: service.active_since.map(|since| now.since(since)),
            pinned: service.pin.and_then(|pin| service.endpoint_name(pin.index)).cloned(),
            pin_left: service.pin.and_then(|pin| pin.until).map(|until| until.since(now)),
            manual: service.manual,
            reasons: verdict.reasons.iter().map(|reason| reason.sentence(&name, now)).collect(),
            candidates: service
                .slots()
                .filter_map(|slot| self.slot(slot))
                .map(|endpoint| self.candidate_view(service, endpoint, now))
                .collect(),
            detection: DetectionView {
                shallow: detection_bound(&service.rules.probe),
                deep: service.rules.deep_probe.as_ref().map(detection_bound),
                crowded: (!self.allowance.ample()).then(|| crowded_bound(&service.rules.probe)),
                wait: self.allowance.wait(now),
            },
            failback: verdict.comeback.and_then(|comeback| {
                Some(FailbackView {
                    to: name(comeback.to)?.clone(),
                    within: comeback.at.map(|at| at.since(now)),
                    waits_for: comeback.waits_for,
                })
            }),
            budget: BudgetView {
                left: budget.left,
                of: rules.budget,
                window: rules.budget_window,
                frees_in: budget.frees_at.map(|at| at.since(now)),
            },
            verdict: verdict.next,
        })
    }

    fn candidate_view(
        &self,
        service: &Service,
        endpoint: &Endpoint,
        now: Instant,
    ) -> CandidateView {
        CandidateView {
            endpoint: endpoint.name().clone(),
            tier: endpoint.rules.tier,
            active: service.is_active(endpoint.index),
            unusable: unusable(endpoint, &service.rules, now),
            proven: endpoint.fault.is_none() && endpoint.proven(&self.proof(service), now),
            health: endpoint.health(),
            breaker: endpoint.breaker.state(),
            score: endpoint.score(&service.rules, now),
            last: latest(endpoint),
            last_age: endpoint.seen.as_ref().map(|seen| now.since(seen.at)),
        }
    }
}

//! Serves the outputs that choose an endpoint for each call: shows them who may take calls, and
//! passes on what they learn and ask.
//!
//! Invariants
//! 1. A move is never offered later than it is published.
//! 2. Offers are drawn up only for services that some output serves call by call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::action::Action;
use crate::core::id::ServiceName;
use crate::core::input::Input;
use crate::core::ordered::Gather as _;
use crate::core::time::Instant;
use crate::daemon::driver::Driver;
use crate::output::{Feedback, Offers, ServiceOffer};
use crate::policy::model::Policy;

/// Least time between two drawings of the offers, for each hundred endpoints offered.
const OFFER_GAP: Duration = Duration::from_millis(2);
const OFFER_GAP_ENDPOINTS: usize = 100;

/// When the offers were drawn up, and whether they may have changed since.
#[derive(Debug, Default)]
pub(super) struct OfferRounds {
    stale: bool,
    urgent: bool,
    drawn_at: Instant,
    gap: Duration,
}

impl OfferRounds {
    /// The engine took a step.
    pub(super) fn stale(&mut self, actions: &[Action]) {
        self.stale = true;
        self.urgent |= actions.iter().any(|action| matches!(action, Action::Publish(_)));
    }
}

impl Driver {
    pub(super) fn on_feedback(&mut self, feedback: Feedback) {
        match feedback {
            Feedback::Reported { service, endpoint, observation } => {
                self.step(Input::Reported { service, endpoint, observation });
            }
            Feedback::Lease { service, ttl, reply } => {
                let ticket = self.effects.expect_lease(reply);
                self.step(Input::LeaseRequested { ticket, service, ttl });
            }
            Feedback::Renewed(lease) => self.step(Input::LeaseRenewed(lease)),
            Feedback::Released { lease, observation } => {
                self.step(Input::LeaseReleased { lease, observation });
            }
            Feedback::Effective(effect) => self.on_effect(&effect),
        }
    }

    /// When stale offers are drawn up at the latest.
    pub(super) fn offers_due_at(&self) -> Option<Instant> {
        let OfferRounds { stale, drawn_at, gap, .. } = self.rounds.offers;
        (stale && gap > Duration::ZERO).then(|| drawn_at + gap)
    }

    pub(super) fn refresh_offers(&mut self, now: Instant) {
        let rounds = &mut self.rounds.offers;
        if !rounds.stale || !(rounds.urgent || now >= rounds.drawn_at + rounds.gap) {
            return;
        }
        rounds.stale = false;
        rounds.urgent = false;
        rounds.drawn_at = now;
        let services: BTreeMap<_, _> = balanced(&self.effects.policy)
            .filter_map(|name| {
                let endpoints = Arc::clone(&self.effects.policy.services.get(name)?.endpoints);
                let offer = self.engine.offer(name, now)?;
                Some((name.clone(), ServiceOffer { offer, endpoints }))
            })
            .gather_map();
        let endpoints: usize = services.values().map(|one| one.endpoints.len()).sum();
        // Without anything to offer there is no need to wake for it.
        let steps = if endpoints == 0 { 0 } else { endpoints / OFFER_GAP_ENDPOINTS + 1 };
        self.rounds.offers.gap = OFFER_GAP.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX));
        let drawn = Offers { services };
        self.effects.offers.send_if_modified(|known| {
            let changed = **known != drawn;
            if changed {
                *known = Arc::new(drawn);
            }
            changed
        });
    }
}

/// The services that some output serves call by call.
fn balanced(policy: &Policy) -> impl Iterator<Item = &ServiceName> {
    let served = |name: &&ServiceName| policy.outputs.iter().any(|output| output.balances(name));
    policy.services.keys().filter(served)
}

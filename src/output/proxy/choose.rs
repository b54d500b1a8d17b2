//! The order in which the endpoints are tried for one call.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::core::rng::Rng;
use crate::core::rules::Strategy;
use crate::core::select::{Candidate, Selector};
use crate::output::proxy::lane::Lane;
use crate::output::proxy::routing::Part;

/// The endpoints of a service at one moment.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    pub(super) strategy: Strategy,
    /// The place of the published one.
    pub(super) active: Option<usize>,
    pub(super) all: Vec<Placed>,
}

/// An endpoint, and what the engine lets it do.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) lane: Arc<Lane>,
    pub(super) part: Part,
}

/// What is remembered between choices.
#[derive(Debug)]
pub(super) struct Chooser(Mutex<(Selector, Rng)>);

impl Chooser {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new((Selector::new(), Rng::new(seed))))
    }

    /// The endpoints to try, best first; none when the service is to fail.
    ///
    /// Those after the first are for calls that the first one did not take: peers, then others
    /// that serve, then the published one even if it does not. One that could not be reached a
    /// moment ago comes last.
    pub(super) fn order(&self, lanes: &Lanes, now: Instant) -> Vec<Arc<Lane>> {
        if lanes.active.is_none() {
            return Vec::new();
        }
        let mut order = self.balance(lanes);
        let mut rest: Vec<(usize, usize)> = lanes
            .all
            .iter()
            .enumerate()
            .filter_map(|(place, one)| match one.part {
                Part::Fallback(rank) => Some((rank, place)),
                Part::Candidate(_) | Part::Nothing => None,
            })
            .collect();
        rest.sort_unstable();
        order.extend(rest.into_iter().map(|(_, place)| place));
        order.extend(lanes.active.filter(|active| !order.contains(active)));
        let (sour, sweet): (Vec<_>, Vec<_>) = order
            .into_iter()
            .filter_map(|place| lanes.all.get(place))
            .map(|one| Arc::clone(&one.lane))
            .partition(|lane| lane.is_sour(now));
        sweet.into_iter().chain(sour).collect()
    }

    fn balance(&self, lanes: &Lanes) -> Vec<usize> {
        let candidates: Vec<Candidate> = lanes
            .all
            .iter()
            .enumerate()
            .filter_map(|(index, one)| match one.part {
                Part::Candidate(known) => {
                    Some(Candidate { index, leases: known.leases + one.lane.tally.open(), ..known })
                }
                Part::Fallback(_) | Part::Nothing => None,
            })
            .collect();
        if let [only] = candidates.as_slice() {
            return vec![only.index];
        }
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (selector, rng) = &mut *memory;
        selector.order(lanes.strategy, &candidates, rng)
    }
}

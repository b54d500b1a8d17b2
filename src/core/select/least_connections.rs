//! Fewest leases in proportion to weight; equals in random order, so that a fleet spreads.

use std::cmp::Ordering;

use super::Candidate;
use crate::core::rng::Rng;

pub(super) fn order(candidates: &[Candidate], rng: &mut Rng) -> Vec<usize> {
    let mut drawn: Vec<(Candidate, u64)> =
        candidates.iter().map(|candidate| (*candidate, rng.next_u64())).collect();
    drawn.sort_by(|(a, a_draw), (b, b_draw)| load(a, b).then(a_draw.cmp(b_draw)));
    drawn.into_iter().map(|(candidate, _)| candidate.index).collect()
}

/// Compares leases by weight without dividing.
fn load(a: &Candidate, b: &Candidate) -> Ordering {
    let scaled = |leases: u32, weight: u32| u64::from(leases) * u64::from(weight.max(1));
    scaled(a.leases, b.weight).cmp(&scaled(b.leases, a.weight))
}

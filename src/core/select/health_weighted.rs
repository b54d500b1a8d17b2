//! A draw without return, in proportion to weight times score.
//!
//! Each place of the order is drawn among those left. A candidate whose score is zero is drawn
//! only when nobody else is left, then in the order of the file. The work grows with the square of
//! the number of candidates; a tier holds a handful.

use super::Candidate;
use crate::core::rng::Rng;

pub(super) fn order(candidates: &[Candidate], rng: &mut Rng) -> Vec<usize> {
    let mut left = candidates.to_vec();
    left.sort_unstable_by_key(|candidate| candidate.index);
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let ticket = rng.below(left.iter().map(share).sum());
        order.push(left.remove(winner(&left, ticket)).index);
    }
    order
}

/// The place of the candidate whose part of the line holds `ticket`; the first when all are empty.
fn winner(candidates: &[Candidate], ticket: u64) -> usize {
    let mut end = 0;
    let holds = |candidate| {
        end += share(candidate);
        ticket < end
    };
    candidates.iter().position(holds).unwrap_or(0)
}

fn share(candidate: &Candidate) -> u64 {
    u64::from(candidate.weight.max(1)) * u64::from(candidate.score)
}

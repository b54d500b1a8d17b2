//! The order of the file.

use super::Candidate;

pub(super) fn order(candidates: &[Candidate]) -> Vec<usize> {
    let mut order: Vec<usize> = candidates.iter().map(|candidate| candidate.index).collect();
    order.sort_unstable();
    order
}

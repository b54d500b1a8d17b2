//! Smooth weighted rotation, after nginx: exact shares, and no runs of the same endpoint.
//!
//! At each choice every candidate gains its weight; the richest is chosen and pays the sum of all
//! weights. After as many choices as the weights add up to, each was chosen exactly as often as
//! its weight, and all are back at zero.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::Candidate;
use crate::core::ordered::Gather as _;

/// What each candidate has saved up. A change of the candidates or their weights starts afresh.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Rotation {
    seats: BTreeMap<usize, Seat>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Seat {
    weight: i64,
    saved: i64,
}

impl Rotation {
    pub(super) fn order(&mut self, candidates: &[Candidate]) -> Vec<usize> {
        self.seat(candidates);
        let mut total = 0;
        for seat in self.seats.values_mut() {
            seat.saved += seat.weight;
            total += seat.weight;
        }
        let mut order: Vec<usize> = self.seats.keys().copied().collect();
        order.sort_by_key(|index| Reverse(self.seats.get(index).map(|seat| seat.saved)));
        if let Some(seat) = order.first().and_then(|chosen| self.seats.get_mut(chosen)) {
            seat.saved -= total;
        }
        order
    }

    fn seat(&mut self, candidates: &[Candidate]) {
        let weight = |candidate: &Candidate| i64::from(candidate.weight.max(1));
        let same = self.seats.len() == candidates.len()
            && candidates.iter().all(|candidate| {
                self.seats
                    .get(&candidate.index)
                    .is_some_and(|seat| seat.weight == weight(candidate))
            });
        if !same {
            let fresh = |candidate: &Candidate| Seat { weight: weight(candidate), saved: 0 };
            self.seats = candidates.iter().map(|one| (one.index, fresh(one))).gather_map();
        }
    }
}

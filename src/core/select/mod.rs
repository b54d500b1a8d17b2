//! Orders the usable endpoints of a tier: the first is the choice, the rest are what to try next.
//!
//! Owns the order only. Who may be chosen at all is decided before, and offered as candidates.
//!
//! Invariants
//! 1. The order holds every candidate exactly once, and nothing that was not offered.
//! 2. The same state, candidates and seed give the same order.

mod health_weighted;
mod least_connections;
mod priority;
mod round_robin;

use crate::core::rng::Rng;
use crate::core::rules::Strategy;

/// One endpoint that may be chosen.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Candidate {
    /// Its place in the order of the file.
    pub index: usize,
    /// Its share among peers; zero counts as one.
    pub weight: u32,
    /// Its score in per mille.
    pub score: u16,
    /// Leases of it that are out.
    pub leases: u32,
}

/// What a service remembers between choices.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Selector {
    rotation: round_robin::Rotation,
}

impl Selector {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The candidates' indices, best first. Calling it is making a choice: a rotation moves on.
    #[must_use]
    pub fn order(
        &mut self,
        strategy: Strategy,
        candidates: &[Candidate],
        rng: &mut Rng,
    ) -> Vec<usize> {
        match strategy {
            Strategy::Priority => priority::order(candidates),
            Strategy::RoundRobin => self.rotation.order(candidates),
            Strategy::LeastConnections => least_connections::order(candidates, rng),
            Strategy::HealthWeighted => health_weighted::order(candidates, rng),
        }
    }
}

#[cfg(test)]
mod tests;

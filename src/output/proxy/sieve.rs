//! Bounds how much the engine is told of what calls came to.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::outcome::Verdict;

/// Reports of one endpoint in a second; more say nothing new and would crowd out the probes.
const RATE: u32 = 50;

/// Decides which reports of one endpoint are told.
///
/// Passes and failures are thinned out alike, so that rates stay true; the first of a change of
/// verdict is told always.
#[derive(Debug)]
pub(super) struct Sieve(Mutex<Sieved>);

#[derive(Debug)]
struct Sieved {
    last: Option<Verdict>,
    left: u32,
    turns: u32,
    until: Instant,
}

impl Sieve {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Sieved {
            last: None,
            left: RATE,
            turns: RATE,
            until: now + Duration::from_secs(1),
        }))
    }

    /// Whether a report of this verdict is to be told.
    pub(super) fn lets(&self, verdict: Verdict, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= state.until {
            (state.left, state.turns) = (RATE, RATE);
            state.until = now + Duration::from_secs(1);
        }
        let turned = state.last.replace(verdict) != Some(verdict);
        if state.left > 0 {
            state.left -= 1;
            return true;
        }
        let told = turned && state.turns > 0;
        state.turns = state.turns.saturating_sub(u32::from(told));
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_of_calls_is_a_trickle_of_reports() {
        let now = Instant::now();
        let sieve = Sieve::new(now);
        let told = (0..10_000).filter(|_| sieve.lets(Verdict::Pass, now)).count();
        assert_eq!(told, 50);
        let later = now + Duration::from_secs(1);
        assert!(sieve.lets(Verdict::Pass, later), "the next second has its own");
    }

    #[tokio::test]
    async fn the_first_failure_after_a_flood_of_passes_is_told() {
        let now = Instant::now();
        let sieve = Sieve::new(now);
        for _ in 0..1_000 {
            sieve.lets(Verdict::Pass, now);
        }
        assert!(sieve.lets(Verdict::Fail, now));
        assert!(!sieve.lets(Verdict::Fail, now));
        let told = (0..1_000)
            .filter(|n| sieve.lets(if n % 2 == 0 { Verdict::Pass } else { Verdict::Fail }, now))
            .count();
        assert!(told < 50, "not even an endpoint that flaps floods: {told}");
    }
}

//! Remembers how often an endpoint came and went, so that we do not return to a wobbly one.
//!
//! After BGP route-flap damping (RFC 2439): each strike adds a penalty, the penalty halves with
//! time, and between two limits the verdict stays what it was. It gates returns only; it never
//! delays leaving a dead endpoint.
//!
//! Invariants
//! 1. Reading changes nothing; the penalty decays by time alone.
//! 2. Once suppressed, an endpoint stays so until its penalty is below `reuse`.
//! 3. It is free again `max_suppress` after the latest strike at the latest.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::decay::decayed;
use crate::core::rules::FlapRules;
use crate::core::time::Instant;

/// One endpoint's memory of its flaps.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Flap {
    /// The penalty right after the latest strike.
    penalty: u32,
    /// The latest strike.
    at: Instant,
    /// Whether the latest strike suppressed, or found it suppressed.
    suppressed: bool,
}

/// A [`Flap`] on disk.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(default)]
pub struct FlapSnapshot {
    /// The penalty at that moment.
    pub penalty: u32,
    /// Whether it was suppressed.
    pub suppressed: bool,
}

impl Flap {
    /// The endpoint was left, or went down.
    pub fn strike(&mut self, rules: &FlapRules, now: Instant) {
        let was = self.suppressed(rules, now);
        let penalty = self.penalty(rules, now).saturating_add(rules.penalty);
        self.penalty = penalty.min(ceiling(rules));
        self.at = now;
        self.suppressed = was || self.penalty >= rules.suppress;
    }

    /// The penalty now.
    #[must_use]
    pub fn penalty(&self, rules: &FlapRules, now: Instant) -> u32 {
        decayed_u32(self.penalty, now.since(self.at), rules.half_life)
    }

    /// Whether a return is refused now.
    #[must_use]
    pub fn suppressed(&self, rules: &FlapRules, now: Instant) -> bool {
        self.suppressed && self.penalty(rules, now) >= rules.reuse.max(1)
    }

    /// When a return will be allowed if no strike follows; `None` when it is allowed now.
    #[must_use]
    pub fn clears_at(&self, rules: &FlapRules, now: Instant) -> Option<Instant> {
        if !self.suppressed(rules, now) {
            return None;
        }
        // Bisects for the first whole millisecond from now, within three centuries.
        let (mut held, mut free) = (0_u64, 1 << 43);
        while free - held > 1 {
            let middle = held + (free - held) / 2;
            let refused = self.suppressed(rules, now + Duration::from_millis(middle));
            (held, free) = if refused { (middle, free) } else { (held, middle) };
        }
        let free = Duration::from_millis(free);
        Some(now + free)
    }

    /// What to keep over a restart.
    #[must_use]
    pub fn snapshot(&self, rules: &FlapRules, now: Instant) -> FlapSnapshot {
        FlapSnapshot { penalty: self.penalty(rules, now), suppressed: self.suppressed(rules, now) }
    }

    /// Takes up a snapshot made `elapsed` ago; the penalty has decayed meanwhile.
    #[must_use]
    pub fn restore(
        rules: &FlapRules,
        kept: &FlapSnapshot,
        elapsed: Duration,
        now: Instant,
    ) -> Self {
        let penalty = decayed_u32(kept.penalty, elapsed, rules.half_life).min(ceiling(rules));
        Self { penalty, at: now, suppressed: kept.suppressed }
    }
}

/// The penalty that decays to just below `reuse` in `max_suppress`: RFC 2439's ceiling.
fn ceiling(rules: &FlapRules) -> u32 {
    const ONE: u64 = 1 << 40;
    let left = decayed(ONE, rules.max_suppress, rules.half_life);
    let most = (u128::from(rules.reuse) * u128::from(ONE)).checked_div(u128::from(left));
    most.and_then(|most| u32::try_from(most.saturating_sub(1)).ok()).unwrap_or(u32::MAX)
}

fn decayed_u32(value: u32, elapsed: Duration, half_life: Duration) -> u32 {
    u32::try_from(decayed(u64::from(value), elapsed, half_life)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: FlapRules = FlapRules {
        penalty: 1000,
        half_life: Duration::from_secs(300),
        suppress: 2000,
        reuse: 750,
        max_suppress: Duration::from_secs(1200),
    };

    fn at(secs: u64) -> Instant {
        Instant::new(Duration::from_secs(secs))
    }

    #[test]
    fn one_strike_does_not_suppress_two_at_once_do() {
        let mut flap = Flap::default();
        flap.strike(&RULES, at(0));
        assert!(!flap.suppressed(&RULES, at(0)));
        flap.strike(&RULES, at(0));
        assert!(flap.suppressed(&RULES, at(0)));
    }

    #[test]
    fn the_penalty_halves_in_a_half_life() {
        let mut flap = Flap::default();
        flap.strike(&RULES, at(0));
        assert_eq!(flap.penalty(&RULES, at(300)), 500);
        assert_eq!(flap.penalty(&RULES, at(600)), 250);
    }

    #[test]
    fn between_reuse_and_suppress_the_verdict_stays() {
        let mut flap = Flap::default();
        flap.strike(&RULES, at(0));
        assert!(!flap.suppressed(&RULES, at(1)), "1000 rising: free");
        flap.strike(&RULES, at(1));
        flap.strike(&RULES, at(1));
        assert_eq!(flap.penalty(&RULES, at(301)) / 10, 149);
        assert!(flap.suppressed(&RULES, at(301)), "1499 falling: still refused");
        assert!(!flap.suppressed(&RULES, at(601)), "749: free");
    }

    #[test]
    fn a_strike_while_still_refused_keeps_it_refused() {
        let mut flap = Flap::default();
        flap.strike(&RULES, at(0));
        flap.strike(&RULES, at(0));
        let rules = FlapRules { penalty: 1, ..RULES };
        flap.strike(&rules, at(300));
        assert!(flap.suppressed(&RULES, at(300)));
        assert!(flap.suppressed(&RULES, at(400)));
    }

    #[test]
    fn a_restart_neither_forgives_nor_adds() {
        let mut flap = Flap::default();
        flap.strike(&RULES, at(1000));
        flap.strike(&RULES, at(1000));
        let kept = flap.snapshot(&RULES, at(1100));
        let again = Flap::restore(&RULES, &kept, Duration::from_secs(200), at(0));
        assert_eq!(again.penalty(&RULES, at(0)), 999, "one half-life, rounded down twice");
        assert!(again.suppressed(&RULES, at(0)));
        assert!(!again.suppressed(&RULES, at(300)));
    }

    proptest! {
        #[test]
        fn nothing_is_suppressed_longer_than_the_cap(
            gaps in prop::collection::vec(0_u64..2000, 1..40),
            penalty in 1_u32..5000,
            max in 0_u64..4000,
        ) {
            let max_suppress = Duration::from_secs(max);
            let rules = FlapRules { penalty, max_suppress, ..RULES };
            let mut flap = Flap::default();
            let mut now = 0;
            for gap in gaps {
                now += gap;
                flap.strike(&rules, at(now));
            }
            prop_assert!(!flap.suppressed(&rules, at(now) + max_suppress));
            if let Some(clear) = flap.clears_at(&rules, at(now)) {
                prop_assert!(clear <= at(now) + max_suppress + Duration::from_millis(1));
                prop_assert!(!flap.suppressed(&rules, clear));
                prop_assert!(flap.suppressed(&rules, clear.back(Duration::from_millis(1))));
            }
        }
    }
}

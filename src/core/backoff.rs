//! Waits that grow, and the randomness that keeps a fleet out of step.
//!
//! Invariants
//! 1. Before jitter a later attempt never waits less, and no wait leaves `min..=max`.
//! 2. [`added`] only lengthens, by at most its share; [`either_way`] stays within its share.

use std::time::Duration;

use crate::core::rng::Rng;

/// Longest time that a `Retry-After` is obeyed: what asks for more is mistaken or hostile.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// A wait that grows by a factor up to a bound.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Backoff {
    /// The first wait.
    pub min: Duration,
    /// The longest wait.
    pub max: Duration,
    /// Numerator of the factor.
    pub numerator: u32,
    /// Denominator of the factor; at least 1.
    pub denominator: u32,
}

impl Backoff {
    /// Doubles from `min` up to `max`.
    #[must_use]
    pub const fn doubling(min: Duration, max: Duration) -> Self {
        Self { min, max, numerator: 2, denominator: 1 }
    }

    /// Grows by half each time, from `min` up to `max`.
    #[must_use]
    pub const fn by_half(min: Duration, max: Duration) -> Self {
        Self { min, max, numerator: 3, denominator: 2 }
    }

    /// The wait before attempt `attempt`, counted from zero, without jitter.
    #[must_use]
    pub fn period(&self, attempt: u32) -> Duration {
        let max = self.max.max(self.min);
        let denominator = self.denominator.max(1);
        let mut period = self.min;
        for _ in 0..attempt {
            // Past `max`, and where nothing grows, further rounds change nothing.
            let grown = period.saturating_mul(self.numerator) / denominator;
            if period >= max || grown <= period {
                break;
            }
            period = grown;
        }
        period.min(max)
    }

    /// [`Self::period`] plus a random part of it.
    #[must_use]
    pub fn delay(&self, attempt: u32, rng: &mut Rng, jitter_permille: u32) -> Duration {
        added(self.period(attempt), rng, jitter_permille)
    }
}

/// `span` lengthened by a random part of at most `permille` of it.
#[must_use]
pub fn added(span: Duration, rng: &mut Rng, permille: u32) -> Duration {
    span.saturating_add(part(share(span, permille), rng))
}

/// `span` moved by a random part of at most `permille` of it, earlier or later.
#[must_use]
pub fn either_way(span: Duration, rng: &mut Rng, permille: u32) -> Duration {
    let share = share(span, permille.min(1000));
    span.saturating_sub(share).saturating_add(part(share.saturating_mul(2), rng))
}

fn share(span: Duration, permille: u32) -> Duration {
    span.saturating_mul(permille) / 1000
}

/// Without jitter nothing is drawn, so that equal states stay equal.
fn part(of: Duration, rng: &mut Rng) -> Duration {
    if of.is_zero() {
        return Duration::ZERO;
    }
    let nanos = u64::try_from(of.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(rng.below(nanos.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::rng::Rng;

    const BACKOFF: Backoff = Backoff::doubling(Duration::from_secs(30), Duration::from_secs(300));

    #[test]
    fn each_period_doubles_up_to_the_bound() {
        let periods: Vec<u64> = (0..6).map(|n| BACKOFF.period(n).as_secs()).collect();
        assert_eq!(periods, [30, 60, 120, 240, 300, 300]);
    }

    #[test]
    fn half_again_grows_by_half() {
        let backoff = Backoff::by_half(Duration::from_secs(4), Duration::from_secs(20));
        let periods: Vec<u64> = (0..6).map(|n| backoff.period(n).as_secs()).collect();
        assert_eq!(periods, [4, 6, 9, 13, 20, 20]);
    }

    #[test]
    fn without_jitter_times_are_exact() {
        assert_eq!(BACKOFF.delay(1, &mut Rng::new(1), 0), Duration::from_secs(60));
        let span = Duration::from_secs(10);
        assert_eq!(either_way(span, &mut Rng::new(1), 0), span);
    }

    #[test]
    fn a_huge_attempt_number_ends() {
        assert_eq!(BACKOFF.period(u32::MAX), Duration::from_secs(300));
        let flat = Backoff { numerator: 1, ..BACKOFF };
        assert_eq!(flat.period(u32::MAX), Duration::from_secs(30));
    }

    #[test]
    fn jitter_spreads_over_the_whole_share() {
        let mut rng = Rng::new(7);
        let span = Duration::from_secs(100);
        let all: Vec<Duration> = (0..1000).map(|_| either_way(span, &mut rng, 100)).collect();
        assert!(all.iter().any(|d| *d < Duration::from_secs(91)));
        assert!(all.iter().any(|d| *d > Duration::from_secs(109)));
    }

    proptest! {
        #[test]
        fn periods_are_monotone_and_bounded(
            min in 1_u64..1_000_000, span in 0_u64..1_000_000, factor in 1_u32..5, attempt in 0_u32..80,
        ) {
            let backoff = Backoff {
                min: Duration::from_micros(min),
                max: Duration::from_micros(min + span),
                numerator: factor + 1,
                denominator: factor,
            };
            prop_assert!(backoff.period(attempt) <= backoff.period(attempt + 1));
            prop_assert!(backoff.period(attempt) >= backoff.min);
            prop_assert!(backoff.period(attempt) <= backoff.max);
        }

        #[test]
        fn jitter_stays_within_its_share(seed: u64, millis in 0_u64..10_000_000, permille in 0_u32..=500) {
            let span = Duration::from_millis(millis);
            let share = span * permille / 1000;
            let mut rng = Rng::new(seed);
            let longer = added(span, &mut rng, permille);
            prop_assert!(span <= longer && longer <= span + share);
            let either = either_way(span, &mut rng, permille);
            prop_assert!(span <= either + share && either <= span + share);
        }
    }
}

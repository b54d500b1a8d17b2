//! A running latency that forgets with time, not with the number of samples.
//!
//! Invariants
//! 1. The value lies between the smallest and the largest sample ever recorded.
//! 2. After a pause of many half-lives one sample decides; in a burst each still counts a little.

use std::time::Duration;

use crate::core::decay::decayed;
use crate::core::time::Instant;

/// One, in the fixed point of the weights.
const ONE: u64 = 1 << 32;
/// Least weight of a sample: one in 64, so that a burst at one moment is averaged, not ignored.
const LEAST_WEIGHT: u64 = ONE / 64;

/// Exponentially weighted moving average of latencies.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct LatencyEwma {
    half_life: Duration,
    latest: Option<(Instant, Duration)>,
}

impl LatencyEwma {
    /// Empty; a sample's weight halves in `half_life`.
    #[must_use]
    pub const fn new(half_life: Duration) -> Self {
        Self { half_life, latest: None }
    }

    /// Adds one latency.
    pub fn record(&mut self, now: Instant, sample: Duration) {
        let value = match self.latest {
            None => sample,
            Some((at, value)) => {
                let kept = decayed(ONE, now.since(at), self.half_life).min(ONE - LEAST_WEIGHT);
                mixed(value, sample, kept)
            }
        };
        self.latest = Some((now, value));
    }

    /// The average, or `None` before the first sample.
    #[must_use]
    pub fn value(&self) -> Option<Duration> {
        self.latest.map(|(_, value)| value)
    }
}

fn mixed(old: Duration, new: Duration, kept: u64) -> Duration {
    let one = u128::from(ONE);
    let kept = u128::from(kept);
    let sum = old.as_nanos().saturating_mul(kept) + new.as_nanos().saturating_mul(one - kept);
    Duration::from_nanos(u64::try_from(sum / one).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::new(Duration::from_secs(secs))
    }

    const LIFE: Duration = Duration::from_secs(10);

    #[test]
    fn the_first_sample_is_the_value() {
        let mut ewma = LatencyEwma::new(LIFE);
        assert_eq!(ewma.value(), None);
        ewma.record(at(5), Duration::from_millis(40));
        assert_eq!(ewma.value(), Some(Duration::from_millis(40)));
    }

    #[test]
    fn after_one_half_life_old_and_new_count_the_same() {
        let mut ewma = LatencyEwma::new(LIFE);
        ewma.record(at(0), Duration::from_millis(100));
        ewma.record(at(10), Duration::from_millis(300));
        assert_eq!(ewma.value(), Some(Duration::from_millis(200)));
    }

    #[test]
    fn after_a_long_pause_the_past_is_forgotten() {
        let mut ewma = LatencyEwma::new(LIFE);
        ewma.record(at(0), Duration::from_secs(30));
        ewma.record(at(10_000), Duration::from_millis(5));
        assert_eq!(ewma.value(), Some(Duration::from_millis(5)));
    }

    #[test]
    fn samples_of_one_moment_still_count() {
        let mut ewma = LatencyEwma::new(LIFE);
        ewma.record(at(0), Duration::from_millis(64));
        ewma.record(at(0), Duration::from_millis(128));
        assert_eq!(ewma.value(), Some(Duration::from_millis(65)));
    }

    proptest! {
        #[test]
        fn the_value_lies_within_the_samples(
            samples in prop::collection::vec((0_u64..100, 0_u64..10_000_000_000), 1..50),
        ) {
            let mut ewma = LatencyEwma::new(LIFE);
            let mut now = 0;
            for &(gap, nanos) in &samples {
                now += gap;
                ewma.record(at(now), Duration::from_nanos(nanos));
            }
            let value = ewma.value().unwrap();
            let all = || samples.iter().map(|s| Duration::from_nanos(s.1));
            // Each mix rounds down by less than a nanosecond.
            let rounding = Duration::from_nanos(50);
            prop_assert!(value + rounding >= all().min().unwrap());
            prop_assert!(value <= all().max().unwrap());
        }
    }
}

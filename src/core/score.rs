//! Boils the recent past of an endpoint down to one number.
//!
//! `score = success × latency`, both in per mille:
//!
//! - *success* is the share of calls that did not fail, as if [`PRIOR`] calls had passed before
//!   the first. One failure of one call is then 667, not 0; an endpoint that has failed all of its
//!   calls falls below [`MIN_CHOOSABLE`] with the fifth.
//! - *latency* is 1000 up to a quarter of a slow call, falls in a line to 500 at a slow call, and
//!   beyond that in inverse proportion: 250 at twice, 125 at four times.
//! - while throttled the score is 0.
//!
//! Invariants
//! 1. 0 to 1000; 1000 with nothing known.
//! 2. More failures, or a higher latency, never raise it.

use std::time::Duration;

use crate::core::window::Counts;

/// An endpoint below this is not chosen.
pub const MIN_CHOOSABLE: u16 = 300;

/// Passed calls assumed before anything is known.
pub const PRIOR: u32 = 2;

/// The score in per mille, 0 to 1000.
#[must_use]
pub fn score(
    counts: Counts,
    latency: Option<Duration>,
    slow_call: Duration,
    throttled: bool,
) -> u16 {
    if throttled {
        return 0;
    }
    let speed = latency.map_or(1000, |latency| speed(latency, slow_call));
    u16::try_from(success(counts) * speed / 1000).unwrap_or(1000)
}

fn success(counts: Counts) -> u128 {
    let calls = u128::from(counts.calls) + u128::from(PRIOR);
    let failures = u128::from(counts.failures.min(counts.calls));
    (calls - failures) * 1000 / calls
}

fn speed(latency: Duration, slow_call: Duration) -> u128 {
    let (latency, slow) = (latency.as_nanos(), slow_call.as_nanos());
    let fast = slow / 4;
    if slow == 0 || latency <= fast {
        1000
    } else if latency <= slow {
        1000 - 500 * (latency - fast) / (slow - fast)
    } else {
        500 * slow / latency
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOW: Duration = Duration::from_secs(4);

    fn failed(failures: u32, calls: u32) -> Counts {
        Counts { calls, failures, slow: 0 }
    }

    #[test]
    fn nothing_known_is_full_marks() {
        assert_eq!(score(Counts::default(), None, SLOW, false), 1000);
    }

    #[test]
    fn one_failure_of_one_call_is_not_zero() {
        assert_eq!(score(failed(1, 1), None, SLOW, false), 666);
    }

    #[test]
    fn only_failures_are_not_choosable_from_the_fifth_on() {
        assert!(score(failed(4, 4), None, SLOW, false) >= MIN_CHOOSABLE);
        assert!(score(failed(5, 5), None, SLOW, false) < MIN_CHOOSABLE);
    }

    #[test]
    fn latency_counts_from_a_quarter_of_a_slow_call_on() {
        let at =
            |millis| score(Counts::default(), Some(Duration::from_millis(millis)), SLOW, false);
        assert_eq!(at(0), 1000);
        assert_eq!(at(1000), 1000);
        assert_eq!(at(2500), 750);
        assert_eq!(at(4000), 500);
        assert_eq!(at(8000), 250);
        assert_eq!(at(16_000), 125);
    }

    #[test]
    fn throttled_is_zero() {
        assert_eq!(score(Counts::default(), None, SLOW, true), 0);
    }

    proptest! {
        #[test]
        fn worse_never_scores_higher(
            calls in 0_u32..10_000, a in 0_u32..10_000, b in 0_u32..10_000,
            fast in 0_u64..60_000, slow in 0_u64..60_000, limit in 0_u64..10_000,
        ) {
            let (few, many) = (a.min(b).min(calls), a.max(b).min(calls));
            let (fast, slow) = (fast.min(slow), fast.max(slow));
            let score = |failures, millis| {
                let latency = Some(Duration::from_millis(millis));
                score(failed(failures, calls), latency, Duration::from_millis(limit), false)
            };
            prop_assert!(score(few, fast) <= 1000);
            prop_assert!(score(many, fast) <= score(few, fast));
            prop_assert!(score(few, slow) <= score(few, fast));
        }
    }
}

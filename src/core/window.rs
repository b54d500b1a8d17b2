//! Counts calls over the recent past in a ring of time buckets.
//!
//! Owns counts only; what a rate means is the breaker's and the score's business.
//!
//! Invariants
//! 1. A sample is counted from the moment it is recorded until its bucket leaves the span, so for
//!    at least `span - span / buckets` and at most `span`.
//! 2. Reading changes nothing.
//! 3. No more buckets are kept than asked for; empty ones cost nothing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::time::Instant;

/// One finished call.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sample {
    /// Whether it failed.
    pub failure: bool,
    /// Whether it was slow.
    pub slow: bool,
}

/// Calls counted.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Counts {
    /// All of them.
    pub calls: u32,
    /// Those that failed.
    pub failures: u32,
    /// Those that were slow, failed or not.
    pub slow: u32,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.failures = self.failures.saturating_add(other.failures);
        self.slow = self.slow.saturating_add(other.slow);
    }
}

impl From<Sample> for Counts {
    fn from(sample: Sample) -> Self {
        Self { calls: 1, failures: sample.failure.into(), slow: sample.slow.into() }
    }
}

/// A ring of time buckets.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Window {
    width: Duration,
    buckets: u32,
    /// The buckets that hold something, by number since the start, oldest first.
    filled: VecDeque<(u128, Counts)>,
}

impl Window {
    /// An empty window of `span`, cut into `buckets` (at least one) equal parts.
    #[must_use]
    pub fn new(span: Duration, buckets: u32) -> Self {
        let buckets = buckets.max(1);
        let width = (span / buckets).max(Duration::from_nanos(1));
        Self { width, buckets, filled: VecDeque::new() }
    }

    /// Counts one call. A `now` that lies before the latest sample counts as that moment.
    pub fn record(&mut self, now: Instant, sample: Sample) {
        self.add(self.number(now), sample.into());
    }

    /// What is inside the window.
    #[must_use]
    pub fn counts(&self, now: Instant) -> Counts {
        let oldest = self.oldest(self.number(now));
        let mut sum = Counts::default();
        for &(_, counts) in self.filled.iter().filter(|&&(number, _)| number >= oldest) {
            sum.add(counts);
        }
        sum
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.filled.clear();
    }

    /// Takes another shape and keeps what it has counted, as far as that is still inside.
    pub fn reshape(&mut self, span: Duration, buckets: u32) {
        let mut other = Self::new(span, buckets);
        if (other.width, other.buckets) == (self.width, self.buckets) {
            return;
        }
        for &(number, counts) in &self.filled {
            let began = self.width.as_nanos() * number;
            other.add(began / other.width.as_nanos(), counts);
        }
        *self = other;
    }

    fn add(&mut self, number: u128, counts: Counts) {
        let number = self.filled.back().map_or(number, |&(latest, _)| latest.max(number));
        let oldest = self.oldest(number);
        while self.filled.front().is_some_and(|&(number, _)| number < oldest) {
            self.filled.pop_front();
        }
        match self.filled.back_mut() {
            Some((latest, sum)) if *latest == number => sum.add(counts),
            Some(_) | None => self.filled.push_back((number, counts)),
        }
    }

    const fn number(&self, now: Instant) -> u128 {
        now.since_start().as_nanos() / self.width.as_nanos()
    }

    fn oldest(&self, current: u128) -> u128 {
        (current + 1).saturating_sub(u128::from(self.buckets))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FAILED: Sample = Sample { failure: true, slow: false };

    fn at(millis: u64) -> Instant {
        Instant::new(Duration::from_millis(millis))
    }

    #[test]
    fn a_sample_leaves_when_its_bucket_does() {
        let mut window = Window::new(Duration::from_secs(10), 10);
        window.record(at(1_500), FAILED);
        assert_eq!(window.counts(at(10_999)), Counts { calls: 1, failures: 1, slow: 0 });
        assert_eq!(window.counts(at(11_000)), Counts::default());
    }

    #[test]
    fn reading_changes_nothing() {
        let mut window = Window::new(Duration::from_secs(10), 10);
        window.record(at(0), FAILED);
        let before = window.clone();
        assert_eq!(window.counts(at(1_000_000)).calls, 0);
        assert_eq!(window, before);
        assert_eq!(window.counts(at(0)).calls, 1);
    }

    #[test]
    fn another_shape_keeps_what_was_counted() {
        let mut window = Window::new(Duration::from_secs(10), 10);
        window.record(at(500), FAILED);
        window.record(at(9_500), FAILED);
        window.reshape(Duration::from_secs(20), 4);
        assert_eq!(window.counts(at(9_600)).failures, 2);
        window.reshape(Duration::from_secs(2), 2);
        assert_eq!(window.counts(at(5_600)).failures, 1, "it knows only the bucket, not the time");
    }

    #[test]
    fn a_sample_from_the_past_counts_as_of_the_latest() {
        let mut window = Window::new(Duration::from_secs(2), 2);
        window.record(at(5_000), FAILED);
        window.record(at(1_000), FAILED);
        assert_eq!(window.counts(at(6_000)).failures, 2);
        assert_eq!(window.filled.len(), 1);
    }

    #[test]
    fn clearing_forgets() {
        let mut window = Window::new(Duration::from_secs(1), 1);
        window.record(at(0), FAILED);
        window.clear();
        assert_eq!(window.counts(at(0)), Counts::default());
    }

    proptest! {
        #[test]
        fn it_counts_what_a_plain_list_counts(
            gaps in prop::collection::vec((0_u64..3_000, any::<bool>(), any::<bool>()), 0..200),
            buckets in 1_u32..12,
            wait in 0_u64..20_000,
        ) {
            let mut window = Window::new(Duration::from_secs(6), buckets);
            let width = Duration::from_secs(6) / buckets;
            let mut list = Vec::new();
            let mut now = 0;
            for (gap, failure, slow) in gaps {
                now += gap;
                window.record(at(now), Sample { failure, slow });
                list.push((at(now), failure, slow));
                prop_assert!(window.filled.len() <= usize::try_from(buckets).unwrap());
            }
            let number = |t: Instant| t.since_start().as_nanos() / width.as_nanos();
            let read = at(now + wait);
            let inside: Vec<_> = list
                .iter()
                .filter(|(t, ..)| number(*t) + u128::from(buckets) > number(read))
                .collect();
            let counts = window.counts(read);
            prop_assert_eq!(usize::try_from(counts.calls).unwrap(), inside.len());
            prop_assert_eq!(
                usize::try_from(counts.failures).unwrap(),
                inside.iter().filter(|s| s.1).count()
            );
            prop_assert_eq!(
                usize::try_from(counts.slow).unwrap(),
                inside.iter().filter(|s| s.2).count()
            );
        }
    }
}

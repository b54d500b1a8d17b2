//! Decides when the next probe of an endpoint starts.
//!
//! Owns the arithmetic of gaps and nothing else: it keeps no state, draws no random number and
//! knows no endpoint. What is random comes in as a number drawn once per gap, so that asking twice
//! gives the same answer.
//!
//! Invariants
//! 1. A steady gap is never longer than `interval` stretched by the jitter; a fast gap is never
//!    longer than `fast_interval`. The detection bound rests on both. (Where more confirmations are
//!    wanted than [`allowance`](crate::core::allowance) grants, gaps are steady ones.)
//! 2. A gap is measured from start to start, so a slow answer does not stretch the rhythm.
//! 3. Confirmations overlap: an attempt that has been out for `fast_interval` is a suspicion, and
//!    the next one starts without waiting for it. No more than `fall` are out at a time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::rules::Cadence;
use crate::core::time::Instant;

/// Longest distance between the first probes of two neighbours: enough to avoid one burst, short
/// enough that a thousand endpoints are all seen within two seconds.
pub const SPREAD_MAX: Duration = Duration::from_millis(2);

/// An attempt that has not come back this long after its deadline is lost.
pub const GRACE: Duration = Duration::from_secs(1);

/// How urgently an endpoint is watched.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Nothing changes, and it is active.
    Steady,
    /// Nothing changes, and it is not active.
    Standby,
    /// A flip is being confirmed, or somebody waits for the answer.
    Fast,
    /// It is known to be down.
    Down,
}

/// What decides when the next attempt starts.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// How urgently.
    pub pace: Pace,
    /// When the latest attempt started; `None` before the first.
    pub last_start: Option<Instant>,
    /// Attempts out whose answer could still count.
    pub outstanding: u32,
    /// Whether an unanswered attempt is a suspicion worth a second one.
    pub overlap: bool,
    /// The gap in force while down.
    pub down_gap: Duration,
    /// Drawn once per gap, 0 to 2000.
    pub dice: u32,
}

impl Rhythm {
    /// When the next attempt starts; `None` when an answer is awaited first. `first` is used
    /// before the first attempt.
    #[must_use]
    pub fn next(&self, cadence: &Cadence, first: Instant) -> Option<Instant> {
        let Some(last) = self.last_start else {
            return (self.outstanding == 0).then_some(first);
        };
        if self.outstanding == 0 {
            return Some(last + self.gap(cadence));
        }
        let room = self.overlap && self.outstanding < cadence.fall;
        room.then(|| last + hurried(cadence.fast_interval, cadence, self.dice))
    }

    fn gap(&self, cadence: &Cadence) -> Duration {
        match self.pace {
            Pace::Steady => jittered(cadence.interval, cadence, self.dice),
            Pace::Standby => jittered(cadence.standby_interval, cadence, self.dice),
            Pace::Down => jittered(self.down_gap, cadence, self.dice),
            Pace::Fast => hurried(cadence.fast_interval, cadence, self.dice),
        }
    }
}

/// The gap after one more failure while down: half as long again, up to the longest.
#[must_use]
pub fn longer_down_gap(gap: Duration, cadence: &Cadence) -> Duration {
    let grown = gap.saturating_add(gap / 2);
    grown.min(cadence.down_interval_max.max(cadence.down_interval))
}

/// How far apart the first probes of `n` endpoints start.
#[must_use]
pub fn splay(interval: Duration, n: u32) -> Duration {
    (interval / n.max(1)).min(SPREAD_MAX)
}

/// How long an outage of the active endpoint can stay unnoticed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Bound {
    /// When it refuses at once.
    pub refused: Duration,
    /// When it swallows requests without an answer.
    pub silent: Duration,
}

/// The detection bound of a cadence, from the moment of the outage to the verdict; answers that
/// take time of their own come on top.
#[must_use]
pub fn detection_bound(cadence: &Cadence) -> Bound {
    let confirming = cadence.fast_interval.saturating_mul(cadence.fall.saturating_sub(1));
    let refused = jittered(cadence.interval, cadence, 2000).saturating_add(confirming);
    Bound { refused, silent: refused.saturating_add(cadence.timeout) }
}

/// The detection bound while so many endpoints waver at once that confirmations are put off: each
/// waits for its turn, but no longer than the steady gap.
#[must_use]
pub fn crowded_bound(cadence: &Cadence) -> Bound {
    let steady = jittered(cadence.interval, cadence, 2000);
    let refused = steady.saturating_mul(cadence.fall.max(1));
    Bound { refused, silent: refused.saturating_add(cadence.timeout) }
}

/// `gap`, stretched or shortened by up to the jitter.
fn jittered(gap: Duration, cadence: &Cadence, dice: u32) -> Duration {
    if cadence.jitter_permille == 0 {
        return gap;
    }
    let jitter = u64::from(cadence.jitter_permille.min(500));
    scaled(gap, 1_000_000 - 1000 * jitter + jitter * u64::from(dice.min(2000)))
}

/// `gap`, shortened by up to the jitter: stretching it would break the bound.
fn hurried(gap: Duration, cadence: &Cadence, dice: u32) -> Duration {
    if cadence.jitter_permille == 0 {
        return gap;
    }
    let jitter = u64::from(cadence.jitter_permille.min(500));
    scaled(gap, 1_000_000 - jitter * u64::from(dice.min(2000)) / 2)
}

fn scaled(gap: Duration, millionths: u64) -> Duration {
    let nanos = gap.as_nanos().saturating_mul(u128::from(millionths)) / 1_000_000;
    u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cadence() -> Cadence {
        Cadence {
            interval: Duration::from_secs(10),
            fast_interval: Duration::from_secs(1),
            down_interval: Duration::from_secs(10),
            down_interval_max: Duration::from_secs(60),
            standby_interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            rise: 2,
            fall: 3,
            jitter_permille: 0,
        }
    }

    fn rhythm(pace: Pace) -> Rhythm {
        Rhythm {
            pace,
            last_start: Some(Instant::START),
            outstanding: 0,
            overlap: true,
            down_gap: Duration::from_secs(15),
            dice: 1000,
        }
    }

    fn secs(secs: u64) -> Instant {
        Instant::new(Duration::from_secs(secs))
    }

    #[test]
    fn each_pace_has_its_gap() {
        let next = |pace| rhythm(pace).next(&cadence(), Instant::START);
        assert_eq!(next(Pace::Steady), Some(secs(10)));
        assert_eq!(next(Pace::Standby), Some(secs(30)));
        assert_eq!(next(Pace::Fast), Some(secs(1)));
        assert_eq!(next(Pace::Down), Some(secs(15)));
    }

    #[test]
    fn an_unanswered_attempt_is_followed_without_waiting_up_to_fall() {
        let out = |outstanding| Rhythm { outstanding, ..rhythm(Pace::Steady) };
        assert_eq!(out(1).next(&cadence(), Instant::START), Some(secs(1)));
        assert_eq!(out(2).next(&cadence(), Instant::START), Some(secs(1)));
        assert_eq!(out(3).next(&cadence(), Instant::START), None);
        let patient = Rhythm { overlap: false, ..out(1) };
        assert_eq!(patient.next(&cadence(), Instant::START), None);
    }

    #[test]
    fn the_gap_while_down_grows_by_half_up_to_the_longest() {
        let mut gap = Duration::from_secs(10);
        let mut seen = Vec::new();
        for _ in 0..6 {
            gap = longer_down_gap(gap, &cadence());
            seen.push(gap.as_millis());
        }
        assert_eq!(seen, [15_000, 22_500, 33_750, 50_625, 60_000, 60_000]);
    }

    #[test]
    fn the_bound_is_the_arithmetic_of_the_policy() {
        let bound = detection_bound(&cadence());
        assert_eq!(bound.refused, Duration::from_secs(12));
        assert_eq!(bound.silent, Duration::from_secs(17));
        let jittery = Cadence { jitter_permille: 100, ..cadence() };
        assert_eq!(detection_bound(&jittery).refused, Duration::from_secs(13));
    }

    #[test]
    fn in_a_crowd_the_bound_is_that_of_steady_probing() {
        assert_eq!(crowded_bound(&cadence()).refused, Duration::from_secs(30));
        assert_eq!(crowded_bound(&cadence()).silent, Duration::from_secs(35));
    }

    #[test]
    fn neighbours_start_apart_but_soon() {
        assert_eq!(splay(Duration::from_secs(10), 4), SPREAD_MAX);
        assert_eq!(splay(Duration::from_secs(1), 5000), Duration::from_micros(200));
    }

    proptest! {
        #[test]
        fn jitter_never_breaks_the_bound(dice in 0_u32..=2000, jitter in 0_u32..=500) {
            let cadence = Cadence { jitter_permille: jitter, ..cadence() };
            let steady = Rhythm { dice, ..rhythm(Pace::Steady) };
            let fast = Rhythm { dice, ..rhythm(Pace::Fast) };
            let steady = steady.next(&cadence, Instant::START).unwrap();
            let fast = fast.next(&cadence, Instant::START).unwrap();
            let bound = detection_bound(&cadence);
            prop_assert!(steady + cadence.fast_interval * 2 <= Instant::START + bound.refused);
            prop_assert!(fast <= Instant::START + cadence.fast_interval);
            prop_assert!(fast.since_start() >= cadence.fast_interval / 2);
            prop_assert!(steady.since_start() >= cadence.interval / 2);
        }
    }
}

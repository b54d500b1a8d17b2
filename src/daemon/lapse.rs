//! Notices time in which the process did not look: it was starved, stopped, suspended with its
//! machine, or the machine itself stood still.
//!
//! Invariants
//! 1. It is looked for before anything else of a round: what was found out before a lapse must not
//!    be taken for evidence of the present only because it was queued first.
//! 2. A clock that is set again and again costs one wait for fresh evidence in [`JUMP_GAP`], not
//!    one each time: a broken time service must not hold moves for ever.

use std::time::Duration;

use crate::core::input::{Input, Sense};
use crate::core::time::Instant;
use crate::daemon::driver::Driver;
use crate::telemetry::metric::{self, Stall};

/// More than this is a lapse.
const LAPSE: Duration = Duration::from_secs(2);
/// Least time between two jumps of the time of day that count.
const JUMP_GAP: Duration = Duration::from_secs(60);

/// The clocks at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// Where we are on our own line, which stands still while the machine is suspended.
    pub(crate) at: Instant,
    /// Time spent suspended since the start.
    pub(crate) suspended: Duration,
    /// The time of day.
    pub(crate) wall: Duration,
}

/// What was noticed last.
#[derive(Debug)]
pub(crate) struct Attention {
    latest: Reading,
    jumped_at: Option<Instant>,
}

impl Attention {
    /// Begins to look.
    pub(crate) const fn new(latest: Reading) -> Self {
        Self { latest, jumped_at: None }
    }

    /// The time lost since the latest reading, and why; `wake` is when this round was to begin at
    /// the latest.
    pub(crate) fn lost(&mut self, now: Reading, wake: Instant) -> Option<(Stall, Duration)> {
        let before = std::mem::replace(&mut self.latest, now);
        let slept = now.suspended.saturating_sub(before.suspended);
        let late = now.at - wake;
        let expected = before.wall.saturating_add(now.at - before.at).saturating_add(slept);
        let jumped = now.wall.abs_diff(expected);
        if slept > LAPSE {
            Some((Stall::Suspended, slept))
        } else if late > LAPSE {
            Some((Stall::Late, late))
        } else if jumped > LAPSE && self.counts(now.at) {
            self.jumped_at = Some(now.at);
            Some((Stall::Clock, jumped))
        } else {
            None
        }
    }

    fn counts(&self, now: Instant) -> bool {
        self.jumped_at.is_none_or(|at| now >= at + JUMP_GAP)
    }
}

impl Driver {
    /// Tells the engine of lost time: what was known before is no longer evidence.
    pub(super) fn notice_lapse(&mut self, wake: Instant) {
        let Some((stall, lost)) = self.attention.lost(self.clock.reading(), wake) else { return };
        let (reason, lost_seconds) = (stall.label(), lost.as_secs_f64());
        metric::stalled(stall);
        tracing::warn!(reason, lost_seconds, "time is missing: waiting for fresh evidence");
        self.step(Input::Sensed(Sense::Stalled(lost)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at: u64, suspended: u64, wall: u64) -> Reading {
        Reading {
            at: Instant::new(Duration::from_secs(at)),
            suspended: Duration::from_secs(suspended),
            wall: Duration::from_secs(wall),
        }
    }

    fn wake(at: u64) -> Instant {
        Instant::new(Duration::from_secs(at))
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn clocks_that_agree_have_lost_nothing() {
        let mut attention = Attention::new(reading(10, 0, 1_000));
        assert_eq!(attention.lost(reading(11, 0, 1_001), wake(11)), None);
        assert_eq!(attention.lost(reading(13, 0, 1_005), wake(12)), None, "two seconds are borne");
    }

    #[test]
    fn a_late_round_is_a_stall() {
        let mut attention = Attention::new(reading(10, 0, 1_000));
        let lost = attention.lost(reading(20, 0, 1_010), wake(11));
        assert_eq!(lost, Some((Stall::Late, secs(9))));
        assert_eq!(attention.lost(reading(21, 0, 1_011), wake(21)), None, "told once");
    }

    #[test]
    fn a_suspended_machine_is_a_stall_although_our_own_line_stood_still() {
        let mut attention = Attention::new(reading(10, 0, 1_000));
        let lost = attention.lost(reading(11, 600, 1_601), wake(11));
        assert_eq!(lost, Some((Stall::Suspended, secs(600))));
    }

    #[test]
    fn the_time_of_day_set_either_way_is_a_stall() {
        for wall in [1_301, 701] {
            let mut attention = Attention::new(reading(10, 0, 1_000));
            let lost = attention.lost(reading(11, 0, wall), wake(11));
            assert_eq!(lost, Some((Stall::Clock, secs(300))), "{wall}");
        }
    }

    #[test]
    fn a_clock_that_is_set_again_and_again_counts_once_a_minute() {
        let mut attention = Attention::new(reading(0, 0, 1_000));
        let mut counted = 0;
        for second in 1..=120 {
            let wall = if second % 2 == 0 { 1_000 } else { 5_000 };
            counted += u32::from(attention.lost(reading(second, 0, wall), wake(second)).is_some());
        }
        assert_eq!(counted, 2);
    }
}

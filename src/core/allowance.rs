//! Bounds what confirmations add to the probing of everybody.
//!
//! One endpoint that wavers is asked again at `fast_interval`. When thousands waver at once, that
//! would multiply the load just when their servers, or we, can bear it least, and so keep them
//! wavering. So all confirmations together share an allowance: the planned rate once more, or
//! [`RATE_MIN`] where that is higher. Those beyond it are put off, each to a moment of its own and
//! never further than the gap at which its endpoint is asked anyway.
//!
//! The generic cell rate algorithm (ITU-T I.371): one moment of state, no queue and no timer.
//!
//! Invariants
//! 1. In any span, no more than `BURST + rate × span` are admitted.
//! 2. A policy whose confirmations fit if all its endpoints waver is never held up.

use std::time::Duration;

use crate::core::rules::{Cadence, Rules, ServiceRules};
use crate::core::time::Instant;

/// Confirmations a second that no policy has to do without: a tenth of a core at most.
pub const RATE_MIN: u64 = 500;

/// Confirmations that may start at one moment.
pub const BURST: u32 = 100;

/// Rates are counted per this many seconds, so that whole numbers tell slow ones apart.
const SPAN: u64 = 1_000_000;

/// What is left for confirmations.
#[derive(Clone, Debug)]
pub struct Allowance {
    /// Whether all endpoints together can never ask for more.
    ample: bool,
    /// From one to the next once the burst is used up.
    gap: Duration,
    /// When all that was admitted would be through if it came one gap after the other.
    through: Instant,
}

impl Allowance {
    /// The allowance of a policy.
    #[must_use]
    pub fn of(rules: &Rules) -> Self {
        let (mut watches, mut planned, mut wanted) = (0_u64, 0_u64, 0_u64);
        for service in rules.services.values() {
            let endpoints = u64::try_from(service.endpoints.len()).unwrap_or(u64::MAX);
            for cadence in cadences(service) {
                let standby =
                    rate(cadence.standby_interval).saturating_mul(endpoints.saturating_sub(1));
                planned = planned.saturating_add(rate(cadence.interval)).saturating_add(standby);
                wanted = wanted.saturating_add(hurried(cadence).saturating_mul(endpoints));
                watches += endpoints;
            }
        }
        let allowed = planned.max(RATE_MIN * SPAN);
        Self {
            ample: watches <= u64::from(BURST) && wanted <= allowed,
            gap: Duration::from_nanos(SPAN.saturating_mul(1_000_000_000) / allowed),
            through: Instant::START,
        }
    }

    /// The same with what was admitted so far, after the policy has changed.
    #[must_use]
    pub const fn after(self, before: &Self) -> Self {
        Self { through: before.through, ..self }
    }

    /// Whether all endpoints together can never ask for more than is allowed.
    #[must_use]
    pub const fn ample(&self) -> bool {
        self.ample
    }

    /// When one more confirmation may start: at once, or at a moment that is kept for it. `None`,
    /// and nothing is kept, when that would not be before `latest`.
    pub fn admit(&mut self, now: Instant, latest: Instant) -> Option<Instant> {
        if self.ample {
            return Some(now);
        }
        let at = now + self.wait(now);
        if at > now && at >= latest {
            return None;
        }
        self.through = self.through.max(now) + self.gap;
        Some(at)
    }

    /// How long one more confirmation would have to wait.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Duration {
        self.backlog(now).saturating_sub(self.gap.saturating_mul(BURST - 1))
    }

    /// What was admitted and is not through; the whole of the state, relative to `now`.
    #[must_use]
    pub fn backlog(&self, now: Instant) -> Duration {
        self.through.since(now)
    }
}

fn cadences(service: &ServiceRules) -> impl Iterator<Item = &Cadence> {
    std::iter::once(&service.probe).chain(&service.deep_probe)
}

/// Starts in [`SPAN`] at one each `gap`.
fn rate(gap: Duration) -> u64 {
    let nanos = gap.as_nanos().max(1);
    u64::try_from(u128::from(SPAN) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// The most starts in [`SPAN`] while a flip is confirmed: jitter only ever shortens those gaps.
fn hurried(cadence: &Cadence) -> u64 {
    let kept = 1000 - u64::from(cadence.jitter_permille.min(500));
    rate(cadence.fast_interval).saturating_mul(1000) / kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allowance(gap: Duration) -> Allowance {
        Allowance { ample: false, gap, through: Instant::START }
    }

    fn at(nanos: u64) -> Instant {
        Instant::new(Duration::from_nanos(nanos))
    }

    const FOREVER: Instant = Instant::new(Duration::MAX);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn after_the_burst_each_has_a_moment_of_its_own() {
        let mut allowance = allowance(MS);
        for _ in 0..BURST {
            assert_eq!(allowance.admit(Instant::START, FOREVER), Some(Instant::START));
        }
        for nth in 1..=5 {
            assert_eq!(allowance.wait(Instant::START), MS * nth);
            let admitted = allowance.admit(Instant::START, FOREVER);
            assert_eq!(admitted, Some(Instant::START + MS * nth));
        }
    }

    #[test]
    fn nothing_is_kept_for_one_that_is_asked_anyway() {
        let mut allowance = allowance(MS);
        for _ in 0..BURST + 10 {
            allowance.admit(Instant::START, FOREVER);
        }
        let before = allowance.backlog(Instant::START);
        assert_eq!(allowance.admit(Instant::START, Instant::START + MS * 11), None);
        assert_eq!(allowance.backlog(Instant::START), before);
        assert!(allowance.admit(Instant::START, Instant::START + MS * 12).is_some());
    }

    #[test]
    fn what_is_admitted_is_through_one_gap_after_the_other() {
        let mut allowance = allowance(MS);
        for _ in 0..BURST * 2 {
            allowance.admit(Instant::START, FOREVER);
        }
        let later = Instant::START + MS * BURST;
        assert_eq!(allowance.wait(later), MS);
        assert_eq!(allowance.wait(later + MS * BURST), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn in_any_span_no_more_than_the_burst_and_the_rate_are_admitted(
            steps in prop::collection::vec(0_u64..3_000_000, 1..600),
        ) {
            let mut allowance = allowance(MS);
            let (mut now, mut starts) = (0, Vec::new());
            for step in steps {
                now += step;
                starts.extend(allowance.admit(at(now), at(now + 500_000_000)));
            }
            starts.sort_unstable();
            for (i, from) in starts.iter().enumerate().step_by(7) {
                for (n, to) in (1_u32..).zip(&starts[i..]) {
                    prop_assert!(MS * n.saturating_sub(BURST) <= to.since(*from), "{n} from {from:?}");
                }
            }
        }

        /// Invariant 2, shown of the algorithm itself and not of the flag that spares it.
        #[test]
        fn those_that_fit_never_wait(
            gaps in prop::collection::vec((50_u64..2_000, 0_u64..2_000), 1..=100),
        ) {
            let wanted: u64 = gaps.iter().map(|(gap, _)| rate(Duration::from_millis(*gap))).sum();
            let allowed = wanted.max(RATE_MIN * SPAN);
            let mut allowance = allowance(Duration::from_nanos(SPAN * 1_000_000_000 / allowed));
            let mut asked: Vec<u64> = Vec::new();
            for (gap, phase) in &gaps {
                asked.extend((0..20).map(|nth| (phase + nth * gap) * 1_000_000));
            }
            asked.sort_unstable();
            for now in asked {
                prop_assert_eq!(allowance.admit(at(now), FOREVER), Some(at(now)));
            }
        }
    }
}

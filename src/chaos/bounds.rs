//! By when what must happen must have happened, computed from the policy.
//!
//! Every bound is the sum of the longest waits that the rules allow, and of an allowance for the
//! machine that plays the drill. It is an upper bound, not an expectation.

use std::time::Duration;

use crate::chaos::fault::Fault;
use crate::core::rules::{BreakerMode, Cadence, FailbackMode, ServiceRules};
use crate::core::schedule::{detection_bound, longer_down_gap};

/// From a decision to the renamed file.
pub const PUBLISH: Duration = Duration::from_millis(50);
/// From an edit of the policy to its verdict where the kernel tells of it late or never.
pub const RELOAD: Duration = Duration::from_secs(3);
/// From the start of a sidecar's process to its first probe.
pub const START: Duration = Duration::from_secs(2);
/// What a drill allows its machine, unless told otherwise.
pub const ALLOWANCE: Duration = Duration::from_millis(250);

/// The bounds of one service.
#[derive(Clone, Debug)]
pub struct Bounds {
    cadence: Cadence,
    rules: ServiceRules,
    allowance: Duration,
}

impl Bounds {
    /// Those of a service, on a machine that needs this allowance.
    #[must_use]
    pub fn new(rules: &ServiceRules, allowance: Duration) -> Self {
        Self { cadence: rules.probe.clone(), rules: rules.clone(), allowance }
    }

    /// What is granted to the machine, once in each bound.
    #[must_use]
    pub const fn allowance(&self) -> Duration {
        self.allowance
    }

    /// How long a client gives a call: as long as a probe has.
    #[must_use]
    pub fn call(&self) -> Duration {
        self.cadence.timeout + self.allowance
    }

    /// From a fault on the active endpoint to the verdict.
    #[must_use]
    pub fn detection(&self, fault: Fault) -> Duration {
        let bound = detection_bound(&self.cadence);
        let policy = if fault.is_silent() { bound.silent } else { bound.refused };
        policy + self.allowance
    }

    /// From a decision to the renamed file.
    #[must_use]
    pub fn publish(&self) -> Duration {
        PUBLISH + self.allowance
    }

    /// From a fault on the active endpoint to an env file that names another one.
    #[must_use]
    pub fn switch(&self, fault: Fault) -> Duration {
        self.detection(fault) + self.proof() + PUBLISH
    }

    /// How long clients that follow the file at once may be without an answer: until the switch,
    /// and one call more.
    #[must_use]
    pub fn outage(&self, fault: Fault, pace: Duration) -> Duration {
        self.switch(fault) + pace
    }

    /// Until a stand-by that serves has been proven by a fresh pass.
    fn proof(&self) -> Duration {
        self.cadence.fast_interval
    }

    /// From the healing of an endpoint that was out for `out` to its being usable again.
    #[must_use]
    pub fn recovery(&self, fault: Fault, out: Duration) -> Duration {
        let Cadence { fast_interval, rise, timeout, .. } = self.cadence;
        let breaker = &self.rules.breaker;
        let confirm = fast_interval.saturating_mul(rise.saturating_add(breaker.half_open_passes));
        let out = out + timeout;
        let asked_to_stay = match fault {
            Fault::RateLimited(stay) => stay + self.standby(),
            Fault::None
            | Fault::Killed
            | Fault::Partitioned
            | Fault::Exhausted
            | Fault::Slow(_)
            | Fault::Jitter(_)
            | Fault::Lying
            | Fault::Truncating
            | Fault::Dripping => Duration::ZERO,
        };
        // Attempts of the time before may still be out when it heals.
        asked_to_stay
            + timeout
            + self.down_gap(out)
            + self.open_period(out)
            + confirm
            + self.allowance
    }

    /// From the healing of the preferred endpoint to an env file that names it again.
    #[must_use]
    pub fn failback(&self, fault: Fault, out: Duration, outages: u32) -> Duration {
        let failback = &self.rules.failover.failback;
        let passes = self.standby().saturating_mul(failback.rise);
        let wait = (failback.hold + failback.spread).max(passes);
        self.recovery(fault, out) + wait + self.suppression(outages) + self.standby() + PUBLISH
    }

    /// Whether a service that moved from its preferred endpoint returns by itself.
    #[must_use]
    pub fn returns(&self) -> bool {
        let auto = self.rules.failover.failback.mode == FailbackMode::Auto;
        let tiers = self.rules.endpoints.iter().map(|endpoint| endpoint.tier);
        let tiered = tiers.clone().min() != tiers.max();
        // The last move of the budget is kept for an emergency.
        auto && tiered && self.rules.failover.budget >= 3
    }

    /// The longest gap between two probes of an endpoint that is not active.
    #[must_use]
    pub fn standby(&self) -> Duration {
        stretched(self.cadence.standby_interval, self.cadence.jitter_permille)
    }

    /// How long a flap penalty can forbid the return after so many outages.
    fn suppression(&self, outages: u32) -> Duration {
        let flap = &self.rules.failover.flap;
        // An outage costs two: it went down, and it was left.
        let strikes = outages.saturating_mul(2);
        let suppressed = flap.penalty.saturating_mul(strikes) >= flap.suppress;
        if suppressed { flap.max_suppress } else { Duration::ZERO }
    }

    /// The longest gap between probes after an endpoint has been down for `out`.
    fn down_gap(&self, out: Duration) -> Duration {
        let (mut gap, mut passed) = (self.cadence.down_interval, Duration::ZERO);
        while passed + gap < out {
            passed += gap;
            let longer = longer_down_gap(gap, &self.cadence);
            if longer == gap {
                break;
            }
            gap = longer;
        }
        stretched(longer_down_gap(gap, &self.cadence), self.cadence.jitter_permille)
    }

    /// The longest time that a breaker can still be open after an endpoint was down for `out`.
    fn open_period(&self, out: Duration) -> Duration {
        let breaker = &self.rules.breaker;
        if breaker.mode != BreakerMode::Auto {
            return Duration::ZERO;
        }
        let longest = breaker.reset_timeout_max.max(breaker.reset_timeout);
        let (mut open, mut passed) = (breaker.reset_timeout, Duration::ZERO);
        while passed + open < out && open < longest {
            passed += open;
            open = open.saturating_mul(2).min(longest);
        }
        stretched(open, breaker.jitter_permille)
    }
}

/// A gap with all of its jitter.
fn stretched(gap: Duration, jitter_permille: u32) -> Duration {
    gap + gap.saturating_mul(jitter_permille) / 1000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chaos::lab::Book;

    fn quick() -> ServiceRules {
        let book = Book::built_in().expect("our own policy");
        let part = book.services.into_iter().next().expect("a service").part;
        (*part.expect("a service that can be played").rules).clone()
    }

    #[test]
    fn a_detection_bound_is_that_of_the_schedule_and_the_allowance() {
        let rules = quick();
        let bounds = Bounds::new(&rules, Duration::from_millis(5));
        // 300 ms and a tenth of jitter, two confirmations of 60 ms; a timeout of 1 s.
        assert_eq!(bounds.detection(Fault::Killed), Duration::from_millis(455));
        assert_eq!(bounds.detection(Fault::Partitioned), Duration::from_millis(1455));
        assert_eq!(bounds.publish(), Duration::from_millis(55));
    }

    #[test]
    fn only_a_better_tier_an_automatic_mode_and_a_budget_bring_a_service_back() {
        let returns = |change: fn(&mut ServiceRules)| {
            let mut rules = quick();
            change(&mut rules);
            Bounds::new(&rules, Duration::ZERO).returns()
        };
        assert!(returns(|_| {}));
        assert!(!returns(|rules| rules.failover.failback.mode = FailbackMode::Manual));
        assert!(!returns(|rules| rules.failover.failback.mode = FailbackMode::Never));
        assert!(!returns(|rules| rules.failover.budget = 2));
        assert!(!returns(|rules| rules.endpoints.iter_mut().for_each(|one| one.tier = 0)));
    }

    proptest! {
        #[test]
        fn a_longer_outage_never_shortens_a_bound(
            out in 0_u64..10_000_000, more in 0_u64..10_000_000, outages in 1_u32..10,
        ) {
            let bounds = Bounds::new(&quick(), Duration::ZERO);
            let (out, longer) = (Duration::from_millis(out), Duration::from_millis(out + more));
            for fault in [Fault::Killed, Fault::Partitioned, Fault::RateLimited(longer)] {
                prop_assert!(bounds.recovery(fault, out) <= bounds.recovery(fault, longer));
                let failback = bounds.failback(fault, out, outages);
                prop_assert!(failback <= bounds.failback(fault, longer, outages + 1));
                prop_assert!(failback > bounds.recovery(fault, out));
                prop_assert!(failback >= quick().failover.failback.hold);
            }
        }

        #[test]
        fn what_the_machine_is_allowed_is_in_every_bound(
            allowance in 0_u64..100_000, out in 0_u64..100_000,
        ) {
            let (allowance, out) = (Duration::from_millis(allowance), Duration::from_millis(out));
            let (bare, wide) =
                (Bounds::new(&quick(), Duration::ZERO), Bounds::new(&quick(), allowance));
            for fault in [Fault::Killed, Fault::Exhausted] {
                prop_assert_eq!(wide.detection(fault), bare.detection(fault) + allowance);
                prop_assert_eq!(wide.switch(fault), bare.switch(fault) + allowance);
                prop_assert_eq!(wide.recovery(fault, out), bare.recovery(fault, out) + allowance);
                let (wide, bare) =
                    (wide.failback(fault, out, 1), bare.failback(fault, out, 1));
                prop_assert_eq!(wide, bare + allowance);
            }
        }
    }
}

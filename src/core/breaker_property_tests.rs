//! What the breaker must never do, whatever is done to it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::core::rng::Rng;

#[derive(Clone, Debug)]
enum Step {
    Record(Call),
    Acquire,
    Settle(usize, Call),
    Release(usize),
    Wait(u64),
    Reload(BreakerRules),
    Restart(u64),
    Force(Option<Forced>),
}

fn any_call() -> impl Strategy<Value = Call> {
    prop_oneof![Just(PASS), Just(FAIL), Just(FAIL), Just(NEUTRAL), Just(SLOW)]
}

fn any_rules() -> impl Strategy<Value = BreakerRules> {
    let mode = prop_oneof![
        6 => Just(BreakerMode::Auto),
        1 => Just(BreakerMode::Disabled),
        1 => Just(BreakerMode::MetricsOnly),
    ];
    (mode, 1_u32..5, 300_u32..1002, 1_u32..8, 1_u32..4, 1_u32..4).prop_map(
        |(mode, failure_threshold, rate, min_calls, half_open_permits, half_open_passes)| {
            BreakerRules {
                mode,
                failure_threshold,
                failure_rate_permille: rate,
                min_calls,
                half_open_permits,
                half_open_passes,
                jitter_permille: 100,
                ..RULES
            }
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any_call().prop_map(Step::Record),
        4 => Just(Step::Acquire),
        4 => (0_usize..6, any_call()).prop_map(|(n, call)| Step::Settle(n, call)),
        1 => (0_usize..6).prop_map(Step::Release),
        6 => (0_u64..50).prop_map(Step::Wait),
        1 => any_rules().prop_map(Step::Reload),
        1 => (0_u64..50).prop_map(Step::Restart),
        1 => prop_oneof![Just(None), Just(Some(Forced::Open)), Just(Some(Forced::Closed))]
            .prop_map(Step::Force),
    ]
}

/// A breaker under random use, with what a caller may know of it.
struct Run {
    bench: Bench,
    now: u64,
    out: Vec<PermitId>,
    seen: BTreeSet<PermitId>,
}

impl Run {
    /// Does one step; says whether the state was ordered to change.
    fn apply(&mut self, step: Step) -> Result<bool, TestCaseError> {
        let now = self.now;
        match step {
            Step::Record(call) => drop(self.bench.record(&[call], now)),
            Step::Acquire => self.acquire()?,
            Step::Settle(nth, call) if nth < self.out.len() => {
                let permit = self.out.remove(nth);
                let _told = self.bench.settle(permit, call, now);
            }
            Step::Release(nth) if nth < self.out.len() => {
                prop_assert!(self.bench.breaker.release(self.out.remove(nth)));
            }
            Step::Settle(..) | Step::Release(_) => {}
            Step::Wait(secs) => {
                self.now += secs;
                let _told = self.bench.advance(self.now);
            }
            Step::Reload(rules) => {
                let ordered = rules.mode != self.bench.rules.mode;
                self.bench.rules = rules;
                let _told = self.bench.breaker.rules_replaced(&self.bench.rules);
                return Ok(ordered);
            }
            Step::Restart(away) => self.restart(away),
            Step::Force(forced) => {
                let _told = self.bench.breaker.force(forced);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn acquire(&mut self) -> Result<(), TestCaseError> {
        let before = self.bench.state();
        if let Some(permit) = self.bench.acquire(self.now) {
            prop_assert_eq!(before, BreakerState::HalfOpen);
            prop_assert!(self.seen.insert(permit), "a permit is never used twice");
            self.out.push(permit);
            let out = u32::try_from(self.out.len()).unwrap_or(u32::MAX);
            prop_assert!(out <= self.bench.rules.half_open_permits, "I8");
        }
        Ok(())
    }

    fn restart(&mut self, away: u64) {
        let kept = self.bench.breaker.snapshot(at(self.now));
        self.now += away;
        let away = Duration::from_secs(away);
        self.bench.breaker = Breaker::restore(&self.bench.rules, &kept, away, at(self.now));
        // A new process starts its permits anew.
        self.out.clear();
        self.seen.clear();
    }

    /// An open breaker ends its open time by itself, and only then.
    fn check_open(&self, retry_at: Option<Instant>) -> Result<(), TestCaseError> {
        let now = Some(at(self.now));
        match self.bench.state() {
            // After a restart past its time it is due at once.
            BreakerState::Open => {
                prop_assert_eq!(self.bench.breaker.retry_at().max(now), retry_at.max(now), "I9");
            }
            BreakerState::HalfOpen => prop_assert!(retry_at <= now, "I9"),
            other @ (BreakerState::Closed
            | BreakerState::ForcedOpen
            | BreakerState::ForcedClosed
            | BreakerState::Disabled
            | BreakerState::MetricsOnly) => {
                prop_assert!(false, "I9: open became {}", other.label());
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn it_never_admits_what_it_must_not(
        rules in any_rules(), steps in prop::collection::vec(any_step(), 0..150), seed: u64,
    ) {
        let mut run =
            Run { bench: Bench::new(rules), now: 0, out: Vec::new(), seen: BTreeSet::new() };
        run.bench.rng = Rng::new(seed);
        for step in steps {
            let before = run.bench.state();
            let retry_at = run.bench.breaker.retry_at();
            let ordered = run.apply(step)?;
            let after = run.bench.state();
            if after != BreakerState::HalfOpen {
                run.out.clear();
            }
            let blocks = [BreakerState::Open, BreakerState::HalfOpen, BreakerState::ForcedOpen];
            prop_assert_eq!(run.bench.breaker.admits(), !blocks.contains(&after));
            if before == BreakerState::Open && !ordered {
                run.check_open(retry_at)?;
            }
            if matches!(before, BreakerState::ForcedOpen | BreakerState::ForcedClosed) && !ordered {
                prop_assert_eq!(after, before, "only a person ends a person's order");
            }
            if let Some(deadline) = run.bench.breaker.deadline() {
                prop_assert!(deadline <= at(run.now) + longest(&RULES));
            }
        }
    }
}

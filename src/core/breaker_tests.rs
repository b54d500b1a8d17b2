//! The rules of the breaker, one test each.

use super::*;
use crate::core::rng::Rng;

const RULES: BreakerRules = BreakerRules {
    mode: BreakerMode::Auto,
    failure_threshold: 3,
    failure_rate_permille: 500,
    slow_rate_permille: 800,
    slow_call: Duration::from_secs(2),
    min_calls: 5,
    window: Duration::from_secs(60),
    window_buckets: 10,
    reset_timeout: Duration::from_secs(30),
    reset_timeout_max: Duration::from_secs(100),
    jitter_permille: 0,
    half_open_permits: 2,
    half_open_passes: 2,
    permit_lease: Duration::from_secs(10),
};

const FAST: Duration = Duration::from_millis(20);
const PASS: Call = Call { verdict: Verdict::Pass, latency: FAST, retry_after: None };
const FAIL: Call = Call { verdict: Verdict::Fail, latency: FAST, retry_after: None };
const NEUTRAL: Call = Call { verdict: Verdict::Neutral, latency: FAST, retry_after: None };
const SLOW: Call = Call { latency: Duration::from_secs(3), ..PASS };

fn at(secs: u64) -> Instant {
    Instant::new(Duration::from_secs(secs))
}

/// A breaker with what every call of it needs.
struct Bench {
    breaker: Breaker,
    rules: BreakerRules,
    rng: Rng,
}

impl Bench {
    fn new(rules: BreakerRules) -> Self {
        Self { breaker: Breaker::new(&rules), rules, rng: Rng::new(5) }
    }

    /// Tripped at second 0 by failures in a row.
    fn tripped() -> Self {
        let mut bench = Self::new(RULES);
        assert_eq!(bench.record(&[FAIL, FAIL, FAIL], 0), Some(TripReason::Consecutive));
        bench
    }

    /// Half-open from second 30 on.
    fn half_open() -> Self {
        let mut bench = Self::tripped();
        assert!(bench.advance(30).is_some());
        bench
    }

    /// Records all at one second; why it tripped on the way, if it did.
    fn record(&mut self, calls: &[Call], secs: u64) -> Option<TripReason> {
        let mut reason = None;
        for call in calls {
            let told = self.breaker.record(&self.rules, *call, at(secs), &mut self.rng);
            reason = reason.or(told.and_then(|transition| transition.reason));
        }
        reason
    }

    fn advance(&mut self, secs: u64) -> Option<Transition> {
        self.breaker.advance(&self.rules, at(secs), &mut self.rng)
    }

    fn acquire(&mut self, secs: u64) -> Option<PermitId> {
        self.breaker.try_acquire(&self.rules, at(secs))
    }

    fn settle(&mut self, permit: PermitId, call: Call, secs: u64) -> Option<Transition> {
        self.breaker.settle(&self.rules, (permit, call), at(secs), &mut self.rng)
    }

    fn state(&self) -> BreakerState {
        self.breaker.state()
    }
}

#[test]
fn failures_in_a_row_trip_it() {
    let mut bench = Bench::new(RULES);
    assert_eq!(bench.record(&[FAIL, FAIL], 0), None);
    assert_eq!(bench.state(), BreakerState::Closed);
    assert_eq!(bench.record(&[FAIL], 1), Some(TripReason::Consecutive));
    assert_eq!(bench.state(), BreakerState::Open);
    assert!(!bench.breaker.admits());
}

#[test]
fn a_pass_interrupts_the_row() {
    let mut bench = Bench::new(BreakerRules { failure_rate_permille: 1001, ..RULES });
    assert_eq!(bench.record(&[FAIL, FAIL, PASS, FAIL, FAIL], 0), None);
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[test]
fn a_neutral_result_interrupts_no_row_and_counts_as_no_call() {
    let mut bench = Bench::new(RULES);
    assert_eq!(bench.record(&[FAIL, FAIL, NEUTRAL, FAIL], 0), Some(TripReason::Consecutive));
    let mut bench = Bench::new(RULES);
    assert_eq!(bench.record(&[NEUTRAL; 20], 0), None);
    assert_eq!(bench.breaker.counts(at(0)), Counts::default());
}

#[test]
fn a_failure_rate_trips_it_only_from_min_calls_on() {
    let mut bench = Bench::new(RULES);
    assert_eq!(bench.record(&[FAIL, FAIL, PASS, FAIL], 0), None);
    assert_eq!(bench.record(&[PASS], 1), Some(TripReason::FailureRate), "three of five");
}

#[test]
fn a_failure_rate_just_below_the_limit_does_not_trip_it() {
    let mut bench = Bench::new(BreakerRules { min_calls: 4, ..RULES });
    let calls: Vec<Call> = [PASS, PASS, FAIL].into_iter().cycle().take(54).collect();
    assert_eq!(bench.record(&calls, 0), None);
}

#[test]
fn old_failures_leave_the_window() {
    let mut bench = Bench::new(RULES);
    assert_eq!(bench.record(&[FAIL, FAIL, PASS], 0), None);
    assert_eq!(bench.record(&[PASS, FAIL, FAIL, PASS, PASS], 70), None, "two of five");
}

#[test]
fn slow_calls_trip_it_although_they_pass() {
    let mut bench = Bench::new(RULES);
    assert_eq!(bench.record(&[SLOW, SLOW, PASS, SLOW], 0), None);
    assert_eq!(bench.record(&[SLOW], 0), Some(TripReason::SlowRate), "four of five");
}

#[test]
fn a_rate_of_1001_never_trips_it() {
    let never = BreakerRules {
        failure_threshold: u32::MAX,
        failure_rate_permille: 1001,
        slow_rate_permille: 1001,
        ..RULES
    };
    let slow_failure = Call { latency: Duration::from_secs(9), ..FAIL };
    assert_eq!(Bench::new(never).record(&[slow_failure; 100], 0), None);
}

#[test]
fn a_late_pass_does_not_close_an_open_breaker() {
    let mut bench = Bench::tripped();
    let before = bench.breaker.clone();
    assert_eq!(bench.record(&[PASS, PASS, PASS, FAIL], 1), None);
    assert_eq!(bench.breaker, before);
    assert_eq!(bench.breaker.deadline(), Some(at(30)));
}

#[test]
fn open_admits_nothing_before_its_time() {
    let mut bench = Bench::tripped();
    assert_eq!(bench.breaker.retry_at(), Some(at(30)));
    assert_eq!(bench.acquire(29), None);
    assert_eq!(bench.advance(29), None);
    let told = bench.advance(30);
    let (from, to) = (BreakerState::Open, BreakerState::HalfOpen);
    assert_eq!(told, Some(Transition { from, to, reason: None }));
}

#[test]
fn half_open_admits_only_as_many_trials_as_allowed() {
    let mut bench = Bench::half_open();
    assert!(!bench.breaker.admits());
    let first = bench.acquire(30).unwrap();
    assert!(bench.acquire(30).is_some());
    assert_eq!(bench.acquire(30), None);
    assert!(bench.breaker.release(first));
    assert!(bench.acquire(30).is_some(), "a slot given back is free again");
}

#[test]
fn enough_passed_trials_close_it() {
    let mut bench = Bench::half_open();
    let (one, two) = (bench.acquire(30).unwrap(), bench.acquire(30).unwrap());
    assert_eq!(bench.settle(one, PASS, 31), None);
    assert!(bench.settle(two, PASS, 31).is_some());
    assert_eq!(bench.state(), BreakerState::Closed);
    assert_eq!(bench.record(&[FAIL, FAIL], 31), None, "it starts with a clean slate");
}

#[test]
fn one_failed_trial_opens_it_again_for_twice_as_long() {
    let mut bench = Bench::half_open();
    let permit = bench.acquire(30).unwrap();
    let told = bench.settle(permit, FAIL, 31).unwrap();
    assert_eq!(told.reason, Some(TripReason::TrialFailed));
    assert_eq!(bench.breaker.retry_at(), Some(at(91)));
}

#[test]
fn open_periods_double_up_to_the_longest_and_start_anew_after_closing() {
    let mut bench = Bench::half_open();
    let mut now = 30;
    for period in [60, 100, 100] {
        let permit = bench.acquire(now).unwrap();
        assert!(bench.settle(permit, FAIL, now).is_some());
        assert_eq!(bench.breaker.retry_at(), Some(at(now + period)));
        now += period;
        assert!(bench.advance(now).is_some());
    }
    for _ in 0..2 {
        let permit = bench.acquire(now).unwrap();
        let _told = bench.settle(permit, PASS, now);
    }
    assert!(bench.record(&[FAIL, FAIL, FAIL], now).is_some());
    assert_eq!(bench.breaker.retry_at(), Some(at(now + 30)));
}

#[test]
fn a_neutral_trial_gives_its_permit_back_and_counts_as_nothing() {
    let mut bench = Bench::half_open();
    let before = bench.breaker.snapshot(at(30));
    let (one, _two) = (bench.acquire(30).unwrap(), bench.acquire(30).unwrap());
    assert_eq!(bench.settle(one, NEUTRAL, 30), None);
    assert_eq!(bench.breaker.snapshot(at(30)), before);
    assert!(bench.acquire(30).is_some());
}

#[test]
fn a_trial_that_does_not_come_back_counts_as_failed() {
    let mut bench = Bench::half_open();
    let lost = bench.acquire(30).unwrap();
    assert_eq!(bench.breaker.deadline(), Some(at(40)));
    assert_eq!(bench.advance(39), None);
    assert_eq!(bench.advance(40).unwrap().reason, Some(TripReason::TrialFailed));
    assert_eq!(bench.settle(lost, PASS, 41), None, "too late");
    assert_eq!(bench.state(), BreakerState::Open);
}

#[test]
fn a_late_trial_of_an_earlier_half_open_settles_nothing() {
    let mut bench = Bench::half_open();
    let (old, other) = (bench.acquire(30).unwrap(), bench.acquire(30).unwrap());
    assert!(bench.settle(other, FAIL, 30).is_some());
    assert!(bench.advance(90).is_some());
    let fresh = bench.acquire(90).unwrap();
    assert_ne!(old, fresh);
    assert_eq!(bench.settle(old, PASS, 90), None);
    assert_eq!(bench.settle(fresh, PASS, 90), None, "only one pass so far");
    assert_eq!(bench.state(), BreakerState::HalfOpen);
}

#[test]
fn a_slow_trial_fails_where_slowness_trips() {
    let mut bench = Bench::half_open();
    let permit = bench.acquire(30).unwrap();
    assert!(bench.settle(permit, SLOW, 30).is_some());
    let mut bench = Bench::half_open();
    bench.rules.slow_rate_permille = 1001;
    let permit = bench.acquire(30).unwrap();
    assert_eq!(bench.settle(permit, SLOW, 30), None);
    assert_eq!(bench.state(), BreakerState::HalfOpen);
}

#[test]
fn it_stays_away_as_long_as_it_was_asked_to_but_no_longer_than_the_cap() {
    let asked = |secs| Call { retry_after: Some(Duration::from_secs(secs)), ..FAIL };
    for (secs, retry_at) in [(5, 30), (90, 90), (86_400, 300)] {
        let mut bench = Bench::new(RULES);
        assert!(bench.record(&[FAIL, FAIL, asked(secs)], 0).is_some());
        assert_eq!(bench.breaker.retry_at(), Some(at(retry_at)));
    }
}

#[test]
fn jitter_only_lengthens_an_open_period() {
    for seed in 0..100 {
        let mut bench = Bench::new(BreakerRules { jitter_permille: 200, ..RULES });
        bench.rng = Rng::new(seed);
        assert!(bench.record(&[FAIL, FAIL, FAIL], 0).is_some());
        let until = bench.breaker.retry_at().unwrap();
        assert!(at(30) <= until && until <= at(36), "{until:?}");
    }
}

#[test]
fn a_reload_never_resets_it_silently() {
    let mut bench = Bench::tripped();
    let other = BreakerRules {
        reset_timeout: Duration::from_secs(1),
        window: Duration::from_secs(9),
        window_buckets: 3,
        ..RULES
    };
    assert_eq!(bench.breaker.rules_replaced(&other), None);
    assert_eq!(bench.breaker.retry_at(), Some(at(30)));

    let mut bench = Bench::half_open();
    let permit = bench.acquire(30).unwrap();
    assert_eq!(bench.breaker.rules_replaced(&other), None);
    assert!(bench.breaker.release(permit), "trials stay out");

    let mut bench = Bench::new(RULES);
    assert_eq!(bench.record(&[FAIL, FAIL], 0), None);
    assert_eq!(bench.breaker.rules_replaced(&other), None);
    assert_eq!(bench.breaker.counts(at(1)).failures, 2, "counts stay");
    assert_eq!(bench.record(&[FAIL], 1), Some(TripReason::Consecutive), "the row goes on");
}

#[test]
fn a_lower_threshold_by_reload_trips_with_the_next_failure_not_by_itself() {
    let mut bench = Bench::new(RULES);
    assert_eq!(bench.record(&[FAIL, FAIL], 0), None);
    bench.rules.failure_threshold = 1;
    assert_eq!(bench.breaker.rules_replaced(&bench.rules), None);
    assert_eq!(bench.state(), BreakerState::Closed);
    assert_eq!(bench.record(&[FAIL], 1), Some(TripReason::Consecutive));
}

#[test]
fn fewer_permits_by_reload_admit_none_until_enough_came_back() {
    let mut bench = Bench::half_open();
    let (one, two) = (bench.acquire(30).unwrap(), bench.acquire(30).unwrap());
    bench.rules.half_open_permits = 1;
    assert!(bench.breaker.release(one));
    assert_eq!(bench.acquire(30), None);
    assert!(bench.breaker.release(two));
    assert!(bench.acquire(30).is_some());
}

#[test]
fn a_change_of_mode_shows_and_starts_clean() {
    let mut bench = Bench::tripped();
    bench.rules.mode = BreakerMode::Disabled;
    let told = bench.breaker.rules_replaced(&bench.rules).unwrap();
    assert_eq!((told.from, told.to), (BreakerState::Open, BreakerState::Disabled));
    assert!(bench.breaker.admits());
    assert_eq!(bench.record(&[FAIL; 50], 1), None, "disabled counts nothing");
    assert_eq!(bench.breaker.counts(at(1)), Counts::default());
    bench.rules.mode = BreakerMode::Auto;
    let told = bench.breaker.rules_replaced(&bench.rules).unwrap();
    assert_eq!((told.from, told.to), (BreakerState::Disabled, BreakerState::Closed));
}

#[test]
fn metrics_only_says_once_an_outage_what_would_have_tripped_and_never_blocks() {
    let rules =
        BreakerRules { mode: BreakerMode::MetricsOnly, failure_rate_permille: 1001, ..RULES };
    let mut bench = Bench::new(rules);
    assert_eq!(bench.record(&[FAIL, FAIL, FAIL], 0), Some(TripReason::Consecutive));
    assert!(bench.breaker.admits());
    assert_eq!(bench.state(), BreakerState::MetricsOnly);
    assert_eq!(bench.record(&[FAIL; 10], 1), None, "the same outage");
    assert_eq!(bench.record(&[PASS, FAIL, FAIL, FAIL], 2), Some(TripReason::Consecutive));
}

#[test]
fn forced_open_blocks_until_a_person_lets_go() {
    let mut bench = Bench::new(RULES);
    let told = bench.breaker.force(Some(Forced::Open)).unwrap();
    assert_eq!((told.to, told.reason), (BreakerState::ForcedOpen, Some(TripReason::Forced)));
    assert_eq!(bench.record(&[PASS; 10], 0), None);
    assert_eq!(bench.advance(1_000_000), None);
    assert_eq!(bench.acquire(1_000_000), None);
    assert_eq!(bench.breaker.deadline(), None);
    assert!(!bench.breaker.admits());
    assert_eq!(bench.breaker.force(None).unwrap().to, BreakerState::Closed);
}

#[test]
fn forced_closed_flows_whatever_happens() {
    let mut bench = Bench::tripped();
    assert_eq!(bench.breaker.force(Some(Forced::Closed)).unwrap().to, BreakerState::ForcedClosed);
    assert_eq!(bench.record(&[FAIL; 10], 1), None);
    assert!(bench.breaker.admits());
    assert_eq!(bench.breaker.reset().unwrap().to, BreakerState::Closed);
    assert_eq!(bench.record(&[FAIL, FAIL], 2), None, "with a clean slate");
}

#[test]
fn an_open_period_runs_on_over_a_restart() {
    let bench = Bench::tripped();
    let kept = bench.breaker.snapshot(at(10));
    let again = Breaker::restore(&RULES, &kept, Duration::from_secs(5), at(0));
    assert_eq!(again.retry_at(), Some(at(15)));
    assert_eq!(again.snapshot(at(0)).trips, 1, "the next one doubles");
    let later = Breaker::restore(&RULES, &kept, Duration::from_secs(500), at(0));
    assert_eq!((later.state(), later.retry_at()), (BreakerState::Open, Some(at(0))));
}

#[test]
fn a_damaged_snapshot_cannot_keep_it_open_for_ever() {
    let open_for = Some(Duration::MAX);
    let kept = BreakerSnapshot { trips: u32::MAX, open_for, ..Default::default() };
    let again = Breaker::restore(&RULES, &kept, Duration::ZERO, at(0));
    assert_eq!(again.retry_at(), Some(Instant::START + RETRY_AFTER_MAX));
}

#[test]
fn a_restart_keeps_the_row_the_trials_and_a_persons_order() {
    let mut bench = Bench::new(RULES);
    assert_eq!(bench.record(&[FAIL, FAIL], 0), None);
    let kept = bench.breaker.snapshot(at(1));
    bench.breaker = Breaker::restore(&RULES, &kept, Duration::ZERO, at(0));
    assert_eq!(bench.record(&[FAIL], 0), Some(TripReason::Consecutive));

    let mut bench = Bench::half_open();
    let permit = bench.acquire(30).unwrap();
    assert_eq!(bench.settle(permit, PASS, 30), None);
    let kept = bench.breaker.snapshot(at(30));
    bench.breaker = Breaker::restore(&RULES, &kept, Duration::ZERO, at(0));
    assert_eq!(bench.state(), BreakerState::HalfOpen);
    let permit = bench.acquire(0).unwrap();
    assert!(bench.settle(permit, PASS, 0).is_some(), "the second pass closes it");

    let _told = bench.breaker.force(Some(Forced::Open));
    let kept = bench.breaker.snapshot(at(0));
    let again = Breaker::restore(&RULES, &kept, Duration::from_secs(1_000_000), at(0));
    assert_eq!(again.state(), BreakerState::ForcedOpen);
}

#[test]
fn a_snapshot_survives_json() {
    let kept = Bench::tripped().breaker.snapshot(at(3));
    let text = serde_json::to_string(&kept).unwrap();
    assert_eq!(serde_json::from_str::<BreakerSnapshot>(&text).unwrap(), kept);
}

#[path = "breaker_property_tests.rs"]
mod property;

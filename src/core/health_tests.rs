//! The rules of health, one test each.

use proptest::prelude::*;

use super::*;

const CADENCE: Cadence = Cadence {
    interval: Duration::from_secs(10),
    fast_interval: Duration::from_secs(1),
    down_interval: Duration::from_secs(10),
    down_interval_max: Duration::from_secs(60),
    standby_interval: Duration::from_secs(30),
    timeout: Duration::from_secs(5),
    rise: 2,
    fall: 3,
    jitter_permille: 0,
};

fn at(secs: u64) -> Instant {
    Instant::new(Duration::from_secs(secs))
}

/// A tracker that has seen `outcomes`, one a second from second 0 on.
fn after(outcomes: &[Outcome]) -> HealthTracker {
    let mut tracker = HealthTracker::new();
    for (second, outcome) in (0..).zip(outcomes) {
        let _told = tracker.record(&CADENCE, *outcome, at(second));
    }
    tracker
}

const OK: Outcome = Outcome::Ok;
const BAD: Outcome = Outcome::Refused;
const THROTTLED: Outcome = Outcome::Throttled { retry_after: None };

fn throttled(secs: u64) -> Outcome {
    Outcome::Throttled { retry_after: Some(Duration::from_secs(secs)) }
}

#[test]
fn one_pass_proves_the_unknown() {
    assert_eq!(after(&[]).health(), Health::Unknown);
    assert_eq!(after(&[OK]).health(), Health::Healthy);
    assert_eq!(after(&[BAD, BAD, OK]).health(), Health::Healthy);
}

#[test]
fn the_unknown_needs_fall_failures_to_be_unhealthy() {
    assert_eq!(after(&[BAD, BAD]).health(), Health::Unknown);
    assert_eq!(after(&[BAD, BAD, BAD]).health(), Health::Unhealthy);
}

#[test]
fn the_healthy_falls_after_fall_failures_in_a_row() {
    assert_eq!(after(&[OK, BAD, BAD]).health(), Health::Healthy);
    assert_eq!(after(&[OK, BAD, BAD, OK, BAD, BAD]).health(), Health::Healthy);
    assert_eq!(after(&[OK, BAD, BAD, BAD]).health(), Health::Unhealthy);
}

#[test]
fn the_unhealthy_rises_after_rise_passes_in_a_row() {
    assert_eq!(after(&[BAD, BAD, BAD, OK]).health(), Health::Unhealthy);
    assert_eq!(after(&[BAD, BAD, BAD, OK, BAD, OK]).health(), Health::Unhealthy);
    assert_eq!(after(&[BAD, BAD, BAD, OK, OK]).health(), Health::Healthy);
}

#[test]
fn a_row_of_warnings_degrades_and_a_row_of_clean_passes_restores() {
    let warned = Outcome::Degraded;
    assert_eq!(after(&[OK, warned, warned]).health(), Health::Healthy);
    assert_eq!(after(&[OK, warned, warned, warned]).health(), Health::Degraded);
    assert_eq!(after(&[OK, warned, warned, warned, OK]).health(), Health::Degraded);
    assert_eq!(after(&[OK, warned, warned, warned, OK, warned, OK]).health(), Health::Degraded);
    assert_eq!(after(&[OK, warned, warned, warned, OK, OK]).health(), Health::Healthy);
    assert_eq!(after(&[OK, warned, warned, warned, BAD, BAD, BAD]).health(), Health::Unhealthy);
}

#[test]
fn a_neutral_outcome_interrupts_no_row() {
    let between = [Outcome::Local, Outcome::ClientError, Outcome::WrongRole];
    for neutral in between {
        let tracker = after(&[OK, BAD, BAD, neutral, BAD]);
        assert_eq!(tracker.base(), Health::Unhealthy, "{neutral}");
        let tracker = after(&[BAD, BAD, BAD, OK, neutral, OK]);
        assert_eq!(tracker.base(), Health::Healthy, "{neutral}");
    }
}

#[test]
fn our_own_fault_changes_nothing() {
    let mut tracker = after(&[OK, BAD]);
    let before = tracker.clone();
    assert_eq!(tracker.record(&CADENCE, Outcome::Local, at(9)), None);
    assert_eq!(tracker, before);
}

#[test]
fn throttling_covers_health_until_its_time_and_no_longer() {
    let mut tracker = after(&[OK]);
    let told = tracker.record(&CADENCE, throttled(60), at(10));
    assert_eq!(told, Some(Change { from: Health::Healthy, to: Health::Throttled }));
    assert_eq!(tracker.base(), Health::Healthy);
    assert_eq!(tracker.deadline(), Some(at(70)));
    assert_eq!(tracker.advance(at(69)), None);
    let told = tracker.advance(at(70));
    assert_eq!(told, Some(Change { from: Health::Throttled, to: Health::Healthy }));
}

#[test]
fn throttling_without_a_time_lasts_the_default_and_no_wish_exceeds_the_cap() {
    assert_eq!(after(&[THROTTLED]).throttled_until(), Some(Instant::START + RETRY_AFTER_DEFAULT));
    assert_eq!(after(&[throttled(3600)]).throttled_until(), Some(at(300)));
    assert_eq!(after(&[throttled(0)]).throttled_until(), Some(at(1)));
}

#[test]
fn throttling_again_extends_and_never_shortens() {
    assert_eq!(after(&[throttled(60), throttled(5)]).throttled_until(), Some(at(60)));
    assert_eq!(after(&[throttled(60), throttled(90)]).throttled_until(), Some(at(91)));
}

#[test]
fn a_pass_does_not_end_throttling() {
    assert_eq!(after(&[throttled(60), OK]).health(), Health::Throttled);
}

#[test]
fn a_refused_credential_shows_at_once_and_is_cleared_by_a_pass() {
    let tracker = after(&[OK, Outcome::Auth]);
    assert_eq!((tracker.health(), tracker.base()), (Health::AuthFailed, Health::Healthy));
    assert_eq!(after(&[OK, Outcome::Auth, BAD]).health(), Health::AuthFailed);
    assert_eq!(after(&[OK, Outcome::Auth, OK]).health(), Health::Healthy);
}

#[test]
fn a_refused_credential_covers_throttling() {
    assert_eq!(after(&[OK, THROTTLED, Outcome::Auth]).health(), Health::AuthFailed);
}

#[test]
fn a_wrong_role_and_a_wrong_probe_are_flags_that_a_pass_clears() {
    let tracker = after(&[OK, Outcome::WrongRole, Outcome::ClientError]);
    assert!(tracker.wrong_role() && tracker.misconfigured());
    assert_eq!(tracker.health(), Health::Healthy);
    let tracker = after(&[OK, Outcome::WrongRole, Outcome::ClientError, OK]);
    assert!(!tracker.wrong_role() && !tracker.misconfigured());
}

#[test]
fn the_usable_run_starts_with_recovery_and_a_single_failure_does_not_break_it() {
    assert_eq!(after(&[OK, OK, BAD]).usable_since(), Some(at(0)));
    assert_eq!(after(&[OK, BAD, BAD, BAD]).usable_since(), None);
    assert_eq!(after(&[OK, BAD, BAD, BAD, OK]).usable_since(), None);
    assert_eq!(after(&[OK, BAD, BAD, BAD, OK, OK]).usable_since(), Some(at(5)));
}

#[test]
fn an_overlay_or_a_wrong_role_breaks_the_usable_run() {
    for cover in [Outcome::Auth, Outcome::WrongRole] {
        assert_eq!(after(&[OK, cover]).usable_since(), None, "{cover}");
        assert_eq!(after(&[OK, cover, OK]).usable_since(), Some(at(2)), "{cover}");
    }
    let mut tracker = after(&[OK, throttled(60)]);
    assert_eq!(tracker.usable_since(), None);
    let _told = tracker.advance(at(61));
    assert_eq!(tracker.usable_since(), Some(at(61)));
}

#[test]
fn it_wobbles_only_while_a_flip_is_being_confirmed() {
    assert!(!after(&[]).wobbling(&CADENCE));
    assert!(!after(&[OK]).wobbling(&CADENCE));
    assert!(after(&[OK, BAD]).wobbling(&CADENCE));
    assert!(after(&[OK, BAD, BAD]).wobbling(&CADENCE));
    assert!(!after(&[OK, BAD, BAD, BAD]).wobbling(&CADENCE));
    assert!(after(&[OK, BAD, BAD, BAD, OK]).wobbling(&CADENCE));
    assert!(!after(&[OK, BAD, BAD, BAD, OK, OK]).wobbling(&CADENCE));
    assert!(after(&[BAD]).wobbling(&CADENCE));
}

#[test]
fn a_restart_keeps_the_verdict_but_not_the_proof() {
    let kept = after(&[OK, OK, BAD]).snapshot(at(100));
    let again = HealthTracker::restore(&kept, Duration::from_secs(7), at(1));
    assert_eq!((again.health(), again.failures()), (Health::Healthy, 1));
    assert_eq!(again.last_pass_at(), None);
    assert_eq!(again.snapshot(at(1)), kept);
}

#[test]
fn the_hold_counts_what_was_watched_before_a_restart_but_not_the_gap() {
    let kept = after(&[OK]).snapshot(at(100));
    let again = HealthTracker::restore(&kept, Duration::from_secs(50), at(5));
    assert_eq!(again.usable_until_held(Duration::from_secs(300)), Some(at(205)));
    assert_eq!(again.usable_until_held(Duration::from_secs(30)), Some(at(5)));
}

#[test]
fn throttling_runs_on_while_we_are_away() {
    let kept = after(&[OK, throttled(60)]).snapshot(at(11));
    let again = HealthTracker::restore(&kept, Duration::from_secs(20), at(0));
    assert_eq!(again.throttled_until(), Some(at(30)));
    let again = HealthTracker::restore(&kept, Duration::from_secs(50), at(0));
    assert_eq!(again.health(), Health::Healthy);
    assert_eq!(again.usable_since(), Some(at(0)));
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Ok),
        2 => Just(Outcome::Degraded),
        4 => Just(Outcome::Refused),
        1 => Just(Outcome::Auth),
        1 => Just(Outcome::WrongRole),
        1 => Just(Outcome::ClientError),
        1 => Just(Outcome::Local),
        1 => (0_u64..20).prop_map(throttled),
    ]
}

proptest! {
    #[test]
    fn every_flip_of_the_base_was_earned_by_a_row(
        outcomes in prop::collection::vec(any_outcome(), 0..200),
    ) {
        let mut tracker = HealthTracker::new();
        let mut row: Vec<Verdict> = Vec::new();
        for (second, outcome) in (0..).zip(outcomes) {
            let before = tracker.base();
            let shown = tracker.health();
            let told = tracker.record(&CADENCE, outcome, at(second));
            prop_assert_eq!(told, (shown != tracker.health())
                .then(|| Change { from: shown, to: tracker.health() }));
            if outcome.verdict() == Verdict::Neutral {
                prop_assert_eq!(tracker.base(), before);
            } else {
                row.push(outcome.verdict());
            }
            let run = |v| row.iter().rev().take_while(|x| **x == v).count();
            match (before, tracker.base()) {
                (Health::Unhealthy, Health::Healthy | Health::Degraded) => {
                    prop_assert!(run(Verdict::Pass) >= 2);
                }
                (Health::Unknown | Health::Healthy | Health::Degraded, Health::Unhealthy) => {
                    prop_assert!(run(Verdict::Fail) >= 3);
                }
                (Health::Healthy | Health::Degraded, Health::Healthy | Health::Degraded) => {
                    prop_assert!(run(Verdict::Fail) < 3);
                }
                (Health::Unhealthy, after) => {
                    prop_assert_eq!(after, Health::Unhealthy);
                    prop_assert!(run(Verdict::Pass) < 2);
                }
                (Health::Unknown, after) => {
                    prop_assert!(after != Health::Unknown || run(Verdict::Pass) == 0);
                }
                (Health::Throttled | Health::AuthFailed, _) | (_, Health::Unknown | Health::Throttled | Health::AuthFailed) => {
                    prop_assert!(false, "the base is never an overlay, and never forgets");
                }
            }
            let serves = matches!(tracker.health(), Health::Healthy | Health::Degraded);
            prop_assert_eq!(tracker.usable_since().is_some(), serves && !tracker.wrong_role());
        }
    }
}

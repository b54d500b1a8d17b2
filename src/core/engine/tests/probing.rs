//! When probes run, and which of their results count.

use std::time::Duration;

use proptest::prelude::*;

use crate::core::action::ProbeKind;
use crate::core::id::AttemptId;
use crate::core::input::Input;
use crate::core::outcome::{Observation, Outcome};
use crate::core::rules::{Cadence, ServiceRules};
use crate::core::schedule::{GRACE, detection_bound};

use super::world::*;

/// How long after the fault the move comes, for a fault at some moment of the rhythm.
fn time_to_move(rules: ServiceRules, mood: Mood, offset: Duration) -> Duration {
    let mut world = World::settled(rules);
    world.run(offset);
    world.mood("s", "a", mood);
    world.time_to("s", "b", secs(120)).expect("it moves")
}

#[test]
fn a_steady_active_endpoint_is_probed_every_interval() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.run(secs(100));
    let probes = world.probes("a");
    assert_eq!(probes.len(), 10);
    assert!(probes.windows(2).all(|pair| pair[1].since(pair[0]) == secs(10)));
}

#[test]
fn a_standby_has_its_own_interval_until_the_active_one_wobbles() {
    let mut rules = service("s", &[0, 1]);
    rules.probe.standby_interval = secs(60);
    let mut world = World::settled(rules);
    world.run(secs(600));
    assert_eq!(world.probes("b").len(), 10);
    world.forget();
    world.mood("s", "a", REFUSED);
    world.run_until(world.now + secs(20), |w| w.endpoint("s", "a").failures == 1).unwrap();
    assert_eq!(world.probes("b"), [world.now], "asked in the step that saw the first failure");
}

#[test]
fn while_down_the_gap_grows_to_its_maximum() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(20)).unwrap();
    world.forget();
    world.run(secs(600));
    let probes = world.probes("a");
    let gaps: Vec<_> = probes.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!(gaps.is_sorted(), "{gaps:?}");
    assert_eq!(gaps.last(), Some(&secs(60)));
    assert!(gaps[0] <= secs(16), "{gaps:?}");
}

#[test]
fn after_a_move_the_new_active_endpoint_is_watched_fast() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(20)).unwrap();
    world.forget();
    world.run(secs(10));
    assert!(world.probes("b").len() >= 9, "{:?}", world.probes("b"));
    world.forget();
    world.run(secs(60));
    assert_eq!(world.probes("b").len(), 6, "then steadily");
}

#[test]
fn a_silent_endpoint_is_asked_again_without_waiting_for_the_timeout() {
    let mut world = World::settled(service("s", &[0]));
    world.mood("s", "a", Mood::Silent);
    world.run(secs(10));
    world.forget();
    world.run_until(world.now + secs(20), |w| w.probes("a").len() == 3).unwrap();
    let out = world.engine.outstanding(world.now);
    let ages: Vec<_> = out.iter().map(|one| one.age).collect();
    assert!(ages.len() <= 3, "at most `fall` at a time: {ages:?}");
}

#[test]
fn no_more_than_fall_attempts_are_out_at_a_time() {
    let mut world = World::settled(service("s", &[0]));
    world.mood("s", "a", Mood::Lost);
    for _ in 0..600 {
        world.run(ms(100));
        assert!(world.engine.outstanding(world.now).len() <= 3);
    }
}

#[test]
fn the_detection_bound_holds_to_the_millisecond() {
    let bound = detection_bound(&cadence());
    for offset in (0..10_000).step_by(499) {
        let refused = time_to_move(service("s", &[0, 1]), REFUSED, ms(offset));
        assert!(refused <= bound.refused + ms(3), "{refused:?} at {offset}");
        let silent = time_to_move(service("s", &[0, 1]), Mood::Silent, ms(offset));
        assert!(silent <= bound.silent + ms(1), "{silent:?} at {offset}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]
    #[test]
    fn the_detection_bound_holds_for_any_cadence(
        interval in 500_u64..20_000, fast in 50_u64..2_000, timeout in 100_u64..6_000,
        fall in 1_u32..6, jitter in 0_u32..=500, offset in 0_u64..20_000,
    ) {
        let mut rules = service("s", &[0, 1]);
        rules.probe = Cadence {
            interval: ms(interval), fast_interval: ms(fast.min(interval)), timeout: ms(timeout),
            standby_interval: ms(interval), fall, jitter_permille: jitter, ..cadence()
        };
        rules.failover.freshness = ms(2 * fast.min(interval));
        let bound = detection_bound(&rules.probe);
        // An answer takes a millisecond, and the standby is asked one more time at most.
        let slack = ms(u64::from(fall) + 2);
        let refused = time_to_move(rules.clone(), REFUSED, ms(offset));
        prop_assert!(refused <= bound.refused + slack, "{:?} > {:?}", refused, bound.refused);
        let silent = time_to_move(rules, Mood::Silent, ms(offset));
        prop_assert!(silent <= bound.silent + slack, "{:?} > {:?}", silent, bound.silent);
    }
}

#[test]
fn a_failure_of_an_attempt_older_than_a_later_pass_is_ignored() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "a", Mood::Silent);
    world.run_until(world.now + secs(20), |w| !w.probes("a").is_empty()).unwrap();
    world.mood("s", "a", UP);
    world.run(secs(60));
    assert_eq!(world.endpoint("s", "a").failures, 0);
    assert!(world.events().is_empty(), "{:?}", world.events());
}

#[test]
fn an_attempt_that_never_comes_back_is_our_own_fault() {
    let mut world = World::settled(service("s", &[0]));
    world.mood("s", "a", Mood::Lost);
    world
        .run_until(world.now + secs(30), |w| {
            w.endpoint("s", "a").last_outcome == Some(Outcome::Local)
        })
        .expect("it is given up");
    let first = world.probes("a")[0];
    assert_eq!(world.now, first + cadence().timeout + GRACE);
    assert_eq!(world.endpoint("s", "a").failures, 0);
}

#[test]
fn a_result_nobody_waits_for_is_dropped() {
    let mut world = World::settled(service("s", &[0, 1]));
    let before = world.engine.fingerprint(world.now);
    for attempt in [0, 1, 2, 999_999] {
        let observation = Observation::new(Outcome::Refused, ms(1));
        world.input(Input::Probed { attempt: AttemptId::new(attempt), observation });
    }
    assert_eq!(world.engine.fingerprint(world.now), before);
}

#[test]
fn probes_that_say_nothing_are_not_repeated_fast_for_ever() {
    let mut world = World::one_with(service("s", &[0]), &[("a", Mood::Says(Outcome::ClientError))]);
    world.run(secs(60));
    world.forget();
    world.run(secs(600));
    assert_eq!(world.probes("a").len(), 60);
}

fn with_deep() -> ServiceRules {
    let mut rules = service("s", &[0, 1]);
    rules.deep_probe =
        Some(Cadence { interval: secs(60), standby_interval: secs(60), ..cadence() });
    rules
}

#[test]
fn the_rare_check_runs_on_its_own_cadence() {
    let mut world = World::settled(with_deep());
    world.run(secs(600));
    let deep = |kind: ProbeKind| {
        world.log.iter().filter(move |(_, a)| {
            matches!(a, crate::core::action::Action::Probe(o) if o.endpoint == e("a") && o.kind == kind)
        })
    };
    assert_eq!(deep(ProbeKind::Deep).count(), 10);
    assert_eq!(deep(ProbeKind::Shallow).count(), 60);
}

#[test]
fn the_worse_of_the_two_checks_is_the_health() {
    let mut world = World::settled(with_deep());
    world.deep_mood("s", "a", REFUSED);
    let took = world.time_to("s", "b", secs(120)).unwrap();
    assert!(took <= detection_bound(&with_deep().deep_probe.unwrap()).refused + ms(3));
    assert_eq!(world.endpoint("s", "a").health.label(), "unhealthy");
    world.run(secs(300));
    assert_eq!(world.active("s").as_deref(), Some("b"), "the cheap check passes all the while");
}

//! Telling our own fault from theirs.

use crate::core::action::{Event, HoldReason};
use crate::core::input::{Input, Sense};
use crate::core::rules::{OnAllDown, Rules};

use super::world::*;

fn two_services() -> Rules {
    rules([service("s", &[0, 1]), service("t", &[0, 1])])
}

fn settled() -> World {
    let mut world = World::new(two_services());
    world.run(secs(30));
    world.forget();
    world
}

fn all(world: &mut World, mood: Mood) {
    for service in ["s", "t"] {
        for endpoint in ["a", "b"] {
            world.mood(service, endpoint, mood);
        }
    }
}

#[test]
fn when_unrelated_hosts_fall_silent_together_nothing_moves() {
    let mut world = settled();
    all(&mut world, Mood::Silent);
    world.run(secs(600));
    assert!(world.engine.status(world.now).isolated);
    assert_eq!(world.moves(), [""; 0]);
    assert_eq!(world.count(|e| matches!(e, Event::Isolation { isolated: true, .. })), 1);
    assert_eq!(world.count(|e| matches!(e, Event::AllDown { .. })), 0, "we cannot know");
}

#[test]
fn what_failed_while_cut_off_does_not_count_afterwards() {
    let mut world = settled();
    all(&mut world, Mood::Silent);
    world.run(secs(600));
    all(&mut world, UP);
    world.run(secs(120));
    assert!(!world.engine.status(world.now).isolated);
    assert_eq!(world.moves(), [""; 0], "both come back where they were");
    assert_eq!(world.count(|e| matches!(e, Event::Isolation { isolated: false, .. })), 1);
    for name in ["s", "t"] {
        assert_eq!(world.endpoint(name, "a").health.label(), "healthy");
        assert_eq!(world.status(name).held, None);
    }
}

#[test]
fn what_failed_while_cut_off_does_not_count_after_a_restart_either() {
    let rules = || {
        let mut rules = two_services();
        for service in rules.services.values_mut() {
            std::sync::Arc::make_mut(service).failover.on_all_down = OnAllDown::Fail;
        }
        rules
    };
    let mut world = World::new(rules());
    world.run(secs(30));
    all(&mut world, Mood::Silent);
    world.run(secs(600));
    assert!(world.engine.status(world.now).isolated);
    assert_eq!(world.endpoint("s", "a").health.label(), "unhealthy");
    let mut again = world.restart(rules(), secs(0));
    assert_eq!(again.endpoint("s", "a").health.label(), "unknown");
    again.run(secs(600));
    assert_eq!(again.active("s").as_deref(), Some("a"));
    assert_eq!(again.count(|e| matches!(e, Event::AllDown { .. })), 0, "we cannot know");
}

#[test]
fn a_network_that_returns_piece_by_piece_moves_nobody() {
    let mut world = settled();
    all(&mut world, Mood::Silent);
    world.run(secs(600));
    world.mood("s", "b", UP);
    let over = |w: &World| !w.engine.status(w.now).isolated;
    world.run_until(world.now + secs(120), over).expect("somebody answers");
    world.mood("s", "a", UP);
    world.run(secs(120));
    assert_eq!(world.moves(), [""; 0], "a is asked afresh before it is left");
    assert_eq!(world.endpoint("s", "a").health.label(), "healthy");
}

#[test]
fn after_isolation_a_really_dead_endpoint_is_left() {
    let mut world = settled();
    all(&mut world, Mood::Silent);
    world.run(secs(600));
    all(&mut world, UP);
    world.mood("s", "a", REFUSED);
    world.run(secs(200));
    assert_eq!(world.moves(), ["a>b failover"]);
}

#[test]
fn hosts_that_refuse_are_no_sign_of_isolation() {
    let mut world = settled();
    all(&mut world, REFUSED);
    world.run(secs(60));
    assert!(!world.engine.status(world.now).isolated);
    assert_eq!(world.count(|e| matches!(e, Event::AllDown { .. })), 2);
}

#[test]
fn reference_targets_that_answer_prove_the_network() {
    let mut world = settled();
    all(&mut world, Mood::Silent);
    for _ in 0..600 {
        world.input(Input::Sensed(Sense::References { reachable: 1, total: 3 }));
        world.run(secs(1));
    }
    assert!(!world.engine.status(world.now).isolated);
    assert_eq!(world.count(|e| matches!(e, Event::AllDown { .. })), 2);
}

#[test]
fn reference_targets_that_fall_silent_hold_every_move() {
    let mut world = settled();
    all(&mut world, Mood::Silent);
    world.run(secs(11));
    world.input(Input::Sensed(Sense::References { reachable: 0, total: 3 }));
    assert!(world.engine.status(world.now).isolated);
    world.run(secs(60));
    assert_eq!(world.status("s").held, Some(HoldReason::Isolated));
    assert_eq!(world.moves(), [""; 0]);
}

#[test]
fn results_asked_for_before_a_stall_do_not_count() {
    let mut world = settled();
    world.mood("s", "a", Mood::Silent);
    world.run_until(world.now + secs(20), |w| w.engine.outstanding(w.now).len() == 3).unwrap();
    let old = world.engine.outstanding(world.now);
    world.mood("s", "a", UP);
    world.stall(secs(60));
    for one in &old {
        let observation =
            crate::core::outcome::Observation::new(crate::core::outcome::Outcome::Timeout, secs(5));
        world.input(Input::Probed { attempt: one.attempt, observation });
    }
    world.run(secs(120));
    assert_eq!(world.moves(), [""; 0]);
    assert_eq!(world.endpoint("s", "a").failures, 0);
}

#[test]
fn after_a_stall_a_move_waits_for_one_fresh_round() {
    let mut rules = two_services();
    rules.isolation.min_hosts = 0;
    let mut world = World::new(rules);
    world.run(secs(30));
    world.mood("s", "a", REFUSED);
    world.run_until(world.now + secs(20), |w| w.endpoint("s", "a").failures == 2).unwrap();
    world.mood("t", "b", Mood::Lost);
    world.stall(secs(60));
    let stalled = world.now;
    world.run(secs(5));
    assert_eq!(world.endpoint("s", "a").health.label(), "unhealthy");
    assert_eq!(world.status("s").held, Some(HoldReason::Stalled), "t/b has not answered yet");
    world.time_to("s", "b", secs(60)).expect("it is never blocked longer");
    assert!(world.now.since(stalled) <= secs(10), "tilt is the bound");
}

#[test]
fn after_a_stall_a_quick_round_ends_the_wait_at_once() {
    let mut world = settled();
    world.run_until(world.now + secs(20), |w| w.endpoint("s", "a").failures == 0);
    world.mood("s", "a", REFUSED);
    world.stall(secs(60));
    let took = world.time_to("s", "b", secs(60)).unwrap();
    assert!(took <= secs(4), "took {took:?}");
}

//! Leaving an endpoint that is lost, and staying with one that is not.

use crate::core::action::{Event, HoldReason};
use crate::core::breaker::BreakerState;
use crate::core::outcome::Outcome;
use crate::core::rules::BreakerRules;

use super::world::*;

#[test]
fn a_dead_active_endpoint_is_left_for_a_proven_one() {
    let mut world = World::settled(service("s", &[0, 1]));
    assert_eq!(world.active("s").as_deref(), Some("a"));
    world.mood("s", "a", REFUSED);
    world.run(secs(15));
    assert_eq!(world.moves(), ["a>b failover"]);
    let decision = world.decisions().remove(0);
    assert!(decision.evidence.iter().any(|e| e.endpoint.as_str() == "b" && e.proven));
    assert_eq!(decision.cause, "a: 3 failures in a row, last refused; b proven 1.0 s ago");
    assert_eq!(decision.evidence[0].attempts.len(), 3, "every failure that led to it is named");
}

#[test]
fn two_failures_of_three_move_nothing() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "a", REFUSED);
    world.run_until(world.now + secs(20), |w| w.endpoint("s", "a").failures == 2).unwrap();
    world.mood("s", "a", UP);
    world.run(secs(60));
    assert_eq!(world.moves(), [""; 0]);
}

#[test]
fn a_proven_lower_tier_beats_an_unproven_better_one() {
    let mut world = World::settled(service("s", &[0, 1, 2]));
    world.mood("s", "a", REFUSED);
    world.mood("s", "b", Mood::Silent);
    world.run(secs(14));
    assert_eq!(world.moves(), ["a>c failover"]);
}

#[test]
fn within_a_tier_the_one_without_a_warning_is_chosen() {
    let mut world = World::settled(service("s", &[0, 1, 1]));
    world.mood("s", "b", Mood::Says(Outcome::Degraded));
    world.run(secs(60));
    world.mood("s", "a", REFUSED);
    world.run(secs(15));
    assert_eq!(world.moves(), ["a>c failover"]);
}

#[test]
fn a_usable_active_endpoint_is_never_left_for_a_peer() {
    let mut world = World::settled(service("s", &[0, 0, 0]));
    world.mood("s", "a", Mood::Says(Outcome::Degraded));
    world.run(secs(3600));
    assert_eq!(world.moves(), [""; 0]);
}

#[test]
fn an_unproven_candidate_is_waited_for_and_then_taken() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "b", Mood::Lost);
    world.mood("s", "a", REFUSED);
    world.run_until(world.now + secs(15), |w| w.status("s").held.is_some()).unwrap();
    assert_eq!(world.status("s").held, Some(HoldReason::AwaitingProof));
    assert_eq!(world.time_to("s", "b", secs(20)), Some(secs(5)), "after the proof timeout");
    assert!(world.decisions()[0].evidence.iter().any(|e| e.endpoint.as_str() == "b" && !e.proven));
}

#[test]
fn a_pass_during_the_wait_is_taken_at_once() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "b", Mood::Lost);
    world.mood("s", "a", REFUSED);
    world.run_until(world.now + secs(15), |w| w.status("s").held.is_some()).unwrap();
    world.mood("s", "b", UP);
    assert!(world.time_to("s", "b", secs(20)).unwrap() <= ms(1001), "one fast gap and its answer");
}

#[test]
fn a_malformed_probe_is_reported_and_never_moves_a_service() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "a", Mood::Says(Outcome::ClientError));
    world.run(secs(600));
    assert_eq!(world.moves(), [""; 0]);
    assert_eq!(world.count(|e| matches!(e, Event::ProbeMisconfigured { .. })), 1);
    assert_eq!(world.count(|e| matches!(e, Event::AllDown { .. })), 0);
}

#[test]
fn our_own_faults_never_move_a_service() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "a", Mood::Says(Outcome::Local));
    world.run(secs(600));
    assert_eq!(world.moves(), [""; 0]);
}

#[test]
fn a_refused_credential_is_told_at_once_and_escaped_to_another_one() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "a", Mood::Says(Outcome::Auth));
    world.run(secs(15));
    assert_eq!(world.count(|e| matches!(e, Event::AuthFailed { .. })), 1);
    assert_eq!(world.moves(), ["a>b failover"]);
    assert_eq!(world.decisions()[0].cause, "a: it refuses our credential; b proven 0.0 s ago");
}

#[test]
fn a_refused_credential_is_not_carried_elsewhere() {
    let mut rules = service("s", &[0, 1]);
    rules.endpoints[1].credential = rules.endpoints[0].credential;
    let mut world = World::settled(rules);
    world.mood("s", "a", Mood::Says(Outcome::Auth));
    world.run(secs(60));
    assert_eq!(world.moves(), [""; 0]);
    assert_eq!(world.status("s").held, Some(HoldReason::SameCredential));
    assert_eq!(world.count(|e| matches!(e, Event::Held { .. })), 1);
    assert_eq!(world.count(|e| matches!(e, Event::AuthFailed { .. })), 1);
}

#[test]
fn throttling_is_escaped_only_to_another_account() {
    let throttled = Mood::Says(Outcome::Throttled { retry_after: Some(secs(120)) });
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "a", throttled);
    world.run(secs(15));
    assert_eq!(world.moves(), ["a>b failover"]);

    let mut rules = service("s", &[0, 1]);
    rules.endpoints[1].account = rules.endpoints[0].account;
    let mut world = World::settled(rules);
    world.mood("s", "a", throttled);
    world.run(secs(15));
    assert_eq!(world.moves(), [""; 0]);
    assert_eq!(world.status("s").held, Some(HoldReason::SameCredential));
    assert_eq!(world.count(|e| matches!(e, Event::Throttled { .. })), 1);
}

#[test]
fn a_throttled_endpoint_is_left_alone_until_its_time() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "a", Mood::Says(Outcome::Throttled { retry_after: Some(secs(120)) }));
    world.run_until(world.now + secs(15), |w| w.endpoint("s", "a").throttled_until.is_some());
    world.forget();
    world.run(secs(119));
    assert_eq!(world.probes("a"), []);
    world.run(secs(2));
    assert_eq!(world.probes("a").len(), 1);
}

#[test]
fn the_wrong_role_is_left_for_whoever_serves_in_the_right_one() {
    let mut world = World::settled(service("s", &[0, 0]));
    world.mood("s", "a", Mood::Says(Outcome::WrongRole));
    world.run(secs(15));
    assert_eq!(world.moves(), ["a>b failover"]);
}

#[test]
fn a_tripped_breaker_makes_an_endpoint_unusable() {
    let mut rules = service("s", &[0, 1]);
    rules.breaker.failure_threshold = 3;
    let mut world = World::settled(rules);
    for _ in 0..3 {
        world.report("s", "a", Outcome::ServerError);
    }
    assert_eq!(world.endpoint("s", "a").breaker, BreakerState::Open);
    assert_eq!(world.time_to("s", "b", secs(1)), Some(ms(1)), "as soon as one probe proves it");
    assert!(world.decisions()[0].cause.starts_with("a: breaker open"));
}

#[test]
fn reports_alone_do_not_eject() {
    let mut world = World::settled(service("s", &[0, 1]));
    for _ in 0..900 {
        world.report("s", "a", Outcome::ServerError);
        world.run(ms(100));
    }
    assert_eq!(world.moves(), [""; 0], "every probe passes, and the breaker did not trip");
    assert_eq!(world.endpoint("s", "a").health.label(), "healthy");
}

#[test]
fn a_failed_report_makes_the_probes_look_at_once() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.run_until(world.now + secs(20), |w| w.probes("a").len() == 1);
    world.run(secs(3));
    world.forget();
    world.mood("s", "a", REFUSED);
    world.report("s", "a", Outcome::Refused);
    assert_eq!(world.probes("a"), [world.now], "in the same step");
    assert_eq!(world.time_to("s", "b", secs(15)), Some(ms(2001)), "two fast gaps and an answer");
}

#[test]
fn probes_are_the_trials_of_a_half_open_breaker() {
    let mut rules = service("s", &[0, 1]);
    rules.breaker = BreakerRules { failure_threshold: 3, ..rules.breaker };
    let mut world = World::settled(rules);
    world.mood("s", "a", REFUSED);
    world.run_until(world.now + secs(15), |w| w.endpoint("s", "a").breaker == BreakerState::Open);
    world.mood("s", "a", UP);
    world
        .run_until(world.now + secs(40), |w| w.endpoint("s", "a").breaker == BreakerState::HalfOpen)
        .expect("its open period ends by itself");
    let half_open = world.now;
    world
        .run_until(world.now + secs(10), |w| w.endpoint("s", "a").breaker == BreakerState::Closed)
        .expect("probes close it");
    assert!(world.now.since(half_open) <= secs(2), "trials go fast");
}

#[test]
fn passes_do_not_close_an_open_breaker() {
    let mut rules = service("s", &[0, 1]);
    rules.breaker.failure_threshold = 3;
    let mut world = World::settled(rules);
    world.mood("s", "a", REFUSED);
    world.run_until(world.now + secs(15), |w| w.endpoint("s", "a").breaker == BreakerState::Open);
    world.mood("s", "a", UP);
    world.run(secs(25));
    assert_eq!(world.endpoint("s", "a").health.label(), "healthy");
    assert_eq!(world.endpoint("s", "a").breaker, BreakerState::Open);
    assert_eq!(world.active("s").as_deref(), Some("b"));
}

#[test]
fn right_after_a_move_one_failure_is_enough_to_go_on() {
    let mut world = World::settled(service("s", &[0, 1, 1]));
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(15)).unwrap();
    world.mood("s", "b", REFUSED);
    let soon = world.time_to("s", "c", secs(15)).unwrap();
    assert!(soon <= ms(1001), "one fast gap and its answer, took {soon:?}");
    assert_eq!(world.moves(), ["a>b failover", "b>c failover"]);
    assert!(world.endpoint("s", "b").flap_penalty > 900, "it is remembered");
}

#[test]
fn a_failure_right_after_a_move_never_leads_back_to_the_dead() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(15)).unwrap();
    world.mood("s", "b", REFUSED);
    world.run(secs(60));
    assert_eq!(world.moves(), ["a>b failover"]);
}

#[test]
fn later_it_takes_a_row_of_failures_again() {
    let mut world = World::settled(service("s", &[0, 1, 1]));
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(15)).unwrap();
    world.run(secs(60));
    world.mood("s", "b", REFUSED);
    world.run_until(world.now + secs(15), |w| w.endpoint("s", "b").failures == 1).unwrap();
    assert_eq!(world.active("s").as_deref(), Some("b"));
    assert_eq!(world.time_to("s", "c", secs(15)), Some(secs(2)));
}

#[test]
fn moves_beyond_the_budget_are_held_and_resume_when_it_frees() {
    let mut rules = service("s", &[0, 0]);
    rules.failover.budget = 2;
    rules.failover.budget_window = secs(600);
    let mut world = World::settled(rules);
    let began = world.now;
    let mut at = 0;
    while world.now < began + secs(250) {
        let (up, down) = if at % 2 == 0 { ("b", "a") } else { ("a", "b") };
        world.mood("s", up, UP);
        world.mood("s", down, REFUSED);
        at += 1;
        world.run(secs(90));
    }
    assert_eq!(world.moves().len(), 2);
    assert_eq!(world.status("s").held, Some(HoldReason::Budget));
    assert_eq!(world.count(|e| matches!(e, Event::Held { why: HoldReason::Budget, .. })), 1);
    assert_eq!(world.status("s").budget_left, 0);
    let waiting = world.active("s").unwrap();
    let other = if waiting == "a" { "b" } else { "a" };
    let first = world.log.iter().find(|(_, a)| matches!(a, crate::core::action::Action::Record(_)));
    let frees = first.unwrap().0 + secs(600);
    world.time_to("s", other, secs(600)).expect("the window moves on");
    assert!(world.now >= frees && world.now <= frees + secs(61), "{:?}", world.now.since(frees));
}

#[test]
fn a_bad_score_alone_moves_only_to_a_much_better_one() {
    let mut rules = service("s", &[0, 1]);
    rules.breaker.slow_call = secs(1);
    let mut world = World::settled(rules.clone());
    world.mood("s", "a", Mood::Slowly(Outcome::Ok, ms(4500)));
    world.run(secs(120));
    assert!(world.endpoint("s", "a").score < 300, "{}", world.endpoint("s", "a").score);
    assert_eq!(world.moves(), ["a>b failover"]);

    let mut world = World::settled(rules);
    world.mood("s", "b", Mood::Slowly(Outcome::Ok, ms(2000)));
    world.run(secs(120));
    world.mood("s", "a", Mood::Slowly(Outcome::Ok, ms(2500)));
    world.run(secs(120));
    assert_eq!(world.moves(), [""; 0], "250 of 200 is not much better");
}

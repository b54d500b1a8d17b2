//! Returning to a better tier, without a second outage.

use std::time::Duration;

use crate::core::failover::Wait;
use crate::core::rules::{FailbackMode, ServiceRules};
use crate::core::status::ServiceState;

use super::world::*;

/// A world that has failed over to `b`, with `a` just healed.
fn failed_over(rules: ServiceRules) -> World {
    let mut world = World::settled(rules);
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(20)).expect("it fails over");
    world.run(secs(30));
    world.mood("s", "a", UP);
    world.run_until(world.now + secs(120), |w| w.endpoint("s", "a").unusable.is_none()).unwrap();
    world.forget();
    world
}

#[test]
fn a_return_waits_for_the_hold_counted_from_the_recovery() {
    let mut world = failed_over(service("s", &[0, 1]));
    assert_eq!(world.status("s").state, ServiceState::FailedOver);
    assert_eq!(world.status("s").failback_at, Some(world.now + secs(300)));
    let took = world.time_to("s", "a", secs(600)).unwrap();
    assert!(took >= secs(300) && took <= secs(302), "took {took:?}");
    assert_eq!(world.moves(), ["b>a failback"]);
    assert!(world.decisions()[0].cause.starts_with("a usable for 5 min"));
    assert_eq!(world.status("s").state, ServiceState::Healthy);
}

#[test]
fn a_relapse_starts_the_hold_anew() {
    let mut world = failed_over(service("s", &[0, 1]));
    world.run(secs(200));
    world.mood("s", "a", REFUSED);
    world.run(secs(60));
    world.mood("s", "a", UP);
    world.run_until(world.now + secs(120), |w| w.endpoint("s", "a").unusable.is_none()).unwrap();
    let healed = world.now;
    world.time_to("s", "a", secs(9000)).unwrap();
    assert!(world.now.since(healed) >= secs(300));
}

#[test]
fn a_return_needs_a_fresh_pass_although_standbys_are_probed_rarely() {
    let mut rules = service("s", &[0, 1]);
    rules.probe.standby_interval = secs(120);
    let mut world = failed_over(rules);
    world.time_to("s", "a", secs(600)).unwrap();
    let evidence = world.decisions()[0].evidence[0].clone();
    assert!(evidence.proven && evidence.age.unwrap() <= secs(2));
}

#[test]
fn a_return_needs_its_passes_in_a_row() {
    let mut rules = service("s", &[0, 1]);
    rules.failover.failback.hold = Duration::ZERO;
    rules.failover.failback.rise = 5;
    let mut world = failed_over(rules);
    assert_eq!(world.active("s").as_deref(), Some("b"));
    assert!(world.endpoint("s", "a").passes < 5);
    world.time_to("s", "a", secs(60)).unwrap();
    assert!(world.endpoint("s", "a").passes >= 5);
}

#[test]
fn the_spread_differs_between_sidecars_and_stays_within_its_bound() {
    let eta = |instance: u64| {
        let mut one = service("s", &[0, 1]);
        one.failover.failback.spread = secs(60);
        let mut all = rules([one]);
        all.instance = instance;
        let mut world = World::new(all);
        world.run(secs(10));
        world.mood("s", "a", REFUSED);
        world.time_to("s", "b", secs(30)).unwrap();
        world.mood("s", "a", UP);
        world.run_until(world.now + secs(60), |w| w.status("s").failback_at.is_some()).unwrap();
        world.status("s").failback_at.unwrap().since(world.now)
    };
    let etas: std::collections::BTreeSet<_> = (0..20).map(eta).collect();
    assert!(etas.len() > 10, "{etas:?}");
    assert!(etas.iter().all(|eta| *eta >= secs(300) && *eta <= secs(360)));
}

#[test]
fn only_a_person_returns_a_service_when_the_policy_says_so() {
    for (mode, wait) in
        [(FailbackMode::Manual, Wait::ManualMode), (FailbackMode::Never, Wait::NeverMode)]
    {
        let mut rules = service("s", &[0, 1]);
        rules.failover.failback.mode = mode;
        let mut world = failed_over(rules);
        world.run(secs(3600));
        assert_eq!(world.moves(), [""; 0]);
        let explained = world.engine.explain(world.now, &s()).unwrap();
        assert_eq!(explained.failback.map(|back| back.waits_for), Some(wait));
    }
}

#[test]
fn a_flapping_endpoint_is_not_returned_to_until_its_penalty_is_gone() {
    let mut rules = service("s", &[0, 1]);
    rules.failover.failback.hold = secs(10);
    let mut world = World::settled(rules);
    for _ in 0..3 {
        world.mood("s", "a", REFUSED);
        world.run(secs(60));
        world.mood("s", "a", UP);
        world.run(secs(60));
    }
    assert!(world.endpoint("s", "a").suppressed);
    let returns = world.moves().iter().filter(|m| *m == "b>a failback").count();
    assert_eq!(returns, 2, "not after the third outage: {:?}", world.moves());
    world.time_to("s", "a", secs(3600)).expect("the penalty decays");
    assert!(!world.endpoint("s", "a").suppressed);
}

#[test]
fn the_last_move_of_the_budget_is_kept_for_an_emergency() {
    let mut rules = service("s", &[0, 1]);
    rules.failover.budget = 2;
    let mut world = failed_over(rules);
    world.run(secs(1800));
    assert_eq!(world.moves(), [""; 0], "one move is left, and a return would take it");
    world.time_to("s", "a", secs(3600)).expect("when the window frees");
}

#[test]
fn a_return_that_fails_at_once_is_taken_back() {
    let mut world = failed_over(service("s", &[0, 1]));
    world.time_to("s", "a", secs(600)).unwrap();
    world.mood("s", "a", REFUSED);
    let took = world.time_to("s", "b", secs(20)).unwrap();
    assert!(took <= ms(1001), "one fast gap and its answer, took {took:?}");
}

#[test]
fn after_the_return_all_is_quiet() {
    let mut world = failed_over(service("s", &[0, 1]));
    world.time_to("s", "a", secs(600)).unwrap();
    world.run(secs(5));
    world.forget();
    world.run(secs(36_000));
    assert_eq!(world.moves(), [""; 0]);
    assert_eq!(world.events(), []);
}

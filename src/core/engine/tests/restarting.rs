//! What survives the end of the process.

use crate::core::action::Event;
use crate::core::breaker::BreakerState;
use crate::core::input::Order;
use crate::core::outcome::Outcome;

use super::world::*;

#[test]
fn a_restart_publishes_the_same_choice_under_a_new_revision() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(20)).unwrap();
    let before = world.engine.revision();
    let again = world.restart(rules([service("s", &[0, 1])]), secs(3));
    let publications = again.publications();
    assert_eq!(publications.len(), 1, "in the first batch");
    assert!(publications[0].revision > before);
    assert_eq!(publications[0].active.get("s"), Some(&Some(e("b"))));
    assert_eq!(again.moves(), [""; 0]);
}

#[test]
fn a_pin_survives_with_the_time_it_has_left() {
    let mut world = World::settled(service("s", &[0, 1]));
    let order = Order::Pin { service: s(), endpoint: e("b"), duration: Some(secs(600)) };
    world.order(order).unwrap();
    world.run(secs(100));
    let mut again = world.restart(rules([service("s", &[0, 1])]), secs(200));
    assert_eq!(again.status("s").pinned, Some(e("b")));
    again.run(secs(299));
    assert!(again.status("s").pinned.is_some());
    again.run(secs(2));
    assert!(again.status("s").pinned.is_none());
    let late = world.restart(rules([service("s", &[0, 1])]), secs(501));
    assert_eq!(late.status("s").pinned, None);
}

#[test]
fn pause_drain_breaker_flap_and_budget_survive() {
    let mut one = service("s", &[0, 1, 2]);
    one.breaker.failure_threshold = 3;
    let mut world = World::settled(one.clone());
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(20)).unwrap();
    world.order(Order::Drain { service: s(), endpoint: e("c") }).unwrap();
    world.order(Order::Pause { service: Some(s()) }).unwrap();
    let again = world.restart(rules([one]), secs(3));
    assert!(again.status("s").paused);
    assert_eq!(again.endpoint("s", "c").unusable.as_deref(), Some("drained"));
    assert_eq!(again.endpoint("s", "a").breaker, BreakerState::Open);
    assert!(again.endpoint("s", "a").flap_penalty > 900);
    assert_eq!(again.status("s").budget_left, 5);
}

#[test]
fn throttling_survives() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "b", Mood::Says(Outcome::Throttled { retry_after: Some(secs(200)) }));
    world.run(secs(11));
    let again = world.restart(rules([service("s", &[0, 1])]), secs(50));
    let left = again.endpoint("s", "b").throttled_until.unwrap().since(again.now);
    assert!(left > secs(100) && left <= secs(150), "{left:?}");
}

#[test]
fn old_bad_news_moves_nobody() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.order(Order::Pause { service: None }).unwrap();
    world.mood("s", "a", REFUSED);
    world.run(secs(60));
    world.order(Order::Resume { service: None }).unwrap();
    world.forget();
    let mut world = world.restart(rules([service("s", &[0, 1])]), secs(0));
    world.order(Order::Pause { service: None }).unwrap();
    world.mood("s", "a", UP);
    let mut again = world.restart(rules([service("s", &[0, 1])]), secs(3600));
    again.order(Order::Resume { service: None }).unwrap();
    again.run(secs(60));
    assert_eq!(again.moves(), [""; 0]);
}

#[test]
fn a_pass_from_before_proves_only_while_it_is_fresh() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.run_until(world.now + secs(20), |w| !w.probes("b").is_empty()).unwrap();
    world.run(ms(5));
    let proven = |world: &World| {
        let explained = world.engine.explain(world.now, &s()).unwrap();
        explained.candidates[1].proven
    };
    let soon = world.restart(rules([service("s", &[0, 1])]), secs(1));
    assert!(proven(&soon));
    let late = world.restart(rules([service("s", &[0, 1])]), secs(2));
    assert!(!proven(&late));
}

#[test]
fn an_endpoint_that_changed_meanwhile_loses_its_state() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.run(secs(1));
    let mut changed = service("s", &[0, 1]);
    changed.endpoints[0].identity += 1000;
    let again = world.restart(rules([changed]), secs(1));
    assert_eq!(again.endpoint("s", "a").health.label(), "unknown");
    assert_eq!(again.endpoint("s", "b").health.label(), "healthy");
    assert_eq!(again.active("s").as_deref(), Some("a"), "nothing speaks against it");
}

#[test]
fn an_active_endpoint_removed_meanwhile_is_left_once() {
    let mut world = World::settled(service("s", &[0, 1, 2]));
    world.run(secs(1));
    let mut fewer = service("s", &[0, 1, 2]);
    fewer.endpoints.remove(0);
    let mut again = world.restart(rules([fewer]), secs(1));
    again.run(secs(60));
    assert_eq!(again.moves(), ["a>b reload"]);
}

#[test]
fn an_outage_told_before_the_restart_is_not_told_again() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "a", REFUSED);
    world.mood("s", "b", REFUSED);
    world.run(secs(120));
    assert_eq!(world.count(|e| matches!(e, Event::AllDown { .. })), 1);
    let mut again = world.restart(rules([service("s", &[0, 1])]), secs(1));
    again.run(secs(600));
    assert_eq!(again.count(|e| matches!(e, Event::AllDown { .. })), 0);
}

#[test]
fn the_hold_of_a_return_goes_on_over_a_restart() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(20)).unwrap();
    world.mood("s", "a", UP);
    world.run(secs(200));
    let mut again = world.restart(rules([service("s", &[0, 1])]), secs(10));
    let took = again.time_to("s", "a", secs(600)).unwrap();
    assert!(took <= secs(140), "took {took:?}");
}

#[test]
fn a_restart_loop_never_repeats_a_revision() {
    let mut world = World::settled(service("s", &[0, 1]));
    let mut last = world.engine.revision();
    for _ in 0..20 {
        world = world.restart(rules([service("s", &[0, 1])]), secs(1));
        assert!(world.engine.revision() > last);
        last = world.engine.revision();
    }
}

//! What people order.

use crate::core::action::{Event, HoldReason, Refusal};
use crate::core::breaker::BreakerState;
use crate::core::failover::Wait;
use crate::core::input::{Forced, Order};
use crate::core::outcome::Outcome;
use crate::core::status::{AdminState, ServiceState};

use super::world::*;

fn switch(endpoint: Option<&str>, force: bool) -> Order {
    Order::Switch { service: s(), endpoint: endpoint.map(e), force }
}

fn pin(endpoint: &str) -> Order {
    Order::Pin { service: s(), endpoint: e(endpoint), duration: None }
}

#[test]
fn a_switch_moves_and_costs_no_budget() {
    let mut world = World::settled(service("s", &[0, 1]));
    let receipt = world.order(switch(Some("b"), false)).unwrap();
    assert_eq!(receipt.message, "switched to b");
    assert_eq!(receipt.revision, world.publications()[0].revision);
    assert_eq!(world.moves(), ["a>b switchover"]);
    assert_eq!(world.decisions()[0].cause, "ordered by a person: a test");
    assert_eq!(world.status("s").budget_left, 6);
}

#[test]
fn a_switch_without_a_target_takes_the_best_other_one() {
    let mut world = World::settled(service("s", &[0, 1, 2]));
    world.order(switch(None, false)).unwrap();
    assert_eq!(world.active("s").as_deref(), Some("b"));
    world.order(switch(None, false)).unwrap();
    assert_eq!(world.active("s").as_deref(), Some("a"));
}

#[test]
fn a_switch_refuses_a_dead_target_unless_forced() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "b", REFUSED);
    world.run(secs(60));
    let refusal = world.order(switch(Some("b"), false)).unwrap_err();
    assert!(matches!(refusal, Refusal::TargetUnusable { .. }), "{refusal}");
    assert_eq!(world.moves(), [""; 0]);
    let nowhere = world.order(switch(None, false)).unwrap_err();
    assert_eq!(nowhere, Refusal::NoOtherEndpoint { service: s() });
    world.order(switch(Some("b"), true)).unwrap();
    assert_eq!(world.active("s").as_deref(), Some("b"));
}

#[test]
fn a_forced_switch_is_given_a_full_chance_before_it_is_undone() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "b", REFUSED);
    world.run(secs(60));
    world.order(switch(Some("b"), true)).unwrap();
    let took = world.time_to("s", "a", secs(60)).expect("a dead place is left again");
    assert!(took >= secs(2), "only after a full row of fresh failures, took {took:?}");
}

#[test]
fn a_switch_refuses_a_target_never_proven() {
    let mut world = World::one_with(service("s", &[0, 1]), &[("b", Mood::Lost)]);
    world.run(secs(1));
    let refusal = world.order(switch(Some("b"), false)).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::TargetUnusable { endpoint: e("b"), why: "never proven".to_owned() }
    );
}

#[test]
fn a_switch_to_a_lower_tier_is_not_undone_by_a_return() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.order(switch(Some("b"), false)).unwrap();
    world.run(secs(7200));
    assert_eq!(world.active("s").as_deref(), Some("b"));
    let explained = world.engine.explain(world.now, &s()).unwrap();
    assert!(explained.manual);
    assert_eq!(explained.failback.unwrap().waits_for, Wait::PersonsChoice);
    world.order(Order::Resume { service: Some(s()) }).unwrap();
    world.time_to("s", "a", secs(60)).expect("a person gave it free");
}

#[test]
fn a_persons_choice_ends_with_its_failure() {
    let mut world = World::settled(service("s", &[0, 1, 2]));
    world.order(switch(Some("b"), false)).unwrap();
    world.run(secs(60));
    world.mood("s", "b", REFUSED);
    world.time_to("s", "a", secs(20)).unwrap();
    assert!(!world.engine.explain(world.now, &s()).unwrap().manual);
}

#[test]
fn a_pin_moves_and_is_never_overridden() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.order(pin("b")).unwrap();
    assert_eq!(world.moves(), ["a>b switchover"]);
    world.mood("s", "b", REFUSED);
    world.run(secs(3600));
    assert_eq!(world.active("s").as_deref(), Some("b"));
    assert_eq!(world.status("s").held, Some(HoldReason::Pinned));
    assert_eq!(world.count(|e| matches!(e, Event::Held { why: HoldReason::Pinned, .. })), 1);
    assert_eq!(world.order(switch(Some("a"), false)), Err(Refusal::Pinned { endpoint: e("b") }));
    world.order(Order::Unpin { service: s() }).unwrap();
    world.time_to("s", "a", secs(10)).expect("the service moves by itself again");
}

#[test]
fn a_pin_ends_by_its_time_with_an_event() {
    let mut world = World::settled(service("s", &[0, 1]));
    let order = Order::Pin { service: s(), endpoint: e("b"), duration: Some(secs(600)) };
    world.order(order).unwrap();
    world.run(secs(599));
    assert!(world.status("s").pinned.is_some());
    world.forget();
    world.run(secs(2));
    assert!(world.status("s").pinned.is_none());
    let unpinned = |event: &Event| matches!(event, Event::Commanded(c) if matches!(c.order, Order::Unpin { .. }));
    assert_eq!(world.count(unpinned), 1);
}

#[test]
fn a_pin_outranks_a_drain() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.order(Order::Drain { service: s(), endpoint: e("b") }).unwrap();
    world.order(pin("b")).unwrap();
    world.run(secs(600));
    assert_eq!(world.active("s").as_deref(), Some("b"));
}

#[test]
fn a_paused_service_is_observed_only() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.order(Order::Pause { service: Some(s()) }).unwrap();
    world.mood("s", "a", REFUSED);
    world.run(secs(600));
    assert_eq!(world.moves(), [""; 0]);
    assert_eq!(world.status("s").held, Some(HoldReason::Paused));
    assert_eq!(world.endpoint("s", "a").health.label(), "unhealthy");
    world.order(Order::Resume { service: None }).unwrap();
    world.time_to("s", "b", secs(10)).expect("now it moves");
}

#[test]
fn pausing_all_holds_services_to_come_too() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.order(Order::Pause { service: None }).unwrap();
    world.replace(rules([service("s", &[0, 1]), service("t", &[0, 1])]));
    assert!(world.status("t").paused);
    world.order(Order::Resume { service: None }).unwrap();
    assert!(!world.status("t").paused && !world.status("s").paused);
}

#[test]
fn a_paused_service_does_not_return_either() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(20)).unwrap();
    world.mood("s", "a", UP);
    world.order(Order::Pause { service: None }).unwrap();
    world.run(secs(3600));
    assert_eq!(world.active("s").as_deref(), Some("b"));
}

#[test]
fn draining_the_active_endpoint_moves_away_and_costs_no_budget() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.order(Order::Drain { service: s(), endpoint: e("a") }).unwrap();
    world.run(secs(3));
    assert_eq!(world.moves(), ["a>b switchover"]);
    assert_eq!(world.status("s").budget_left, 6);
    world.run(secs(3600));
    assert_eq!(world.active("s").as_deref(), Some("b"), "a drained endpoint is not returned to");
    assert_eq!(world.endpoint("s", "a").admin, AdminState::Drained);
    world.order(Order::Undrain { service: s(), endpoint: e("a") }).unwrap();
    let took = world.time_to("s", "a", secs(600)).unwrap();
    assert!(took >= secs(300), "its time counts from the undrain, took {took:?}");
}

#[test]
fn draining_the_only_usable_endpoint_leaves_it_active_and_is_no_outage() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "b", REFUSED);
    world.run(secs(60));
    let receipt = world.order(Order::Drain { service: s(), endpoint: e("a") }).unwrap();
    assert_eq!(receipt.message, "a is drained, but stays active until another endpoint is usable");
    world.run(secs(60));
    assert_eq!(world.moves(), [""; 0]);
    assert_eq!(world.count(|e| matches!(e, Event::AllDown { .. })), 0);
    world.mood("s", "b", UP);
    world.time_to("s", "b", secs(120)).expect("then it moves");
}

#[test]
fn a_breaker_forced_open_moves_the_service() {
    let mut world = World::settled(service("s", &[0, 1]));
    let order = |forced| Order::Breaker { service: s(), endpoint: e("a"), forced };
    world.order(order(Some(Forced::Open))).unwrap();
    assert_eq!(world.endpoint("s", "a").breaker, BreakerState::ForcedOpen);
    world.time_to("s", "b", secs(5)).unwrap();
    world.order(order(None)).unwrap();
    assert_eq!(world.endpoint("s", "a").breaker, BreakerState::Closed);
    assert_eq!(world.endpoint("s", "a").flap_penalty, 0, "a person's order is no flap");
}

#[test]
fn a_breaker_forced_closed_never_trips() {
    let mut rules = service("s", &[0, 1]);
    rules.breaker.failure_threshold = 1;
    let mut world = World::settled(rules);
    let forced = Some(Forced::Closed);
    world.order(Order::Breaker { service: s(), endpoint: e("a"), forced }).unwrap();
    for _ in 0..10 {
        world.report("s", "a", Outcome::Timeout);
    }
    assert_eq!(world.endpoint("s", "a").breaker, BreakerState::ForcedClosed);
}

#[test]
fn orders_about_what_does_not_exist_are_refused() {
    let mut world = World::settled(service("s", &[0, 1]));
    let nobody = crate::core::id::ServiceName::new("nobody");
    let unknown = world.order(Order::Unpin { service: nobody.clone() });
    assert_eq!(unknown, Err(Refusal::UnknownService { service: nobody }));
    let unknown = world.order(pin("z"));
    assert_eq!(unknown, Err(Refusal::UnknownEndpoint { service: s(), endpoint: e("z") }));
    assert_eq!(world.status("s").state, ServiceState::Healthy);
    assert_eq!(world.events(), [], "nothing changed");
}

#[test]
fn switching_to_where_it_is_moves_nothing() {
    let mut world = World::settled(service("s", &[0, 1]));
    let receipt = world.order(switch(Some("a"), false)).unwrap();
    assert_eq!(receipt.message, "a is active already");
    assert_eq!(world.moves(), [""; 0]);
}

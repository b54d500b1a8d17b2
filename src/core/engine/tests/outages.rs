//! When nothing is alive.

use crate::core::action::Event;
use crate::core::input::Order;
use crate::core::rules::OnAllDown;
use crate::core::status::ServiceState;

use super::world::*;

fn all_down(on_all_down: OnAllDown) -> World {
    let mut rules = service("s", &[0, 1, 2]);
    rules.critical = true;
    rules.failover.on_all_down = on_all_down;
    // Three hosts that refuse are not silent: this is an outage, not isolation.
    let mut world = World::settled(rules);
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(20)).unwrap();
    world.run(secs(60));
    world.forget();
    world.mood("s", "b", REFUSED);
    world.mood("s", "c", REFUSED);
    world.run(secs(600));
    world
}

fn outages(world: &World) -> usize {
    world.count(|event| matches!(event, Event::AllDown { critical: true, .. }))
}

fn criticals(world: &World) -> usize {
    world.count(|event| matches!(event, Event::CriticalFailure { .. }))
}

#[test]
fn an_outage_of_everything_is_told_once_and_nothing_rotates() {
    let mut world = all_down(OnAllDown::Hold);
    assert_eq!(world.moves(), [""; 0]);
    assert_eq!((outages(&world), criticals(&world)), (1, 1));
    assert_eq!(world.status("s").state, ServiceState::AllDown);
    world.run(secs(36_000));
    assert_eq!((outages(&world), criticals(&world)), (1, 1));
    assert_eq!(world.moves(), [""; 0]);
}

#[test]
fn preferred_goes_home_once() {
    let mut world = all_down(OnAllDown::Preferred);
    world.run(secs(36_000));
    assert_eq!(world.moves(), ["b>a failover"]);
    assert_eq!(outages(&world), 1);
}

#[test]
fn preferred_goes_home_when_the_outage_begins_or_not_at_all() {
    let mut rules = service("s", &[0, 1]);
    rules.failover.on_all_down = OnAllDown::Preferred;
    rules.failover.budget = 1;
    rules.failover.budget_window = secs(600);
    let mut world = World::settled(rules);
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(20)).unwrap();
    world.mood("s", "b", REFUSED);
    world.run(secs(3600));
    assert_eq!(world.moves(), ["a>b failover"], "the budget was spent then; later is no reason");
}

#[test]
fn fail_publishes_the_service_without_an_endpoint_once() {
    let mut world = all_down(OnAllDown::Fail);
    world.run(secs(36_000));
    assert_eq!(world.moves(), ["b>- failover"]);
    assert_eq!(world.publications().last().unwrap().active.get("s"), Some(&None));
    world.mood("s", "c", UP);
    world.time_to("s", "c", secs(120)).expect("it comes back");
    assert_eq!(world.moves(), ["b>- failover", "->c failover"]);
}

#[test]
fn whoever_comes_back_first_is_taken_at_once() {
    let mut world = all_down(OnAllDown::Hold);
    world.forget();
    world.mood("s", "c", UP);
    world.run(secs(120));
    assert_eq!(world.moves(), ["b>c failover"]);
    let revived = Event::Revived { service: s(), endpoint: e("c") };
    assert_eq!(world.count(|event| *event == revived), 1);
}

#[test]
fn the_active_endpoint_coming_back_is_told_and_moves_nothing() {
    let mut world = all_down(OnAllDown::Hold);
    world.forget();
    world.mood("s", "b", UP);
    world.run(secs(120));
    assert_eq!(world.moves(), [""; 0]);
    assert_eq!(world.count(|e| matches!(e, Event::Revived { .. })), 1);
    assert_eq!(world.status("s").state, ServiceState::FailedOver);
}

#[test]
fn a_second_outage_is_told_again() {
    let mut world = all_down(OnAllDown::Hold);
    world.mood("s", "b", UP);
    world.run(secs(120));
    world.mood("s", "b", REFUSED);
    world.run(secs(120));
    assert_eq!((outages(&world), criticals(&world)), (2, 2));
}

#[test]
fn a_drained_endpoint_is_not_taken_even_in_an_outage() {
    let mut world = all_down(OnAllDown::Hold);
    world.order(Order::Drain { service: s(), endpoint: e("c") }).unwrap();
    world.mood("s", "c", UP);
    world.run(secs(600));
    assert_eq!(world.moves(), [""; 0]);
    world.order(Order::Undrain { service: s(), endpoint: e("c") }).unwrap();
    world.time_to("s", "c", secs(60)).expect("now it may");
}

#[test]
fn while_everything_is_down_nobody_is_hammered() {
    let mut world = all_down(OnAllDown::Hold);
    world.forget();
    world.run(secs(600));
    for endpoint in ["a", "b", "c"] {
        let probes = world.probes(endpoint).len();
        assert!(probes <= 11, "{endpoint} was probed {probes} times in ten minutes");
    }
}

//! The first choice, without any state.

use crate::core::action::{Action, Event};
use crate::core::id::ServiceName;
use crate::core::input::Order;
use crate::core::rules::OnAllDown;
use crate::core::schedule::detection_bound;

use super::world::*;

#[test]
fn the_preferred_endpoint_is_published_as_soon_as_it_is_proven() {
    let mut world = World::one(service("s", &[0, 1]));
    assert_eq!(world.publications(), []);
    assert_eq!(world.time_to("s", "a", secs(1)), Some(ms(1)));
    assert_eq!(world.moves(), ["->a start"]);
    assert_eq!(world.status("s").budget_left, 6, "the first choice is free");
}

#[test]
fn a_lower_tier_waits_until_the_better_one_is_settled() {
    let mut world = World::one_with(service("s", &[0, 1]), &[("a", REFUSED)]);
    let took = world.time_to("s", "b", secs(30)).unwrap();
    assert_eq!(took, ms(2001), "the third failure settles it");
    world.run(secs(10));
    assert_eq!(world.moves(), ["->b start"]);
}

#[test]
fn a_better_tier_that_does_not_answer_is_waited_for_only_so_long() {
    let mut world = World::one_with(service("s", &[0, 1]), &[("a", Mood::Lost)]);
    assert_eq!(world.time_to("s", "b", secs(30)), Some(secs(5)));
}

#[test]
fn with_nothing_proven_the_preferred_one_is_published_so_that_the_server_can_start() {
    let rules = service("s", &[0, 1]);
    let patience = detection_bound(&rules.probe).silent.max(rules.failover.proof_timeout);
    let mut world = World::one_with(rules, &[("a", Mood::Silent), ("b", REFUSED)]);
    assert_eq!(world.time_to("s", "a", secs(60)), Some(patience));
    assert_eq!(world.count(|e| matches!(e, Event::AllDown { .. })), 1);
    world.run(secs(600));
    assert_eq!(world.count(|e| matches!(e, Event::AllDown { .. })), 1);
    assert_eq!(world.moves(), ["->a start"]);
}

#[test]
fn with_nothing_proven_fail_publishes_none() {
    let mut rules = service("s", &[0]);
    rules.failover.on_all_down = OnAllDown::Fail;
    let mut world = World::one_with(rules, &[("a", REFUSED)]);
    world.run(secs(30));
    assert_eq!(world.moves(), ["->- start"]);
    assert_eq!(world.publications()[0].active.get("s"), Some(&None));
}

#[test]
fn services_ready_in_one_step_share_one_publication() {
    let both = rules([service("s", &[0]), service("t", &[0])]);
    let lost = [("s", "a", Mood::Lost), ("t", "a", Mood::Lost)];
    let mut world = World::new_with(both, &lost);
    world.run(secs(60));
    let publications = world.publications();
    assert_eq!(publications.len(), 1, "both give up waiting at the same moment");
    assert_eq!(publications[0].active.len(), 2);
    assert!(world.decisions().iter().all(|d| d.revision == publications[0].revision));
}

#[test]
fn a_service_still_starting_is_absent_from_the_publication() {
    let mut world =
        World::new_with(rules([service("s", &[0]), service("t", &[0])]), &[("t", "a", Mood::Lost)]);
    world.run(secs(1));
    let publication = world.publications().remove(0);
    assert!(publication.active.contains_key("s"));
    assert!(!publication.active.contains_key(&ServiceName::new("t")));
}

#[test]
fn a_pin_given_before_the_start_is_the_start() {
    let mut world = World::one_with(service("s", &[0, 1]), &[("a", Mood::Lost), ("b", REFUSED)]);
    world.order(Order::Pin { service: s(), endpoint: e("b"), duration: None }).unwrap();
    assert_eq!(world.active("s").as_deref(), Some("b"));
    world.run(secs(600));
    assert_eq!(world.moves(), ["->b start"]);
}

#[test]
fn the_first_probes_are_spread_in_slots() {
    let mut world = World::one(service("s", &[0, 0, 0, 0, 0]));
    let began = world.now;
    world.run(ms(20));
    let mut firsts: Vec<_> =
        ["a", "b", "c", "d", "e"].map(|name| world.probes(name)[0].since(began)).to_vec();
    firsts.sort_unstable();
    assert_eq!(firsts, [ms(0), ms(2), ms(4), ms(6), ms(8)]);
}

#[test]
fn a_step_persists_before_it_publishes_records_and_tells() {
    let mut world = World::one(service("s", &[0, 1]));
    world.mood("s", "a", REFUSED);
    world.run(secs(30));
    let rank = |action: &Action| match action {
        Action::Probe(_) => 0,
        Action::Persist => 1,
        Action::Publish(_) => 2,
        Action::Record(_) => 3,
        Action::Emit(_) => 4,
        Action::Answer { .. } | Action::Granted { .. } => 5,
    };
    let before = world.moves().len();
    assert!(before > 0);
    for order in [
        Order::Pin { service: s(), endpoint: e("a"), duration: None },
        Order::Unpin { service: s() },
    ] {
        let len = world.log.len();
        world.order(order).unwrap();
        let ranks: Vec<_> = world.log[len..].iter().map(|(_, action)| rank(action)).collect();
        assert!(ranks.is_sorted(), "{ranks:?}");
        assert!(ranks.contains(&1), "orders are durable before they are answered");
    }
}

//! What follows when a move does not reach its reader.

use std::sync::Arc;

use crate::core::action::Event;
use crate::core::id::Revision;
use crate::core::input::{Input, Order};

use super::world::*;

fn switch(endpoint: &str) -> Order {
    Order::Switch { service: s(), endpoint: Some(e(endpoint)), force: false }
}

/// Two tiers, moved to the second by a person; the revision of that move.
fn moved() -> (World, Revision) {
    let mut world = World::settled(service("s", &[0, 1]));
    world.run(secs(30));
    let revision = world.order(switch("b")).unwrap().revision;
    (world, revision)
}

impl World {
    /// The reader has not taken the move up; what people are told.
    fn lags(&mut self, revision: Revision, roll_back: bool) -> Vec<String> {
        let before = self.causes().len();
        let output = Arc::from("socket");
        let waited = secs(30);
        self.input(Input::Ineffective { service: s(), output, revision, waited, roll_back });
        self.causes().split_off(before)
    }

    fn causes(&self) -> Vec<String> {
        let told = |event: &Event| {
            let Event::Ineffective { cause, .. } = event else { return None };
            Some(cause.clone())
        };
        self.events().iter().filter_map(told).collect()
    }
}

#[test]
fn people_are_told_and_nothing_moves_unless_the_policy_asks_for_it() {
    let (mut world, revision) = moved();
    assert_eq!(world.lags(revision, false), ["not in use 30.0 s after it was decided"]);
    assert_eq!(world.active("s").as_deref(), Some("b"));
}

#[test]
fn a_move_that_is_not_taken_up_is_rolled_back_under_a_new_revision() {
    let (mut world, revision) = moved();
    assert_eq!(world.lags(revision, true), ["not in use 30.0 s after it was decided; rolled back"]);
    assert_eq!(world.moves(), ["a>b switchover", "b>a rollback"]);
    let decision = world.decisions().last().cloned().expect("two");
    assert!(decision.revision > revision);
    assert_eq!(decision.cause, format!("socket does not use revision {revision}"));
}

#[test]
fn a_roll_back_is_not_rolled_back() {
    let (mut world, revision) = moved();
    world.lags(revision, true);
    let back = world.decisions().last().expect("two").revision;
    let told = world.lags(back, true);
    assert_eq!(
        told,
        ["not in use 30.0 s after it was decided; not rolled back: it is itself a roll-back"]
    );
    assert_eq!(world.active("s").as_deref(), Some("a"));
}

#[test]
fn an_older_move_than_the_latest_is_nobodys_concern() {
    let (mut world, revision) = moved();
    world.order(switch("a")).unwrap();
    assert_eq!(world.lags(revision, true), [""; 0]);
    assert_eq!(world.active("s").as_deref(), Some("a"));
}

#[test]
fn there_is_no_way_back_to_a_dead_endpoint() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.run(secs(30));
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(60)).expect("a failover");
    let revision = world.decisions().last().expect("one").revision;
    let told = world.lags(revision, true);
    assert!(told[0].contains("not rolled back: a: "), "{told:?}");
    assert_eq!(world.active("s").as_deref(), Some("b"));
}

#[test]
fn neither_a_pin_nor_a_pause_is_overridden() {
    let (mut world, revision) = moved();
    world.order(Order::Pause { service: Some(s()) }).unwrap();
    assert!(world.lags(revision, true)[0].ends_with("the service is paused"));
    world.order(Order::Resume { service: Some(s()) }).unwrap();
    world.order(Order::Pin { service: s(), endpoint: e("b"), duration: None }).unwrap();
    assert!(world.lags(revision, true)[0].ends_with("the service is pinned"));
    assert_eq!(world.active("s").as_deref(), Some("b"));
}

#[test]
fn a_return_that_was_rolled_back_is_not_tried_again_by_itself() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.run(secs(30));
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(60)).expect("a failover");
    world.mood("s", "a", UP);
    world.time_to("s", "a", secs(3600)).expect("a failback");
    let revision = world.decisions().last().expect("two").revision;
    world.lags(revision, true);
    assert_eq!(world.active("s").as_deref(), Some("b"));
    world.run(secs(7200));
    assert_eq!(world.active("s").as_deref(), Some("b"), "a person must say so");
    world.mood("s", "b", REFUSED);
    world.time_to("s", "a", secs(60)).expect("an outage is still left");
}

#[test]
fn a_roll_back_costs_budget_and_ends_with_it() {
    let mut one = service("s", &[0, 1]);
    one.failover.budget = 1;
    let mut world = World::settled(one);
    world.run(secs(30));
    let revision = world.order(switch("b")).unwrap().revision;
    world.lags(revision, true);
    let revision = world.order(switch("b")).unwrap().revision;
    assert!(world.lags(revision, true)[0].ends_with("no move is left in the budget"));
    assert_eq!(world.active("s").as_deref(), Some("b"));
}

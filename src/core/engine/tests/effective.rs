//! What follows when a move does not reach its reader.

use std::sync::Arc;
use std::time::Duration;

use crate::core::action::Event;
use crate::core::failover::Wait;
use crate::core::id::Revision;
use crate::core::input::{Input, Order};
use crate::core::outcome::Outcome;

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

/// What is said of the move to `b` when it is to be undone.
fn judged(mut world: World) -> String {
    let revision = world.engine.status(world.now).revision;
    let revision = world.decisions().last().map_or(revision, |decision| decision.revision);
    let told = world.lags(revision, true).pop().expect("it is told");
    assert_eq!(world.active("s").as_deref(), Some("b"), "{told}");
    told
}

#[test]
fn an_emergency_is_told_and_never_undone() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.run(secs(30));
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(60)).expect("a failover");
    world.mood("s", "a", UP);
    world.run_until(world.now + secs(120), |w| w.endpoint("s", "a").unusable.is_none()).unwrap();
    assert!(judged(world).ends_with("an emergency is not undone"));
}

#[test]
fn there_is_no_way_back_to_what_is_dead_drained_failing_or_worse() {
    let (mut world, _) = moved();
    world.mood("s", "a", REFUSED);
    world.run(secs(100));
    assert!(judged(world).contains("not rolled back: a: "));

    let (mut world, _) = moved();
    world.order(Order::Drain { service: s(), endpoint: e("a") }).unwrap();
    assert!(judged(world).ends_with("a: drained"));

    let (mut world, _) = moved();
    world.mood("s", "a", REFUSED);
    let failed = |w: &World| w.endpoint("s", "a").failures == 1;
    world.run_until(world.now + secs(30), failed).unwrap();
    assert!(judged(world).ends_with("its latest probe failed"));

    let (mut world, _) = moved();
    world.mood("s", "a", Mood::Says(Outcome::Degraded));
    world.run(secs(60));
    assert!(judged(world).ends_with("a is known to be worse"));
}

#[test]
fn there_is_no_way_back_to_what_the_policy_no_longer_has() {
    let (mut world, _) = moved();
    let mut rest = service("s", &[0, 1]);
    rest.endpoints.remove(0);
    world.replace(rules([rest]));
    assert!(judged(world).ends_with("a is no longer in the policy"));
}

#[test]
fn nothing_goes_back_on_evidence_from_before_a_stall() {
    let (mut world, _) = moved();
    world.stall(secs(30));
    assert!(judged(world).ends_with("we cannot trust what we see"));
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

/// A world that has failed over to `b` and returned to `a`.
fn returned(budget: u32) -> World {
    let mut one = service("s", &[0, 1]);
    one.failover.budget = budget;
    let mut world = World::settled(one);
    world.run(secs(30));
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(60)).expect("a failover");
    world.mood("s", "a", UP);
    world.time_to("s", "a", secs(3600)).expect("a failback");
    world
}

fn roll_back(world: &mut World) {
    let revision = world.decisions().last().expect("a move").revision;
    world.lags(revision, true);
    assert_eq!(world.active("s").as_deref(), Some("b"));
}

/// How long after a roll-back the return is tried again.
fn barred(world: &mut World) -> Duration {
    roll_back(world);
    world.time_to("s", "a", secs(24 * 3600)).expect("it is tried again")
}

#[test]
fn a_return_is_tried_again_after_a_wait_that_doubles_with_each_roll_back() {
    let mut world = returned(100);
    let waits = [barred(&mut world), barred(&mut world), barred(&mut world)];
    for (wait, least) in waits.into_iter().zip([300, 600, 1200]) {
        assert!(wait >= secs(least) && wait < secs(least + 60), "{waits:?}");
    }
}

#[test]
fn a_return_that_is_taken_up_is_forgiven_all_before_it() {
    let mut world = returned(100);
    barred(&mut world);
    barred(&mut world);
    let revision = world.decisions().last().expect("a move").revision;
    let output = Arc::from("socket");
    world.input(Input::Effective { service: s(), output, revision, late: false });
    assert_eq!(world.count(|event| matches!(event, Event::Effective { .. })), 0, "it was in time");
    assert!(barred(&mut world) < secs(400), "the wait begins anew");
}

#[test]
fn the_bar_is_shown_as_what_a_return_waits_for() {
    let mut world = returned(6);
    roll_back(&mut world);
    world.run(secs(30));
    let shown = world.engine.explain(world.now, &s()).unwrap().failback.unwrap();
    assert_eq!(shown.waits_for, Wait::RolledBack);
    assert!(shown.within.unwrap() > secs(200) && shown.within.unwrap() <= secs(270));
}

#[test]
fn an_order_of_a_person_or_a_new_policy_lifts_the_bar() {
    let mut world = returned(6);
    roll_back(&mut world);
    world.order(Order::Resume { service: Some(s()) }).unwrap();
    world.time_to("s", "a", secs(30)).expect("the order lifts it");

    let mut world = returned(6);
    roll_back(&mut world);
    world.replace(rules([service("s", &[0, 1])]));
    world.time_to("s", "a", secs(30)).expect("the policy lifts it");
}

#[test]
fn the_bar_survives_a_restart() {
    let mut world = returned(6);
    roll_back(&mut world);
    world.run(secs(20));
    let mut again = world.restart(rules([service("s", &[0, 1])]), secs(60));
    let took = again.time_to("s", "a", secs(1000)).unwrap();
    assert!(took > secs(200) && took < secs(260), "{took:?}");
}

#[test]
fn no_bar_delays_an_emergency() {
    let mut world = returned(6);
    roll_back(&mut world);
    world.mood("s", "b", REFUSED);
    world.time_to("s", "a", secs(60)).expect("an outage is still left");
}

#[test]
fn a_roll_back_costs_budget_and_leaves_the_last_move_for_an_emergency() {
    let mut one = service("s", &[0, 1]);
    one.failover.budget = 2;
    let mut world = World::settled(one);
    world.run(secs(30));
    let revision = world.order(switch("b")).unwrap().revision;
    world.lags(revision, true);
    assert_eq!(world.active("s").as_deref(), Some("a"));
    world.order(switch("b")).unwrap();
    assert!(judged(world).ends_with("kept for an emergency"));
}

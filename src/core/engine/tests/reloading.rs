//! New rules on the fly.

use crate::core::action::Event;
use crate::core::breaker::BreakerState;
use crate::core::input::Order;
use crate::core::outcome::Outcome;
use crate::core::status::AdminState;

use super::world::*;

#[test]
fn an_unchanged_policy_keeps_every_state_and_the_pending_attempts() {
    let mut rules_ = service("s", &[0, 1]);
    rules_.breaker.failure_threshold = 3;
    let mut world = World::settled(rules_.clone());
    for _ in 0..3 {
        world.report("s", "b", Outcome::ServerError);
    }
    world.mood("s", "a", Mood::Slowly(Outcome::Ok, ms(900)));
    world.run_until(world.now + secs(20), |w| !w.engine.outstanding(w.now).is_empty()).unwrap();
    let before = world.engine.status(world.now);
    let out = world.engine.outstanding(world.now);
    world.replace(rules([rules_]));
    let mut after = world.engine.status(world.now);
    assert!(after.revision > before.revision, "values may have changed");
    after.revision = before.revision;
    assert_eq!(after, before);
    assert_eq!(world.engine.outstanding(world.now), out);
    assert_eq!(world.endpoint("s", "b").breaker, BreakerState::Open);
    assert_eq!(world.moves(), [""; 0]);
}

#[test]
fn a_changed_endpoint_starts_anew_but_stays_drained() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.order(Order::Drain { service: s(), endpoint: e("b") }).unwrap();
    let mut changed = service("s", &[0, 1]);
    changed.endpoints[1].identity += 1000;
    world.forget();
    world.replace(rules([changed]));
    assert_eq!(world.endpoint("s", "b").health.label(), "unknown");
    assert_eq!(world.endpoint("s", "b").admin, AdminState::Drained);
    assert_eq!(world.endpoint("s", "a").health.label(), "healthy");
    let told =
        Event::RulesReplaced { added: vec![], removed: vec![], changed: vec!["s/b".to_owned()] };
    assert_eq!(world.count(|event| *event == told), 1);
}

#[test]
fn removing_the_active_endpoint_causes_exactly_one_move() {
    let mut world = World::settled(service("s", &[0, 1, 2]));
    let mut fewer = service("s", &[0, 1, 2]);
    fewer.endpoints.remove(0);
    world.replace(rules([fewer]));
    assert_eq!(world.moves(), ["a>b reload"]);
    assert_eq!(world.publications().len(), 1, "rules and move share one revision");
    world.run(secs(600));
    assert_eq!(world.moves(), ["a>b reload"]);
    assert_eq!(world.status("s").budget_left, 6);
}

#[test]
fn removing_the_active_endpoint_moves_a_paused_service_too() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.order(Order::Pause { service: None }).unwrap();
    let mut fewer = service("s", &[0, 1]);
    fewer.endpoints.remove(0);
    world.replace(rules([fewer]));
    assert_eq!(world.moves(), ["a>b reload"]);
}

#[test]
fn replacing_every_endpoint_goes_to_the_preferred_one() {
    let mut world = World::settled(service("s", &[0, 1]));
    let mut other = service("s", &[0, 1]);
    other.endpoints[0].name = e("x");
    other.endpoints[1].name = e("y");
    world.replace(rules([other]));
    assert_eq!(world.moves(), ["a>x reload"]);
    world.run(secs(600));
    assert_eq!(world.moves(), ["a>x reload"]);
}

#[test]
fn a_removed_service_disappears_and_a_new_one_starts() {
    let mut world = World::new(rules([service("s", &[0]), service("t", &[0])]));
    world.run(secs(30));
    world.forget();
    world.replace(rules([service("s", &[0]), service("u", &[0])]));
    let publication = world.publications().remove(0);
    assert_eq!(publication.active.keys().map(ToString::to_string).collect::<Vec<_>>(), ["s"]);
    world.run(secs(1));
    let publication = world.publications().pop().unwrap();
    assert_eq!(publication.active.keys().map(ToString::to_string).collect::<Vec<_>>(), ["s", "u"]);
    assert_eq!(world.moves(), ["->a start"]);
}

#[test]
fn a_pin_to_a_removed_endpoint_ends_with_an_event() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.order(Order::Pin { service: s(), endpoint: e("b"), duration: None }).unwrap();
    world.forget();
    let mut fewer = service("s", &[0, 1]);
    fewer.endpoints.remove(1);
    world.replace(rules([fewer]));
    assert_eq!(world.status("s").pinned, None);
    assert_eq!(world.moves(), ["b>a reload"]);
    let unpinned = |event: &Event| matches!(event, Event::Commanded(c) if matches!(c.order, Order::Unpin { .. }));
    assert_eq!(world.count(unpinned), 1);
}

#[test]
fn a_pin_survives_a_reload_that_reorders_the_file() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.order(Order::Pin { service: s(), endpoint: e("b"), duration: None }).unwrap();
    world.forget();
    let mut swapped = service("s", &[0, 1]);
    swapped.endpoints.swap(0, 1);
    world.replace(rules([swapped]));
    world.run(secs(60));
    assert_eq!(world.status("s").pinned, Some(e("b")));
    assert_eq!(world.active("s").as_deref(), Some("b"));
    assert_eq!(world.moves(), [""; 0]);
}

#[test]
fn a_new_rare_check_joins_without_losing_what_is_known() {
    let mut world = World::settled(service("s", &[0, 1]));
    let mut deeper = service("s", &[0, 1]);
    deeper.deep_probe = Some(cadence());
    world.replace(rules([deeper]));
    assert_eq!(world.endpoint("s", "a").health.label(), "healthy");
    world.run(secs(60));
    world.replace(rules([service("s", &[0, 1])]));
    world.run(secs(60));
    assert_eq!(world.moves(), [""; 0]);
}

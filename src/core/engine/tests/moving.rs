//! When a service moves, and when it must not.

use crate::core::action::{Event, HoldReason};
use crate::core::input::Order;
use crate::core::outcome::Outcome;
use crate::core::rules::{FailbackMode, OnAllDown};
use crate::core::schedule::detection_bound;

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
}

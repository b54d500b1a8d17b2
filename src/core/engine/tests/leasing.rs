//! Endpoints handed out one call at a time.

use std::collections::BTreeMap;

use crate::core::breaker::BreakerState;
use crate::core::id::LeaseId;
use crate::core::input::{Input, Order};
use crate::core::outcome::{Observation, Outcome};
use crate::core::rules::{ServiceRules, Strategy};

use super::world::*;

fn balanced(strategy: Strategy) -> ServiceRules {
    let mut rules = service("s", &[0, 0, 0, 1]);
    rules.strategy = strategy;
    rules
}

fn release(world: &mut World, lease: LeaseId, outcome: Option<Outcome>) {
    let observation = outcome.map(|outcome| Observation::new(outcome, ms(5)));
    world.input(Input::LeaseReleased { lease, observation });
}

fn shares(world: &mut World, n: u32) -> BTreeMap<String, u32> {
    let mut shares = BTreeMap::new();
    for _ in 0..n {
        let (lease, endpoint) = world.lease("s", secs(10)).expect("granted");
        release(world, lease, Some(Outcome::Ok));
        *shares.entry(endpoint).or_default() += 1;
    }
    shares
}

#[test]
fn under_priority_the_active_endpoint_is_leased() {
    let mut world = World::settled(service("s", &[0, 1]));
    assert_eq!(world.lease("s", secs(10)).unwrap().1, "a");
    world.mood("s", "a", REFUSED);
    world.time_to("s", "b", secs(20)).unwrap();
    assert_eq!(world.lease("s", secs(10)).unwrap().1, "b");
}

#[test]
fn under_round_robin_the_peers_take_turns_and_lower_tiers_none() {
    let mut world = World::settled(balanced(Strategy::RoundRobin));
    let shares = shares(&mut world, 300);
    assert_eq!(
        shares.into_iter().collect::<Vec<_>>(),
        [("a".to_owned(), 100), ("b".to_owned(), 100), ("c".to_owned(), 100),]
    );
}

#[test]
fn under_least_connections_the_idle_peer_is_chosen() {
    let mut world = World::settled(balanced(Strategy::LeastConnections));
    let mut seen: Vec<_> = (0..3).map(|_| world.lease("s", secs(60)).unwrap().1).collect();
    seen.sort_unstable();
    assert_eq!(seen, ["a", "b", "c"]);
}

#[test]
fn an_open_breaker_is_leased_to_nobody() {
    let mut rules = balanced(Strategy::RoundRobin);
    rules.breaker.failure_threshold = 3;
    let mut world = World::settled(rules);
    for _ in 0..3 {
        world.report("s", "a", Outcome::ServerError);
    }
    let shares = shares(&mut world, 30);
    assert!(!shares.contains_key("a"), "{shares:?}");
}

#[test]
fn a_half_open_breaker_is_leased_within_its_permits() {
    let mut rules = service("s", &[0]);
    rules.breaker.failure_threshold = 3;
    rules.probe.interval = secs(1000);
    rules.probe.fast_interval = secs(1000);
    rules.probe.standby_interval = secs(1000);
    let mut world = World::settled(rules);
    for _ in 0..3 {
        world.report("s", "a", Outcome::ServerError);
    }
    assert!(world.lease("s", secs(10)).is_none());
    world.run_until(world.now + secs(60), |w| {
        w.endpoint("s", "a").breaker == BreakerState::HalfOpen
    });
    let out = world.engine.outstanding(world.now).len();
    let (lease, _) = world.lease("s", secs(60)).expect("one trial");
    assert_eq!(out, 0);
    assert!(world.lease("s", secs(60)).is_none(), "and no second one");
    release(&mut world, lease, Some(Outcome::Ok));
    let (lease, _) = world.lease("s", secs(60)).expect("the permit is back");
    release(&mut world, lease, Some(Outcome::Ok));
    assert_eq!(world.endpoint("s", "a").breaker, BreakerState::Closed);
}

#[test]
fn with_everything_down_no_lease_is_granted() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.mood("s", "a", REFUSED);
    world.mood("s", "b", REFUSED);
    world.run(secs(60));
    assert!(world.lease("s", secs(10)).is_none());
    assert!(world.lease("nobody", secs(10)).is_none());
}

#[test]
fn a_lease_ends_by_its_time_unless_renewed() {
    let mut world = World::settled(service("s", &[0]));
    let (lease, _) = world.lease("s", secs(10)).unwrap();
    world.run(secs(9));
    world.input(Input::LeaseRenewed(lease));
    world.run(secs(9));
    assert_eq!(world.endpoint("s", "a").leases, 1);
    world.run(secs(2));
    assert_eq!(world.endpoint("s", "a").leases, 0);
}

#[test]
fn a_release_counts_as_a_report() {
    let mut rules = service("s", &[0, 1]);
    rules.breaker.failure_threshold = 2;
    let mut world = World::settled(rules);
    for _ in 0..2 {
        let (lease, _) = world.lease("s", secs(10)).unwrap();
        release(&mut world, lease, Some(Outcome::Timeout));
    }
    assert_eq!(world.endpoint("s", "a").breaker, BreakerState::Open);
}

#[test]
fn leases_of_an_endpoint_removed_by_a_reload_vanish() {
    let mut world = World::settled(service("s", &[0, 1]));
    let (lease, _) = world.lease("s", secs(60)).unwrap();
    let mut fewer = service("s", &[0, 1]);
    fewer.endpoints.remove(0);
    world.replace(rules([fewer]));
    release(&mut world, lease, Some(Outcome::Ok));
    assert_eq!(world.endpoint("s", "b").leases, 0);
}

#[test]
fn a_drained_peer_is_not_leased() {
    let mut world = World::settled(balanced(Strategy::RoundRobin));
    world.order(Order::Drain { service: s(), endpoint: e("b") }).unwrap();
    let shares = shares(&mut world, 30);
    assert!(!shares.contains_key("b"), "{shares:?}");
}

#[test]
fn calls_stay_in_the_tier_that_is_published() {
    let mut world = World::settled(balanced(Strategy::RoundRobin));
    for endpoint in ["a", "b", "c"] {
        world.mood("s", endpoint, REFUSED);
    }
    world.time_to("s", "d", secs(60)).unwrap();
    world.run(secs(30));
    world.mood("s", "a", UP);
    world.run(secs(120));
    assert_eq!(world.lease("s", secs(10)).unwrap().1, "d", "the return has its hold");
}

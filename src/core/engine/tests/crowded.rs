//! Thousands that waver at once share an allowance; a few never notice it.

use std::time::Duration;

use crate::core::action::{ProbeKind, ProbeOrder};
use crate::core::allowance::{BURST, RATE_MIN};
use crate::core::engine::watch::{Hurry, Watch};
use crate::core::id::ServiceName;
use crate::core::outcome::Outcome;
use crate::core::rules::Cadence;
use crate::core::schedule::{crowded_bound, detection_bound};
use crate::core::time::Instant;

use super::at_scale::{ENDPOINTS, Fleet, INTERVAL};
use super::world::*;

const FAST: Duration = ms(500);

/// Two failures, then a pass, and so on: with `fall` 3 it wavers and never falls.
fn wavering(_: &ProbeOrder, nth: usize) -> (Outcome, Duration) {
    (if nth % 3 < 2 { Outcome::Refused } else { Outcome::Ok }, ms(10))
}

/// Slower than the fast interval, so that each attempt is suspicious enough for another one: what
/// servers do that cannot bear the load.
fn overloaded(_: &ProbeOrder, _: usize) -> (Outcome, Duration) {
    (Outcome::Ok, ms(800))
}

/// Some endpoints of a few services waver; all others are well.
fn a_few(order: &ProbeOrder, nth: usize) -> (Outcome, Duration) {
    let few = ["s0", "s1", "s2", "s3"].contains(&order.service.as_str());
    if few { wavering(order, nth) } else { (Outcome::Ok, ms(10)) }
}

fn settled() -> Fleet {
    let mut fleet = Fleet::start();
    fleet.run(secs(20));
    fleet.asked.clear();
    fleet
}

/// The most probes started in any second.
fn peak(fleet: &Fleet) -> usize {
    let mut all: Vec<Instant> = fleet.asked.values().flatten().copied().collect();
    all.sort_unstable();
    let within = |from: usize| all[from..].partition_point(|at| at.since(all[from]) < secs(1));
    (0..all.len()).step_by(50).map(within).max().unwrap_or(0)
}

/// The longest time from one probe of an endpoint to the next; `counts` is told the service and the
/// number of the first one.
fn longest_gap(fleet: &Fleet, counts: impl Fn(&ServiceName, usize) -> bool) -> Duration {
    let pairs = fleet.asked.iter().flat_map(|((service, _), at)| {
        at.windows(2).enumerate().map(move |(nth, pair)| (service, nth, pair[1].since(pair[0])))
    });
    pairs.filter(|(service, nth, _)| counts(service, *nth)).map(|(_, _, gap)| gap).max().unwrap()
}

#[test]
fn when_thousands_waver_at_once_confirmations_add_the_planned_rate_once_and_no_more() {
    let planned = ENDPOINTS / usize::try_from(INTERVAL.as_secs()).unwrap();
    // Jitter shortens a steady gap by a tenth at most.
    let most = planned * 10 / 9 + planned + usize::try_from(BURST).unwrap();
    for answer in [wavering, overloaded] {
        let mut fleet = settled();
        fleet.answer = answer;
        fleet.run(secs(30));
        let peak = peak(&fleet);
        assert!(peak <= most, "{peak} in a second, planned are {planned}");
    }
}

#[test]
fn in_a_crowd_no_endpoint_is_asked_later_than_without_one() {
    let mut fleet = settled();
    fleet.answer = wavering;
    fleet.run(secs(60));
    let longest = longest_gap(&fleet, |_, _| true);
    assert!(longest <= INTERVAL * 11 / 10 + ms(1), "{longest:?}");
    let fewest = fleet.asked.values().map(Vec::len).min().unwrap();
    let most = fleet.asked.values().map(Vec::len).max().unwrap();
    assert!(fewest * 2 >= most, "nobody is passed over: {fewest} and {most}");
}

#[test]
fn a_few_that_waver_among_thousands_are_asked_fast() {
    let mut fleet = settled();
    fleet.answer = a_few;
    fleet.run(secs(30));
    let few = |service: &ServiceName| ["s0", "s1", "s2", "s3"].contains(&service.as_str());
    let longest = longest_gap(&fleet, |service, nth| few(service) && nth % 3 < 2);
    assert!(longest <= FAST + ms(1), "{longest:?}");
    assert_eq!(fleet.engine.status(fleet.now).confirmation_wait, Duration::ZERO);
}

#[test]
fn a_crowd_that_has_calmed_down_leaves_no_wait_behind() {
    let mut fleet = settled();
    fleet.answer = wavering;
    fleet.run(secs(30));
    assert!(fleet.engine.status(fleet.now).confirmation_wait > Duration::ZERO);
    fleet.answer = |_, _| (Outcome::Ok, ms(10));
    fleet.run(INTERVAL * 2);
    assert_eq!(fleet.engine.status(fleet.now).confirmation_wait, Duration::ZERO);
}

#[test]
fn explain_names_the_bound_in_a_crowd_where_there_can_be_one() {
    let mut fleet = settled();
    let name = ServiceName::new("s7");
    let probe = &fleet.engine.rules().services[&name].probe;
    let (alone, crowded) = (detection_bound(probe), crowded_bound(probe));
    let seen = fleet.engine.explain(fleet.now, &name).unwrap().detection;
    assert_eq!((seen.shallow, seen.crowded), (alone, Some(crowded)));
    assert!(seen.to_string().ends_with(
        "within 6.5 s (refused), 7.4 s (silent); \
         if hundreds waver at once, within 16.5 s (refused), 17.4 s (silent)"
    ));
    fleet.answer = wavering;
    fleet.run(secs(30));
    let seen = fleet.engine.explain(fleet.now, &name).unwrap().detection;
    assert!(seen.wait > Duration::ZERO);
    assert!(seen.to_string().contains("; at present, within 16.5 s"), "{seen}");

    let small = World::settled(service("s", &[0, 1]));
    let seen = small.engine.explain(small.now, &s()).unwrap().detection;
    assert_eq!(seen.crowded, None);
}

#[test]
fn a_move_comes_within_the_bound_in_a_crowd() {
    // Everybody wavers; then the active endpoint of one service dies for good.
    let doomed = |order: &ProbeOrder, nth: usize| {
        let dead = order.service.as_str() == "s7" && order.endpoint.as_str() == "a";
        if dead { (Outcome::Refused, ms(10)) } else { wavering(order, nth) }
    };
    let mut fleet = settled();
    fleet.answer = wavering;
    fleet.run(secs(30));
    let name = ServiceName::new("s7");
    let active = |fleet: &Fleet| fleet.engine.status(fleet.now).services[&name].active.clone();
    assert_eq!(active(&fleet), Some(e("a")));
    let bound = crowded_bound(&fleet.engine.rules().services[&name].probe).refused;
    fleet.answer = doomed;
    // A stand-by is asked for a fresh pass when the verdict is there, at the latest a steady gap on.
    fleet.run(bound + INTERVAL * 11 / 10);
    assert_ne!(active(&fleet), Some(e("a")));
}

#[test]
fn a_confirmation_put_off_as_a_standby_is_not_late_for_what_is_active_by_now() {
    let cadence = Cadence { standby_interval: secs(60), ..cadence() };
    let asked = Instant::new(secs(100));
    let watch = Watch {
        last_start: Some(asked),
        put_off: Some(asked + secs(40)),
        hot: 1,
        ..Watch::new(ProbeKind::Shallow, &cadence, Instant::START)
    };
    assert_eq!(watch.due(&cadence, Hurry::None, false), Some(asked + secs(40)));
    assert_eq!(watch.due(&cadence, Hurry::None, true), Some(asked + cadence.interval));
}

#[test]
fn the_least_allowance_is_enough_for_a_hundred_at_five_a_second() {
    assert!(RATE_MIN >= 5 * u64::from(BURST));
}

//! Thousands of endpoints: spread, shared attempts, and what one endpoint weighs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::action::{Action, ProbeOrder};
use crate::core::engine::Engine;
use crate::core::engine::endpoint::Endpoint;
use crate::core::id::{EndpointName, ServiceName};
use crate::core::input::{Input, Sense};
use crate::core::outcome::{Observation, Outcome};
use crate::core::rules::Rules;
use crate::core::time::Instant;

use super::world::*;

pub(super) const ENDPOINTS: usize = 5_000;
pub(super) const INTERVAL: Duration = secs(5);
const LATENCY: Duration = ms(10);

/// What the next attempt on an endpoint brings, and after how long; told the number of earlier ones.
pub(super) type Answer = fn(&ProbeOrder, usize) -> (Outcome, Duration);

/// Five thousand endpoints, ten a service, each probed every five seconds.
fn fleet(services: usize) -> Arc<Rules> {
    let mut all = Rules::default();
    for number in 0..services {
        let name = format!("s{number}");
        let mut rules = service(&name, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        rules.probe.interval = INTERVAL;
        rules.probe.standby_interval = INTERVAL;
        rules.probe.fast_interval = ms(500);
        rules.probe.timeout = ms(900);
        rules.probe.jitter_permille = 100;
        all.services.insert(ServiceName::new(&name), Arc::new(rules));
    }
    Arc::new(all)
}

/// An engine and its upstreams; at first all of them pass after ten milliseconds.
pub(super) struct Fleet {
    pub(super) engine: Engine,
    pub(super) now: Instant,
    pub(super) answer: Answer,
    pending: BTreeMap<(Instant, u64), (ProbeOrder, Observation)>,
    /// Probes started in each slot of ten milliseconds.
    slots: BTreeMap<u128, usize>,
    /// When each endpoint was asked.
    pub(super) asked: BTreeMap<(ServiceName, EndpointName), Vec<Instant>>,
}

impl Fleet {
    pub(super) fn start() -> Self {
        let (engine, actions) = Engine::new(fleet(ENDPOINTS / 10), None, 7, Instant::START);
        let (pending, slots, asked) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let answer: Answer = |_, _| (Outcome::Ok, LATENCY);
        let mut fleet = Self { engine, now: Instant::START, answer, pending, slots, asked };
        fleet.take(actions);
        fleet
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            if let Action::Probe(order) = action {
                *self.slots.entry(self.now.since_start().as_millis() / 10).or_default() += 1;
                let key = (order.service.clone(), order.endpoint.clone());
                let asked = self.asked.entry(key).or_default();
                let (outcome, after) = (self.answer)(&order, asked.len());
                asked.push(self.now);
                let observation = Observation::new(outcome, after);
                let at = self.now + after.min(order.timeout);
                self.pending.insert((at, order.attempt.get()), (order, observation));
            }
        }
    }

    fn step(&mut self, input: Input) {
        let actions = self.engine.step(self.now, input);
        self.take(actions);
    }

    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let answer = self.pending.first_key_value().map(|((at, _), _)| *at);
            let next = answer.into_iter().chain(self.engine.deadline()).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if answer == Some(at) {
                let (_, (order, observation)) = self.pending.pop_first().unwrap();
                self.step(Input::Probed { attempt: order.attempt, observation });
            } else {
                self.step(Input::Tick);
            }
        }
        self.now = end;
    }

    /// The most in one slot since the latest call, and how many in all.
    fn burst(&mut self) -> (usize, usize) {
        let slots = std::mem::take(&mut self.slots);
        (slots.values().copied().max().unwrap_or(0), slots.values().sum())
    }
}

#[test]
fn no_burst_is_more_than_a_hundredth_at_the_start_later_after_a_stall_or_after_a_reload() {
    let most = ENDPOINTS / 100;
    let mut fleet = Fleet::start();
    fleet.run(secs(10));
    let (burst, probes) = fleet.burst();
    assert!(burst <= most && probes >= ENDPOINTS, "at the start: {burst} of {probes}");

    fleet.run(secs(10));
    let (burst, probes) = fleet.burst();
    let rounds = probes / ENDPOINTS;
    assert!(burst <= most && (1..=2).contains(&rounds), "later: {burst} of {probes}");

    fleet.pending.clear();
    fleet.step(Input::Sensed(Sense::Stalled(secs(3))));
    fleet.run(secs(10));
    let (burst, probes) = fleet.burst();
    assert!(burst <= most && probes >= ENDPOINTS, "after a stall: {burst} of {probes}");

    // One service is gone: the rhythm of the others goes on.
    fleet.step(Input::RulesReplaced(self::fleet(ENDPOINTS / 10 - 1)));
    fleet.run(secs(5));
    let (burst, probes) = fleet.burst();
    assert!(burst <= most && probes <= ENDPOINTS * 6 / 5, "after a reload: {burst} of {probes}");
}

#[test]
fn an_endpoint_weighs_less_than_a_kibibyte_besides_its_windows() {
    assert!(size_of::<Endpoint>() <= 1_024, "{}", size_of::<Endpoint>());
}

/// The order of the latest probe of `a`, which nobody answers.
fn unanswered(world: &mut World) -> ProbeOrder {
    world.mood("s", "a", Mood::Lost);
    world.forget();
    world.run_until(world.now + secs(20), |w| !w.probes("a").is_empty()).expect("a probe");
    let order = |action: &Action| {
        if let Action::Probe(order) = action
            && order.endpoint.as_str() == "a"
        {
            Some(order.clone())
        } else {
            None
        }
    };
    world.log.iter().rev().find_map(|(_, action)| order(action)).expect("an order")
}

#[test]
fn what_stands_in_for_a_probe_began_in_the_latter_half_of_its_gap() {
    let mut world = World::settled(service("s", &[0, 1]));
    let order = unanswered(&mut world);
    assert_eq!(order.not_before, world.now.back(secs(5)), "the interval is ten seconds");
    world.forget();
    world.run_until(world.now + secs(20), |w| !w.probes("a").is_empty()).expect("another");
    let second = unanswered(&mut world);
    assert!(second.not_before > world.probes("a")[0].back(secs(1)), "a confirmation is its own");
}

#[test]
fn the_rhythm_counts_from_the_beginning_of_the_attempt_that_stood_in() {
    let mut world = World::settled(service("s", &[0, 1]));
    let order = unanswered(&mut world);
    let began = world.now.back(secs(3));
    let observation = Observation::new(Outcome::Ok, ms(5));
    world.input(Input::Shared { attempt: order.attempt, began, observation });
    assert_eq!(world.endpoint("s", "a").last_outcome, Some(Outcome::Ok));
    assert_eq!(world.endpoint("s", "a").next_probe_at, Some(began + secs(10)));
}

#[test]
fn a_failure_that_stood_in_counts_like_one_of_its_own() {
    let mut world = World::settled(service("s", &[0, 1]));
    let order = unanswered(&mut world);
    let observation = Observation::new(Outcome::Refused, ms(5));
    let began = order.not_before;
    world.input(Input::Shared { attempt: order.attempt, began, observation: observation.clone() });
    assert_eq!(world.endpoint("s", "a").failures, 1);
    world.input(Input::Shared { attempt: order.attempt, began, observation });
    assert_eq!(world.endpoint("s", "a").failures, 1, "once");
}

#[test]
fn nothing_from_before_a_stall_stands_in_for_a_probe() {
    let mut world = World::settled(service("s", &[0, 1]));
    world.input(Input::Sensed(Sense::Stalled(secs(3))));
    let stalled_at = world.now;
    let order = unanswered(&mut world);
    assert!(order.not_before >= stalled_at);
}

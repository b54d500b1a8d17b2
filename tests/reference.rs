//! A second engine, so naive that it is plainly right, beside the real one.
//!
//! It knows one service, endpoints that answer at once, and nothing of schedules, breakers, scores
//! or flapping. It keeps every result there ever was and works out the rest anew each time, from
//! the sentences of the policy: a pin first, then a pause; leave what failed `fall` times for the
//! first tier that passed; return after `hold` and `rise`; never more moves than the budget.

use std::time::Duration;

use mcp_failover::core::input::Order;
use mcp_failover::core::outcome::Outcome;
use mcp_failover::core::rng::Rng;
use mcp_failover::core::rules::ServiceRules;

use crate::common::rig::{Rig, endpoint, place, plain, service};

const SECOND: Duration = Duration::from_secs(1);

/// The naive engine: what happened, second by second.
#[derive(Debug)]
struct Reference {
    rules: ServiceRules,
    /// The seconds there were.
    now: usize,
    /// For each endpoint whether it passed, one entry a second.
    passed: Vec<Vec<bool>>,
    active: usize,
    pin: Option<usize>,
    paused: bool,
    /// The seconds of the automatic moves.
    moves: Vec<usize>,
}

impl Reference {
    fn new(rules: ServiceRules) -> Self {
        let passed = vec![Vec::new(); rules.endpoints.len()];
        Self { rules, now: 0, passed, active: 0, pin: None, paused: false, moves: Vec::new() }
    }

    /// Whether the endpoint is healthy, from all it ever answered.
    fn healthy(&self, at: usize, until: usize) -> bool {
        let (rise, fall) = (self.rules.probe.rise, self.rules.probe.fall);
        let (mut healthy, mut row) = (true, 0);
        for passed in &self.passed[at][..until] {
            row = if *passed == healthy { 0 } else { row + 1 };
            if row >= if healthy { fall } else { rise } {
                (healthy, row) = (!healthy, 0);
            }
        }
        healthy
    }

    /// For how many seconds it has been healthy without a break.
    fn held(&self, at: usize) -> usize {
        let now = self.passed[at].len();
        (1..=now).rev().take_while(|until| self.healthy(at, *until)).count()
    }

    /// Healthy, and the latest answer was a pass.
    fn proven(&self, at: usize) -> bool {
        let answers = &self.passed[at];
        self.healthy(at, answers.len()) && answers.last() == Some(&true)
    }

    /// The answers of one second come in one after the other; when all are in, the waits that are
    /// over by then count too.
    fn second(&mut self, world: &[bool]) {
        self.now += 1;
        for (at, passes) in world.iter().enumerate() {
            self.passed[at].push(*passes);
            self.decide(self.now, false);
        }
        self.decide(self.now, true);
    }

    /// `waited` says whether the fraction of a second is over that is on top of every wait.
    fn decide(&mut self, stamp: usize, waited: bool) {
        if self.pin.is_some() || self.paused {
            return;
        }
        let over = |passed: usize, wait: usize| passed > wait || (waited && passed == wait);
        let now = self.now;
        let failover = &self.rules.failover;
        let window = usize::try_from(failover.budget_window.as_secs()).unwrap();
        let used = self.moves.iter().filter(|at| !over(now.saturating_sub(**at), window)).count();
        let left = usize::try_from(failover.budget).unwrap().saturating_sub(used);
        let hold = usize::try_from(failover.failback.hold.as_secs()).unwrap();
        let rise = usize::try_from(failover.failback.rise).unwrap();
        let row = |at: usize| self.passed[at].iter().rev().take_while(|passed| **passed).count();
        let answers = self.passed[self.active].len();
        let target = if self.healthy(self.active, answers) {
            let held =
                |at: usize| self.held(at).checked_sub(1).is_some_and(|held| over(held, hold));
            let ready = |at: &usize| held(*at) && row(*at) >= rise && self.proven(*at);
            (0..self.active).filter(|_| left >= 2).find(ready)
        } else {
            let others = (0..self.passed.len()).filter(|at| *at != self.active);
            others.filter(|_| left >= 1).find(|at| self.proven(*at))
        };
        if let Some(target) = target {
            self.active = target;
            self.moves.push(stamp);
        }
    }
}

/// What a person does in this second, if anything.
fn order(rng: &mut Rng, reference: &mut Reference) -> Option<Order> {
    let at = usize::try_from(rng.below(3)).unwrap();
    match rng.below(60) {
        0 => {
            (reference.pin, reference.active) = (Some(at), at);
            Some(Order::Pin { service: service(), endpoint: endpoint(at), duration: None })
        }
        1..=3 => {
            reference.pin = None;
            Some(Order::Unpin { service: service() })
        }
        4 => {
            reference.paused = true;
            Some(Order::Pause { service: Some(service()) })
        }
        5 | 6 => {
            reference.paused = false;
            Some(Order::Resume { service: Some(service()) })
        }
        _ => None,
    }
}

/// The policy of one run. Every wait ends between two rounds of answers.
fn draw(rng: &mut Rng) -> ServiceRules {
    let mut rules = plain(3);
    let mut number = |least: u64, choices: u64| u32::try_from(least + rng.below(choices)).unwrap();
    (rules.probe.rise, rules.probe.fall) = (number(1, 3), number(1, 3));
    rules.failover.budget = number(2, 3);
    rules.failover.failback.hold = SECOND * number(0, 8) + SECOND / 4;
    rules.failover.budget_window = SECOND * 10 + SECOND / 50;
    rules.failover.proof_timeout = SECOND * 3600;
    rules
}

#[test]
fn the_engine_does_what_the_naive_reference_does() {
    let mut moves = 0;
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let rules = draw(&mut rng);
        let mut reference = Reference::new(rules.clone());
        let mut rig = Rig::new(rules, vec![Outcome::Ok; 3]);
        let mut up = [true; 3];
        rig.pass(SECOND / 2);
        reference.second(&up);
        for second in 1..300 {
            for alive in &mut up {
                *alive ^= rng.below(if *alive { 25 } else { 6 }) == 0;
            }
            let outcome = |up: &bool| if *up { Outcome::Ok } else { Outcome::Refused };
            rig.world = up.iter().map(outcome).collect();
            if let Some(order) = order(&mut rng, &mut reference) {
                rig.pass(SECOND * 49 / 100);
                rig.order(order);
                rig.pass(SECOND / 100);
                // It may move just before the next second begins.
                reference.decide(second + 1, true);
            } else {
                rig.pass(SECOND / 2);
            }
            rig.pass(SECOND / 2);
            reference.second(&up);
            let active = rig.status().active.as_ref().map(place);
            let same = active == Some(reference.active);
            assert!(same, "seed {seed}, second {second}: at {active:?}, not as {reference:?}");
        }
        moves += reference.moves.len();
    }
    assert!(moves > 500, "void: only {moves} moves");
}

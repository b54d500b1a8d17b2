//! Every state that the failover core can get into, for a small service: which endpoints live,
//! what a person pins, and when the process dies, in every order.
//!
//! Time moves in steps of one second. A state is the engine's own fingerprint, which holds ages
//! and no clock, so the states are finite and all of them are visited. From each of them it is
//! also checked that the service finds back once everything lives: convergence as a safety
//! property, for "eventually" is not decidable on a graph with cycles.
//!
//! `MCPF_MODEL=large` visits a larger service.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mcp_failover::core::action::{Action, Event, HoldReason, MoveKind};
use mcp_failover::core::breaker::BreakerState;
use mcp_failover::core::id::Revision;
use mcp_failover::core::input::Order;
use mcp_failover::core::outcome::Outcome;
use mcp_failover::core::rules::{BreakerMode, ServiceRules};
use mcp_failover::core::time::Instant;
use stateright::{Checker, Model, Property};

use crate::common::rig::{Rig, endpoint, place, plain, service};

const SECOND: Duration = Duration::from_secs(1);

/// The world, with what must never have happened in it.
#[derive(Clone, Debug)]
struct State {
    rig: Rig,
    pinned: Option<usize>,
    revision: Revision,
    broken: Option<&'static str>,
    /// Everything that matters from here on, in one number.
    mark: u64,
}

impl State {
    fn marked(mut self, with_disk: bool) -> Self {
        let mut hasher = DefaultHasher::new();
        self.rig.engine.fingerprint(self.rig.now).hash(&mut hasher);
        if with_disk {
            // What is on disk matters only by what a start would make of it.
            self.rig.successor().0.fingerprint(Instant::START).hash(&mut hasher);
        }
        (&self.rig.world, self.pinned, self.broken).hash(&mut hasher);
        self.mark = hasher.finish();
        self
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.mark.hash(hasher);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.mark == other.mark
    }
}

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Happening {
    /// A second passes.
    Second,
    /// An endpoint dies, or comes back.
    Turn(usize),
    /// A person pins the service.
    Pin(usize),
    /// A person unpins it.
    Unpin,
    /// The process is killed and starts again.
    Restart,
}

/// What must be reached for the check to mean anything.
#[derive(Clone, Copy, Debug)]
enum Reached {
    Failover,
    Failback,
    AllDown,
    HalfOpen,
    BudgetHold,
    PinHold,
}

impl Reached {
    const fn bit(self) -> u32 {
        match self {
            Self::Failover => 1,
            Self::Failback => 2,
            Self::AllDown => 4,
            Self::HalfOpen => 8,
            Self::BudgetHold => 16,
            Self::PinHold => 32,
        }
    }
}

#[derive(Debug)]
struct Small {
    rules: ServiceRules,
    pins: bool,
    restarts: bool,
    /// Whether two states that differ only by what is on disk are two; else each is left by one
    /// restart, from the disk it was first reached with.
    with_disk: bool,
    reached: AtomicU32,
    /// States known to find back.
    converging: Mutex<BTreeSet<u64>>,
}

impl Small {
    fn new(rules: ServiceRules, pins: bool, restarts: bool) -> Self {
        let (reached, converging) = (AtomicU32::new(0), Mutex::new(BTreeSet::new()));
        Self { rules, pins, restarts, with_disk: false, reached, converging }
    }

    fn reach(&self, what: Reached) {
        self.reached.fetch_or(what.bit(), Ordering::Relaxed);
    }

    fn has_reached(&self, what: Reached) -> bool {
        self.reached.load(Ordering::Relaxed) & (what.bit()) != 0
    }

    /// Judges and forgets what was asked for since the last look.
    fn judge(&self, state: &mut State) {
        for action in std::mem::take(&mut state.rig.log) {
            match action {
                Action::Publish(publication) => {
                    if publication.revision <= state.revision {
                        state.broken = Some("I5: a revision did not rise");
                    }
                    state.revision = publication.revision;
                    let active = publication.active.get(&service()).cloned().flatten();
                    let strayed = state.pinned.is_some_and(|pin| active != Some(endpoint(pin)));
                    if strayed {
                        state.broken = Some("I3: published something else than the pin");
                    }
                }
                Action::Record(decision) => match decision.kind {
                    MoveKind::Failover => self.reach(Reached::Failover),
                    MoveKind::Failback => self.reach(Reached::Failback),
                    MoveKind::Start
                    | MoveKind::Switchover
                    | MoveKind::Reload
                    | MoveKind::Rollback => {}
                },
                Action::Emit(Event::AllDown { .. }) => self.reach(Reached::AllDown),
                Action::Emit(Event::BreakerChange { to: BreakerState::HalfOpen, .. }) => {
                    self.reach(Reached::HalfOpen);
                }
                Action::Emit(Event::Held { why: HoldReason::Budget, .. }) => {
                    self.reach(Reached::BudgetHold);
                }
                Action::Emit(Event::Held { why: HoldReason::Pinned, .. }) => {
                    self.reach(Reached::PinHold);
                }
                Action::Probe(_)
                | Action::Persist
                | Action::Emit(_)
                | Action::Answer { .. }
                | Action::Granted { .. } => {}
            }
        }
    }

    /// Whether the service finds back to its first endpoint, or stays at its pin, once all live.
    fn converges(&self, from: &State) -> bool {
        let mut state = from.clone();
        state.rig.world.fill(Outcome::Ok);
        state = state.marked(self.with_disk);
        let mut path = Vec::new();
        for _ in 0..60 {
            let known = self.converging.lock().unwrap().contains(&state.mark);
            let status = state.rig.status();
            let home = state.pinned.unwrap_or(0);
            let there = status.active.as_ref().map(place) == Some(home)
                && status.endpoints[&endpoint(home)].unusable.is_none();
            path.push(state.mark);
            if known || there {
                self.converging.lock().unwrap().extend(path);
                return true;
            }
            state.rig.pass(SECOND);
            self.judge(&mut state);
            state = state.marked(self.with_disk);
        }
        false
    }
}

impl Model for Small {
    type State = State;
    type Action = Happening;

    fn init_states(&self) -> Vec<State> {
        let world = vec![Outcome::Ok; self.rules.endpoints.len()];
        let rig = Rig::new(self.rules.clone(), world);
        let revision = Revision::default();
        let mut state = State { rig, pinned: None, revision, broken: None, mark: 0 };
        self.judge(&mut state);
        vec![state.marked(self.with_disk)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Happening>) {
        let places = 0..state.rig.world.len();
        actions.push(Happening::Second);
        actions.extend(places.clone().map(Happening::Turn));
        if self.pins {
            actions.extend(places.map(Happening::Pin));
            actions.push(Happening::Unpin);
        }
        if self.restarts {
            actions.push(Happening::Restart);
        }
    }

    fn next_state(&self, last: &State, happening: Happening) -> Option<State> {
        let mut state = last.clone();
        match happening {
            Happening::Second => state.rig.pass(SECOND),
            Happening::Turn(at) => {
                let dead = state.rig.world[at] != Outcome::Ok;
                state.rig.world[at] = if dead { Outcome::Ok } else { Outcome::Refused };
            }
            Happening::Pin(at) => {
                state.pinned = Some(at);
                state.rig.order(Order::Pin {
                    service: service(),
                    endpoint: endpoint(at),
                    duration: None,
                });
            }
            Happening::Unpin => {
                state.pinned = None;
                state.rig.order(Order::Unpin { service: service() });
            }
            Happening::Restart => {
                state.rig.restart();
            }
        }
        self.judge(&mut state);
        let status = state.rig.status();
        if status.pinned.as_ref().map(place) != state.pinned {
            state.broken = Some("I3: a pin was lost");
        }
        Some(state.marked(self.with_disk))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no rule is broken", |_, state: &State| state.broken.is_none()),
            Property::always("the service finds back", Self::converges),
            Property::sometimes("failover", |m, _| m.has_reached(Reached::Failover)),
            Property::sometimes("failback", |m, _| m.has_reached(Reached::Failback)),
            Property::sometimes("all down", |m, _| m.has_reached(Reached::AllDown)),
        ]
    }
}

/// Visits everything, and says how much that was.
fn check(name: &str, model: Small, must_reach: &[Reached]) {
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!(
        "model {name}: {} unique states, depth {}",
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
    for what in must_reach {
        assert!(checker.model().has_reached(*what), "void: {name} never reached {what:?}");
    }
}

/// A service small enough to be visited whole, and quick enough to do everything in it.
fn small() -> ServiceRules {
    let mut rules = plain(2);
    rules.failover.budget = 2;
    rules.failover.budget_window = SECOND * 4;
    rules.failover.failback.hold = SECOND;
    rules.failover.flap.penalty = 0;
    rules
}

/// The same, where one result is enough for a verdict.
fn hasty() -> ServiceRules {
    let mut rules = small();
    (rules.probe.rise, rules.probe.fall, rules.failover.failback.rise) = (1, 1, 1);
    rules
}

#[test]
fn no_order_of_deaths_pins_and_restarts_breaks_a_rule() {
    let reach = [
        Reached::Failover,
        Reached::Failback,
        Reached::AllDown,
        Reached::BudgetHold,
        Reached::PinHold,
    ];
    check("pins and restarts", Small::new(hasty(), true, true), &reach);
}

#[test]
fn no_order_of_deaths_and_restarts_breaks_a_rule() {
    let reach = [Reached::Failover, Reached::Failback, Reached::AllDown];
    check("restarts", Small::new(hasty(), false, true), &reach);
}

#[test]
fn no_order_of_deaths_gets_past_rise_fall_and_breakers() {
    let mut rules = small();
    rules.breaker.mode = BreakerMode::Auto;
    let reach = [Reached::Failover, Reached::Failback, Reached::AllDown, Reached::HalfOpen];
    check("breakers", Small::new(rules, false, false), &reach);
}

#[test]
fn the_large_model_breaks_no_rule() {
    if std::env::var("MCPF_MODEL").is_ok_and(|size| size == "large") {
        let reach = [Reached::Failover, Reached::Failback, Reached::AllDown, Reached::PinHold];
        let model = Small { with_disk: true, ..Small::new(small(), true, true) };
        check("large", model, &reach);
    }
}

//! A world in one thread: upstreams, a network, a disk, outputs, clients and operators around one
//! engine, with everything that happens in one ordered queue of virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mcp_failover::core::action::{Action, Actions, ProbeOrder};
use mcp_failover::core::engine::{Engine, Restored, Snapshot};
use mcp_failover::core::id::{AttemptId, EndpointName, LeaseId, Revision, ServiceName, Ticket};
use mcp_failover::core::input::{Command, Forced, Input, Order, Sense};
use mcp_failover::core::outcome::Observation;
use mcp_failover::core::rng::Rng;
use mcp_failover::core::rules::Rules;
use mcp_failover::core::time::Instant;

use super::checks::{Checks, Seen};
use super::policy::{self, Unit};
use super::upstream::{Behaviour, Call};

/// The outputs there are.
const OUTPUTS: [&str; 2] = ["env", "template"];

/// Something that will happen.
#[derive(Clone, Debug)]
enum Event {
    /// A probe of this process comes back.
    Probed { process: u64, attempt: AttemptId, observation: Observation },
    /// An output of this process has written, or failed to.
    Written { process: u64, output: &'static str, revision: Revision },
    /// A client of this process returns its lease.
    Returned { process: u64, lease: LeaseId, observation: Option<Observation> },
    /// A client calls the active endpoint of a service and reports what it found.
    Client,
    /// An upstream behaves like this from now on.
    Turn { upstream: Upstream, behaviour: Behaviour },
    /// Our own network is whole again.
    Mend,
    /// The outputs work again.
    Repair,
    /// The next mishap.
    Mishap,
}

pub(crate) type Upstream = (ServiceName, EndpointName);

/// What was done to the engine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) steps: u64,
    pub(crate) elapsed: Duration,
    pub(crate) restarts: u64,
    pub(crate) crashes: u64,
    pub(crate) reloads: u64,
    pub(crate) stalls: u64,
    pub(crate) cuts: u64,
}

pub(crate) struct World {
    rng: Rng,
    unit: Unit,
    now: Duration,
    /// When the running process started: its own clock begins there.
    booted: Duration,
    process: u64,
    rules: Arc<Rules>,
    engine: Engine,
    disk: Option<(Duration, Snapshot)>,
    queue: BTreeMap<(Duration, u64), Event>,
    queued: u64,
    upstreams: BTreeMap<Upstream, Behaviour>,
    cut: bool,
    broken_outputs: bool,
    calm: bool,
    reloading: bool,
    tickets: u64,
    checks: Checks,
    tally: Tally,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let unit =
            Unit(Duration::from_millis(policy::pick(&mut rng, &[200, 1000, 10_000, 60_000])));
        let rules = Arc::new(policy::draw(&mut rng, unit));
        let (engine, actions) =
            Engine::new(Arc::clone(&rules), None, rng.next_u64(), Instant::START);
        let mut world = Self {
            rng,
            unit,
            now: Duration::ZERO,
            booted: Duration::ZERO,
            process: 0,
            checks: Checks::default(),
            rules,
            engine,
            disk: None,
            queue: BTreeMap::new(),
            queued: 0,
            upstreams: BTreeMap::new(),
            cut: false,
            broken_outputs: false,
            calm: false,
            reloading: false,
            tickets: 0,
            tally: Tally::default(),
        };
        world.queue_in(unit.times(5), Event::Client);
        world.queue_in(unit.times(20), Event::Mishap);
        world.carry_out(actions);
        world
    }

    /// Lives through `steps` inputs of trouble, then heals everything and waits for quiet.
    pub(crate) fn live(&mut self, steps: u64) {
        while self.tally.steps < steps {
            self.next();
        }
        self.heal();
        let settled = self.now + Checks::settling_time(&self.rules, self.unit);
        while self.now < settled {
            self.next();
        }
        self.checks.settled(&self.rules, &self.engine.status(self.clock()));
        let quiet = self.now + self.unit.times(5000);
        while self.now < quiet {
            self.next();
        }
        self.tally.elapsed = self.now;
    }

    pub(crate) fn report(self) -> (Tally, Seen) {
        (self.tally, self.checks.into_seen())
    }

    /// The time on the clock of the running process.
    fn clock(&self) -> Instant {
        Instant::new(self.now - self.booted)
    }

    /// Lets the next thing happen: an event of the world, or the engine's own deadline.
    fn next(&mut self) {
        let deadline = self.engine.deadline().map(|at| self.booted + at.since_start());
        let event = self.queue.first_key_value().map(|(key, _)| *key);
        match (deadline, event) {
            (Some(at), None) => self.tick(at),
            (Some(at), Some((due, _))) if at <= due => self.tick(at),
            (_, Some(key)) => {
                let event = self.queue.remove(&key).unwrap();
                self.now = self.now.max(key.0);
                self.happen(event);
            }
            (None, None) => panic!("somebody always calls"),
        }
    }

    fn tick(&mut self, at: Duration) {
        assert!(at >= self.now || self.tally.stalls > 0, "a deadline in the past");
        self.now = self.now.max(at);
        self.step(Input::Tick);
        let next = self.engine.deadline();
        assert!(next.is_none_or(|next| next > self.clock()), "a tick makes progress");
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Probed { process, attempt, observation } if process == self.process => {
                self.step(Input::Probed { attempt, observation });
            }
            Event::Written { process, output, revision } if process == self.process => {
                self.written(output, revision);
            }
            Event::Returned { process, lease, observation } if process == self.process => {
                self.step(Input::LeaseReleased { lease, observation });
            }
            Event::Probed { .. } | Event::Written { .. } | Event::Returned { .. } => {}
            Event::Client => self.client(),
            Event::Turn { upstream, behaviour } => self.turn(upstream, behaviour),
            Event::Mend => self.cut = false,
            Event::Repair => self.broken_outputs = false,
            Event::Mishap => self.mishap(),
        }
    }

    fn step(&mut self, input: Input) {
        self.tally.steps += 1;
        let now = self.clock();
        let actions = self.engine.step(now, input);
        self.engine.check_invariants();
        // Between probes nothing shown changes; looking now and then is enough.
        let dull = actions.iter().all(|action| matches!(action, Action::Probe(_)));
        let process = self.process;
        self.carry_out(actions);
        if process == self.process && (!dull || self.tally.steps.is_multiple_of(16)) {
            let status = self.engine.status(self.clock());
            self.checks.after_step(&self.rules, &status, self.now, self.booted);
        }
        if !self.reloading {
            self.checks.stepped();
        }
    }

    /// Carries out what a step asks for; now and then the process dies in the middle of it.
    fn carry_out(&mut self, actions: Actions) {
        let died = !self.calm && !actions.is_empty() && self.rng.below(20_000) == 0;
        let last = u64::try_from(actions.len()).unwrap();
        let until = if died { self.rng.below(last + 1) } else { last };
        let now = self.clock();
        for action in actions.into_iter().take(usize::try_from(until).unwrap()) {
            match action {
                Action::Probe(order) => self.probe(order),
                Action::Persist => self.disk = Some((self.now, self.engine.snapshot(now))),
                Action::Publish(publication) => {
                    for output in OUTPUTS {
                        let revision = publication.revision;
                        let process = self.process;
                        let took = self.unit.times(1) / 100;
                        self.queue_in(took, Event::Written { process, output, revision });
                    }
                    self.checks.published(&publication, self.now);
                }
                Action::Record(decision) => self.checks.decided(&self.rules, &decision, self.now),
                Action::Emit(event) => self.checks.told(&event),
                Action::Answer { ticket, result } => {
                    self.checks.answered(ticket, &result, self.now);
                }
                Action::Granted { result: Ok((lease, endpoint)), .. } => {
                    self.lend(lease, &endpoint);
                }
                Action::Granted { result: Err(_), .. } => {}
            }
        }
        if died {
            self.tally.crashes += 1;
            let away = self.unit.times(self.rng.below(20));
            self.restart(away);
        }
    }

    fn probe(&mut self, order: ProbeOrder) {
        let upstream = (order.service, order.endpoint);
        self.checks.probe_started(order.attempt, self.process);
        let observation = self.call(&upstream, order.timeout);
        let lost = !self.calm && self.rng.below(5000) == 0;
        if !lost {
            let (process, attempt) = (self.process, order.attempt);
            let took = observation.latency;
            self.queue_in(took, Event::Probed { process, attempt, observation });
        }
    }

    fn call(&mut self, upstream: &Upstream, timeout: Duration) -> Observation {
        let behaviour = self.upstreams.get(upstream).copied().unwrap_or(Behaviour::Serves);
        behaviour.call(&mut self.rng, Call { now: self.now, timeout, cut: self.cut })
    }

    fn written(&mut self, output: &'static str, revision: Revision) {
        let failure = self.broken_outputs.then(|| Arc::from("no space left on device"));
        if failure.is_some() && revision == self.engine.revision() {
            let process = self.process;
            self.queue_in(self.unit.times(2), Event::Written { process, output, revision });
        }
        self.step(Input::Written { output: Arc::from(output), revision, failure });
    }

    fn lend(&mut self, lease: LeaseId, endpoint: &EndpointName) {
        let status = self.engine.status(self.clock());
        Checks::lent(&status, endpoint);
        let after = self.unit.times(self.rng.below(30));
        let process = self.process;
        let outcome = match self.rng.below(4) {
            0 => None,
            _ => Some(Behaviour::Serves),
        };
        let calm = Call { now: self.now, timeout: self.unit.times(5), cut: false };
        let observation = outcome.map(|served| served.call(&mut self.rng, calm));
        self.queue_in(after, Event::Returned { process, lease, observation });
    }

    /// The MCP server, living on what is published.
    fn client(&mut self) {
        let again = self.unit.times(5 + self.rng.below(60));
        self.queue_in(again, Event::Client);
        let service = self.any_service();
        if self.rng.below(3) == 0 {
            let ticket = self.ticket();
            let ttl = self.unit.times(1 + self.rng.below(40));
            self.step(Input::LeaseRequested { ticket, service, ttl });
        } else if let Some(endpoint) = self.checks.active(&service) {
            let observation = self.call(&(service.clone(), endpoint.clone()), self.unit.times(5));
            if self.rng.below(2) == 0 {
                self.step(Input::Reported { service, endpoint, observation });
            }
        }
    }

    fn turn(&mut self, upstream: Upstream, behaviour: Behaviour) {
        let before = self.upstreams.insert(upstream.clone(), behaviour);
        let broke = behaviour.is_outage() && before.is_none_or(|was| was == Behaviour::Serves);
        let status = self.engine.status(self.clock());
        if broke && !self.cut {
            self.checks.outage_began(&self.rules, &status, upstream, self.now);
        } else {
            self.checks.outage_unclear(&upstream);
        }
    }

    fn mishap(&mut self) {
        if self.calm {
            return;
        }
        let next = self.unit.times(20 + self.rng.below(400));
        self.queue_in(next, Event::Mishap);
        match self.rng.below(40) {
            0..=19 => self.fault(),
            20 | 21 => self.cut_off(),
            22 | 23 => self.stall(),
            24 => {
                let away = self.unit.times(self.rng.below(200));
                self.tally.restarts += 1;
                self.restart(away);
            }
            25 | 26 => self.reload(),
            27 => {
                self.broken_outputs = true;
                let lasts = self.unit.times(self.rng.below(300));
                self.queue_in(lasts, Event::Repair);
            }
            28 => {
                let reachable = u32::try_from(self.rng.below(3)).unwrap();
                self.step(Input::Sensed(Sense::References { reachable, total: 2 }));
                self.checks.anything_may_happen();
            }
            29..=31 => self.uptake(),
            _ => self.order(),
        }
    }

    /// An output finds its reader using the latest move, or not.
    fn uptake(&mut self) {
        let service = self.any_service();
        let Some(revision) = self.checks.moved(&service) else { return };
        let output = Arc::from(OUTPUTS[0]);
        let input = match self.rng.below(4) {
            0 => Input::Effective { output, service, revision, late: true },
            roll_back => {
                let (waited, roll_back) = (self.unit.times(30), roll_back > 1);
                Input::Ineffective { output, service, revision, waited, roll_back }
            }
        };
        self.step(input);
    }

    fn fault(&mut self) {
        let service = self.any_service();
        let endpoint = self.any_endpoint(&service);
        // The active endpoint is where it hurts.
        let endpoint = match self.checks.active(&service) {
            Some(active) if self.rng.below(2) == 0 => active,
            _ => endpoint,
        };
        let behaviour = Behaviour::draw(&mut self.rng, self.unit.times(1));
        let upstream = (service, endpoint);
        self.turn(upstream.clone(), behaviour);
        let lasts = self.unit.times(1 + self.rng.below(600));
        self.queue_in(lasts, Event::Turn { upstream, behaviour: Behaviour::Serves });
    }

    fn cut_off(&mut self) {
        self.tally.cuts += 1;
        self.cut = true;
        self.checks.anything_may_happen();
        let lasts = self.unit.times(1 + self.rng.below(120));
        self.queue_in(lasts, Event::Mend);
    }

    fn stall(&mut self) {
        self.tally.stalls += 1;
        let late = self.unit.times(3 + self.rng.below(300));
        self.now += late;
        self.checks.stalled();
        self.step(Input::Sensed(Sense::Stalled(late)));
        self.checks.anything_may_happen();
    }

    fn restart(&mut self, away: Duration) {
        self.now += away;
        self.booted = self.now;
        self.process += 1;
        let restored =
            self.disk.clone().map(|(at, snapshot)| Restored { snapshot, elapsed: self.now - at });
        let seed = self.rng.next_u64();
        let (engine, actions) =
            Engine::new(Arc::clone(&self.rules), restored, seed, Instant::START);
        self.engine = engine;
        self.engine.check_invariants();
        self.checks.restarted();
        self.carry_out(actions);
        let status = self.engine.status(self.clock());
        self.checks.after_restart(&status, self.now);
    }

    fn reload(&mut self) {
        self.tally.reloads += 1;
        let same = self.rng.below(8) == 0;
        let rules = if same {
            Rules::clone(&self.rules)
        } else {
            policy::edit(&mut self.rng, &self.rules, self.unit)
        };
        let before = self.engine.status(self.clock());
        let old = std::mem::replace(&mut self.rules, Arc::new(rules));
        self.checks.reloading(&old, &self.rules);
        self.reloading = true;
        let process = self.process;
        self.step(Input::RulesReplaced(Arc::clone(&self.rules)));
        self.reloading = false;
        if process == self.process {
            let after = self.engine.status(self.clock());
            self.checks.reloaded((&old, &before), (&self.rules, &after));
        }
        self.checks.stepped();
    }

    fn order(&mut self) {
        let service = self.any_service();
        let endpoint = self.any_endpoint(&service);
        let duration = (self.rng.below(2) == 0).then(|| self.unit.times(10 + self.rng.below(1000)));
        let everywhere = self.rng.below(2) == 0;
        let order = match self.rng.below(13) {
            0 | 1 => Order::Switch {
                service,
                endpoint: everywhere.then_some(endpoint),
                force: self.rng.below(2) == 0,
            },
            2 | 3 => Order::Pin { service, endpoint, duration },
            4 | 5 => Order::Unpin { service },
            6 => Order::Drain { service, endpoint },
            7 | 8 => Order::Undrain { service, endpoint },
            9 => Order::Pause { service: everywhere.then_some(service) },
            10 => Order::Resume { service: None },
            11 => Order::Resume { service: Some(service) },
            _ => Order::Breaker {
                service,
                endpoint,
                forced: policy::pick(
                    &mut self.rng,
                    &[None, None, Some(Forced::Open), Some(Forced::Closed)],
                ),
            },
        };
        self.command(order);
    }

    fn command(&mut self, order: Order) {
        let ticket = self.ticket();
        self.checks.ordered(ticket, &order);
        let command = Command { order, reason: None, by: None };
        self.step(Input::Commanded { ticket, command });
    }

    /// Ends every fault and takes back every order.
    fn heal(&mut self) {
        self.calm = true;
        self.cut = false;
        self.broken_outputs = false;
        self.queue.retain(|_, event| !matches!(event, Event::Turn { .. }));
        for behaviour in self.upstreams.values_mut() {
            *behaviour = Behaviour::Serves;
        }
        self.command(Order::Resume { service: None });
        for (name, service) in Rules::clone(&self.rules).services {
            self.command(Order::Resume { service: Some(name.clone()) });
            self.command(Order::Unpin { service: name.clone() });
            for endpoint in service.endpoints.iter().map(|one| one.name.clone()) {
                let service = name.clone();
                self.command(Order::Undrain { service, endpoint: endpoint.clone() });
                let service = name.clone();
                self.command(Order::Breaker { service, endpoint, forced: None });
            }
        }
        self.checks.calmed();
    }

    fn any_service(&mut self) -> ServiceName {
        let names: Vec<&ServiceName> = self.rules.services.keys().collect();
        policy::pick(&mut self.rng, &names).clone()
    }

    fn any_endpoint(&mut self, service: &ServiceName) -> EndpointName {
        let endpoints = &self.rules.services[service].endpoints;
        let names: Vec<&EndpointName> = endpoints.iter().map(|one| &one.name).collect();
        policy::pick(&mut self.rng, &names).clone()
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket::new(self.tickets)
    }

    fn queue_in(&mut self, after: Duration, event: Event) {
        self.queued += 1;
        self.queue.insert((self.now + after, self.queued), event);
    }
}

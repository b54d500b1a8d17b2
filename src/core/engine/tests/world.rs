//! A small world of upstreams in virtual time, for the tests of the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::action::{
    Action, Actions, Decision, Event, ProbeKind, Publication, Receipt, Refusal,
};
use crate::core::engine::{Engine, Restored};
use crate::core::id::{AttemptId, EndpointName, LeaseId, ServiceName, Ticket};
use crate::core::input::{Command, Input, Order, Sense};
use crate::core::outcome::{Observation, Outcome};
use crate::core::rules::{
    BreakerMode, BreakerRules, Cadence, EndpointRules, FailbackMode, FailbackRules, FailoverRules,
    FlapRules, IsolationRules, OnAllDown, Rules, ServiceRules, Strategy,
};
use crate::core::status::{EndpointStatus, ServiceStatus};
use crate::core::time::Instant;

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// How an upstream behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mood {
    /// Answers with this outcome.
    Says(Outcome),
    /// Answers with this outcome after this long.
    Slowly(Outcome, Duration),
    /// Swallows the request; the prober says timeout.
    Silent,
    /// The prober itself never comes back.
    Lost,
}

pub(super) const UP: Mood = Mood::Says(Outcome::Ok);
pub(super) const REFUSED: Mood = Mood::Says(Outcome::Refused);

/// Rules of a service `s` of endpoints `a`, `b`, … in tiers 0, 1, …
pub(super) fn service(name: &str, tiers: &[u32]) -> ServiceRules {
    let endpoint = |(i, tier): (usize, &u32)| {
        let n = u64::try_from(i).unwrap();
        let letter = char::from(b'a' + u8::try_from(i).unwrap());
        let salt = name.bytes().fold(7_u64, |sum, byte| sum * 31 + u64::from(byte)) * 100;
        EndpointRules {
            name: EndpointName::new(&letter.to_string()),
            tier: *tier,
            weight: 1,
            identity: salt + n,
            credential: salt + n,
            account: salt + n,
            host: salt + n,
        }
    };
    ServiceRules {
        name: ServiceName::new(name),
        critical: false,
        strategy: Strategy::Priority,
        probe: cadence(),
        deep_probe: None,
        breaker: breaker(),
        failover: failover(),
        endpoints: tiers.iter().enumerate().map(endpoint).collect(),
    }
}

pub(super) fn cadence() -> Cadence {
    Cadence {
        interval: secs(10),
        fast_interval: secs(1),
        down_interval: secs(10),
        down_interval_max: secs(60),
        standby_interval: secs(10),
        timeout: secs(5),
        rise: 2,
        fall: 3,
        jitter_permille: 0,
    }
}

/// A breaker that stays out of the way of tests about health.
fn breaker() -> BreakerRules {
    BreakerRules {
        mode: BreakerMode::Auto,
        failure_threshold: 1000,
        failure_rate_permille: 1001,
        slow_rate_permille: 1001,
        slow_call: secs(60),
        min_calls: 5,
        window: secs(30),
        window_buckets: 10,
        reset_timeout: secs(30),
        reset_timeout_max: secs(300),
        jitter_permille: 0,
        half_open_permits: 1,
        half_open_passes: 2,
        permit_lease: secs(10),
    }
}

fn failover() -> FailoverRules {
    FailoverRules {
        on_all_down: OnAllDown::Hold,
        failback: FailbackRules {
            mode: FailbackMode::Auto,
            hold: secs(300),
            rise: 2,
            spread: Duration::ZERO,
        },
        budget: 6,
        budget_window: secs(3600),
        freshness: secs(2),
        proof_timeout: secs(5),
        verify: secs(10),
        flap: FlapRules {
            penalty: 1000,
            half_life: secs(900),
            suppress: 2000,
            reuse: 750,
            max_suppress: secs(3600),
        },
    }
}

pub(super) fn rules(services: impl IntoIterator<Item = ServiceRules>) -> Rules {
    Rules {
        services: services.into_iter().map(|s| (s.name.clone(), Arc::new(s))).collect(),
        isolation: IsolationRules { min_hosts: 3, window: secs(10), tilt: secs(10) },
        instance: 1,
    }
}

/// Engine, upstreams and everything that was asked for.
#[derive(Clone)]
pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) now: Instant,
    moods: BTreeMap<(String, String), Mood>,
    pending: BTreeMap<(Instant, AttemptId), Observation>,
    pub(super) log: Vec<(Instant, Action)>,
    tickets: u64,
}

impl World {
    /// Starts with everything up.
    pub(super) fn new(rules: Rules) -> Self {
        Self::new_with(rules, &[])
    }

    /// Starts with some upstreams in another mood.
    pub(super) fn new_with(rules: Rules, moods: &[(&str, &str, Mood)]) -> Self {
        let mood = |(s, e, mood): &(&str, &str, Mood)| (((*s).to_owned(), (*e).to_owned()), *mood);
        Self::begin(rules, None, moods.iter().map(mood).collect())
    }

    pub(super) fn one(service: ServiceRules) -> Self {
        Self::new(rules([service]))
    }

    pub(super) fn one_with(service: ServiceRules, moods: &[(&str, Mood)]) -> Self {
        let moods: Vec<_> = moods.iter().map(|(e, mood)| ("s", *e, *mood)).collect();
        Self::new_with(rules([service]), &moods)
    }

    /// Starts and waits until everything is published.
    pub(super) fn settled(service: ServiceRules) -> Self {
        let mut world = Self::one(service);
        world.run(secs(30));
        world.forget();
        world
    }

    pub(super) fn mood(&mut self, service: &str, endpoint: &str, mood: Mood) {
        self.moods.insert((service.to_owned(), endpoint.to_owned()), mood);
    }

    /// The mood that only the rare check sees.
    pub(super) fn deep_mood(&mut self, service: &str, endpoint: &str, mood: Mood) {
        self.moods.insert((service.to_owned(), format!("{endpoint}/deep")), mood);
    }

    fn take(&mut self, actions: Actions) {
        let orders: Vec<_> = actions
            .iter()
            .filter_map(
                |action| if let Action::Probe(order) = action { Some(order.clone()) } else { None },
            )
            .collect();
        self.log.extend(actions.into_iter().map(|action| (self.now, action)));
        for order in orders {
            let key = (order.service.to_string(), order.endpoint.to_string());
            let deep = (key.0.clone(), format!("{}/deep", key.1));
            let deep = self.moods.get(&deep).filter(|_| order.kind == ProbeKind::Deep);
            let mood = deep.or_else(|| self.moods.get(&key)).copied().unwrap_or(UP);
            let (outcome, after) = match mood {
                Mood::Says(outcome) => (outcome, ms(1)),
                Mood::Slowly(outcome, after) => (outcome, after),
                Mood::Silent => (Outcome::Timeout, order.timeout),
                Mood::Lost => continue,
            };
            let mut observation = Observation::new(outcome, after);
            if outcome == Outcome::ServerError {
                observation = observation.with_detail("HTTP 503");
            }
            self.pending.insert((self.now + after, order.attempt), observation);
        }
    }

    pub(super) fn input(&mut self, input: Input) -> Actions {
        let actions = self.engine.step(self.now, input);
        self.take(actions.clone());
        actions
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        self.run_until(end, |_| false);
    }

    /// Lets time pass until `done`, and says when that was.
    pub(super) fn run_until(
        &mut self,
        end: Instant,
        done: impl Fn(&Self) -> bool,
    ) -> Option<Instant> {
        loop {
            if done(self) {
                return Some(self.now);
            }
            let answer = self.pending.first_key_value().map(|((at, _), _)| *at);
            let tick = self.engine.deadline();
            let next = answer.into_iter().chain(tick).min().filter(|at| *at <= end);
            let Some(at) = next else {
                self.now = end;
                return None;
            };
            // What came in during a stall is read when it is over.
            self.now = self.now.max(at);
            if answer == Some(at) {
                let ((_, attempt), observation) = self.pending.pop_first()?;
                self.input(Input::Probed { attempt, observation });
            } else {
                self.input(Input::Tick);
            }
        }
    }

    /// The time until the service is at `endpoint`, if that happens within `limit`.
    pub(super) fn time_to(
        &mut self,
        service: &str,
        endpoint: &str,
        limit: Duration,
    ) -> Option<Duration> {
        let began = self.now;
        let at = self
            .run_until(began + limit, |world| world.active(service) == Some(endpoint.to_owned()));
        at.map(|at| at.since(began))
    }

    pub(super) fn order(&mut self, order: Order) -> Result<Receipt, Refusal> {
        self.tickets += 1;
        let ticket = Ticket::new(self.tickets);
        let command = Command { order, reason: Some("a test".to_owned()), by: None };
        let actions = self.input(Input::Commanded { ticket, command });
        actions
            .into_iter()
            .find_map(
                |action| {
                    if let Action::Answer { result, .. } = action { Some(result) } else { None }
                },
            )
            .expect("every command is answered in its step")
    }

    pub(super) fn lease(&mut self, service: &str, ttl: Duration) -> Option<(LeaseId, String)> {
        self.tickets += 1;
        let ticket = Ticket::new(self.tickets);
        let actions =
            self.input(Input::LeaseRequested { ticket, service: ServiceName::new(service), ttl });
        actions.into_iter().find_map(|action| {
            if let Action::Granted { result: Ok((lease, endpoint)), .. } = action {
                Some((lease, endpoint.to_string()))
            } else {
                None
            }
        })
    }

    pub(super) fn report(&mut self, service: &str, endpoint: &str, outcome: Outcome) {
        self.input(Input::Reported {
            service: ServiceName::new(service),
            endpoint: EndpointName::new(endpoint),
            observation: Observation::new(outcome, ms(1)),
        });
    }

    pub(super) fn stall(&mut self, late: Duration) {
        self.now = self.now + late;
        self.input(Input::Sensed(Sense::Stalled(late)));
    }

    pub(super) fn replace(&mut self, rules: Rules) {
        self.input(Input::RulesReplaced(Arc::new(rules)));
    }

    /// Ends this run and starts another one after `gap`.
    pub(super) fn restart(&self, rules: Rules, gap: Duration) -> Self {
        let snapshot = self.engine.snapshot(self.now);
        let text = serde_json::to_string(&snapshot).unwrap();
        let snapshot = serde_json::from_str(&text).unwrap();
        Self::begin(rules, Some(Restored { snapshot, elapsed: gap }), self.moods.clone())
    }

    fn begin(
        rules: Rules,
        restored: Option<Restored>,
        moods: BTreeMap<(String, String), Mood>,
    ) -> Self {
        let now = Instant::new(secs(if restored.is_some() { 5 } else { 1000 }));
        let (engine, actions) = Engine::new(Arc::new(rules), restored, 1, now);
        let (pending, log) = (BTreeMap::new(), Vec::new());
        let mut world = Self { engine, now, moods, pending, log, tickets: 0 };
        world.take(actions);
        world
    }

    pub(super) fn forget(&mut self) {
        self.log.clear();
    }

    pub(super) fn status(&self, service: &str) -> ServiceStatus {
        self.engine.status(self.now).services.get(service).expect("the service exists").clone()
    }

    pub(super) fn endpoint(&self, service: &str, endpoint: &str) -> EndpointStatus {
        self.status(service).endpoints.get(endpoint).expect("the endpoint exists").clone()
    }

    pub(super) fn active(&self, service: &str) -> Option<String> {
        self.status(service).active.map(|name| name.to_string())
    }

    pub(super) fn decisions(&self) -> Vec<Decision> {
        let record = |(_, action): &(Instant, Action)| {
            if let Action::Record(decision) = action { Some(decision.clone()) } else { None }
        };
        self.log.iter().filter_map(record).collect()
    }

    /// Each move as `from>to kind`.
    pub(super) fn moves(&self) -> Vec<String> {
        let name =
            |name: &Option<EndpointName>| name.as_ref().map_or("-".to_owned(), ToString::to_string);
        let text = |d: Decision| format!("{}>{} {}", name(&d.from), name(&d.to), d.kind.label());
        self.decisions().into_iter().map(text).collect()
    }

    pub(super) fn events(&self) -> Vec<Event> {
        let event = |(_, action): &(Instant, Action)| {
            if let Action::Emit(event) = action { Some(event.clone()) } else { None }
        };
        self.log.iter().filter_map(event).collect()
    }

    pub(super) fn count(&self, fits: impl Fn(&Event) -> bool) -> usize {
        self.events().iter().filter(|event| fits(event)).count()
    }

    pub(super) fn publications(&self) -> Vec<Publication> {
        let publication = |(_, action): &(Instant, Action)| {
            if let Action::Publish(publication) = action { Some(publication.clone()) } else { None }
        };
        self.log.iter().filter_map(publication).collect()
    }

    /// When each probe of an endpoint started.
    pub(super) fn probes(&self, endpoint: &str) -> Vec<Instant> {
        let start = |(at, action): &(Instant, Action)| {
            if let Action::Probe(order) = action
                && order.endpoint.as_str() == endpoint
            {
                Some(*at)
            } else {
                None
            }
        };
        self.log.iter().filter_map(start).collect()
    }
}

pub(super) fn s() -> ServiceName {
    ServiceName::new("s")
}

pub(super) fn e(name: &str) -> EndpointName {
    EndpointName::new(name)
}

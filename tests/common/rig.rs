//! One service under one engine, with upstreams that answer at once: for tests of the rules alone,
//! without the noise of latencies, jitter and schedules.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mcp_failover::core::action::{Action, Actions, ProbeOrder};
use mcp_failover::core::engine::{Engine, Restored, Snapshot};
use mcp_failover::core::id::{EndpointName, ServiceName, Ticket};
use mcp_failover::core::input::{Command, Input, Order};
use mcp_failover::core::outcome::{Observation, Outcome};
use mcp_failover::core::rules::{
    BreakerMode, BreakerRules, Cadence, EndpointRules, FailbackMode, FailbackRules, FailoverRules,
    FlapRules, IsolationRules, OnAllDown, Rules, ServiceRules, Strategy,
};
use mcp_failover::core::status::ServiceStatus;
use mcp_failover::core::time::Instant;

/// How long a call takes.
const LATENCY: Duration = Duration::from_millis(5);

/// An engine and what it looks at.
#[derive(Clone, Debug)]
pub(crate) struct Rig {
    pub(crate) engine: Engine,
    pub(crate) now: Instant,
    /// What each endpoint answers, in the order of the file.
    pub(crate) world: Vec<Outcome>,
    /// How long the processes before this one lived.
    before: Duration,
    /// What was kept last, and when; `None` before the first time.
    disk: Option<(Duration, Snapshot)>,
    /// Everything asked for, but probes and what keeps state.
    pub(crate) log: Vec<Action>,
    rules: Arc<Rules>,
}

impl Rig {
    pub(crate) fn new(service: ServiceRules, world: Vec<Outcome>) -> Self {
        let mut rules = Rules {
            isolation: IsolationRules {
                min_hosts: 0,
                window: Duration::ZERO,
                tilt: Duration::ZERO,
            },
            ..Rules::default()
        };
        rules.services.insert(service.name.clone(), Arc::new(service));
        let rules = Arc::new(rules);
        let (engine, actions) = Engine::new(Arc::clone(&rules), None, 1, Instant::START);
        let (now, before, disk, log) = (Instant::START, Duration::ZERO, None, Vec::new());
        let mut rig = Self { engine, now, world, before, disk, log, rules };
        rig.live(actions);
        rig
    }

    /// What is shown of the one service.
    pub(crate) fn status(&self) -> ServiceStatus {
        let status = self.engine.status(self.now);
        status.services.into_values().next().expect("one service")
    }

    /// Lets time pass, with a tick at every deadline on the way.
    pub(crate) fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(at) = self.engine.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.step(Input::Tick);
        }
        self.now = until;
    }

    pub(crate) fn step(&mut self, input: Input) {
        let actions = self.engine.step(self.now, input);
        self.live(actions);
    }

    pub(crate) fn order(&mut self, order: Order) {
        let command = Command { order, reason: None, by: None };
        self.step(Input::Commanded { ticket: Ticket::new(0), command });
    }

    /// The process dies and starts again at once, from what was kept.
    pub(crate) fn restart(&mut self) {
        let (engine, actions) = self.successor();
        self.before = self.age();
        self.now = Instant::START;
        self.engine = engine;
        self.live(actions);
    }

    /// What a start from what was kept would be like.
    pub(crate) fn successor(&self) -> (Engine, Actions) {
        let restored = self
            .disk
            .clone()
            .map(|(at, snapshot)| Restored { snapshot, elapsed: self.age().saturating_sub(at) });
        Engine::new(Arc::clone(&self.rules), restored, 1, Instant::START)
    }

    fn age(&self) -> Duration {
        self.before + self.now.since_start()
    }

    /// Carries out what is asked for, and answers probes one after the other.
    fn live(&mut self, actions: Actions) {
        let mut orders = self.carry_out(actions);
        while let Some(order) = orders.pop_front() {
            let observation = Observation::new(self.world[place(&order.endpoint)], LATENCY);
            let input = Input::Probed { attempt: order.attempt, observation };
            let actions = self.engine.step(self.now, input);
            orders.extend(self.carry_out(actions));
        }
    }

    fn carry_out(&mut self, actions: Actions) -> VecDeque<ProbeOrder> {
        let mut orders = VecDeque::new();
        for action in actions {
            match action {
                Action::Probe(order) => orders.push_back(order),
                Action::Persist => {
                    self.disk = Some((self.age(), self.engine.snapshot(self.now)));
                }
                Action::Publish(_)
                | Action::Record(_)
                | Action::Emit(_)
                | Action::Answer { .. }
                | Action::Granted { .. } => self.log.push(action),
            }
        }
        orders
    }
}

/// The name of the endpoint at this place in the file.
pub(crate) fn endpoint(place: usize) -> EndpointName {
    EndpointName::new(&place.to_string())
}

/// The place in the file of the endpoint of this name.
pub(crate) fn place(name: &EndpointName) -> usize {
    name.as_str().parse().expect("names are places")
}

/// The name of the one service.
pub(crate) fn service() -> ServiceName {
    ServiceName::new("service")
}

/// One endpoint a tier, every gap one second, no jitter, nothing damped.
pub(crate) fn plain(endpoints: u32) -> ServiceRules {
    let second = Duration::from_secs(1);
    ServiceRules {
        name: service(),
        critical: true,
        strategy: Strategy::Priority,
        probe: Cadence {
            interval: second,
            fast_interval: second,
            down_interval: second,
            down_interval_max: second,
            standby_interval: second,
            timeout: second / 2,
            rise: 2,
            fall: 2,
            jitter_permille: 0,
        },
        deep_probe: None,
        breaker: BreakerRules {
            mode: BreakerMode::Disabled,
            failure_threshold: 3,
            failure_rate_permille: 1001,
            slow_rate_permille: 1001,
            slow_call: second,
            min_calls: 100,
            window: second,
            window_buckets: 1,
            reset_timeout: second * 2,
            reset_timeout_max: second * 2,
            jitter_permille: 0,
            half_open_permits: 1,
            half_open_passes: 1,
            permit_lease: second * 2,
        },
        failover: FailoverRules {
            on_all_down: OnAllDown::Hold,
            failback: FailbackRules {
                mode: FailbackMode::Auto,
                hold: second * 3,
                rise: 2,
                spread: Duration::ZERO,
            },
            budget: 3,
            budget_window: second * 10,
            freshness: second * 2,
            proof_timeout: second * 2,
            verify: Duration::ZERO,
            flap: FlapRules {
                penalty: 1000,
                half_life: second,
                suppress: 1_000_000,
                reuse: 1000,
                max_suppress: second,
            },
        },
        endpoints: (0..endpoints)
            .map(|n| EndpointRules {
                name: EndpointName::new(&n.to_string()),
                tier: n,
                weight: 1,
                identity: u64::from(n),
                credential: u64::from(n),
                account: u64::from(n),
                host: u64::from(n),
            })
            .collect(),
    }
}

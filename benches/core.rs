//! What one step of the decision core costs, by the number of endpoints.
//!
//! Everything is healthy, as it is nearly always: each iteration is one event of the steady state,
//! by turns a tick that starts a probe and the result of one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use divan::{Bencher, black_box};
use mcp_failover::core::action::{Action, Actions};
use mcp_failover::core::engine::Engine;
use mcp_failover::core::id::{AttemptId, EndpointName, ServiceName};
use mcp_failover::core::input::Input;
use mcp_failover::core::outcome::{Observation, Outcome};
use mcp_failover::core::rules::{
    BreakerMode, BreakerRules, Cadence, EndpointRules, FailbackMode, FailbackRules, FailoverRules,
    FlapRules, IsolationRules, OnAllDown, Rules, ServiceRules, Strategy,
};
use mcp_failover::core::time::Instant;

/// Endpoints of one service.
const PEERS: u64 = 5;

fn main() {
    divan::main();
}

#[divan::bench(args = [10, 100, 1_000, 10_000])]
fn step(bencher: Bencher<'_, '_>, endpoints: u64) {
    let mut world = World::settled(endpoints);
    bencher.bench_local(move || world.next());
}

#[divan::bench(args = [10, 100, 1_000, 10_000])]
fn snapshot(bencher: Bencher<'_, '_>, endpoints: u64) {
    let world = World::settled(endpoints);
    bencher.bench_local(|| black_box(world.engine.snapshot(world.now)));
}

#[divan::bench(args = [10, 100, 1_000, 10_000])]
fn reload(bencher: Bencher<'_, '_>, endpoints: u64) {
    let mut world = World::settled(endpoints);
    let rules = Arc::new(rules(endpoints));
    bencher.bench_local(move || {
        black_box(world.engine.step(world.now, Input::RulesReplaced(Arc::clone(&rules))))
    });
}

struct World {
    engine: Engine,
    now: Instant,
    out: VecDeque<(Instant, AttemptId)>,
}

impl World {
    fn settled(endpoints: u64) -> Self {
        let now = Instant::new(Duration::from_secs(1));
        let (engine, actions) = Engine::new(Arc::new(rules(endpoints)), None, 1, now);
        let mut world = Self { engine, now, out: VecDeque::new() };
        world.take(&actions);
        for _ in 0..endpoints * 20 {
            world.next();
        }
        world
    }

    fn next(&mut self) {
        let answer = self.out.front().map(|(at, _)| *at);
        let tick = self.engine.deadline().unwrap_or_default();
        let actions = match answer {
            Some(at) if at <= tick => {
                self.now = at;
                let attempt = self.out.pop_front().map_or(AttemptId::new(0), |(_, id)| id);
                let observation = Observation::new(Outcome::Ok, Duration::from_millis(10));
                self.engine.step(self.now, Input::Probed { attempt, observation })
            }
            _ => {
                self.now = tick;
                self.engine.step(self.now, Input::Tick)
            }
        };
        self.take(&actions);
        black_box(actions);
    }

    fn take(&mut self, actions: &Actions) {
        for action in actions {
            if let Action::Probe(order) = action {
                self.out.push_back((self.now + Duration::from_millis(10), order.attempt));
            }
        }
    }
}

fn rules(endpoints: u64) -> Rules {
    let services = (0..endpoints / PEERS).map(|n| {
        let service = service(n);
        (service.name.clone(), Arc::new(service))
    });
    Rules { services: services.collect(), isolation: IsolationRules::default(), instance: 1 }
}

fn service(number: u64) -> ServiceRules {
    let endpoint = |n: u64| EndpointRules {
        name: EndpointName::new(&format!("endpoint-{n}")),
        tier: u32::from(n > 0),
        weight: 1,
        identity: number * PEERS + n,
        credential: number * PEERS + n,
        account: number * PEERS + n,
        host: number * PEERS + n,
    };
    ServiceRules {
        name: ServiceName::new(&format!("service-{number}")),
        critical: false,
        strategy: Strategy::Priority,
        probe: cadence(),
        deep_probe: None,
        breaker: breaker(),
        failover: failover(),
        endpoints: (0..PEERS).map(endpoint).collect(),
    }
}

fn cadence() -> Cadence {
    Cadence {
        interval: Duration::from_secs(1),
        fast_interval: Duration::from_millis(200),
        down_interval: Duration::from_secs(2),
        down_interval_max: Duration::from_secs(60),
        standby_interval: Duration::from_secs(1),
        timeout: Duration::from_secs(3),
        rise: 2,
        fall: 3,
        jitter_permille: 100,
    }
}

fn breaker() -> BreakerRules {
    BreakerRules {
        mode: BreakerMode::Auto,
        failure_threshold: 5,
        failure_rate_permille: 500,
        slow_rate_permille: 800,
        slow_call: Duration::from_secs(2),
        min_calls: 5,
        window: Duration::from_secs(30),
        window_buckets: 10,
        reset_timeout: Duration::from_secs(60),
        reset_timeout_max: Duration::from_secs(300),
        jitter_permille: 100,
        half_open_permits: 2,
        half_open_passes: 2,
        permit_lease: Duration::from_secs(10),
    }
}

fn failover() -> FailoverRules {
    FailoverRules {
        on_all_down: OnAllDown::Hold,
        failback: FailbackRules {
            mode: FailbackMode::Auto,
            hold: Duration::from_secs(300),
            rise: 5,
            spread: Duration::from_secs(60),
        },
        budget: 6,
        budget_window: Duration::from_secs(3600),
        freshness: Duration::from_millis(400),
        proof_timeout: Duration::from_secs(3),
        verify: Duration::from_secs(10),
        flap: FlapRules {
            penalty: 1000,
            half_life: Duration::from_secs(900),
            suppress: 2000,
            reuse: 750,
            max_suppress: Duration::from_secs(3600),
        },
    }
}

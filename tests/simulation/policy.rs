//! Policies drawn by lot, consistent as the policy compiler would leave them.

use std::sync::Arc;
use std::time::Duration;

use mcp_failover::core::id::{EndpointName, ServiceName};
use mcp_failover::core::rng::Rng;
use mcp_failover::core::rules::{
    BreakerMode, BreakerRules, Cadence, EndpointRules, FailbackMode, FailbackRules, FailoverRules,
    FlapRules, IsolationRules, OnAllDown, Rules, ServiceRules, Strategy,
};

/// The time all spans of a policy are multiples of: the same policy, slower or faster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit(pub(crate) Duration);

impl Unit {
    pub(crate) fn times(self, n: u64) -> Duration {
        self.0 * u32::try_from(n).unwrap()
    }
}

/// A whole policy.
pub(crate) fn draw(rng: &mut Rng, unit: Unit) -> Rules {
    let mut rules = Rules {
        instance: rng.next_u64(),
        isolation: IsolationRules {
            min_hosts: pick(rng, &[3, 3, 4, 0]),
            window: unit.times(10),
            tilt: unit.times(10),
        },
        ..Rules::default()
    };
    for index in 0..=rng.below(3) {
        let service = service(rng, unit, index);
        rules.services.insert(service.name.clone(), Arc::new(service));
    }
    rules
}

/// The same policy after somebody has edited it.
pub(crate) fn edit(rng: &mut Rng, rules: &Rules, unit: Unit) -> Rules {
    let mut edited = rules.clone();
    let names: Vec<ServiceName> = rules.services.keys().cloned().collect();
    let name = &names[usize::try_from(rng.below(u64::try_from(names.len()).unwrap())).unwrap()];
    let mut service = ServiceRules::clone(&rules.services[name]);
    let place =
        usize::try_from(rng.below(u64::try_from(service.endpoints.len()).unwrap())).unwrap();
    match rng.below(6) {
        0 if service.endpoints.len() > 1 => drop(service.endpoints.remove(place)),
        0 | 1 => {
            let fresh = endpoint(rng, rng.clone().below(1000) + 10);
            if service.endpoints.iter().all(|one| one.name != fresh.name) {
                service.endpoints.push(fresh);
            }
        }
        2 => service.endpoints[place].identity = rng.next_u64(),
        3 => service.endpoints[place].tier = u32::try_from(rng.below(3)).unwrap(),
        4 => service.failover = failover(rng, unit),
        _ => service.breaker = BreakerRules { mode: service.breaker.mode, ..breaker(rng, unit) },
    }
    edited.services.insert(name.clone(), Arc::new(service));
    edited
}

fn service(rng: &mut Rng, unit: Unit, index: u64) -> ServiceRules {
    let endpoints = (0..=rng.below(4)).map(|n| endpoint(rng, n)).collect();
    ServiceRules {
        name: ServiceName::new(&format!("service-{index}")),
        critical: rng.below(2) == 0,
        strategy: pick(
            rng,
            &[
                Strategy::Priority,
                Strategy::Priority,
                Strategy::RoundRobin,
                Strategy::LeastConnections,
                Strategy::HealthWeighted,
            ],
        ),
        probe: Cadence {
            interval: unit.times(10),
            fast_interval: unit.times(1),
            down_interval: unit.times(10),
            down_interval_max: unit.times(60),
            standby_interval: unit.times(pick(rng, &[10, 30, 60])),
            timeout: unit.times(pick(rng, &[2, 5])),
            rise: pick(rng, &[1, 2, 2, 5]),
            fall: pick(rng, &[1, 2, 3, 3]),
            jitter_permille: pick(rng, &[0, 100, 500]),
        },
        deep_probe: None,
        breaker: breaker(rng, unit),
        failover: failover(rng, unit),
        endpoints,
    }
}

fn endpoint(rng: &mut Rng, n: u64) -> EndpointRules {
    EndpointRules {
        name: EndpointName::new(&format!("endpoint-{n}")),
        tier: u32::try_from(rng.below(3)).unwrap(),
        weight: u32::try_from(1 + rng.below(4)).unwrap(),
        identity: rng.next_u64(),
        credential: rng.below(4),
        account: rng.below(4),
        host: rng.below(6),
    }
}

fn breaker(rng: &mut Rng, unit: Unit) -> BreakerRules {
    BreakerRules {
        mode: pick(
            rng,
            &[
                BreakerMode::Auto,
                BreakerMode::Auto,
                BreakerMode::Auto,
                BreakerMode::Disabled,
                BreakerMode::MetricsOnly,
            ],
        ),
        failure_threshold: pick(rng, &[1, 3, 5, 10]),
        failure_rate_permille: pick(rng, &[500, 800, 1001]),
        slow_rate_permille: pick(rng, &[800, 1001]),
        slow_call: unit.times(2),
        min_calls: 5,
        window: unit.times(60),
        window_buckets: 10,
        reset_timeout: unit.times(30),
        reset_timeout_max: unit.times(300),
        jitter_permille: pick(rng, &[0, 200]),
        half_open_permits: pick(rng, &[1, 2]),
        half_open_passes: pick(rng, &[1, 2]),
        permit_lease: unit.times(10),
    }
}

fn failover(rng: &mut Rng, unit: Unit) -> FailoverRules {
    FailoverRules {
        on_all_down: pick(
            rng,
            &[OnAllDown::Hold, OnAllDown::Hold, OnAllDown::Preferred, OnAllDown::Fail],
        ),
        failback: FailbackRules {
            mode: pick(
                rng,
                &[
                    FailbackMode::Auto,
                    FailbackMode::Auto,
                    FailbackMode::Auto,
                    FailbackMode::Manual,
                    FailbackMode::Never,
                ],
            ),
            hold: unit.times(pick(rng, &[0, 60, 300])),
            rise: pick(rng, &[1, 3]),
            spread: unit.times(pick(rng, &[0, 60])),
        },
        budget: pick(rng, &[2, 3, 6]),
        budget_window: unit.times(pick(rng, &[600, 3600])),
        freshness: unit.times(20),
        proof_timeout: unit.times(6),
        verify: unit.times(pick(rng, &[0, 30])),
        flap: FlapRules {
            penalty: 1000,
            half_life: unit.times(pick(rng, &[60, 900])),
            suppress: 2000,
            reuse: 750,
            max_suppress: unit.times(1200),
        },
    }
}

/// One of the choices; write one more often to make it likelier.
pub(crate) fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[usize::try_from(rng.below(u64::try_from(choices.len()).unwrap())).unwrap()]
}

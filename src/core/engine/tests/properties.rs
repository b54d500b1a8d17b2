//! Whatever happens, in any order, the invariants hold.

use proptest::prelude::*;

use crate::core::action::{Action, MoveKind};
use crate::core::id::{EndpointName, LeaseId, Revision};
use crate::core::input::{Forced, Input, Order, Sense};
use crate::core::outcome::{Observation, Outcome};
use crate::core::rules::{FailbackMode, OnAllDown, Rules, Strategy as Balance};

use super::world::*;

#[derive(Clone, Debug)]
enum Deed {
    Pass(u64),
    Mood(u8, u8, Mood),
    Report(u8, u8, Outcome),
    Order(Order),
    Reload(u8),
    Restart(u64),
    Stall,
    References(u32),
    Lease(u8),
    Release(u64, Option<Outcome>),
    Ineffective(u8, bool),
}

const NAMES: [&str; 2] = ["s", "t"];
const ENDPOINTS: [&str; 3] = ["a", "b", "c"];

fn outcome() -> impl Strategy<Value = Outcome> {
    prop::sample::select(vec![
        Outcome::Ok,
        Outcome::Degraded,
        Outcome::Refused,
        Outcome::Timeout,
        Outcome::ServerError,
        Outcome::Throttled { retry_after: Some(secs(40)) },
        Outcome::Auth,
        Outcome::ClientError,
        Outcome::WrongRole,
        Outcome::Local,
    ])
}

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        4 => Just(UP),
        2 => Just(REFUSED),
        1 => Just(Mood::Silent),
        1 => Just(Mood::Lost),
        2 => outcome().prop_map(Mood::Says),
        1 => (outcome(), 1_u64..5000).prop_map(|(outcome, after)| Mood::Slowly(outcome, ms(after))),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    let service = prop::sample::select(NAMES.map(crate::core::id::ServiceName::new).to_vec());
    let endpoint = prop::sample::select(ENDPOINTS.map(EndpointName::new).to_vec());
    let force = prop::sample::select(vec![Some(Forced::Open), Some(Forced::Closed), None]);
    (service, endpoint, 0_u8..9, any::<bool>(), force).prop_map(
        |(service, endpoint, which, yes, forced)| match which {
            0 => Order::Switch { service, endpoint: yes.then_some(endpoint), force: false },
            1 => Order::Switch { service, endpoint: Some(endpoint), force: yes },
            2 => Order::Pin { service, endpoint, duration: yes.then_some(secs(30)) },
            3 => Order::Unpin { service },
            4 => Order::Drain { service, endpoint },
            5 => Order::Undrain { service, endpoint },
            6 => Order::Pause { service: yes.then_some(service) },
            7 => Order::Resume { service: yes.then_some(service) },
            _ => Order::Breaker { service, endpoint, forced },
        },
    )
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        8 => (1_u64..40_000).prop_map(Deed::Pass),
        6 => (0_u8..2, 0_u8..3, mood()).prop_map(|(s, e, mood)| Deed::Mood(s, e, mood)),
        3 => (0_u8..2, 0_u8..3, outcome()).prop_map(|(s, e, outcome)| Deed::Report(s, e, outcome)),
        3 => order().prop_map(Deed::Order),
        1 => (0_u8..8).prop_map(Deed::Reload),
        1 => (0_u64..100).prop_map(Deed::Restart),
        1 => Just(Deed::Stall),
        1 => (0_u32..2).prop_map(Deed::References),
        2 => (0_u8..2).prop_map(Deed::Lease),
        2 => (0_u64..20, prop::option::of(outcome())).prop_map(|(l, o)| Deed::Release(l, o)),
        2 => (0_u8..2, any::<bool>()).prop_map(|(s, back)| Deed::Ineffective(s, back)),
    ]
}

/// Variants of a policy: bits take endpoints and services away or change them.
fn policy(variant: u8) -> Rules {
    let mut one = service("s", &[0, 1, 1]);
    one.critical = true;
    one.breaker.failure_threshold = 4;
    one.breaker.reset_timeout = secs(5);
    one.failover.failback.hold = secs(20);
    one.failover.budget = 3;
    one.failover.budget_window = secs(120);
    one.probe.jitter_permille = 100;
    let mut two = service("t", &[0, 0, 1]);
    two.strategy = Balance::RoundRobin;
    two.failover.on_all_down = OnAllDown::Fail;
    two.failover.failback.mode = FailbackMode::Manual;
    two.deep_probe = Some(cadence());
    if variant & 1 != 0 {
        one.endpoints.remove(0);
    }
    if variant & 2 != 0 {
        one.endpoints[1].identity += 7;
        two.deep_probe = None;
    }
    let services = if variant & 4 == 0 { vec![one, two] } else { vec![one] };
    rules(services)
}

struct Course {
    world: World,
    variant: u8,
    leases: Vec<LeaseId>,
    revision: Revision,
}

impl Course {
    fn new() -> Self {
        let world = World::new(policy(0));
        Self { world, variant: 0, leases: Vec::new(), revision: Revision::default() }
    }

    fn apply(&mut self, deed: Deed) {
        let world = &mut self.world;
        let at = |i: u8| NAMES[usize::from(i)];
        let on = |i: u8| ENDPOINTS[usize::from(i)];
        match deed {
            Deed::Pass(millis) => world.run(ms(millis)),
            Deed::Mood(s, e, mood) => world.mood(at(s), on(e), mood),
            Deed::Report(s, e, outcome) => world.report(at(s), on(e), outcome),
            Deed::Order(order) => drop(world.order(order)),
            Deed::Reload(variant) => {
                self.variant = variant;
                world.replace(policy(variant));
            }
            Deed::Restart(gap) => {
                let mut again = world.restart(policy(self.variant), secs(gap));
                again.log.splice(0..0, world.log.drain(..));
                *world = again;
            }
            Deed::Stall => world.stall(secs(30)),
            Deed::References(reachable) => {
                world.input(Input::Sensed(Sense::References { reachable, total: 2 }));
            }
            Deed::Lease(s) => {
                let lease = world.lease(at(s), secs(20));
                self.leases.extend(lease.map(|(lease, _)| lease));
            }
            Deed::Release(which, outcome) => {
                let Some(lease) = self.leases.get(usize::try_from(which).unwrap()).copied() else {
                    return;
                };
                let observation = outcome.map(|outcome| Observation::new(outcome, ms(4)));
                world.input(Input::LeaseReleased { lease, observation });
            }
            Deed::Ineffective(s, roll_back) => {
                world.input(Input::Ineffective {
                    service: crate::core::id::ServiceName::new(at(s)),
                    output: std::sync::Arc::from("child"),
                    revision: world.engine.revision(),
                    waited: secs(30),
                    roll_back,
                });
            }
        }
    }

    /// What must hold of the actions so far, whatever led to them.
    fn check(&mut self) {
        self.world.engine.check_invariants();
        for (_, action) in std::mem::take(&mut self.world.log) {
            match action {
                Action::Publish(publication) => {
                    assert!(publication.revision > self.revision, "I5: revisions only rise");
                    self.revision = publication.revision;
                }
                Action::Record(decision) => {
                    assert_eq!(decision.revision, self.revision, "recorded after it is published");
                    let automatic =
                        matches!(decision.kind, MoveKind::Failover | MoveKind::Failback);
                    let target = decision
                        .evidence
                        .iter()
                        .find(|e| Some(&e.endpoint) == decision.to.as_ref());
                    if let (MoveKind::Failback, Some(target)) = (decision.kind, target) {
                        assert!(target.proven, "a return goes to a proven endpoint: {decision:?}");
                    }
                    assert!(!automatic || decision.from != decision.to, "a move goes elsewhere");
                }
                Action::Probe(_)
                | Action::Persist
                | Action::Emit(_)
                | Action::Answer { .. }
                | Action::Granted { .. } => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]
    #[test]
    fn any_sequence_of_inputs_keeps_the_invariants(deeds in prop::collection::vec(deed(), 1..80)) {
        let mut course = Course::new();
        for deed in deeds {
            let pinned = course.world.engine.status(course.world.now).services;
            let by_hand = matches!(deed, Deed::Order(_) | Deed::Reload(_) | Deed::Restart(_));
            course.apply(deed);
            let now = course.world.now;
            for (name, service) in course.world.engine.status(now).services {
                let Some(before) = pinned.get(&name) else { continue };
                let held = before.pinned.is_some() && before.pinned == service.pinned;
                if held && before.active.is_some() && !by_hand {
                    prop_assert_eq!(&service.active, &before.active, "I3: a pin is never overridden");
                }
                prop_assert!(course.world.engine.explain(now, &name).is_some());
            }
            course.check();
        }
    }

    #[test]
    fn once_everything_works_again_all_services_come_home_and_stay(
        deeds in prop::collection::vec(deed(), 1..60),
    ) {
        let mut course = Course::new();
        for deed in deeds {
            course.apply(deed);
        }
        let world = &mut course.world;
        world.replace(policy(0));
        for name in NAMES {
            for endpoint in ENDPOINTS {
                world.mood(name, endpoint, UP);
                let (service, endpoint) = (crate::core::id::ServiceName::new(name), e(endpoint));
                world.order(Order::Undrain { service: service.clone(), endpoint: endpoint.clone() }).unwrap();
                world.order(Order::Breaker { service: service.clone(), endpoint, forced: None }).unwrap();
                world.order(Order::Unpin { service }).unwrap();
            }
        }
        world.order(Order::Resume { service: None }).unwrap();
        world.run(secs(8000));
        prop_assert_eq!(world.active("s"), Some("a".to_owned()), "I11: it converges");
        prop_assert!(world.active("t").is_some());
        world.forget();
        world.run(secs(2000));
        prop_assert_eq!(world.events(), vec![], "I11: and then it is quiet");
        course.check();
    }

    #[test]
    fn a_snapshot_taken_up_and_taken_again_is_the_same(deeds in prop::collection::vec(deed(), 1..40)) {
        let mut course = Course::new();
        for deed in deeds {
            course.apply(deed);
        }
        let world = &course.world;
        let kept = world.engine.snapshot(world.now);
        let again = world.restart(policy(course.variant), secs(0));
        let mut other = again.engine.snapshot(again.now);
        other.revision = kept.revision;
        for (name, service) in &kept.services {
            let Some(restored) = other.services.get(name) else { continue };
            prop_assert_eq!(&restored.active, &service.active);
            prop_assert_eq!(restored.pin.is_some(), service.pin.is_some());
            prop_assert_eq!(restored.paused, service.paused);
            prop_assert_eq!(restored.moves.len(), service.moves.len());
            for (name, endpoint) in &service.endpoints {
                let other = &restored.endpoints[name];
                prop_assert_eq!(other.drained, endpoint.drained);
                prop_assert_eq!(other.breaker.forced, endpoint.breaker.forced);
                prop_assert_eq!(other.breaker.open_for, endpoint.breaker.open_for);
                prop_assert_eq!(&other.flap, &endpoint.flap);
            }
        }
    }
}

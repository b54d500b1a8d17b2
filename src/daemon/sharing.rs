//! One attempt for all endpoints whose checks are the same.
//!
//! Services that use one upstream with one credential ask it the same thing; asking once is enough,
//! and each still gets a report of its own. What makes two checks the same is decided by the policy
//! ([`crate::policy::model::Probe::fingerprint`]): everything they depend on, credentials included.
//!
//! Invariants
//! 1. An attempt stands in for another only if it began at or after the moment that the engine
//!    named ([`ProbeOrder::not_before`]): no endpoint gets the same attempt twice, none from before
//!    its own last one, and a confirmation is always an attempt of its own.
//! 2. What an attempt found reaches everybody who waits for it, a failure like a pass.
//! 3. Checks that only one endpoint has, or that must not be shared, cost nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::action::ProbeOrder;
use crate::core::id::AttemptId;
use crate::core::time::Instant;
use crate::policy::model::{Policy, Probe};
use crate::probe::Report;

/// What two orders must have in common to share an attempt.
type Key = (u64, Duration);

/// What becomes of an order.
#[derive(Debug)]
pub(crate) enum Place {
    /// It has to be carried out.
    Alone(ProbeOrder),
    /// It will be told of an attempt that is out.
    Joined,
    /// An attempt that has ended stands in for it.
    Answered(ProbeOrder, Box<Stood>),
}

/// An attempt that stands in for others.
#[derive(Clone, Debug)]
pub(crate) struct Stood {
    pub(crate) began: Instant,
    pub(crate) report: Report,
}

#[derive(Debug)]
struct Run {
    attempt: AttemptId,
    began: Instant,
    /// Who waits for it, besides the one that carries it out.
    waiting: Vec<ProbeOrder>,
    ended: Option<Report>,
}

/// The attempts that may stand in for others.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    /// The fingerprints that more than one check has.
    common: BTreeSet<u64>,
    /// The latest attempts of each, oldest first: those that are out, and one that has ended.
    runs: BTreeMap<Key, Vec<Run>>,
}

impl Sharing {
    /// Looks for what can be shared under a policy; what is out already still answers.
    pub(crate) fn apply(&mut self, policy: &Policy) {
        let mut seen = BTreeSet::new();
        self.common.clear();
        for endpoint in policy.services.values().flat_map(|service| service.endpoints.values()) {
            for probe in std::iter::once(&endpoint.probe).chain(&endpoint.deep_probe) {
                if probe.fingerprint != 0 && !seen.insert(probe.fingerprint) {
                    self.common.insert(probe.fingerprint);
                }
            }
        }
        let common = &self.common;
        self.runs.retain(|(fingerprint, _), runs| {
            runs.retain(|run| run.ended.is_none());
            common.contains(fingerprint) || !runs.is_empty()
        });
    }

    /// Finds an attempt that stands in for this order, or makes it one itself.
    pub(crate) fn place(&mut self, order: ProbeOrder, probe: &Probe, now: Instant) -> Place {
        if !self.common.contains(&probe.fingerprint) {
            return Place::Alone(order);
        }
        let runs = self.runs.entry((probe.fingerprint, order.timeout)).or_default();
        let fit = runs.iter_mut().rev().find(|run| run.began >= order.not_before);
        match fit {
            Some(Run { ended: Some(report), began, .. }) => {
                let (began, report) = (*began, report.clone());
                Place::Answered(order, Box::new(Stood { began, report }))
            }
            Some(run) => {
                run.waiting.push(order);
                Place::Joined
            }
            None => {
                let (attempt, began) = (order.attempt, now);
                runs.push(Run { attempt, began, waiting: Vec::new(), ended: None });
                Place::Alone(order)
            }
        }
    }

    /// An attempt that was carried out has ended: who else is to be told.
    pub(crate) fn ended(
        &mut self,
        order: &ProbeOrder,
        fingerprint: u64,
        report: &Report,
    ) -> Option<(Instant, Vec<ProbeOrder>)> {
        let runs = self.runs.get_mut(&(fingerprint, order.timeout))?;
        let at = runs.iter().position(|run| run.attempt == order.attempt)?;
        let run = runs.get_mut(at)?;
        let told = (run.began, std::mem::take(&mut run.waiting));
        run.ended = Some(report.clone());
        // Of those that have ended only the latest is of use.
        let latest = runs.iter().rposition(|run| run.ended.is_some())?;
        let mut place = 0;
        runs.retain(|run| {
            place += 1;
            run.ended.is_none() || place == latest + 1
        });
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::action::ProbeKind;
    use crate::core::id::{EndpointName, ServiceName};
    use crate::core::outcome::{Observation, Outcome};
    use crate::policy::model::{Check, Target, TcpCheck};
    use crate::probe::Phases;

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Instant {
        Instant::new(Duration::from_millis(millis))
    }

    fn probe(fingerprint: u64) -> Probe {
        let target = Target { host: String::from("192.0.2.1"), port: 1 };
        let check = Check::Tcp(TcpCheck { target, send: None, expect: None });
        Probe { fingerprint, ..Probe::new(TIMEOUT, check) }
    }

    fn order(attempt: u64, not_before: Instant) -> ProbeOrder {
        ProbeOrder {
            attempt: AttemptId::new(attempt),
            service: ServiceName::new("s"),
            endpoint: EndpointName::new(&format!("e{attempt}")),
            kind: ProbeKind::Shallow,
            timeout: TIMEOUT,
            not_before,
        }
    }

    fn report(outcome: Outcome) -> Report {
        Report {
            observation: Observation::new(outcome, Duration::from_millis(5)),
            phases: Phases::default(),
            address: None,
            certificate_expires_in: None,
            status: None,
            quota: None,
        }
    }

    /// Fingerprints 7 and 8 are common.
    fn sharing() -> Sharing {
        Sharing { common: BTreeSet::from([7, 8]), runs: BTreeMap::new() }
    }

    fn numbers(orders: &[ProbeOrder]) -> Vec<u64> {
        orders.iter().map(|order| order.attempt.get()).collect()
    }

    #[test]
    fn what_an_attempt_found_reaches_all_who_wait_for_it_a_failure_too() {
        let mut sharing = sharing();
        assert!(matches!(sharing.place(order(1, at(0)), &probe(7), at(0)), Place::Alone(_)));
        for number in [2, 3] {
            let place = sharing.place(order(number, at(0)), &probe(7), at(100));
            assert!(matches!(place, Place::Joined));
        }
        let refused = report(Outcome::Refused);
        let (began, told) = sharing.ended(&order(1, at(0)), 7, &refused).unwrap();
        assert_eq!((began, numbers(&told)), (at(0), vec![2, 3]));
        let Place::Answered(_, stood) = sharing.place(order(4, at(0)), &probe(7), at(200)) else {
            panic!("it has just ended");
        };
        assert_eq!((stood.began, stood.report), (at(0), refused));
    }

    #[test]
    fn other_credentials_other_deadlines_and_what_must_not_be_shared_stay_apart() {
        let mut sharing = sharing();
        assert!(matches!(sharing.place(order(1, at(0)), &probe(7), at(0)), Place::Alone(_)));
        for fingerprint in [8, 0, 9] {
            let place = sharing.place(order(2, at(0)), &probe(fingerprint), at(0));
            assert!(matches!(place, Place::Alone(_)), "{fingerprint}");
        }
        let patient = ProbeOrder { timeout: TIMEOUT * 2, ..order(3, at(0)) };
        assert!(matches!(sharing.place(patient, &probe(7), at(0)), Place::Alone(_)));
    }

    #[test]
    fn an_attempt_from_before_the_moment_named_does_not_stand_in() {
        let mut sharing = sharing();
        assert!(matches!(sharing.place(order(1, at(0)), &probe(7), at(0)), Place::Alone(_)));
        let place = sharing.place(order(2, at(50)), &probe(7), at(100));
        assert!(matches!(place, Place::Alone(_)), "a confirmation is an attempt of its own");
        let place = sharing.place(order(3, at(50)), &probe(7), at(120));
        assert!(matches!(place, Place::Joined), "it joins the later one");
        let (_, told) = sharing.ended(&order(1, at(0)), 7, &report(Outcome::Ok)).unwrap();
        assert!(told.is_empty());
        let (_, told) = sharing.ended(&order(2, at(50)), 7, &report(Outcome::Ok)).unwrap();
        assert_eq!(numbers(&told), [3]);
    }

    #[test]
    fn of_those_that_have_ended_one_is_kept() {
        let mut sharing = sharing();
        for number in 1..=100 {
            let now = at(number * 10);
            assert!(matches!(sharing.place(order(number, now), &probe(7), now), Place::Alone(_)));
            sharing.ended(&order(number, now), 7, &report(Outcome::Ok)).unwrap();
        }
        assert_eq!(sharing.runs.values().map(Vec::len).sum::<usize>(), 1);
    }
}

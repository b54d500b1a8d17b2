//! Tells their fault from ours: when unrelated hosts fall silent together, suspect ourselves.
//!
//! Owns the suspicion only; what to do about it is decided in `failover`. Only outcomes that a cut
//! network of our own would cause count ([`crate::core::outcome::Outcome::may_be_ours`]): a refused
//! connection was answered by somebody.
//!
//! Invariants
//! 1. A pass anywhere, or a reference target that answers, ends the suspicion at once.
//! 2. Failures further apart than the window are never added up.
//! 3. One host alone never makes us suspect ourselves, however many endpoints it has.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::ordered::Gather as _;
use crate::core::rules::IsolationRules;
use crate::core::time::Instant;

/// One failure that could be our own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Silence {
    at: Instant,
    service: u32,
}

/// A change of mind worth telling somebody about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Turn {
    /// We are cut off, it seems.
    Began(Cause),
    /// Somebody answered; what was gathered since this moment says nothing about the endpoints.
    Ended {
        /// The earliest failure that made us suspect ourselves.
        tainted_since: Instant,
    },
}

/// Why we believe that we are cut off.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Cause {
    /// This many unrelated hosts fell silent together.
    Hosts(usize),
    /// None of this many reference targets answers.
    References(u32),
}

impl Cause {
    /// In words.
    #[must_use]
    pub fn sentence(self) -> String {
        match self {
            Self::Hosts(n) => format!("{n} unrelated hosts fell silent together"),
            Self::References(n) => format!("none of {n} reference targets answers"),
        }
    }
}

/// The evidence for and against.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Isolation {
    silent: BTreeMap<u64, Silence>,
    answered_at: Option<Instant>,
    passed_at: Option<Instant>,
    since: Option<(Instant, Cause)>,
}

impl Isolation {
    /// Whether we believe that we are cut off.
    #[must_use]
    pub const fn isolated(&self) -> bool {
        self.since.is_some()
    }

    /// Why we believe so, if we do.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.since.map(|(_, cause)| cause)
    }

    /// Since when nothing that was gathered says anything about the endpoints, if we are cut off.
    #[must_use]
    pub fn tainted_since(&self) -> Option<Instant> {
        self.since.map(|(since, _)| since)
    }

    /// Whether something is silent that nobody has answered since: worth asking the references.
    #[must_use]
    pub fn doubts(&self, rules: &IsolationRules, now: Instant) -> bool {
        self.isolated() || self.silent.values().any(|seen| now.since(seen.at) <= rules.window)
    }

    /// A host failed in a way that could be our own fault.
    pub fn silence(
        &mut self,
        rules: &IsolationRules,
        host: u64,
        service: u32,
        now: Instant,
    ) -> Option<Turn> {
        if self.isolated() {
            return None;
        }
        self.silent.retain(|_, seen| now.since(seen.at) <= rules.window);
        self.silent.insert(host, Silence { at: now, service });
        if !self.suspicious(rules) || within(self.answered_at, rules.window, now) {
            return None;
        }
        Some(self.begin(Cause::Hosts(self.silent.len()), now))
    }

    /// An endpoint passed.
    pub fn pass(&mut self, now: Instant) -> Option<Turn> {
        self.passed_at = Some(now);
        self.silent.clear();
        self.end()
    }

    /// Reference targets were asked.
    pub fn references(
        &mut self,
        rules: &IsolationRules,
        reachable: u32,
        total: u32,
        now: Instant,
    ) -> Option<Turn> {
        if reachable > 0 {
            self.answered_at = Some(now);
            self.silent.clear();
            return self.end();
        }
        self.answered_at = None;
        let contradicted = within(self.passed_at, rules.window, now);
        let new = total > 0 && !contradicted && !self.isolated();
        new.then(|| self.begin(Cause::References(total), now))
    }

    fn begin(&mut self, cause: Cause, now: Instant) -> Turn {
        let first = self.silent.values().map(|seen| seen.at).min();
        self.since = Some((first.map_or(now, |at| at.min(now)), cause));
        Turn::Began(cause)
    }

    fn end(&mut self) -> Option<Turn> {
        let (tainted_since, _) = self.since.take()?;
        Some(Turn::Ended { tainted_since })
    }

    fn suspicious(&self, rules: &IsolationRules) -> bool {
        let hosts = self.silent.len();
        let enough =
            rules.min_hosts > 0 && u32::try_from(hosts).is_ok_and(|n| n >= rules.min_hosts);
        enough && (hosts >= 3 || (hosts >= 2 && self.services() >= 2))
    }

    fn services(&self) -> usize {
        self.silent.values().map(|seen| seen.service).gather_set().len()
    }

    /// Renumbers the services after a reload; hosts of services that are gone are forgotten.
    pub fn renumber(&mut self, number: impl Fn(u32) -> Option<u32>) {
        self.silent.retain(|_, seen| match number(seen.service) {
            Some(service) => {
                seen.service = service;
                true
            }
            None => false,
        });
    }

    /// The evidence as ages, so that two moments with the same future look the same.
    #[must_use]
    pub fn relative(&self, rules: &IsolationRules, now: Instant) -> Relative {
        let recent =
            |at: Option<Instant>| at.map(|at| now.since(at)).filter(|age| *age <= rules.window);
        Relative {
            silent: self
                .silent
                .iter()
                .filter(|(_, seen)| self.isolated() || now.since(seen.at) <= rules.window)
                .map(|(host, seen)| (*host, seen.service, now.since(seen.at)))
                .collect(),
            answered: recent(self.answered_at),
            passed: recent(self.passed_at),
            since: self.since.map(|(at, cause)| (now.since(at), cause)),
        }
    }
}

/// An [`Isolation`] seen from one moment.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Relative {
    silent: Vec<(u64, u32, Duration)>,
    answered: Option<Duration>,
    passed: Option<Duration>,
    since: Option<(Duration, Cause)>,
}

fn within(at: Option<Instant>, window: Duration, now: Instant) -> bool {
    at.is_some_and(|at| now.since(at) <= window)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: IsolationRules = IsolationRules {
        min_hosts: 2,
        window: Duration::from_secs(10),
        tilt: Duration::from_secs(10),
    };

    fn at(secs: u64) -> Instant {
        Instant::new(Duration::from_secs(secs))
    }

    #[test]
    fn unrelated_hosts_of_two_services_silent_together_are_our_own_fault() {
        let mut isolation = Isolation::default();
        assert_eq!(isolation.silence(&RULES, 1, 0, at(0)), None);
        let turn = isolation.silence(&RULES, 2, 1, at(1));
        assert_eq!(turn, Some(Turn::Began(Cause::Hosts(2))));
    }

    #[test]
    fn two_hosts_of_one_service_can_both_be_down_three_hardly() {
        let mut isolation = Isolation::default();
        assert_eq!(isolation.silence(&RULES, 1, 0, at(0)), None);
        assert_eq!(isolation.silence(&RULES, 2, 0, at(0)), None);
        assert!(isolation.silence(&RULES, 3, 0, at(0)).is_some());
    }

    #[test]
    fn one_host_of_many_endpoints_is_one_witness() {
        let mut isolation = Isolation::default();
        for service in 0..9 {
            assert_eq!(isolation.silence(&RULES, 1, service, at(0)), None);
        }
    }

    #[test]
    fn failures_further_apart_than_the_window_are_not_added_up() {
        let mut isolation = Isolation::default();
        assert_eq!(isolation.silence(&RULES, 1, 0, at(0)), None);
        assert_eq!(isolation.silence(&RULES, 2, 1, at(11)), None);
    }

    #[test]
    fn a_pass_in_between_clears_us() {
        let mut isolation = Isolation::default();
        assert_eq!(isolation.silence(&RULES, 1, 0, at(0)), None);
        assert_eq!(isolation.pass(at(4)), None);
        assert_eq!(isolation.silence(&RULES, 2, 1, at(1)), None);
    }

    #[test]
    fn the_first_pass_ends_it_and_says_since_when_evidence_is_tainted() {
        let mut isolation = Isolation::default();
        assert_eq!(isolation.silence(&RULES, 1, 0, at(3)), None);
        assert!(isolation.silence(&RULES, 2, 1, at(5)).is_some());
        assert_eq!(isolation.pass(at(4)), Some(Turn::Ended { tainted_since: at(3) }));
        assert!(!isolation.isolated());
    }

    #[test]
    fn reference_targets_outrank_the_count() {
        let mut isolation = Isolation::default();
        assert_eq!(isolation.references(&RULES, 1, 2, at(0)), None);
        assert_eq!(isolation.silence(&RULES, 1, 0, at(1)), None);
        assert_eq!(isolation.silence(&RULES, 2, 1, at(1)), None, "references answer");
        let turn = isolation.references(&RULES, 0, 2, at(2));
        assert_eq!(turn, Some(Turn::Began(Cause::References(2))));
        assert!(matches!(isolation.references(&RULES, 1, 2, at(3)), Some(Turn::Ended { .. })));
    }

    #[test]
    fn reference_targets_that_are_silent_while_endpoints_pass_prove_nothing() {
        let mut isolation = Isolation::default();
        assert_eq!(isolation.pass(at(0)), None);
        assert_eq!(isolation.references(&RULES, 0, 2, at(1)), None);
        assert!(isolation.references(&RULES, 0, 2, at(11)).is_some());
    }

    #[test]
    fn one_silence_is_a_doubt_until_somebody_answers_or_its_window_is_over() {
        let mut isolation = Isolation::default();
        assert!(!isolation.doubts(&RULES, at(0)));
        assert_eq!(isolation.silence(&RULES, 1, 0, at(0)), None);
        assert!(isolation.doubts(&RULES, at(10)));
        assert!(!isolation.doubts(&RULES, at(11)));
        assert_eq!(isolation.references(&RULES, 1, 2, at(5)), None);
        assert!(!isolation.doubts(&RULES, at(5)));
        assert!(isolation.references(&RULES, 0, 2, at(30)).is_some());
        assert!(isolation.doubts(&RULES, at(300)), "until it ends");
    }

    #[test]
    fn no_reference_targets_say_nothing() {
        assert_eq!(Isolation::default().references(&RULES, 0, 0, at(0)), None);
    }

    #[test]
    fn zero_hosts_switches_the_count_off() {
        let rules = IsolationRules { min_hosts: 0, ..RULES };
        let mut isolation = Isolation::default();
        for host in 0..9 {
            assert_eq!(isolation.silence(&rules, host, 0, at(0)), None);
        }
    }
}

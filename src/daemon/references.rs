//! Asks the reference targets whether anybody out there still answers us.
//!
//! Invariants
//! 1. While nothing is suspected, a round runs once an interval; from the first silence of an
//!    endpoint on at once, and then each [`URGENT`] until somebody answers.
//! 2. The first answer of a round is told at once; that nobody answers, when all have had their
//!    time.
//! 3. One round at a time, and what a round brings after a reload changed the targets says nothing.
//! 4. Without targets nobody is asked and nothing is said.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::admin::document::ReferenceDocument;
use crate::core::input::{Input, Sense};
use crate::core::time::Instant;
use crate::daemon::clock::Clock;
use crate::daemon::driver::Driver;
use crate::policy::model;
use crate::probe::{Prober, Report};
use crate::telemetry::metric;

/// Gap between two rounds while we doubt ourselves.
const URGENT: Duration = Duration::from_secs(1);

/// One target has answered, or has not.
#[derive(Debug)]
pub(crate) struct Answered {
    round: u64,
    target: usize,
    report: Report,
}

/// The targets, and what they last said.
#[derive(Debug)]
pub(crate) struct References {
    targets: Vec<Target>,
    interval: Duration,
    answers: mpsc::Sender<Answered>,
    /// The round that is out, or the latest one.
    round: u64,
    asked_at: Option<Instant>,
    awaited: usize,
}

#[derive(Debug)]
struct Target {
    known: model::Reference,
    seen: Option<(Instant, Report)>,
    /// Whether it answered in the present round.
    reached: bool,
}

impl References {
    /// Nobody to ask yet.
    pub(crate) const fn new(answers: mpsc::Sender<Answered>) -> Self {
        Self {
            targets: Vec::new(),
            interval: Duration::ZERO,
            answers,
            round: 0,
            asked_at: None,
            awaited: 0,
        }
    }

    /// Takes the targets of a policy; those that did not change keep what is known of them.
    pub(crate) fn apply(&mut self, wanted: &model::References) {
        self.interval = wanted.interval;
        let mut before = std::mem::take(&mut self.targets);
        for known in &wanted.targets {
            let same = |target: &Target| {
                let (old, new) = (&target.known.probe, &known.probe);
                target.known.name == known.name && old.fingerprint == new.fingerprint
            };
            let seen = before.iter().position(same).and_then(|at| before.swap_remove(at).seen);
            self.targets.push(Target { known: known.clone(), seen, reached: false });
        }
        self.round += 1;
        self.awaited = 0;
        self.asked_at = None;
        metric::references(self.reached(), self.targets.len());
    }

    /// When the next round begins; `None` while one is out or there is nobody to ask.
    pub(crate) fn due_at(&self, doubting: impl FnOnce() -> bool) -> Option<Instant> {
        if self.targets.is_empty() || self.awaited > 0 {
            return None;
        }
        let gap = if doubting() { self.interval.min(URGENT) } else { self.interval };
        Some(self.asked_at.map_or(Instant::START, |at| at + gap))
    }

    /// Begins a round.
    pub(crate) fn ask(&mut self, now: Instant, prober: &Prober, tasks: &TaskTracker) {
        self.round += 1;
        self.asked_at = Some(now);
        self.awaited = self.targets.len();
        for (at, target) in self.targets.iter_mut().enumerate() {
            target.reached = false;
            let (round, answers) = (self.round, self.answers.clone());
            let (prober, probe) = (prober.clone(), Arc::clone(&target.known.probe));
            tasks.spawn(async move {
                let report = prober.run(&probe, probe.timeout).await;
                // The loop is gone only when the process ends.
                answers.send(Answered { round, target: at, report }).await.ok();
            });
        }
    }

    /// Takes an answer in, and says what follows from it.
    pub(crate) fn answered(&mut self, answered: Answered, now: Instant) -> Option<Sense> {
        let Answered { round, target, report } = answered;
        if round != self.round {
            return None;
        }
        let target = self.targets.get_mut(target)?;
        // Whoever refuses us has heard us.
        target.reached = !report.observation.outcome.may_be_ours();
        let reached = target.reached;
        target.seen = Some((now, report));
        self.awaited = self.awaited.saturating_sub(1);
        let (all, total) = (self.reached(), self.targets.len());
        if self.awaited == 0 {
            metric::references(all, total);
        }
        let first = reached && all == 1;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (first || self.awaited == 0)
            .then(|| Sense::References { reachable: count(all), total: count(total) })
    }

    /// What status says of them.
    pub(crate) fn documents(&self, clock: &Clock) -> Vec<ReferenceDocument> {
        let document = |target: &Target| {
            let seen = target.seen.as_ref();
            let observation = seen.map(|(_, report)| &report.observation);
            ReferenceDocument {
                target: Arc::clone(&target.known.name),
                reached: observation.map(|seen| !seen.outcome.may_be_ours()),
                last_outcome: observation.map(|seen| seen.outcome.label().into()),
                last_detail: observation.and_then(|seen| seen.detail.clone()),
                last_asked_at: seen.map(|(at, _)| clock.rfc3339(*at)),
                latency_seconds: observation.map(|seen| seen.latency.as_secs_f64()),
            }
        };
        self.targets.iter().map(document).collect()
    }

    fn reached(&self) -> usize {
        self.targets.iter().filter(|target| target.reached).count()
    }
}

impl Driver {
    /// When the reference targets are to be asked.
    pub(super) fn references_due_at(&self, now: Instant) -> Option<Instant> {
        self.references.due_at(|| self.engine.doubts_itself(now))
    }

    pub(super) fn ask_references(&mut self, now: Instant) {
        if self.references_due_at(now).is_some_and(|at| at <= now) {
            let Self { references, effects, .. } = self;
            references.ask(now, &effects.prober, &effects.tasks);
        }
    }

    pub(super) fn on_reference(&mut self, answered: Answered) {
        if let Some(sense) = self.references.answered(answered, self.clock.now()) {
            self.step(Input::Sensed(sense));
        }
        self.drawn.outdate();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::outcome::{Observation, Outcome};
    use crate::policy::model::{Check, Probe, Reference, Target as Place, TcpCheck};
    use crate::probe::Phases;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn at(secs: u64) -> Instant {
        Instant::new(Duration::from_secs(secs))
    }

    fn report(outcome: Outcome) -> Report {
        Report {
            observation: Observation::new(outcome, Duration::from_millis(3)),
            phases: Phases::default(),
            address: None,
            certificate_expires_in: None,
            status: None,
            quota: None,
        }
    }

    fn targets(names: &[&str]) -> model::References {
        let target = |name: &&str| {
            let place = Place { host: String::from("192.0.2.1"), port: 53 };
            let check = Check::Tcp(TcpCheck { target: place, send: None, expect: None });
            Reference { name: Arc::from(*name), probe: Arc::new(Probe::new(URGENT, check)) }
        };
        let targets = names.iter().map(target).collect();
        model::References { targets, interval: INTERVAL }
    }

    fn references(names: &[&str]) -> References {
        let mut references = References::new(mpsc::channel(8).0);
        references.apply(&targets(names));
        references
    }

    /// A round without sending anything.
    fn begin(references: &mut References, now: Instant) {
        references.round += 1;
        references.asked_at = Some(now);
        references.awaited = references.targets.len();
        references.targets.iter_mut().for_each(|target| target.reached = false);
    }

    fn answer(references: &mut References, target: usize, outcome: Outcome) -> Option<Sense> {
        let answered = Answered { round: references.round, target, report: report(outcome) };
        references.answered(answered, at(1))
    }

    #[test]
    fn without_targets_nobody_is_asked() {
        let references = references(&[]);
        assert_eq!(references.due_at(|| true), None);
        assert!(references.documents(&Clock::start()).is_empty());
    }

    #[test]
    fn rounds_are_rare_while_all_is_well_and_quick_in_doubt() {
        let mut references = references(&["a", "b"]);
        assert_eq!(references.due_at(|| false), Some(Instant::START), "the first at once");
        begin(&mut references, at(100));
        assert_eq!(references.due_at(|| true), None, "one round at a time");
        answer(&mut references, 0, Outcome::Ok);
        answer(&mut references, 1, Outcome::Ok);
        assert_eq!(references.due_at(|| false), Some(at(110)));
        assert_eq!(references.due_at(|| true), Some(at(101)));
    }

    #[test]
    fn the_first_answer_is_told_at_once_and_silence_when_all_had_their_time() {
        let mut references = references(&["a", "b"]);
        begin(&mut references, at(0));
        let told = answer(&mut references, 1, Outcome::Ok);
        assert_eq!(told, Some(Sense::References { reachable: 1, total: 2 }));
        let told = answer(&mut references, 0, Outcome::Timeout);
        assert_eq!(told, Some(Sense::References { reachable: 1, total: 2 }));
        begin(&mut references, at(10));
        assert_eq!(answer(&mut references, 0, Outcome::Timeout), None, "the other may answer");
        let told = answer(&mut references, 1, Outcome::Local);
        assert_eq!(told, Some(Sense::References { reachable: 0, total: 2 }));
    }

    #[test]
    fn whoever_refuses_us_has_heard_us() {
        for outcome in [Outcome::Refused, Outcome::ServerError, Outcome::Auth, Outcome::Tls] {
            let mut references = references(&["a"]);
            begin(&mut references, at(0));
            let told = answer(&mut references, 0, outcome);
            assert_eq!(told, Some(Sense::References { reachable: 1, total: 1 }), "{outcome}");
        }
    }

    #[test]
    fn an_answer_from_before_a_reload_says_nothing() {
        let mut references = references(&["a", "b"]);
        begin(&mut references, at(0));
        let late = Answered { round: references.round, target: 0, report: report(Outcome::Ok) };
        references.apply(&targets(&["b"]));
        assert_eq!(references.answered(late, at(1)), None);
        assert_eq!(
            references.due_at(|| false),
            Some(Instant::START),
            "the new ones are asked at once"
        );
    }

    #[test]
    fn a_reload_keeps_what_is_known_of_the_targets_that_stay() {
        let mut references = references(&["a", "b"]);
        begin(&mut references, at(0));
        answer(&mut references, 1, Outcome::Ok);
        references.apply(&targets(&["b", "c"]));
        let shown: Vec<_> =
            references.documents(&Clock::start()).into_iter().map(|one| one.reached).collect();
        assert_eq!(shown, [Some(true), None]);
    }
}

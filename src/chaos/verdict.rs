//! What was seen, held against what was promised.
//!
//! Pure: a plan, a log and what was found afterwards give a verdict.
//!
//! Invariants
//! 1. A drill passes only if every check was made and holds. What was not seen does not hold.
//! 2. A fault that did not show makes the drill an error, whatever else was seen.

use std::time::Duration;

use crate::chaos::check::{Check, Limit, Quantity};
use crate::chaos::lab::Holding;
use crate::chaos::observe::{CallEnd, Log, Mark, Written};
use crate::chaos::scenario::{Failing, Goal, Plan, Promise, Step, Whom};
use crate::core::action::{Event, MoveKind};
use crate::core::breaker::BreakerState;
use crate::core::health::Health;
use crate::core::id::EndpointName;

/// Memory that a sidecar may have more after a drill than before it.
const MEMORY_DRIFT: u64 = 8 * 1024 * 1024;

/// Descriptors that it may have more: some files are opened when they are first needed.
const DESCRIPTOR_DRIFT: u64 = 4;

/// How a drill ended.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Verdict {
    /// Everything promised was kept.
    Pass,
    /// Something promised was not kept.
    Fail,
    /// Nothing can be said: the fault did not show, or the lab did not work.
    Error,
}

impl Verdict {
    /// Its name in reports.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Error => "error",
        }
    }
}

/// What was found when the drill was over.
#[derive(Clone, Debug, Default)]
pub struct Aftermath {
    /// What the sidecar held before and after; `None` when that could not be seen.
    pub holding: Option<(Holding, Holding)>,
    /// What was left behind.
    pub leftovers: Vec<String>,
    /// Why the lab did not work, if it did not.
    pub broken: Option<String>,
}

/// A verdict with its reasons.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// It.
    pub verdict: Verdict,
    /// Every check that was made.
    pub checks: Vec<Check>,
    /// Why it is not a pass, a sentence each.
    pub reasons: Vec<String>,
}

/// Judges a drill.
#[must_use]
pub fn judge(plan: &Plan, log: &Log, after: &Aftermath) -> Judgement {
    let seen = Seen { plan, log };
    let mut checks: Vec<Check> = plan.promises.iter().map(|promise| seen.kept(*promise)).collect();
    checks.extend(seen.always(after));
    let mut errors: Vec<String> = after.broken.iter().cloned().collect();
    errors.extend(log.canaries.iter().filter(|canary| !canary.effective).map(|canary| {
        let (endpoint, fault, outcome) = (&canary.endpoint, canary.fault.label(), &canary.outcome);
        format!(
            "the fault `{fault}` on {endpoint} did not show to the service's own probe: {outcome}"
        )
    }));
    let armed = plan.steps.iter().filter(|step| matches!(step, Step::Arm(..))).count();
    if log.canaries.is_empty() && armed > 0 && errors.is_empty() {
        errors.push("no fault was put to the proof".to_owned());
    }
    let failed = checks.iter().filter(|check| !check.holds());
    let failures: Vec<String> = failed.map(Check::sentence).collect();
    let verdict = match (errors.is_empty(), failures.is_empty()) {
        (false, _) => Verdict::Error,
        (true, false) => Verdict::Fail,
        (true, true) => Verdict::Pass,
    };
    // What was measured without a fault, or without a lab, says nothing.
    let reasons = if errors.is_empty() { failures } else { errors };
    Judgement { verdict, checks, reasons }
}

/// A log, read by its plan.
struct Seen<'a> {
    plan: &'a Plan,
    log: &'a Log,
}

impl Seen<'_> {
    fn kept(&self, promise: Promise) -> Check {
        let since = |from: Option<Duration>, to: Option<Duration>| {
            from.zip(to).map(|(from, to)| to.saturating_sub(from))
        };
        let reached = |goal| self.log.marked(move |mark| *mark == Mark::Reached(goal));
        match promise {
            Promise::Detected(bound) => {
                Check::time("detection", since(self.fault(), self.detected()), bound)
            }
            Promise::Published(bound) => {
                Check::time("switch", since(self.decided(), self.left()), bound)
            }
            Promise::Switched(bound) => {
                Check::time("fault_to_file", since(self.fault(), self.left()), bound)
            }
            Promise::Outage(bound) => Check::time("client_outage", self.longest_gap(), bound),
            Promise::Rescued(bound) => {
                let healed = self.log.marked(|mark| *mark == Mark::Healed(Whom::Others));
                Check::time("rescue", since(healed, self.left_for(healed)), bound)
            }
            Promise::Resumed(bound) => {
                let started = self.log.marked(|mark| *mark == Mark::Restarted);
                Check::time("resume", since(started, self.left_for(started)), bound)
            }
            Promise::Returned(bound) => {
                Check::time("failback", since(self.healed(), self.returned()), bound)
            }
            Promise::Held(hold) => {
                let measured = since(self.healed(), self.returned()).map(Quantity::Time);
                let limit = Limit::AtLeast(Quantity::Time(hold));
                Check { id: "hold", measured, limit, why: String::new() }
            }
            Promise::PolicyRefused(bound) => {
                let spoiled = self.log.marked(|mark| *mark == Mark::Spoiled);
                Check::time("policy_refused", since(spoiled, reached(Goal::Refused)), bound)
            }
            Promise::PolicyAccepted(bound) => {
                let mended = self.log.marked(|mark| *mark == Mark::Mended);
                Check::time("policy_accepted", since(mended, reached(Goal::Accepted)), bound)
            }
            Promise::Moves(wanted) => {
                let moves = self.moves();
                let why = moves.join(", ");
                let count = u64::try_from(moves.len()).unwrap_or(u64::MAX);
                Check::exactly("moves", count, u64::from(wanted)).because(why)
            }
            Promise::AllDownTold(wanted) => {
                let told = self.log.events.iter();
                let told = told.filter(|(_, event)| matches!(event, Event::AllDown { .. }));
                Check::exactly("all_down_told", count(told), u64::from(wanted))
            }
            Promise::AsQuick(more) => {
                let (before, after) = self.pace();
                let most = before.map(|before| before + before / 4 + more).unwrap_or_default();
                Check::time("calls_p95", after, most)
            }
            Promise::FailedCalls(when) => self.failed_calls(when),
        }
    }

    /// What must hold in every drill.
    fn always(&self, after: &Aftermath) -> Vec<Check> {
        let log = self.log;
        let calls = |wanted| count(log.calls.iter().filter(|call| call.end == wanted));
        let bad = log.bad.first().map(|(at, why)| format!("after {:.2} s {why}", at.as_secs_f64()));
        let missed: Vec<String> = log.marks.iter().filter_map(|(_, mark)| missed(*mark)).collect();
        let steady = log.marked(|mark| *mark == Mark::SteadyAgain).is_some();
        let mut checks = vec![
            Check::exactly("unmet", count(missed.iter()), 0).because(missed.join(", ")),
            Check::exactly("steady_again", u64::from(steady), 1),
            Check::exactly("false_moves", self.false_moves(), 0),
            Check::exactly("bad_reads", log.bad_reads, 0).because(bad.unwrap_or_default()),
            Check::exactly("lost_events", log.lost_events, 0),
            Check::exactly("moves_untold", self.moves_untold(), 0),
            Check::told("reads", Quantity::Count(log.reads)),
            Check::exactly("revisions_back", self.revisions_back(), 0),
            Check::exactly("wrong_answers", calls(CallEnd::Wrong), 0),
            Check::told("good_calls", Quantity::Count(calls(CallEnd::Good))),
            Check::told("failed_calls", Quantity::Count(calls(CallEnd::Failed))),
        ];
        if let Some((before, later)) = after.holding {
            let memory = later.memory.saturating_sub(before.memory);
            let descriptors = later.descriptors.saturating_sub(before.descriptors);
            let bytes = Quantity::Bytes;
            checks.push(Check::most("memory_drift", bytes(memory), bytes(MEMORY_DRIFT)));
            let count = Quantity::Count;
            let most = count(DESCRIPTOR_DRIFT);
            checks.push(Check::most("descriptor_drift", count(descriptors), most));
        }
        let left = count(after.leftovers.iter());
        checks.push(Check::exactly("leftovers", left, 0).because(after.leftovers.join(", ")));
        checks
    }

    /// When the preferred endpoint was broken.
    fn fault(&self) -> Option<Duration> {
        self.log.marked(|mark| matches!(mark, Mark::Armed(Whom::Home | Whom::All, _)))
    }

    /// When it was healed for good.
    fn healed(&self) -> Option<Duration> {
        self.log.marked_last(|mark| matches!(mark, Mark::Healed(Whom::Home | Whom::All)))
    }

    /// When the sidecar first said that something is wrong with it.
    fn detected(&self) -> Option<Duration> {
        let fault = self.fault()?;
        let home = &self.plan.home;
        let told = self.log.events.iter().find(|(at, event)| *at >= fault && lost(event, home));
        told.map(|(at, _)| *at)
    }

    /// When it decided to leave.
    fn decided(&self) -> Option<Duration> {
        let fault = self.fault()?;
        let left = |event: &Event| {
            matches!(event, Event::Switched(decision)
                if decision.kind == MoveKind::Failover
                    && decision.from.as_ref() == Some(&self.plan.home))
        };
        self.log.events.iter().find(|(at, event)| *at >= fault && left(event)).map(|(at, _)| *at)
    }

    /// When the file named another endpoint after the fault.
    fn left(&self) -> Option<Duration> {
        self.left_for(self.fault())
    }

    fn left_for(&self, since: Option<Duration>) -> Option<Duration> {
        let since = since?;
        let away = |active: Option<&EndpointName>| active.is_some_and(|at| *at != self.plan.home);
        let mut files = self.log.files.iter().filter(|file| file.at >= since);
        files.find(|file| away(file.active.as_ref())).map(|file| file.at)
    }

    /// When it named the preferred endpoint again.
    fn returned(&self) -> Option<Duration> {
        let healed = self.healed()?;
        let mut files = self.log.files.iter().filter(|file| file.at >= healed);
        files.find(|file| file.active.as_ref() == Some(&self.plan.home)).map(|file| file.at)
    }

    /// The longest time between two good calls, from the steady state on.
    fn longest_gap(&self) -> Option<Duration> {
        let steady = self.log.marked(|mark| *mark == Mark::Steady)?;
        let good = self.log.calls.iter().filter(|call| call.end == CallEnd::Good);
        let mut ends: Vec<Duration> =
            good.filter(|call| call.begun >= steady).map(|call| call.ended).collect();
        ends.sort_unstable();
        // Without a single one there is nothing to measure; after the last one, the time goes on.
        let mut before = *ends.first()?;
        let mut longest = Duration::ZERO;
        ends.extend(self.log.marks.last().map(|(at, _)| *at));
        for end in ends {
            longest = longest.max(end.saturating_sub(before));
            before = end;
        }
        Some(longest)
    }

    /// Every change of the endpoint named by the file, from the steady state on.
    fn moves(&self) -> Vec<String> {
        let name = |active: &Option<EndpointName>| {
            active.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
        };
        let moved = self.changes().filter_map(|pair| match pair {
            [before, after] if before.active != after.active => {
                Some(format!("{} -> {}", name(&before.active), name(&after.active)))
            }
            _ => None,
        });
        moved.collect()
    }

    /// Two contents of the file, one after the other, from the steady state on.
    fn changes(&self) -> impl Iterator<Item = &[Written]> {
        let steady = self.log.marked(|mark| *mark == Mark::Steady).unwrap_or_default();
        let pairs = self.log.files.windows(2);
        pairs.filter(move |pair| pair.last().is_some_and(|file| file.at >= steady))
    }

    /// Moves away from an endpoint on which there was no fault.
    fn false_moves(&self) -> u64 {
        let wrong = self.changes().filter(|pair| match pair {
            [before, after] => {
                let leaves_home = before.active.as_ref() == Some(&self.plan.home)
                    && after.active != before.active;
                leaves_home && !self.faulty_at(after.at)
            }
            _ => false,
        });
        count(wrong)
    }

    /// Whether a fault that may move something was on the preferred endpoint.
    fn faulty_at(&self, at: Duration) -> bool {
        let mut faulty = false;
        for (_, mark) in self.log.marks.iter().filter(|(marked, _)| *marked <= at) {
            match mark {
                Mark::Armed(Whom::Home | Whom::All, fault) => faulty = fault.is_harmful(),
                Mark::Reached(Goal::Back | Goal::Well | Goal::AllWell) => faulty = false,
                // After a healing, a verdict may still be on its way.
                Mark::Healed(_)
                | Mark::Serving(_)
                | Mark::Armed(Whom::Others, _)
                | Mark::Steady
                | Mark::Spoiled
                | Mark::Mended
                | Mark::Killed
                | Mark::Restarted
                | Mark::Reached(_)
                | Mark::Missed(_)
                | Mark::Lost
                | Mark::SteadyAgain => {}
            }
        }
        faulty
    }

    fn revisions_back(&self) -> u64 {
        let pairs = self.log.files.windows(2);
        count(pairs.filter(|pair| matches!(pair, [one, two] if two.revision <= one.revision)))
    }

    /// When an endpoint that serves was published again, however that came about.
    fn served_again(&self) -> Option<Duration> {
        let serving = self.log.marked(|mark| matches!(mark, Mark::Serving(_)));
        let rescued = self.log.marked(|mark| *mark == Mark::Healed(Whom::Others));
        let resumed = self.log.marked(|mark| *mark == Mark::Restarted);
        let ways = [rescued, resumed].map(|since| self.left_for(since));
        serving.into_iter().chain(self.returned()).chain(ways.into_iter().flatten()).max()
    }

    /// How long calls took, but for the slowest of twenty: before the fault, and at the end.
    fn pace(&self) -> (Option<Duration>, Option<Duration>) {
        let fault = self.log.marked(|mark| matches!(mark, Mark::Armed(..)));
        let again = self.log.marked(|mark| *mark == Mark::SteadyAgain);
        let took = |from: Duration, to: Duration| {
            let good = self.log.calls.iter().filter(|call| call.end == CallEnd::Good);
            let within = good.filter(|call| call.begun >= from && call.ended <= to);
            let mut all: Vec<Duration> =
                within.map(|call| call.ended.saturating_sub(call.begun)).collect();
            all.sort_unstable();
            all.get(all.len() * 19 / 20).copied()
        };
        let before = fault.and_then(|fault| took(Duration::ZERO, fault));
        (before, again.and_then(|again| took(again, Duration::MAX)))
    }

    /// Moves that the file shows and the history does not.
    fn moves_untold(&self) -> u64 {
        let told = |after: &Written| {
            let mut history = self.log.history.iter().flatten();
            history.any(|one| one.revision == after.revision && one.to == after.active)
        };
        let moved = self.changes().filter(|pair| match pair {
            [before, after] => before.active != after.active && !told(after),
            _ => false,
        });
        count(moved)
    }

    fn failed_calls(&self, when: Failing) -> Check {
        let steady = self.log.marked(|mark| *mark == Mark::Steady).unwrap_or_default();
        let fault = self.log.marked(|mark| matches!(mark, Mark::Armed(..)));
        let until = match when {
            Failing::Never => None,
            Failing::UntilSwitched => self.left(),
            Failing::WhileFaulty => self.served_again(),
        };
        let excused = |begun: Duration, ended: Duration| {
            let (Some(fault), Some(until)) = (fault, until) else { return false };
            // A call that was under way when the fault came is cut by it.
            ended >= fault && begun <= until
        };
        let failed = self.log.calls.iter().filter(|call| {
            call.end == CallEnd::Failed && call.begun >= steady && !excused(call.begun, call.ended)
        });
        Check::exactly("failed_outside", count(failed), 0)
    }
}

/// Whether an event says that an endpoint cannot be used.
fn lost(event: &Event, home: &EndpointName) -> bool {
    match event {
        Event::StatusChange { endpoint, to, .. } => {
            endpoint == home && matches!(to, Health::Unhealthy | Health::Throttled)
        }
        Event::BreakerChange { endpoint, to, .. } => endpoint == home && *to == BreakerState::Open,
        Event::Throttled { endpoint, .. } => endpoint == home,
        Event::Switched(decision) => decision.from.as_ref() == Some(home),
        Event::CriticalFailure { .. }
        | Event::Held { .. }
        | Event::AllDown { .. }
        | Event::Revived { .. }
        | Event::AuthFailed { .. }
        | Event::ProbeMisconfigured { .. }
        | Event::Isolation { .. }
        | Event::Commanded(_)
        | Event::RulesReplaced { .. }
        | Event::Output { .. }
        | Event::Ineffective { .. }
        | Event::Effective { .. }
        | Event::Backup { .. }
        | Event::Redis { .. } => false,
    }
}

/// What did not come about, in words.
fn missed(mark: Mark) -> Option<String> {
    match mark {
        Mark::Missed(goal) => Some(goal.sentence().to_owned()),
        Mark::Lost => Some("the sidecar ended by itself".to_owned()),
        Mark::Steady
        | Mark::Armed(..)
        | Mark::Healed(_)
        | Mark::Serving(_)
        | Mark::Spoiled
        | Mark::Mended
        | Mark::Killed
        | Mark::Restarted
        | Mark::Reached(_)
        | Mark::SteadyAgain => None,
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;

//! What a person sees while drills are played.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::chaos::check::{Check, Limit};
use crate::chaos::drill::{Phase, Run};
use crate::chaos::lab::Lab;
use crate::chaos::scenario::Scenario;
use crate::chaos::suite::Audience;
use crate::chaos::verdict::Verdict;
use crate::cli::chaos::show::{quantity, verdict_tone};
use crate::cli::terminal::Terminal;
use crate::core::id::ServiceName;

/// The measurements that are told when a drill ends.
const TOLD: [(&str, &str); 7] = [
    ("detection", "detected"),
    ("fault_to_file", "switched"),
    ("rescue", "rescued"),
    ("resume", "resumed"),
    ("client_outage", "outage"),
    ("failback", "back"),
    ("moves", "moves"),
];

/// Tells on standard error: a living line for a terminal, a line for each drill that ended.
#[derive(Debug)]
pub(super) struct Progress {
    terminal: Terminal,
    total: usize,
    done: RefCell<usize>,
    playing: RefCell<BTreeMap<String, String>>,
}

impl Progress {
    /// For so many runs.
    pub(super) fn new(terminal: Terminal, total: usize) -> Self {
        Self { terminal, total, done: RefCell::default(), playing: RefCell::default() }
    }

    fn draw(&self) {
        let playing = self.playing.borrow();
        let all: Vec<String> =
            playing.iter().map(|(name, phase)| format!("{name}: {phase}")).collect();
        let text = format!("{} of {}  {}", self.done.borrow(), self.total, all.join("  "));
        self.terminal.progress(&self.terminal.fitting(&text));
    }
}

impl Audience for Progress {
    fn told(&self, scenario: &Scenario, service: &ServiceName, phase: Phase<'_>, _lab: &Lab) {
        let text = match phase {
            Phase::Building => "build the lab".to_owned(),
            Phase::Baseline => "steady state".to_owned(),
            Phase::Ready(plan) => format!("begin at {}", plan.home),
            Phase::Playing(step) => step.sentence(),
            Phase::Settling => "steady state again".to_owned(),
            Phase::RollingBack => "roll back".to_owned(),
        };
        self.playing.borrow_mut().insert(format!("{}/{service}", scenario.name), text);
        self.draw();
    }

    fn ended(&self, scenario: &Scenario, service: &ServiceName, run: &Run, done: (usize, usize)) {
        self.playing.borrow_mut().remove(&format!("{}/{service}", scenario.name));
        *self.done.borrow_mut() = done.0;
        self.terminal.progress("");
        let judgement = &run.judgement;
        let told = TOLD.iter().filter_map(|(id, word)| {
            let check = judgement.checks.iter().find(|check| check.id == *id)?;
            Some(format!("{word} {}", measured(check)))
        });
        let told: Vec<String> = told.collect();
        let reason = match judgement.verdict {
            Verdict::Pass => told.join(", "),
            Verdict::Fail | Verdict::Error => judgement.reasons.join("; "),
        };
        let tone = verdict_tone(judgement.verdict);
        let verdict = self.terminal.paint_beside(tone, judgement.verdict.label());
        self.terminal.say(&format!("{verdict}  {}/{service}  {reason}\n", scenario.name));
        if done.0 < done.1 {
            self.draw();
        }
    }
}

fn measured(check: &Check) -> String {
    let shown = check.measured.map_or_else(|| "not seen".to_owned(), quantity);
    match check.limit {
        Limit::AtMost(bound) => format!("{shown} of {}", quantity(bound)),
        Limit::AtLeast(_) | Limit::Exactly(_) | Limit::Told => shown,
    }
}

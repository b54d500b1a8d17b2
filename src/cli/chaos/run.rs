//! `chaos run`: plays drills.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::chaos::drill::Options;
use crate::chaos::report::{Report, json, junit, markdown};
use crate::chaos::scenario::{CATALOGUE, Scenario, find};
use crate::chaos::suite::{self, Programme};
use crate::chaos::verdict::Verdict;
use crate::cli::chaos::audience::Progress;
use crate::cli::chaos::policy::{DrilledArgs, parts};
use crate::cli::chaos::show::view;
use crate::cli::connect::block_on;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::terminal::Terminal;
use crate::cli::time;

/// Play drills; exit code 3 when one fails.
///
/// Without a scenario, the basic ones are played. Exit code 0 when all passed, 3 when a promise was
/// broken, 1 when a drill could not be played or was interrupted: then everything has been undone.
#[derive(Args, Debug)]
pub(super) struct Run {
    /// The scenarios; `chaos list` names them.
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// Play every scenario.
    #[arg(long, conflicts_with = "scenarios")]
    all: bool,
    #[command(flatten)]
    drilled: DrilledArgs,
    /// Play each so often, with other scripts.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// What the scripts are drawn from: the same number gives the same scripts.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many drills are played at the same time.
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: u32,
    /// Keep the directories of the labs, with the sidecars' logs.
    #[arg(long)]
    keep: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// Write a report in the XML of `JUnit`.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// The scenario of this name.
///
/// # Errors
/// When there is none.
pub(super) fn known(name: &str) -> Result<&'static Scenario, Failure> {
    find(name).ok_or_else(|| Failure::UnknownScenario { name: name.to_owned() })
}

impl Run {
    pub(super) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let scenarios = self.scenarios()?;
        let book = self.drilled.book()?;
        let parts = parts(&book, terminal)?;
        let jobs = usize::try_from(self.jobs).unwrap_or(1);
        let programme = Programme { parts, scenarios, runs: self.runs, seed: self.seed, jobs };
        let stop = CancellationToken::new();
        let options = Options {
            program: std::env::current_exe().map_err(Failure::Drill)?,
            allowance: self.drilled.allowance(),
            keep: self.keep,
            stop: stop.clone(),
        };
        let runs = usize::try_from(self.runs).unwrap_or(1);
        let total = programme.scenarios.len() * programme.parts.len() * runs;
        let audience = Rc::new(Progress::new(terminal, total));
        let outcomes = block_on(async {
            let leave = leave(stop.clone()).map_err(Failure::Drill)?;
            let outcomes = suite::perform(&programme, &options, audience).await;
            leave.abort();
            Ok::<_, Failure>(outcomes)
        })??;
        let kept = suite::kept(&outcomes);
        let report = Report {
            at: time::now().to_string(),
            policy: self.drilled.path(),
            book,
            allowance: options.allowance,
            seed: self.seed,
            runs: self.runs,
            jobs,
            outcomes,
        };
        self.hand_on(&report, terminal)?;
        for dir in kept {
            terminal.say(&format!("kept in {}\n", dir.display()));
        }
        if stop.is_cancelled() {
            return Err(Failure::Interrupted);
        }
        Ok(match report.verdict() {
            Verdict::Pass => Exit::Fine,
            Verdict::Fail => Exit::Unhealthy,
            Verdict::Error => Exit::Failed,
        })
    }

    fn scenarios(&self) -> Result<Vec<Scenario>, Failure> {
        if self.all {
            return Ok(CATALOGUE.to_vec());
        }
        if self.scenarios.is_empty() {
            return Ok(CATALOGUE.iter().filter(|scenario| scenario.basic).copied().collect());
        }
        self.scenarios.iter().map(|name| known(name).copied()).collect()
    }

    fn hand_on(&self, report: &Report, terminal: Terminal) -> Result<(), Failure> {
        if let Some(path) = &self.junit {
            write(path, &junit(report))?;
        }
        if let Some(path) = &self.markdown {
            write(path, &markdown(report))?;
        }
        if self.json {
            return terminal.print_json(&json(report));
        }
        terminal.print(&view(report, terminal))
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|source| Failure::Write { path: path.to_owned(), source })
}

/// Cuts everything short when we are told to leave.
fn leave(stop: CancellationToken) -> std::io::Result<tokio::task::JoinHandle<()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
        stop.cancel();
    }))
}

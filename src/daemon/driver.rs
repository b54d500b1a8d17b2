//! The loop: the one owner of the engine.
//!
//! Invariants
//! 1. No branch of the loop waits for anything but the next input.
//! 2. Every input reaches the engine in the order of its queue, with the time at which it is taken.
//! 3. The service manager's watchdog and `/healthz` are fed from here only: they tell that rounds
//!    are completed, not that some task is alive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::admin::control::ControlRequest;
use crate::admin::document::{SidecarInfo, StatusDocument};
use crate::admin::vitals::Vitals;
use crate::core::engine::Engine;
use crate::core::id::Revision;
use crate::core::input::{Input, Sense};
use crate::core::time::Instant;
use crate::daemon::calls::OfferRounds;
use crate::daemon::clock::Clock;
use crate::daemon::dispatch::{Effects, Probed};
use crate::daemon::lifecycle::Manager;
use crate::daemon::outputs::Outputs;
use crate::daemon::reload::Source;
use crate::daemon::surfaces::Surfaces;
use crate::output::{Feedback, OutputReport, ReportKind};
use crate::probe::{Phases, Quota};
use crate::telemetry::metric::{self, MetricsHandle};
use crate::watch::{SourceEvent, Watcher};

/// A round that starts this late was stalled: suspended, starved, or stopped by a debugger.
const STALL: Duration = Duration::from_secs(2);
/// The longest sleep, so that the loop shows that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// How often the collected metrics are kept small.
const UPKEEP: Duration = Duration::from_secs(5);
/// Least time between two refreshes of the published status.
const SHOW_GAP: Duration = Duration::from_millis(100);
/// Endpoints that add another [`SHOW_GAP`]: drawing up a large status must not cost a core.
const SHOW_GAP_ENDPOINTS: usize = 200;

/// Where inputs come from.
#[derive(Debug)]
pub(crate) struct Queues {
    pub(crate) probed: mpsc::Receiver<Probed>,
    pub(crate) control: mpsc::Receiver<ControlRequest>,
    pub(crate) sources: mpsc::Receiver<SourceEvent>,
    pub(crate) outputs: mpsc::Receiver<OutputReport>,
    pub(crate) feedback: mpsc::Receiver<Feedback>,
}

/// The engine and what it moves.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) clock: Clock,
    pub(crate) engine: Engine,
    pub(crate) effects: Effects,
    pub(crate) outputs: Outputs,
    pub(crate) surfaces: Surfaces,
    pub(crate) source: Source,
    pub(crate) watcher: Arc<Watcher>,
    pub(crate) manager: Manager,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) document: Arc<ArcSwap<StatusDocument>>,
    pub(crate) sidecar: SidecarInfo,
    pub(crate) metrics: MetricsHandle,
    pub(crate) rounds: Rounds,
}

/// What the loop remembers from round to round.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    dirty: bool,
    shown_at: Instant,
    suspended: Duration,
    watchdog_at: Instant,
    kept_at: Instant,
    written: BTreeMap<Arc<str>, Revision>,
    revision: Revision,
    pub(super) offers: OfferRounds,
}

impl Driver {
    /// Runs until told to stop.
    pub(crate) async fn run(&mut self, queues: &mut Queues, shutdown: &CancellationToken) {
        loop {
            let wake = self.wake_at();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep_until(self.clock.deadline(wake)) => self.on_time(wake),
                Some(probed) = queues.probed.recv() => self.on_probed(probed),
                Some(report) = queues.outputs.recv() => self.on_output(report),
                Some(feedback) = queues.feedback.recv() => self.on_feedback(feedback),
                Some(request) = queues.control.recv() => self.on_control(request),
                Some(event) = queues.sources.recv() => self.on_source(event),
            }
            self.end_round();
        }
    }

    /// Tells the engine something and carries out what follows.
    pub(crate) fn step(&mut self, input: Input) {
        let now = self.clock.now();
        let Self { engine, effects, .. } = self;
        let actions = engine.step(now, input);
        self.rounds.offers.stale(&actions);
        effects.carry_out(actions, now, || engine.snapshot(now));
        self.rounds.dirty = true;
    }

    /// Draws up the status and shows it to readers.
    pub(crate) fn show(&mut self) {
        let now = self.clock.now();
        let status = self.engine.status(now);
        metric::status(&status);
        self.rounds.revision = status.revision;
        let clock = self.clock;
        let document =
            StatusDocument::new(&status, self.source.info(&clock), self.sidecar.clone(), &|at| {
                clock.rfc3339(at)
            });
        self.document.store(Arc::new(self.effects.with_phases(document)));
        self.rounds.dirty = false;
        self.rounds.shown_at = now;
    }

    fn wake_at(&self) -> Instant {
        let beat = self.clock.now() + BEAT;
        let shown = self.rounds.dirty.then(|| self.rounds.shown_at + self.show_gap());
        let offered = self.offers_due_at();
        [self.engine.deadline(), self.effects.save_at(), self.source.verdict_at(), shown, offered]
            .into_iter()
            .flatten()
            .fold(beat, Instant::min)
    }

    fn on_time(&mut self, wake: Instant) {
        let now = self.clock.now();
        let late = now - wake;
        metric::loop_lag(late);
        self.sense(late);
        if let Some(due) = self.engine.deadline().filter(|due| *due <= now) {
            self.effects.late = now - due;
            self.step(Input::Tick);
            self.effects.late = Duration::ZERO;
        }
        if self.effects.save_at().is_some_and(|at| at <= now) {
            let snapshot = self.engine.snapshot(now);
            // Nobody waits for this one.
            drop(self.effects.save(&snapshot, now));
        }
        if self.source.verdict_at().is_some_and(|at| at <= now) {
            self.judge_source();
        }
    }

    /// Tells the engine of lost time: what was known before is no longer evidence.
    fn sense(&mut self, late: Duration) {
        let suspended = self.clock.suspended();
        let slept = suspended.saturating_sub(self.rounds.suspended);
        self.rounds.suspended = suspended;
        let lost = late.max(slept);
        if lost > STALL {
            tracing::warn!(lost_seconds = lost.as_secs_f64(), "the process was stalled");
            self.step(Input::Sensed(Sense::Stalled(lost)));
        }
    }

    fn on_probed(&mut self, probed: Probed) {
        let Probed { order, report } = probed;
        let outcome = report.observation.outcome;
        let (service, endpoint) = (order.service, order.endpoint);
        metric::probe_finished(&service, &endpoint, order.kind, outcome, &timed(&report.phases));
        if let Some(left) = report.certificate_expires_in {
            metric::tls_expiry(&service, &endpoint, left.as_secs_f64());
        }
        if let Some(Quota { limit, remaining, .. }) = report.quota {
            metric::quota(&service, &endpoint, limit, remaining);
        }
        self.effects.seen.entry((service, endpoint)).or_default().update(&report);
        self.step(Input::Probed { attempt: order.attempt, observation: report.observation });
    }

    fn on_output(&mut self, report: OutputReport) {
        let OutputReport { output, revision, kind } = report;
        match kind {
            ReportKind::Wrote { took, .. } => {
                metric::output_written(&output, Ok(revision), took);
                self.rounds.written.insert(Arc::clone(&output), revision);
                self.step(Input::Written { output, revision, failure: None });
                self.told_outputs(revision);
            }
            ReportKind::Failed { error } => {
                metric::output_written(&output, Err(()), Duration::ZERO);
                self.step(Input::Written { output, revision, failure: Some(error) });
            }
            ReportKind::HookRan { hook, took } => {
                metric::hook_ran(&output, metric::HookResult::Ok);
                tracing::info!(%output, %revision, %hook, took_seconds = took.as_secs_f64(), "told");
            }
            ReportKind::HookFailed { hook, error } => {
                metric::hook_ran(&output, metric::HookResult::Failed);
                tracing::error!(%output, %revision, %hook, "failed to {error}; trying again");
            }
            ReportKind::DriftRepaired => {
                metric::drift_repaired(&output);
                tracing::warn!(%output, %revision, "somebody changed the file; it is as it should be again");
            }
            ReportKind::Warning(text) => tracing::warn!(%output, "{text}"),
        }
    }

    fn told_outputs(&mut self, revision: Revision) {
        let names: BTreeSet<&str> = self.outputs.names().collect();
        self.rounds.written.retain(|name, _| names.contains(&**name));
        let everywhere = self.rounds.written.len() == names.len();
        self.vitals.set_outputs_written(everywhere);
        if !everywhere {
            return;
        }
        if self.rounds.written.values().all(|written| *written >= revision) {
            let now = self.clock.now();
            if let Some(took) = self.effects.since_decision(revision, now) {
                metric::published(took);
            }
        }
        self.manager.ready(&format!("revision {revision} is written"));
    }

    fn end_round(&mut self) {
        let now = self.clock.now();
        self.vitals.beat();
        if self.manager.watchdog().is_some_and(|gap| now >= self.rounds.watchdog_at + gap) {
            self.manager.alive();
            self.rounds.watchdog_at = now;
        }
        if now >= self.rounds.kept_at + UPKEEP {
            self.metrics.upkeep();
            metric::probes_in_flight(self.effects.in_flight());
            self.rounds.kept_at = now;
        }
        self.refresh_offers(now);
        if self.rounds.dirty && now >= self.rounds.shown_at + self.show_gap() {
            self.show();
        }
    }

    fn show_gap(&self) -> Duration {
        let endpoints = self.effects.policy.services.values().map(|one| one.endpoints.len());
        let steps = endpoints.sum::<usize>() / SHOW_GAP_ENDPOINTS + 1;
        SHOW_GAP.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
    }
}

const fn timed(phases: &Phases) -> metric::Phases {
    metric::Phases {
        resolve: phases.resolve,
        connect: phases.connect,
        tls: phases.tls,
        first_byte: phases.first_byte,
        total: phases.total,
    }
}

//! The loop: the one owner of the engine.
//!
//! Invariants
//! 1. No branch of the loop waits for anything but the next input.
//! 2. Every input reaches the engine in the order of its queue, with the time at which it is taken;
//!    before it, whether time is missing ([`super::lapse`]).
//! 3. The service manager's watchdog and `/healthz` are fed from here only: they tell that rounds
//!    are completed, not that some task is alive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::admin::control::ControlRequest;
use crate::admin::document::SidecarInfo;
use crate::admin::vitals::Vitals;
use crate::core::action::ProbeOrder;
use crate::core::engine::Engine;
use crate::core::id::Revision;
use crate::core::input::Input;
use crate::core::time::Instant;
use crate::daemon::alarm::Alarm;
use crate::daemon::backup::{Backups, Notice};
use crate::daemon::calls::OfferRounds;
use crate::daemon::clock::Clock;
use crate::daemon::dispatch::{Effects, Probed};
use crate::daemon::lapse::Attention;
use crate::daemon::lifecycle::Manager;
use crate::daemon::outputs::Outputs;
use crate::daemon::readers::{Drawn, Look};
use crate::daemon::redis::RedisCopy;
use crate::daemon::references::{Answered, References};
use crate::daemon::reload::Source;
use crate::daemon::surfaces::Surfaces;
use crate::output::{Feedback, OutputReport, ReportKind};
use crate::probe::{Phases, Quota, Report};
use crate::telemetry::metric;
use crate::watch::{SourceEvent, Watcher};

/// The longest sleep, so that the loop shows that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// How often what nobody asks for any more is let go.
const UPKEEP: Duration = Duration::from_secs(5);

/// Where inputs come from.
#[derive(Debug)]
pub(crate) struct Queues {
    pub(crate) probed: mpsc::Receiver<Probed>,
    pub(crate) control: mpsc::Receiver<ControlRequest>,
    pub(crate) sources: mpsc::Receiver<SourceEvent>,
    pub(crate) outputs: mpsc::Receiver<OutputReport>,
    pub(crate) feedback: mpsc::Receiver<Feedback>,
    pub(crate) looks: mpsc::Receiver<Look>,
    pub(crate) references: mpsc::Receiver<Answered>,
    pub(crate) backups: mpsc::Receiver<Notice>,
}

/// What a round is about.
enum Turn {
    Time,
    Probed(Probed),
    Output(OutputReport),
    Feedback(Feedback),
    Control(ControlRequest),
    Source(SourceEvent),
    Look(Look),
    Reference(Answered),
    Backup(Notice),
}

/// The engine and what it moves.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) clock: Clock,
    pub(crate) alarm: Alarm,
    pub(crate) engine: Engine,
    pub(crate) effects: Effects,
    pub(crate) outputs: Outputs,
    pub(crate) backups: Backups,
    pub(crate) redis: RedisCopy,
    pub(crate) surfaces: Surfaces,
    pub(crate) source: Source,
    pub(crate) watcher: Arc<Watcher>,
    pub(crate) manager: Manager,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) drawn: Drawn,
    pub(crate) references: References,
    pub(crate) attention: Attention,
    pub(crate) sidecar: SidecarInfo,
    pub(crate) rounds: Rounds,
}

/// What the loop remembers from round to round.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    watchdog_at: Instant,
    kept_at: Instant,
    written: BTreeMap<Arc<str>, Revision>,
    pub(super) offers: OfferRounds,
}

impl Driver {
    /// Runs until told to stop.
    pub(crate) async fn run(&mut self, queues: &mut Queues, shutdown: &CancellationToken) {
        loop {
            let wake = self.wake_at();
            let turn = tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.alarm.at(wake) => Turn::Time,
                Some(probed) = queues.probed.recv() => Turn::Probed(probed),
                Some(report) = queues.outputs.recv() => Turn::Output(report),
                Some(feedback) = queues.feedback.recv() => Turn::Feedback(feedback),
                Some(request) = queues.control.recv() => Turn::Control(request),
                Some(event) = queues.sources.recv() => Turn::Source(event),
                Some(look) = queues.looks.recv() => Turn::Look(look),
                Some(answered) = queues.references.recv() => Turn::Reference(answered),
                Some(notice) = queues.backups.recv() => Turn::Backup(notice),
            };
            self.notice_lapse(wake);
            self.take(turn, wake);
            self.end_round();
        }
    }

    fn take(&mut self, turn: Turn, wake: Instant) {
        match turn {
            Turn::Time => self.on_time(wake),
            Turn::Probed(probed) => self.on_probed(probed),
            Turn::Output(report) => self.on_output(report),
            Turn::Feedback(feedback) => self.on_feedback(feedback),
            Turn::Control(request) => self.on_control(request),
            Turn::Source(event) => self.on_source(event),
            Turn::Look(look) => self.on_look(look),
            Turn::Reference(answered) => self.on_reference(answered),
            Turn::Backup(notice) => self.on_backup(notice),
        }
    }

    /// Tells the engine something and carries out what follows.
    pub(crate) fn step(&mut self, input: Input) {
        let now = self.clock.now();
        let Self { engine, effects, .. } = self;
        let actions = engine.step(now, input);
        self.rounds.offers.stale(&actions);
        effects.carry_out(actions, now, || engine.snapshot(now));
        self.drawn.outdate();
    }

    fn wake_at(&self) -> Instant {
        let now = self.clock.now();
        let (save, verdict) = (self.effects.save_at(), self.source.verdict_at());
        let (offer, ask) = (self.offers_due_at(), self.references_due_at(now));
        let late = self.effects.uptake.late_at();
        [self.engine.deadline(), save, verdict, offer, ask, late]
            .into_iter()
            .flatten()
            .fold(now + BEAT, Instant::min)
    }

    fn on_time(&mut self, wake: Instant) {
        let now = self.clock.now();
        let late = now - wake;
        metric::loop_lag(late);
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

    fn on_probed(&mut self, probed: Probed) {
        let Probed { order, report, began, fingerprint } = probed;
        let shared = match began {
            Some(_) => None,
            None => self.effects.sharing.ended(&order, fingerprint, &report),
        };
        if let Some((began, waiting)) = shared {
            for other in waiting {
                self.conclude(other, report.clone(), Some(began));
            }
        }
        self.conclude(order, report, began);
    }

    /// One probe has its result; `began` says when, if somebody else's attempt stood in for it.
    fn conclude(&mut self, order: ProbeOrder, report: Report, began: Option<Instant>) {
        let ProbeOrder { attempt, service, endpoint, kind, .. } = order;
        let outcome = report.observation.outcome;
        // What a reload has removed meanwhile must not come back as a series.
        if self.effects.knows(&service, &endpoint) {
            let phases = timed(&report.phases);
            metric::probe_finished(&service, &endpoint, kind, outcome, &phases);
            if let Some(left) = report.certificate_expires_in {
                metric::tls_expiry(&service, &endpoint, left.as_secs_f64());
            }
            if let Some(Quota { limit, remaining, .. }) = report.quota {
                metric::quota(&service, &endpoint, limit, remaining);
            }
            self.effects.seen.entry((service, endpoint)).or_default().update(&report);
        }
        let observation = report.observation;
        self.step(match began {
            None => Input::Probed { attempt, observation },
            Some(began) => {
                metric::probe_shared();
                Input::Shared { attempt, began, observation }
            }
        });
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

    /// How backups stand has changed.
    fn on_backup(&mut self, notice: Notice) {
        if let Some(event) = notice {
            self.effects.emit(event, self.clock.now());
        }
        self.drawn.outdate();
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
            self.drawn.tidy(now);
            metric::upkeep();
            metric::probes_in_flight(self.effects.in_flight());
            self.rounds.kept_at = now;
        }
        self.judge_uptake(now);
        self.refresh_offers(now);
        self.ask_references(now);
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

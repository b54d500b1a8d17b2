//! Keeps what is known of a running attempt, so that a deadline loses nothing of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::core::outcome::{Observation, Outcome};
use crate::probe::finding::{Finding, Step};
use crate::probe::report::{Phases, Quota, Report};

/// Longest wait for something that can be done without.
const PATIENCE_MAX: Duration = Duration::from_secs(1);

/// What an attempt is busy with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// Nothing that is timed.
    Between,
    Token,
    Resolve,
    Connect,
    Tls,
    Answer,
    Body,
    /// The answer to a later request, which is named.
    Reply(&'static str),
    Command,
}

/// When an attempt ends at the latest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) started: Instant,
    pub(super) timeout: Duration,
    pub(super) ends: Instant,
}

impl Limit {
    /// So long from now.
    pub(super) fn of(timeout: Duration) -> Self {
        // A timeout beyond the clock's range is as good as a year.
        const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        let started = Instant::now();
        Self { started, timeout, ends: started + timeout.min(YEAR) }
    }
}

/// One running attempt.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    started: Instant,
    ends: Option<Instant>,
    settled: Option<Duration>,
    stage: Stage,
    since: Instant,
    phases: Phases,
    /// The only address of this name that the attempt may use.
    pub(super) pinned: Option<(String, IpAddr)>,
    pub(super) address: Option<SocketAddr>,
    pub(super) certificate_left: Option<Duration>,
    pub(super) status: Option<u16>,
    pub(super) quota: Option<Quota>,
}

impl Trace {
    pub(super) fn begin() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            ends: None,
            settled: None,
            stage: Stage::Between,
            since: now,
            phases: Phases::default(),
            pinned: None,
            address: None,
            certificate_left: None,
            status: None,
            quota: None,
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// From here on the attempt knows when it ends.
    pub(super) const fn limit(&mut self, limit: Limit) {
        self.ends = Some(limit.ends);
    }

    /// The same attempt so far, to be gone on with at this address of the name.
    pub(super) fn at(&self, host: &str, ip: IpAddr) -> Self {
        Self { pinned: Some((host.to_owned(), ip)), ..self.clone() }
    }

    /// How long something may be waited for that can be done without: there must be time left for
    /// the rest of the attempt.
    pub(super) fn patience(&self) -> Duration {
        let left = self.ends.map(|ends| ends.saturating_duration_since(Instant::now()));
        left.map_or(PATIENCE_MAX, |left| PATIENCE_MAX.min(left / 4))
    }

    /// When the attempt ends at the latest.
    pub(super) const fn ends(&self) -> Option<Instant> {
        self.ends
    }

    /// The verdict stands; what follows is courtesy and takes no part in the latency.
    pub(super) fn settle(&mut self) {
        self.enter(Stage::Between);
        self.settled = Some(self.started.elapsed());
    }

    /// Time left until then.
    pub(super) fn left(&self) -> Duration {
        self.ends.map_or(Duration::ZERO, |ends| ends.saturating_duration_since(Instant::now()))
    }

    /// The current stage is complete; the next begins.
    pub(super) fn enter(&mut self, next: Stage) {
        self.enter_at(next, Instant::now());
    }

    /// As [`Trace::enter`], but it happened at `moment`.
    pub(super) fn enter_at(&mut self, next: Stage, moment: Instant) {
        let spent = moment.saturating_duration_since(self.since);
        match self.stage {
            Stage::Resolve => self.phases.resolve = Some(spent),
            Stage::Connect => self.phases.connect = Some(spent),
            Stage::Tls => self.phases.tls = Some(spent),
            Stage::Answer => self.phases.first_byte = Some(spent),
            Stage::Between | Stage::Token | Stage::Body | Stage::Reply(_) | Stage::Command => {}
        }
        self.stage = next;
        self.since = moment;
    }

    /// The answer has begun, if it was waited for and had not begun before.
    pub(super) fn first_byte_at(&mut self, moment: Instant) {
        if self.stage == Stage::Answer {
            self.enter_at(Stage::Body, moment);
        }
    }

    /// What it means that the deadline came in this stage.
    pub(super) fn timed_out(&self, timeout: Duration) -> Finding {
        let what = match self.stage {
            // A resolver that is silent is ours: the endpoint was never asked.
            Stage::Resolve => {
                let detail = format!("no answer from the resolver within {timeout:?}");
                return Finding::new(Outcome::Local, detail);
            }
            Stage::Token => "no token",
            Stage::Connect => "no connection",
            Stage::Tls => "no TLS handshake",
            Stage::Answer => "no answer",
            Stage::Body => "no complete answer",
            Stage::Reply(what) => {
                let detail = format!("no answer to {what} within {timeout:?}");
                return Finding::new(Outcome::Timeout, detail);
            }
            Stage::Command => "command did not end",
            Stage::Between => "no verdict",
        };
        Finding::new(Outcome::Timeout, format!("{what} within {timeout:?}"))
    }

    /// Closes the attempt.
    pub(super) fn report(mut self, end: Step) -> Report {
        self.phases.total = self.settled.unwrap_or_else(|| self.started.elapsed());
        let (outcome, detail) = match end {
            Ok(()) => (Outcome::Ok, None),
            Err(finding) => (finding.outcome, Some(Arc::from(finding.detail))),
        };
        Report {
            observation: Observation { outcome, latency: self.phases.total, detail },
            phases: self.phases,
            address: self.address,
            certificate_expires_in: self.certificate_left,
            status: self.status,
            quota: self.quota,
        }
    }
}

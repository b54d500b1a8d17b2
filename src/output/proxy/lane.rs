//! One endpoint as one proxy knows it: how to reach it, what is open to it, how it did lately.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::core::outcome::{Observation, Outcome, Verdict};
use crate::output::Feedback;
use crate::output::proxy::dial::{Dialler, Stream, Unreached};
use crate::output::proxy::http::pool::{self, Pool};
use crate::output::proxy::resolve::Addresses;
use crate::output::proxy::sieve::Sieve;
use crate::output::proxy::tally::{Labels, Tally};
use crate::output::proxy::tls;
use crate::policy::model::{Proxy, ProxyMode, TlsOptions, Upstream};
use crate::telemetry::metric;

/// How long an endpoint that could not be reached is tried after the others.
///
/// Long enough that a dead one does not cost every call its deadline, short enough that the
/// engine, not this memory, decides where calls go.
const SOUR: Duration = Duration::from_secs(1);
/// No upstream is obeyed for longer than this when it asks to be left alone.
const SOUR_MAX: Duration = Duration::from_secs(60);

/// One endpoint of one proxy. Another address, or other headers, are another lane.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) labels: Labels,
    pub(super) upstream: Upstream,
    tls: TlsOptions,
    pub(super) tally: Tally,
    dialler: Option<Arc<Dialler>>,
    sieve: Sieve,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    cut: Cut,
    sour_until: Option<Instant>,
    drain_until: Option<Instant>,
    pool: Option<Pool>,
}

/// Tells those who use a lane that they must leave it.
#[derive(Clone, Debug, Default)]
pub(super) struct Cut(CancellationToken);

impl Cut {
    /// Waits until the lane must be left.
    pub(super) async fn done(&self) {
        self.0.cancelled().await;
    }

    /// The same, without a tie to the caller's stack.
    pub(super) fn wait(self) -> WaitForCancellationFutureOwned {
        self.0.cancelled_owned()
    }
}

impl Lane {
    pub(super) fn new(labels: Labels, upstream: Upstream, spec: &Proxy) -> Arc<Self> {
        let protocols: &[&[u8]] = match spec.mode {
            ProxyMode::Http | ProxyMode::Connect(_) => &[b"h2", b"http/1.1"],
            ProxyMode::Tcp => &[],
        };
        let target = &upstream.target;
        let secured =
            upstream.tls.map(|trust| tls::prepare(&target.host, trust, &spec.tls, protocols));
        let dialler = match secured {
            Some(None) => None,
            Some(secured) => Some(secured),
            None => Some(None),
        };
        let dialler = dialler.map(|secured| {
            Arc::new(Dialler {
                addresses: Addresses::new(target.clone()),
                secured,
                postgres: upstream.scheme.starts_with("postgres"),
            })
        });
        let sieve = Sieve::new(Instant::now());
        Arc::new(Self {
            labels,
            upstream,
            tls: spec.tls.clone(),
            tally: Tally::default(),
            dialler,
            sieve,
            state: Mutex::default(),
        })
    }

    /// Whether it is the one of this name, address and trust.
    pub(super) fn is(&self, labels: &Labels, upstream: &Upstream, tls: &TlsOptions) -> bool {
        self.labels == *labels && self.upstream == *upstream && self.tls == *tls
    }

    /// A new connection.
    pub(super) async fn open(&self, within: Duration) -> Result<Stream, Unreached> {
        match &self.dialler {
            Some(dialler) => dialler.open(within).await,
            None => Err(Unreached(Outcome::Tls)),
        }
    }

    /// Counts a call as open until the guard goes.
    pub(super) fn enter(self: &Arc<Self>) -> Entered {
        self.tally.enter();
        Entered(Arc::clone(self))
    }

    /// What a call to it must listen to.
    pub(super) fn cut(&self) -> Cut {
        self.lock().cut.clone()
    }

    /// Its kept connections; `None` when its TLS options cannot work.
    pub(super) fn pool(&self, within: Duration) -> Option<Pool> {
        let dialler = self.dialler.as_ref()?;
        let mut state = self.lock();
        let pool = state.pool.get_or_insert_with(|| pool::new(Arc::clone(dialler), within));
        Some(pool.clone())
    }

    /// A connection for HTTP/1.1 alone, which the caller goes on with in a protocol of its own.
    pub(super) async fn open_http1(&self, within: Duration) -> Result<Stream, Unreached> {
        match &self.dialler {
            Some(dialler) => dialler.http1().open(within).await,
            None => Err(Unreached(Outcome::Tls)),
        }
    }

    /// It began to answer after this long.
    pub(super) fn answered(&self, took: Duration) {
        metric::proxy_first_byte(&self.labels.output, &self.labels.service, took);
        self.lock().sour_until = None;
    }

    /// A call ended so: counts it, and tells the engine unless it has heard enough.
    pub(super) fn ended(
        &self,
        feedback: &mpsc::Sender<Feedback>,
        outcome: Outcome,
        took: Duration,
    ) {
        self.tally.count(outcome);
        self.tell(feedback, outcome, took);
    }

    /// A call came to this, though it may last on: tells the engine unless it has heard enough.
    pub(super) fn tell(&self, feedback: &mpsc::Sender<Feedback>, outcome: Outcome, took: Duration) {
        let verdict = outcome.verdict();
        if let Outcome::Throttled { retry_after } = outcome {
            self.avoid(retry_after.unwrap_or(SOUR));
        } else if verdict == Verdict::Fail {
            self.avoid(SOUR);
        }
        if self.sieve.lets(verdict, Instant::now()) {
            let report = Feedback::Reported {
                service: self.labels.service.clone(),
                endpoint: self.labels.endpoint.clone(),
                observation: Observation::new(outcome, took),
            };
            // When the engine has too much to hear it will hear the next one.
            feedback.try_send(report).ok();
        }
    }

    /// Prefers others for a while.
    pub(super) fn avoid(&self, span: Duration) {
        let until = Instant::now() + span.min(SOUR_MAX);
        let mut state = self.lock();
        state.sour_until = state.sour_until.max(Some(until));
    }

    /// Whether others are to be preferred now.
    pub(super) fn is_sour(&self, now: Instant) -> bool {
        self.lock().sour_until.is_some_and(|until| until > now)
    }

    /// Calls go here, or may: whatever was to be cut lives on.
    pub(super) fn keep(&self) {
        self.lock().drain_until = None;
    }

    /// Calls no longer go here: those that are open may end until then. The first word counts.
    pub(super) fn drain(&self, until: Instant) {
        if self.tally.open() > 0 {
            self.lock().drain_until.get_or_insert(until);
        }
    }

    /// When what is open is to be cut.
    pub(super) fn drain_until(&self) -> Option<Instant> {
        self.lock().drain_until
    }

    /// Everybody who is on it leaves at once.
    pub(super) fn clear(&self, drained: bool) {
        let mut state = self.lock();
        state.drain_until = None;
        // What is kept open to an endpoint that was left may be as dead as it.
        state.pool = None;
        let cut = std::mem::take(&mut state.cut);
        drop(state);
        for _ in 0..self.tally.open() {
            self.tally.cut(drained);
        }
        cut.0.cancel();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that is open.
#[derive(Debug)]
pub(super) struct Entered(Arc<Lane>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.tally.leave();
    }
}

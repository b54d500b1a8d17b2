//! The read-only HTTP surface: status page, JSON, events, metrics, health.
//!
//! | Route | Gives |
//! |---|---|
//! | `GET /` | the status page |
//! | `GET /status` | [`StatusDocument`] |
//! | `GET /history?service=&n=` | moves, newest first, one JSON object a line |
//! | `GET /events?last=` | events as they come (SSE); `Last-Event-ID` resumes |
//! | `GET /metrics` | Prometheus text |
//! | `GET /healthz` | 200 while the decision loop turns, else 503 |
//! | `GET /readyz` | 200 once a policy is loaded and the outputs are written, else 503 |
//!
//! Invariants
//! 1. Every request passes [`guard`] before anything of it is looked at, known path or not.
//! 2. Nothing but `GET` and `HEAD` is served, and no request body is read.
//! 3. Connections, streams, headers, waiting times and buffers are bounded by [`Limits`].

mod body;
mod guard;
mod page;
mod route;
mod sse;
mod stall;

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::document::StatusDocument;
use crate::admin::hub::EventHub;
use crate::admin::protocol::HistoryQuery;
use crate::admin::vitals::Vitals;
use crate::core::record::HistoryRecord;

/// Headers of one request.
const HEADERS_MAX: usize = 64;
/// Bytes of one request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long open connections may take to end once the sidecar stops.
const GOODBYE: Duration = Duration::from_secs(3);

/// Something that is found out when somebody asks.
type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Draws the present status; nothing when the decision loop does not answer.
pub type StatusSource = Arc<dyn Fn() -> Later<Option<Arc<StatusDocument>>> + Send + Sync>;

/// Writes the metrics of this moment; nothing when the decision loop does not answer.
pub type MetricsSource = Arc<dyn Fn() -> Later<Option<String>> + Send + Sync>;

/// Looks up moves of the past.
pub type HistorySource = Arc<dyn Fn(HistoryQuery) -> Later<Vec<HistoryRecord>> + Send + Sync>;

/// Everything that is shown.
#[derive(Clone)]
pub struct AdminState {
    /// The present status.
    pub status: StatusSource,
    /// The events.
    pub hub: EventHub,
    /// Renders the metrics.
    pub metrics: MetricsSource,
    /// Looks up the history.
    pub history: HistorySource,
    /// Liveness and readiness.
    pub vitals: Arc<Vitals>,
    /// Values of `Host` accepted besides loopback names and our own address. An entry without a
    /// port is accepted with any.
    pub allowed_hosts: Vec<String>,
    /// How much one client may cost.
    pub limits: Limits,
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState")
            .field("allowed_hosts", &self.allowed_hosts)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// How much clients may cost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Connections at a time; a further one is turned away.
    pub connections: usize,
    /// Event streams at a time: fewer than connections, so that streams never shut out `/healthz`.
    pub streams: usize,
    /// How long a client may take to send a request's head, or stay idle between two.
    pub head: Duration,
    /// How long a client may refuse to take what we send.
    pub stall: Duration,
    /// Gap between signs of life on an event stream.
    pub heartbeat: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            streams: 32,
            head: Duration::from_secs(5),
            stall: Duration::from_secs(10),
            heartbeat: Duration::from_secs(15),
        }
    }
}

/// Serves until `cancel`, then lets open answers end.
pub async fn serve(listener: TcpListener, state: AdminState, cancel: CancellationToken) {
    let listen = listener.local_addr().ok();
    let connections = Arc::new(Semaphore::new(state.limits.connections));
    let streams = Arc::new(Semaphore::new(state.limits.streams));
    let desk = Arc::new(route::Desk { state, listen, streams, cancel: cancel.clone() });
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely: give others time to close theirs.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&connections).try_acquire_owned() else {
            turn_away(&stream);
            continue;
        };
        let desk = Arc::clone(&desk);
        tasks.spawn(async move {
            converse(stream, desk).await;
            drop(place);
        });
    }
    tasks.close();
    timeout(GOODBYE, tasks.wait()).await.ok();
}

fn turn_away(stream: &TcpStream) {
    let answer = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    // Best effort: the client is turned away in any case.
    stream.try_write(answer).ok();
}

async fn converse(stream: TcpStream, desk: Arc<route::Desk>) {
    let Ok(local) = stream.local_addr() else { return };
    let limits = desk.state.limits;
    let cancel = desk.cancel.clone();
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(&request, local).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stall::Guarded::new(stream, limits.stall)), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(GOODBYE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin client went away");
    }
}

/// Where a request came in: what [`guard`] compares names with.
#[derive(Clone, Copy, Debug)]
struct Arrival<'a> {
    listen: Option<SocketAddr>,
    local: SocketAddr,
    allowed_hosts: &'a [String],
}

//! Connections to one upstream, kept for the next request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use crate::output::proxy::dial::{Dialler, Stream, Unreached};
use crate::output::proxy::http::replay::Replay;

/// Idle connections kept to one upstream.
const IDLE_MAX: usize = 64;
/// How long one is kept: shorter than most servers keep it, so that it is rarely closed under us.
const IDLE: Duration = Duration::from_secs(45);
/// Headers of one answer, and bytes of its head.
const HEADERS_MAX: usize = 200;
const HEAD_BYTES_MAX: usize = 256 * 1024;

/// Sends requests to one upstream over kept connections.
pub(in crate::output::proxy) type Pool = Client<Connector, Outgoing>;

/// What is sent: a caller's body, or one of ours.
pub(in crate::output::proxy) type Outgoing = Either<Replay, Full<Bytes>>;

/// A pool without connections.
pub(in crate::output::proxy) fn new(dialler: Arc<Dialler>, within: Duration) -> Pool {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_MAX)
        .http1_max_headers(HEADERS_MAX)
        .http1_max_buf_size(HEAD_BYTES_MAX)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .http2_adaptive_window(true)
        .build(Connector { dialler, within })
}

/// Opens connections for a pool, always to the same upstream.
#[derive(Clone, Debug)]
pub(in crate::output::proxy) struct Connector {
    dialler: Arc<Dialler>,
    within: Duration,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Unreached;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unreached>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unreached>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let own = self.clone();
        Box::pin(async move { own.dialler.open(own.within).await.map(TokioIo::new) })
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.is_h2() { connected.negotiated_h2() } else { connected }
    }
}

//! A caller's connection: HTTP/1.1, or HTTP/2 if the caller begins with it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::output::proxy::desk::Desk;
use crate::output::proxy::http::exchange::exchange;
use crate::output::proxy::http::tied::Tied;
use crate::telemetry::metric;

/// Headers of one request, and bytes of its head.
const HEADERS_MAX: usize = 128;
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// How long a caller may take to send a head, or stay idle between two requests.
const HEAD_MAX: Duration = Duration::from_secs(60);
/// How every HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An answer's body: ours, or an upstream's.
pub(in crate::output::proxy) type Reply = Either<Full<Bytes>, Tied>;

/// How a request came in.
#[derive(Clone, Copy, Debug)]
pub(in crate::output::proxy) enum Arrival {
    /// At the address of the proxy itself; on loopback foreign names are turned away.
    Direct {
        /// The address.
        local: SocketAddr,
    },
    /// Through a tunnel that was opened for it.
    Opened,
}

/// Serves a caller who has just connected.
pub(in crate::output::proxy) async fn converse(desk: Arc<Desk>, client: TcpStream) {
    let Ok(local) = client.local_addr() else { return };
    client.set_nodelay(true).ok();
    let arrival = Arrival::Direct { local };
    let mut first = [0; PREFACE.len()];
    let begun = timeout(patience(&desk), client.peek(&mut first)).await;
    let Ok(Ok(read)) = begun else { return };
    // No method begins with PRI, so three bytes tell.
    let h2 = first.get(..read).is_some_and(|first| first.len() > 2 && PREFACE.starts_with(first));
    if h2 {
        converse_h2(desk, client, arrival).await;
    } else {
        converse_h1(desk, client, arrival).await;
    }
}

fn patience(desk: &Desk) -> Duration {
    desk.spec.load().policy.idle_timeout.min(HEAD_MAX)
}

/// Speaks HTTP/1.1.
pub(in crate::output::proxy) async fn converse_h1<S>(desk: Arc<Desk>, stream: S, arrival: Arrival)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let own = Arc::clone(&desk);
    let service = service_fn(move |request| answer(Arc::clone(&own), arrival, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience(&desk))
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = desk.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    told(ended);
}

/// Speaks HTTP/2.
pub(in crate::output::proxy) async fn converse_h2<S>(desk: Arc<Desk>, stream: S, arrival: Arrival)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let own = Arc::clone(&desk);
    let service = service_fn(move |request| answer(Arc::clone(&own), arrival, request));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = desk.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    told(ended);
}

fn told(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a caller of a proxy went away");
    }
}

async fn answer(
    desk: Arc<Desk>,
    arrival: Arrival,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    Ok(Box::pin(exchange(&desk, &arrival, request)).await)
}

/// Why the proxy answers itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::output::proxy) enum Refusal {
    /// Too many requests at a time.
    Busy,
    /// The request makes no sense here.
    Invalid,
    /// A browser of somebody else, most likely.
    Forbidden,
    /// The session that is named is no more: the caller is to open another.
    Gone,
    /// The service has no endpoint that may be used.
    NoEndpoint,
    /// No endpoint answered.
    Unreached,
    /// None answered in time.
    Late,
}

impl Refusal {
    const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "too many requests at a time"),
            Self::Invalid => {
                (StatusCode::BAD_REQUEST, "invalid", "not a request for a proxy of this kind")
            }
            Self::Forbidden => {
                (StatusCode::FORBIDDEN, "forbidden", "only for callers on this host")
            }
            Self::Gone => (StatusCode::NOT_FOUND, "gone", "no such session"),
            Self::NoEndpoint => {
                (StatusCode::SERVICE_UNAVAILABLE, "unreached", "no endpoint is in use")
            }
            Self::Unreached => (StatusCode::BAD_GATEWAY, "unreached", "no endpoint answers"),
            Self::Late => (StatusCode::GATEWAY_TIMEOUT, "unreached", "no endpoint answers in time"),
        }
    }

    /// The answer that says so.
    pub(in crate::output::proxy) fn answer(self, desk: &Desk) -> Response<Reply> {
        let (status, reason, text) = self.parts();
        let spec = desk.spec.load();
        metric::proxy_refused(&spec.policy.name, reason);
        let text = format!("mcp-failover: {}: {text}\n", spec.policy.service);
        let mut response = Response::new(Either::Left(Full::new(Bytes::from(text))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

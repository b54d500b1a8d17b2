//! What stands behind an endpoint of a lab: a small HTTP server of our own on loopback.
//!
//! It answers a probe with whatever that probe expects, and a client's call with its own name, if
//! the call brings the key of this endpoint and no other's. So a client that was given a host and a
//! key of two different endpoints is found out by the answer.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Where clients call.
pub(super) const CALL: &str = "/.lab/call";
/// The header with the key that the env file names.
pub(super) const KEY: &str = "x-lab-key";

/// What a probe gets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers beside the usual ones.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Default for Answer {
    fn default() -> Self {
        Self { status: 200, headers: Vec::new(), body: "{\"status\":\"ok\"}\n".into() }
    }
}

/// Who an upstream is.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Its name, as the answer to a call.
    pub name: String,
    /// The key that a call must bring.
    pub key: String,
    /// What a probe gets.
    pub answer: Answer,
}

/// A running upstream; stops when dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(identity: Identity) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, identity));
        Ok(Self { address, task })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Accepts until it is dropped, and with it every connection.
async fn accept(listener: TcpListener, identity: Identity) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, identity.clone()));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, identity: Identity) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, &identity);
        async move { Ok::<_, Infallible>(response) }
    });
    // A client that leaves early is its own affair.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

fn respond(request: &Request<Incoming>, identity: &Identity) -> Response<Full<Bytes>> {
    if request.uri().path() == CALL {
        let brought = request.headers().get(KEY).map(HeaderValue::as_bytes);
        let known = brought == Some(identity.key.as_bytes());
        let (status, body) =
            if known { (StatusCode::OK, &*identity.name) } else { (StatusCode::FORBIDDEN, "") };
        let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
        *response.status_mut() = status;
        return response;
    }
    let answer = &identity.answer;
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(answer.body.as_bytes())));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or_default();
    for (name, value) in &answer.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

//! A connection that carries HTTP/1.1 requests, one after another, within one attempt.
//!
//! Invariants
//! 1. Connection and conversation are driven by whoever waits: dropping the channel leaves nothing
//!    behind, no task and no socket.
//! 2. A request that is under way lives in the channel and not in the future that waits for it, so
//!    giving up the wait loses nothing: whoever has the channel can wait on.
//! 3. Each answer has an allowance of bytes of its own, whatever they are spent on.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::probe::expect::Body;
use crate::probe::finding::{Finding, Step};
use crate::probe::tls;
use crate::probe::wire::{Meter, Wire};

/// Bytes of an answer's head, and of any one buffer.
const HEAD_MAX: usize = 16 * 1024;
/// Header lines of an answer.
const HEADERS_MAX: usize = 100;

/// A request as all of this room sends them.
pub(super) type Outgoing = Request<Full<Bytes>>;

type Sender = http1::SendRequest<Full<Bytes>>;
type Connection = http1::Connection<TokioIo<Wire>, Full<Bytes>>;
type Answer = dyn Future<Output = hyper::Result<Response<Incoming>>> + Send;

/// One connection.
pub(super) struct Channel {
    sender: Sender,
    /// Absent once it has ended.
    connection: Option<Pin<Box<Connection>>>,
    /// The request under way.
    pending: Option<Pin<Box<Answer>>>,
    meter: Arc<Meter>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("pending", &self.pending.is_some()).finish_non_exhaustive()
    }
}

impl Channel {
    /// Takes a ready connection; nothing is sent yet.
    pub(super) async fn open(wire: Wire, meter: Arc<Meter>) -> Step<Self> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_MAX)
            .max_header_size(HEAD_MAX)
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(|error| broken(&error, &meter))?;
        Ok(Self { sender, connection: Some(Box::pin(connection)), pending: None, meter })
    }

    /// Whether it takes another request; waits until the last answer is out of the way.
    pub(super) async fn is_ready(&mut self) -> bool {
        let Self { sender, connection, pending, .. } = self;
        pending.is_none() && drive(connection, sender.ready()).await.is_ok()
    }

    /// Whether a request is under way.
    pub(super) const fn is_waiting(&self) -> bool {
        self.pending.is_some()
    }

    /// When the first byte of the current answer came.
    pub(super) fn first_byte(&self) -> Option<Instant> {
        self.meter.first_byte()
    }

    /// Sends a request, whose answer may take this many bytes off the wire.
    pub(super) fn start(&mut self, request: Outgoing, allowance: usize) {
        self.meter.allow(allowance);
        self.pending = Some(Box::pin(self.sender.send_request(request)));
    }

    /// The head of the answer to the request under way.
    pub(super) async fn answer(&mut self) -> Step<Response<Incoming>> {
        let Self { connection, pending, meter, .. } = self;
        let Some(waiting) = pending.as_mut() else {
            return Err(Finding::misconfigured("request cannot be sent"));
        };
        let answer = drive(connection, waiting).await;
        *pending = None;
        answer.map_err(|error| broken(&error, meter))
    }

    /// The next piece of a body; `None` at its end.
    pub(super) async fn piece(&mut self, body: &mut Incoming) -> Step<Option<Bytes>> {
        let Self { connection, meter, .. } = self;
        loop {
            let Some(frame) = drive(connection, body.frame()).await else { return Ok(None) };
            let frame = frame.map_err(|error| broken(&error, meter))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// Reads a body to its end or its limit, and keeps it only if somebody looks at it.
    pub(super) async fn body(
        &mut self,
        mut body: Incoming,
        limit: usize,
        keep: bool,
    ) -> Step<Body> {
        let mut kept = Vec::new();
        let mut room = limit;
        loop {
            let piece = match self.piece(&mut body).await {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(Body { bytes: kept, whole: true }),
                Err(_limit) if self.meter.exhausted() => break,
                Err(finding) => return Err(finding),
            };
            let taken = piece.len().min(room);
            if keep {
                kept.extend(piece.iter().take(taken));
            }
            room -= taken;
            if taken < piece.len() {
                break;
            }
        }
        Ok(Body { bytes: kept, whole: false })
    }
}

/// Waits for `work` and moves the connection on meanwhile.
async fn drive<T>(
    connection: &mut Option<Pin<Box<Connection>>>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        if let Some(running) = connection.as_mut()
            && running.as_mut().poll(cx).is_ready()
        {
            // What ended the connection reaches the work as its own error.
            *connection = None;
            return work.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await
}

/// Sorts what ended a conversation.
fn broken(error: &hyper::Error, meter: &Meter) -> Finding {
    if meter.exhausted() {
        return Finding::protocol("answer has no end");
    }
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    if let Some(finding) = cause.and_then(tls::sort) {
        return finding;
    }
    if cause.is_some_and(|cause| cause.kind() != io::ErrorKind::UnexpectedEof) {
        return Finding::protocol("body is not framed as HTTP");
    }
    if error.is_parse_too_large() {
        Finding::protocol("answer has too many or too long headers")
    } else if error.is_parse_version_h2() {
        Finding::protocol("answer is HTTP/2")
    } else if error.is_parse() {
        Finding::protocol("answer is not HTTP")
    } else if error.is_user() {
        Finding::misconfigured("request cannot be sent")
    } else if meter.first_byte().is_some() {
        Finding::cut("connection closed before the answer was complete")
    } else {
        Finding::cut("connection closed without an answer")
    }
}

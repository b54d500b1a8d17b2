//! A connection that carries HTTP requests, one after another, within one attempt.
//!
//! Invariants
//! 1. Connection and conversation are driven by whoever waits: dropping the channel leaves nothing
//!    behind, no task and no socket.
//! 2. A request that is under way lives in the channel and not in the future that waits for it, so
//!    giving up the wait loses nothing: whoever has the channel can wait on.
//! 3. Each answer has an allowance of bytes of its own, whatever they are spent on.

mod one;
mod two;

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::{Ping, PingPong};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::header::HeaderMap;
use hyper::http::uri::Scheme;
use hyper::{Request, Response};
use tokio::time::Instant;

use crate::probe::expect::Body;
use crate::probe::finding::{Finding, Step};
use crate::probe::wire::{Meter, Wire};

/// Bytes of an answer's head, and of any one buffer.
const HEAD_MAX: u16 = 16 * 1024;

/// A request as all of this room sends them: the target is a path, the host stands in `Host`.
pub(super) type Outgoing = Request<Full<Bytes>>;

type Connection = dyn Future<Output = ()> + Send;
type Answer = dyn Future<Output = Result<Response<Incoming>, Broken>> + Send;

/// How to speak on a new connection.
#[derive(Clone, Debug)]
pub(super) enum Greeting {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, whose requests name the scheme.
    Http2(Scheme),
}

/// A body on its way; to be read with [`Channel::piece`] or [`Channel::body`].
pub(super) enum Incoming {
    One(hyper::body::Incoming),
    Two(Box<h2::RecvStream>),
}

enum Speaker {
    One(http1::SendRequest<Full<Bytes>>),
    Two(h2::client::SendRequest<Bytes>, Scheme),
}

/// What ended a conversation.
enum Broken {
    One(hyper::Error),
    Two(h2::Error),
}

/// One connection.
pub(super) struct Channel {
    speaker: Speaker,
    /// Absent once it has ended.
    connection: Option<Pin<Box<Connection>>>,
    /// The request under way.
    pending: Option<Pin<Box<Answer>>>,
    /// When the head of the current answer was complete; HTTP/2 has bytes of its own before it.
    headed: Option<Instant>,
    /// Whether an answer is unfinished.
    busy: bool,
    pings: Option<PingPong>,
    meter: Arc<Meter>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("pending", &self.pending.is_some()).finish_non_exhaustive()
    }
}

impl Channel {
    /// Takes a ready connection; no request is sent yet.
    pub(super) async fn open(wire: Wire, meter: Arc<Meter>, greeting: Greeting) -> Step<Self> {
        let mut pings = None;
        let greeted = match greeting {
            Greeting::Http1 => one::greet(wire)
                .await
                .map(|(sender, connection)| (Speaker::One(sender), connection)),
            Greeting::Http2(scheme) => {
                // The server greets too, before it answers anything.
                meter.allow(usize::from(HEAD_MAX));
                two::greet(wire).await.map(|(sender, connection, ping_pong)| {
                    pings = ping_pong;
                    (Speaker::Two(sender, scheme), connection)
                })
            }
        };
        let (speaker, connection) = greeted.map_err(|broken| broken.sort(&meter, false))?;
        let connection = Some(connection);
        Ok(Self { speaker, connection, pending: None, headed: None, busy: false, pings, meter })
    }

    /// Whether it takes another request; waits until the last answer is out of the way.
    pub(super) async fn is_ready(&mut self) -> bool {
        let Self { speaker, connection, pending, .. } = self;
        pending.is_none()
            && match speaker {
                Speaker::One(sender) => drive(connection, sender.ready()).await.is_ok(),
                Speaker::Two(sender, _) => drive(connection, sender.clone().ready()).await.is_ok(),
            }
    }

    /// Whether a request is under way.
    pub(super) const fn is_waiting(&self) -> bool {
        self.pending.is_some()
    }

    /// When the first byte of the current answer came, or the whole head where the version has
    /// bytes that are no answer.
    pub(super) fn first_byte(&self) -> Option<Instant> {
        match self.speaker {
            Speaker::One(_) => self.meter.first_byte(),
            Speaker::Two(..) => self.headed,
        }
    }

    /// Sends a request, whose answer may take this many bytes off the wire.
    pub(super) fn start(&mut self, request: Outgoing, allowance: usize) {
        self.meter.allow(allowance);
        (self.headed, self.busy) = (None, true);
        self.pending = Some(match &mut self.speaker {
            Speaker::One(sender) => {
                let answer = sender.send_request(request);
                Box::pin(async move { Ok(answer.await.map_err(Broken::One)?.map(Incoming::One)) })
            }
            Speaker::Two(sender, scheme) => {
                let answer = two::ask(sender.clone(), request, scheme.clone());
                Box::pin(async move {
                    let answer = answer.await.map_err(Broken::Two)?;
                    Ok(answer.map(|body| Incoming::Two(Box::new(body))))
                })
            }
        });
    }

    /// The head of the answer to the request under way.
    pub(super) async fn answer(&mut self) -> Step<Response<Incoming>> {
        let Self { connection, pending, .. } = self;
        let Some(waiting) = pending.as_mut() else {
            return Err(Finding::misconfigured("request cannot be sent"));
        };
        let answer = drive(connection, waiting).await;
        *pending = None;
        let answer = answer.map_err(|broken| self.sort(&broken))?;
        self.headed = Some(Instant::now());
        Ok(answer)
    }

    /// The next piece of a body; `None` at its end.
    pub(super) async fn piece(&mut self, body: &mut Incoming) -> Step<Option<Bytes>> {
        let Self { connection, .. } = self;
        let piece = match body {
            Incoming::One(body) => drive(connection, one::piece(body)).await,
            Incoming::Two(body) => drive(connection, two::piece(body)).await,
        };
        let piece = piece.map_err(|broken| self.sort(&broken))?;
        self.busy = piece.is_some();
        Ok(piece)
    }

    /// What follows a body that was read to its end.
    pub(super) async fn trailers(&mut self, body: &mut Incoming) -> Step<Option<HeaderMap>> {
        let Incoming::Two(body) = body else { return Ok(None) };
        let trailers = drive(&mut self.connection, body.trailers()).await;
        trailers.map_err(|error| self.sort(&Broken::Two(error)))
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

    /// Whether it may carry another request: it is open, and the last answer was read to its end.
    pub(super) const fn is_idle(&self) -> bool {
        self.connection.is_some() && !self.busy
    }

    /// Moves the connection on until it ends.
    pub(super) async fn ended(&mut self) {
        if let Some(connection) = self.connection.as_mut() {
            connection.await;
        }
        self.connection = None;
    }

    /// A sign of life asked of an HTTP/2 peer; to be awaited while something moves the connection.
    pub(super) fn pings(&mut self) -> Option<Pings> {
        self.pings.take().map(Pings)
    }

    /// More may be read, as if a new answer began.
    pub(super) fn allow(&self, allowance: usize) {
        self.meter.allow(allowance);
    }

    fn sort(&self, broken: &Broken) -> Finding {
        broken.sort(&self.meter, self.headed.is_some())
    }
}

/// Asks an HTTP/2 peer for signs of life.
pub(super) struct Pings(PingPong);

impl Pings {
    /// Whether the peer answered; ends only when it does or the connection ends.
    pub(super) async fn answered(&mut self) -> bool {
        self.0.ping(Ping::opaque()).await.is_ok()
    }
}

impl Broken {
    fn sort(&self, meter: &Meter, headed: bool) -> Finding {
        if meter.exhausted() {
            return Finding::protocol("answer has no end");
        }
        match self {
            Self::One(error) => one::sort(error, meter),
            Self::Two(error) => two::sort(error, headed),
        }
    }
}

fn cut(answered: bool) -> Finding {
    Finding::cut(if answered {
        "connection closed before the answer was complete"
    } else {
        "connection closed without an answer"
    })
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

//! Streams of health that stay open between attempts.
//!
//! The attempt that finds no stream opens one: its phases, its deadline and its verdict are those
//! of any other attempt. With the first status the stream is handed to a task that listens. Later
//! attempts get the latest status from it without a word to the server, except that a stream that
//! was silent for [`FRESH`] must first answer a PING: a peer that is gone says nothing.
//!
//! A server that counts PINGs may close a stream for too many of them. Then the attempt opens it
//! anew, as after any other end.
//!
//! Invariants
//! 1. At most [`STREAMS_MAX`] streams are open; an endpoint beyond them is asked each time.
//! 2. A stream that no attempt wants for [`IDLE_MAX`] is closed, and none lives for longer than
//!    [`AGE_MAX`]: a new one sees new addresses and certificates.
//! 3. Nothing connects by itself: what ended is opened again by an attempt, so at its pace.
//! 4. Between two attempts a peer can send no more than in one answer.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::header::HeaderMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::message::{Frames, Health, Malformed};
use super::status::Code;
use super::{READ_MAX, WATCH, ask, begin, malformed, open, status};
use crate::policy::model::GrpcCheck;
use crate::probe::channel::{Channel, Incoming, Pings};
use crate::probe::dial::Dialler;
use crate::probe::finding::{Finding, Step};
use crate::probe::identity::Identity;
use crate::probe::kept::Facts;
use crate::probe::trace::{Stage, Trace};

/// Streams open at most; each holds buffers of some 20 KB, with TLS some 50 KB.
const STREAMS_MAX: usize = 256;
/// A stream silent for longer must show that the peer is still there.
const FRESH: Duration = Duration::from_secs(15);
/// How long a peer has for that.
const PONG_MAX: Duration = Duration::from_secs(5);
/// How long a stream may stay unwanted.
const IDLE_MAX: Duration = Duration::from_secs(5 * 60);
/// How long a stream may live, and for how long a server without `Watch` is taken at its word.
const AGE_MAX: Duration = Duration::from_secs(10 * 60);
/// Attempts that wait for one stream at most.
const WAITING_MAX: usize = 16;

type Asked = oneshot::Sender<Told>;

/// What a stream said last, with what is known of its connection.
#[derive(Clone, Copy)]
struct Told {
    health: Health,
    facts: Facts,
}

enum Known {
    /// A task listens; it takes questions until its stream ends.
    Listening(mpsc::Sender<Asked>),
    /// The server has no `Watch`, as it said at this time.
    Unsupported(Instant),
}

impl Known {
    fn is_over(&self) -> bool {
        match self {
            Self::Listening(stream) => stream.is_closed(),
            Self::Unsupported(since) => since.elapsed() > AGE_MAX,
        }
    }
}

/// What there is for an attempt.
enum Found {
    Nothing,
    Listening(mpsc::Sender<Asked>),
    Unsupported,
}

/// Every stream.
#[derive(Default)]
pub(in crate::probe) struct Watches(Mutex<BTreeMap<Identity, Known>>);

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watches").field("known", &self.lock().len()).finish()
    }
}

impl Watches {
    /// One attempt: the latest status of the stream, which is opened if need be.
    pub(super) async fn attempt(
        &self,
        dialler: &Dialler,
        check: &GrpcCheck,
        trace: &mut Trace,
    ) -> Step {
        let identity = identity(check);
        let watched = match self.find(identity) {
            Found::Listening(stream) => {
                trace.enter(Stage::Answer);
                let told = listen(&stream).await;
                trace.enter(Stage::Between);
                if let Some(told) = told {
                    told.facts.tell(trace);
                    return status::judge(told.health);
                }
                true
            }
            Found::Unsupported => false,
            Found::Nothing => self.has_room(),
        };
        let mut channel = open(dialler, check, trace).await?;
        if !watched {
            return ask(&mut channel, check, trace).await;
        }
        match Stream::begin(channel, check, trace).await? {
            Begun::Stream(stream) => {
                let health = stream.told.health;
                let (ask, asked) = mpsc::channel(WAITING_MAX);
                self.lock().insert(identity, Known::Listening(ask));
                drop(tokio::spawn(stream.mind(asked)));
                status::judge(health)
            }
            Begun::Unsupported(mut channel) => {
                self.lock().insert(identity, Known::Unsupported(Instant::now()));
                ask(&mut channel, check, trace).await
            }
        }
    }

    fn find(&self, identity: Identity) -> Found {
        let mut known = self.lock();
        if known.get(&identity).is_some_and(Known::is_over) {
            known.remove(&identity);
        }
        match known.get(&identity) {
            None => Found::Nothing,
            Some(Known::Listening(stream)) => Found::Listening(stream.clone()),
            Some(Known::Unsupported(_)) => Found::Unsupported,
        }
    }

    fn has_room(&self) -> bool {
        let mut known = self.lock();
        if known.len() >= STREAMS_MAX {
            known.retain(|_, known| !known.is_over());
        }
        known.len() < STREAMS_MAX
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Identity, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the stream said last; `None` when it has ended.
async fn listen(stream: &mpsc::Sender<Asked>) -> Option<Told> {
    let (tell, told) = oneshot::channel();
    stream.send(tell).await.ok()?;
    told.await.ok()
}

fn identity(check: &GrpcCheck) -> Identity {
    let mut parts = vec![check.service.as_bytes()];
    for (name, value) in &check.metadata {
        parts.extend([name.as_bytes(), value.expose().as_bytes()]);
    }
    Identity::of_place(&check.target, check.tls.as_ref(), &parts)
}

/// An open stream.
struct Stream {
    channel: Channel,
    body: Incoming,
    frames: Frames,
    told: Told,
    opened: Instant,
}

enum Begun {
    Stream(Stream),
    Unsupported(Channel),
}

/// A PING on its way: whether it was answered, and the means to send another.
type Ping = Pin<Box<dyn Future<Output = Option<Pings>> + Send>>;

impl Stream {
    /// Calls `Watch` and waits for the first status.
    async fn begin(mut channel: Channel, check: &GrpcCheck, trace: &mut Trace) -> Step<Begun> {
        let (head, mut body) = begin(&mut channel, check, WATCH, trace).await?;
        let mut frames = Frames::default();
        let (mut end, mut code) = (HeaderMap::new(), Code::read(&head));
        while code.is_none() {
            let Some(piece) = channel.piece(&mut body).await? else {
                end = channel.trailers(&mut body).await?.unwrap_or_default();
                code = Code::read(&end);
                break;
            };
            frames.push(&piece);
            if let Some(health) = latest(&mut frames).map_err(malformed)? {
                let told = Told { health, facts: Facts::new(trace) };
                let opened = Instant::now();
                return Ok(Begun::Stream(Self { channel, body, frames, told, opened }));
            }
        }
        if code == Some(Code::UNIMPLEMENTED) {
            return Ok(Begun::Unsupported(channel));
        }
        status::end(None, code, if end.is_empty() { &head } else { &end })?;
        Err(Finding::protocol("stream ended without a health status"))
    }

    /// Listens until the stream ends or is not wanted any more, and answers attempts.
    async fn mind(mut self, mut asked: mpsc::Receiver<Asked>) {
        let Some(mut pings) = self.channel.pings().map(Some) else { return };
        let mut ping: Option<(Ping, Instant)> = None;
        let mut waiting: Vec<Asked> = Vec::new();
        let (mut heard, mut wanted) = (self.opened, self.opened);
        loop {
            let pong_due = ping.as_ref().map(|(_, sent)| *sent + PONG_MAX);
            let end = pong_due.unwrap_or(wanted + IDLE_MAX).min(self.opened + AGE_MAX);
            tokio::select! {
                piece = self.channel.piece(&mut self.body) => {
                    let Ok(Some(piece)) = piece else { return };
                    self.frames.push(&piece);
                    let Ok(latest) = latest(&mut self.frames) else { return };
                    self.told.health = latest.unwrap_or(self.told.health);
                    heard = Instant::now();
                }
                question = asked.recv() => {
                    let Some(question) = question else { return };
                    wanted = Instant::now();
                    self.channel.allow(READ_MAX);
                    waiting.push(question);
                    if heard.elapsed() > FRESH && let Some(mut idle) = pings.take() {
                        let sent = async move { idle.answered().await.then_some(idle) };
                        ping = Some((Box::pin(sent), wanted));
                    }
                }
                pong = answer(&mut ping) => {
                    let Some(idle) = pong else { return };
                    (pings, ping, heard) = (Some(idle), None, Instant::now());
                }
                () = sleep_until(end) => return,
            }
            if ping.is_none() {
                for question in waiting.drain(..) {
                    // Whoever asked may have reached its deadline.
                    question.send(self.told).ok();
                }
            }
        }
    }
}

/// Waits for the answer to a PING, if one is on its way.
async fn answer(ping: &mut Option<(Ping, Instant)>) -> Option<Pings> {
    match ping {
        Some((ping, _)) => ping.await,
        None => std::future::pending().await,
    }
}

/// The last status among the messages that are complete.
fn latest(frames: &mut Frames) -> Result<Option<Health>, Malformed> {
    let mut latest = None;
    while let Some(health) = frames.next()? {
        latest = Some(health);
    }
    Ok(latest)
}

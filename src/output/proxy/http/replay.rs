//! A request's body: passed on as it comes, and kept as long as it is small, so that it can be
//! sent once more.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, sleep_until};

/// Bytes of a body that are kept; a longer one is sent once only.
const KEPT_MAX: usize = 64 * 1024;

/// The body of one request, over all its attempts.
#[derive(Clone, Debug)]
pub(super) struct Source(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rest: Incoming,
    kept: Vec<Bytes>,
    bytes: usize,
    /// Whether everything taken so far is still there.
    whole: bool,
    /// Whether all of it was taken.
    ended: bool,
    moved: Instant,
    /// Whether the caller is slower than the upstream.
    starved: bool,
    /// The attempt that may read; earlier ones are over.
    attempt: u64,
}

impl Source {
    pub(super) fn new(body: Incoming) -> Self {
        let ended = body.is_end_stream();
        Self(Arc::new(Mutex::new(State {
            rest: body,
            kept: Vec::new(),
            bytes: 0,
            whole: true,
            ended,
            moved: Instant::now(),
            starved: false,
            attempt: 0,
        })))
    }

    /// The body for one more attempt; only sensible while it is [`Source::replayable`].
    pub(super) fn attempt(&self) -> Replay {
        let mut state = self.lock();
        state.attempt += 1;
        state.moved = Instant::now();
        Replay { source: self.clone(), attempt: state.attempt, next: 0 }
    }

    /// Whether an attempt would send all of it.
    pub(super) fn replayable(&self) -> bool {
        self.lock().whole
    }

    /// Waits until nothing has moved for too long; tells whether that is the caller's doing.
    pub(super) async fn stall(&self, upstream: Duration, caller: Duration) -> bool {
        loop {
            let (due, starved) = {
                let state = self.lock();
                (state.moved + if state.starved { caller } else { upstream }, state.starved)
            };
            if due <= Instant::now() {
                return starved;
            }
            sleep_until(due).await;
        }
    }

    /// All of it, when it is small and was taken to its end.
    pub(super) fn kept(&self) -> Option<Bytes> {
        let state = self.lock();
        if !(state.whole && state.ended) {
            return None;
        }
        match state.kept.as_slice() {
            [one] => Some(one.clone()),
            several => {
                let mut all = BytesMut::with_capacity(state.bytes);
                for piece in several {
                    all.extend_from_slice(piece);
                }
                Some(all.freeze())
            }
        }
    }

    /// Bytes taken so far.
    pub(super) fn taken(&self) -> u64 {
        u64::try_from(self.lock().bytes).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, data: &Bytes) {
        self.bytes += data.len();
        if self.bytes > KEPT_MAX {
            self.whole = false;
            self.kept = Vec::new();
        } else if self.whole && !data.is_empty() {
            self.kept.push(data.clone());
        }
    }
}

/// The body as one attempt sends it: what is kept first, then the rest as it comes.
#[derive(Debug)]
pub(in crate::output::proxy) struct Replay {
    source: Source,
    attempt: u64,
    next: usize,
}

/// Why a body has no more to give.
#[derive(Debug, thiserror::Error)]
pub(in crate::output::proxy) enum BodyError {
    /// The caller broke off.
    #[error("read the request's body")]
    Caller(#[source] hyper::Error),
    /// Another attempt has taken over.
    #[error("send a body that was taken elsewhere")]
    Superseded,
}

impl Body for Replay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let mut state = this.source.lock();
        if state.attempt != this.attempt {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        state.moved = Instant::now();
        if let Some(data) = state.kept.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        let frame = Pin::new(&mut state.rest).poll_frame(cx);
        state.starved = frame.is_pending();
        let frame = ready!(frame);
        let frame = match frame {
            None => None,
            Some(Ok(frame)) => {
                match frame.data_ref() {
                    Some(data) => state.keep(&data.clone()),
                    // Trailers are sent once.
                    None => state.whole = false,
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                state.whole = false;
                Some(Err(BodyError::Caller(error)))
            }
        };
        state.ended |= frame.is_none() || state.rest.is_end_stream();
        this.next = state.kept.len();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let state = self.source.lock();
        state.ended && self.next >= state.kept.len()
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.source.lock();
        let ahead: usize = state.kept.iter().skip(self.next).map(Bytes::len).sum();
        let ahead = u64::try_from(ahead).unwrap_or(u64::MAX);
        let rest = state.rest.size_hint();
        match rest.exact() {
            _ if state.ended => SizeHint::with_exact(ahead),
            Some(exact) => SizeHint::with_exact(exact.saturating_add(ahead)),
            None => SizeHint::default(),
        }
    }
}

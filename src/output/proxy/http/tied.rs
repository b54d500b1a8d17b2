//! An answer's body, tied to the endpoint that it comes from: when the engine gives up on that
//! endpoint the body is cut, so that the caller asks again and is sent elsewhere. One that still
//! flows is given a moment to end by itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::core::outcome::Outcome;
use crate::output::proxy::lane::{Cut, Entered, Lane};

/// Silence that ends a body once its endpoint was left.
const QUIET: Duration = Duration::from_secs(1);
/// How long a body may flow on after its endpoint was left.
const FLOW_MAX: Duration = Duration::from_secs(10);

/// Why an answer's body broke off.
#[derive(Debug, thiserror::Error)]
pub(in crate::output::proxy) enum TiedError {
    /// The upstream broke off.
    #[error("read the answer's body")]
    Upstream(#[source] hyper::Error),
    /// The engine gave up on the endpoint.
    #[error("go on with an endpoint that was left")]
    Cut,
    /// Nothing came for too long.
    #[error("wait for more of the answer's body")]
    Silent,
}

/// The body of one answer, and everything that lasts as long as it.
pub(in crate::output::proxy) struct Tied {
    inner: Incoming,
    lane: Arc<Lane>,
    outcome: Option<Outcome>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    silence: Option<(Pin<Box<Sleep>>, Duration)>,
    /// When it is over at the latest, once the endpoint was left.
    leave_by: Option<Instant>,
    _entered: Entered,
    _place: Option<OwnedSemaphorePermit>,
}

impl Tied {
    /// Ties a body; `idle` bounds its silence, if anything does.
    pub(super) fn new(
        inner: Incoming,
        tie: Tie,
        outcome: Outcome,
        idle: Option<Duration>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let Tie { lane, cut, entered } = tie;
        let silence = idle.map(|idle| (Box::pin(sleep_until(Instant::now() + idle)), idle));
        let cut = Box::pin(cut.wait());
        Self {
            inner,
            lane,
            outcome: Some(outcome),
            cut,
            silence,
            leave_by: None,
            _entered: entered,
            _place: place,
        }
    }

    fn leave(&mut self) {
        let now = Instant::now();
        self.leave_by = Some(now + FLOW_MAX);
        self.silence = Some((Box::pin(sleep_until(now + QUIET)), QUIET));
    }

    fn silent(&mut self) -> TiedError {
        let left = self.leave_by.is_some();
        self.ended(Some(if left { Outcome::Reset } else { Outcome::Timeout }));
        if left { TiedError::Cut } else { TiedError::Silent }
    }

    fn ended(&mut self, outcome: Option<Outcome>) {
        if let Some(was) = self.outcome.take() {
            self.lane.tally.count(outcome.unwrap_or(was));
        }
    }
}

/// What a body is tied to.
pub(super) struct Tie {
    pub(super) lane: Arc<Lane>,
    pub(super) cut: Cut,
    pub(super) entered: Entered,
}

impl Body for Tied {
    type Data = Bytes;
    type Error = TiedError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TiedError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    this.lane.tally.received.fetch_add(bytes, Ordering::Relaxed);
                }
                if let Some((silence, idle)) = &mut this.silence {
                    let until = Instant::now() + *idle;
                    silence.as_mut().reset(this.leave_by.map_or(until, |by| by.min(until)));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.ended(Some(Outcome::Reset));
                Poll::Ready(Some(Err(TiedError::Upstream(error))))
            }
            Poll::Ready(None) => {
                this.ended(None);
                Poll::Ready(None)
            }
            Poll::Pending => {
                if this.leave_by.is_none() && this.cut.as_mut().poll(cx).is_ready() {
                    this.leave();
                }
                let silence = this.silence.as_mut();
                let silent =
                    silence.is_some_and(|(silence, _)| silence.as_mut().poll(cx).is_ready());
                if silent { Poll::Ready(Some(Err(this.silent()))) } else { Poll::Pending }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        // Read to its end without being asked for it, or no longer wanted by the caller.
        self.ended(None);
    }
}

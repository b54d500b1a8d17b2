//! Events as they come: `text/event-stream`.
//!
//! Each event carries an id; a client that sends it back as `Last-Event-ID` gets what it missed.
//! Where that is no longer remembered, an event named `gap` tells it to read `/status` anew.

use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::body::Answer;
use super::route::pairs;
use crate::admin::hub::{Ended, RING_MAX, Replay, Subscription};
use crate::telemetry::metric;

pub(super) const CONTENT_TYPE: &str = "text/event-stream";

/// Pieces on their way to one client; beyond them the client is slow.
const PIECES_MAX: usize = 16;
/// Tells the client to come back quickly, and that the stream is open.
const HELLO: &[u8] = b"retry: 2000\n\n";
const GAP: &[u8] = b"event: gap\ndata: {}\n\n";
const HEARTBEAT: &[u8] = b": still here\n\n";

/// What the client wants of the past; `None` when it says nonsense.
pub(super) fn replay(request: &Request<Incoming>) -> Option<Replay> {
    if let Some(id) = request.headers().get("last-event-id") {
        let id = id.to_str().ok().and_then(|id| id.parse().ok());
        return Some(id.map_or(Replay::AfterUnknown, Replay::After));
    }
    let mut replay = Replay::Nothing;
    for (key, value) in pairs(request.uri().query().unwrap_or_default())? {
        match key {
            "last" => replay = Replay::Last(value.parse().ok().filter(|last| *last <= RING_MAX)?),
            _ => return None,
        }
    }
    Some(replay)
}

/// One client's stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) events: Subscription,
    pub(super) limits: Limits,
    pub(super) cancel: CancellationToken,
}

impl Stream {
    /// Starts feeding the body; `place` is held for as long as that lasts.
    pub(super) fn start(self, place: OwnedSemaphorePermit) -> Answer {
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        tokio::spawn(async move {
            self.feed(&sender).await;
            drop(place);
        });
        Answer::Pieces(pieces)
    }

    async fn feed(mut self, sender: &mpsc::Sender<Bytes>) -> Option<()> {
        self.send(sender, Bytes::from_static(HELLO)).await?;
        if self.events.missed() {
            self.send(sender, Bytes::from_static(GAP)).await?;
        }
        let mut heartbeat = interval(self.limits.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        loop {
            let piece = tokio::select! {
                () = self.cancel.cancelled() => return None,
                () = sender.closed() => return None,
                event = self.events.next() => self.piece(event)?,
                _ = heartbeat.tick() => Bytes::from_static(HEARTBEAT),
            };
            self.send(sender, piece).await?;
        }
    }

    /// A client that has fallen behind is let go: it comes back with the id of its last event.
    fn piece(
        &self,
        event: Result<std::sync::Arc<crate::core::record::EventRecord>, Ended>,
    ) -> Option<Bytes> {
        match event {
            Ok(record) => {
                let text = serde_json::to_string(&*record).ok()?;
                Some(Bytes::from(format!("id: {}\ndata: {text}\n\n", self.events.id_of(&record))))
            }
            Err(Ended::Lagged(lost)) => {
                metric::events_dropped("sse", lost);
                None
            }
            Err(Ended::Closed) => None,
        }
    }

    async fn send(&self, sender: &mpsc::Sender<Bytes>, piece: Bytes) -> Option<()> {
        timeout(self.limits.stall, sender.send(piece)).await.ok()?.ok()
    }
}

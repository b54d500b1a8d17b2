//! Connections kept for the next attempt, where the policy asks for that.
//!
//! A kept connection hides a listener that is gone, an address that moved and a certificate that
//! was replaced, until it ends itself or reaches [`AGE_MAX`].
//!
//! Invariants
//! 1. At most [`KEPT_MAX`] are kept, none for longer than [`IDLE_MAX`] between two attempts.
//! 2. One that the peer closed is let go at once, whether or not anybody asks for it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::probe::channel::Channel;
use crate::probe::identity::Identity;
use crate::probe::trace::Trace;

/// Connections kept at most; each holds buffers of some 10 KB, with TLS some 40 KB.
const KEPT_MAX: usize = 1024;
/// Connections kept for one place, as attempts may overlap.
const PLACE_MAX: usize = 4;
/// How long a connection may wait for the next attempt.
const IDLE_MAX: Duration = Duration::from_secs(90);
/// How old a connection may get.
const AGE_MAX: Duration = Duration::from_secs(5 * 60);

/// What only the attempt that opened a connection could see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    address: Option<SocketAddr>,
    certificate_ends: Option<Instant>,
}

impl Facts {
    /// What the attempt that is traced has seen.
    pub(super) fn new(trace: &Trace) -> Self {
        let end = |left| Instant::now().checked_add(left);
        Self { address: trace.address, certificate_ends: trace.certificate_left.and_then(end) }
    }

    /// Tells another attempt.
    pub(super) fn tell(self, trace: &mut Trace) {
        trace.address = self.address;
        trace.certificate_left =
            self.certificate_ends.map(|end| end.saturating_duration_since(Instant::now()));
    }
}

/// A connection that may outlive its attempt.
pub(super) struct Line {
    pub(super) channel: Channel,
    pub(super) facts: Facts,
    opened: Instant,
}

impl Line {
    /// A connection just opened by the attempt that is traced.
    pub(super) fn new(channel: Channel, trace: &Trace) -> Self {
        Self { channel, facts: Facts::new(trace), opened: Instant::now() }
    }

    async fn rest(mut self, recalled: oneshot::Receiver<Return>) {
        tokio::select! {
            biased;
            place = recalled => {
                if let Ok(place) = place {
                    // Whoever asked may have reached its deadline.
                    drop(place.send(self));
                }
            }
            () = self.channel.ended() => {}
            () = sleep(IDLE_MAX) => {}
        }
    }
}

type Return = oneshot::Sender<Line>;
type Resting = BTreeMap<Identity, Vec<oneshot::Sender<Return>>>;

/// The connections kept.
#[derive(Default)]
pub(super) struct Kept(Mutex<Resting>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

impl Kept {
    /// A connection to this place that still lives, if there is one.
    pub(super) async fn take(&self, place: &Identity) -> Option<Line> {
        loop {
            let recall = self.lock().get_mut(place)?.pop()?;
            let (give, given) = oneshot::channel();
            if recall.send(give).is_ok()
                && let Ok(line) = given.await
            {
                return Some(line);
            }
        }
    }

    /// Keeps a connection, if it can carry another request and there is room.
    pub(super) fn keep(&self, place: Identity, line: Line) {
        if !line.channel.is_idle() || line.opened.elapsed() > AGE_MAX {
            return;
        }
        let mut resting = self.lock();
        let known = resting.entry(place).or_default();
        known.retain(|recall| !recall.is_closed());
        if known.len() < PLACE_MAX && has_room(&mut resting) {
            let (recall, recalled) = oneshot::channel();
            resting.entry(place).or_default().push(recall);
            drop(tokio::spawn(line.rest(recalled)));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Resting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether another one may be kept; lets go of what is known of those that ended.
fn has_room(resting: &mut Resting) -> bool {
    let count = |resting: &Resting| resting.values().map(|lines| lines.len().max(1)).sum::<usize>();
    if count(resting) <= KEPT_MAX {
        return true;
    }
    resting.retain(|_, lines| {
        lines.retain(|recall| !recall.is_closed());
        !lines.is_empty()
    });
    count(resting) < KEPT_MAX
}

//! What one endpoint's calls came to, counted without a lock and shown every now and then.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::core::id::{EndpointName, ServiceName};
use crate::core::outcome::Outcome;
use crate::telemetry::metric;

/// Whose counts these are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Labels {
    pub(super) output: String,
    pub(super) service: ServiceName,
    pub(super) endpoint: EndpointName,
}

/// The counts of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Tally {
    outcomes: [AtomicU64; Outcome::LABELS.len()],
    /// Bytes from the callers.
    pub(super) sent: AtomicU64,
    /// Bytes to them.
    pub(super) received: AtomicU64,
    resets: AtomicU64,
    drained: AtomicU64,
    open: AtomicU32,
}

impl Tally {
    /// A call ended.
    pub(super) fn count(&self, outcome: Outcome) {
        let place = Outcome::LABELS.iter().position(|label| *label == outcome.label());
        if let Some(count) = place.and_then(|place| self.outcomes.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection was cut, because its endpoint is unusable or because its time was up.
    pub(super) fn cut(&self, drained: bool) {
        if drained { &self.drained } else { &self.resets }.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls that are open now.
    pub(super) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn enter(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Hands the counts since last time to the metrics.
    pub(super) fn show(&self, labels: &Labels) {
        let Labels { output, service, endpoint } = labels;
        let place = metric::ProxyLabels { output, service, endpoint };
        for (label, count) in Outcome::LABELS.iter().zip(&self.outcomes) {
            metric::proxy_requests(&place, label, take(count));
        }
        metric::proxy_bytes(&place, take(&self.sent), take(&self.received));
        metric::proxy_cut(&place, take(&self.resets), take(&self.drained));
        metric::proxy_open(&place, self.open());
    }
}

fn take(count: &AtomicU64) -> u64 {
    count.swap(0, Ordering::Relaxed)
}

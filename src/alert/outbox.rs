//! What waits to be told to one receiver.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::webhook::Verdict;
use super::{Pace, Sender};
use crate::policy::model::Alert;
use crate::telemetry::metric::{self, AlertResult};

/// Alerts that wait for one receiver.
pub(super) const ITEMS_MAX: usize = 1000;

/// One alert, ready to send.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The same over all retries.
    pub(super) id: Arc<str>,
    /// The payload.
    pub(super) body: Bytes,
    /// Whether it is kept when others are dropped.
    pub(super) critical: bool,
}

/// The queue of one receiver.
#[derive(Debug)]
pub(super) struct Outbox {
    alert: Alert,
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    closed: bool,
}

impl Outbox {
    pub(super) fn new(alert: Alert) -> Self {
        Self { alert, queue: Mutex::default(), filled: Notify::new() }
    }

    pub(super) const fn alert(&self) -> &Alert {
        &self.alert
    }

    /// Queues an alert; a full outbox makes room as the invariant of the room says.
    pub(super) fn push(&self, item: Item) {
        let mut queue = self.lock();
        if queue.items.len() == ITEMS_MAX {
            metric::alert(&self.alert.name, AlertResult::Dropped);
            let least = queue.items.iter().position(|item| !item.critical);
            match (least, item.critical) {
                (Some(least), _) => drop(queue.items.remove(least)),
                (None, true) => drop(queue.items.pop_front()),
                (None, false) => return,
            }
        }
        queue.items.push_back(item);
        metric::alerts_queued(&self.alert.name, queue.items.len());
        self.filled.notify_one();
    }

    /// Nothing will be pushed any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Sends what is queued, one after the other, until the outbox is closed and empty.
    pub(super) async fn deliver(self: Arc<Self>, sender: Arc<Sender>, cancel: CancellationToken) {
        while let Some(item) = self.next().await {
            let result = self.deliver_one(&item, &sender, &cancel).await;
            metric::alert(&self.alert.name, result);
            if result != AlertResult::Delivered {
                let (alert, id) = (&*self.alert.name, &*item.id);
                tracing::warn!(alert, id, ?result, "an alert was not delivered");
            }
        }
    }

    async fn next(&self) -> Option<Item> {
        loop {
            {
                let mut queue = self.lock();
                if let Some(item) = queue.items.pop_front() {
                    metric::alerts_queued(&self.alert.name, queue.items.len());
                    return Some(item);
                }
                if queue.closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    async fn deliver_one(
        &self,
        item: &Item,
        sender: &Sender,
        cancel: &CancellationToken,
    ) -> AlertResult {
        let pace = &sender.pace;
        for attempt in 1..=pace.attempts {
            let (why, asked) = match sender.client.post(&self.alert, item).await {
                Verdict::Taken => return AlertResult::Delivered,
                Verdict::Never(why) => {
                    tracing::warn!(alert = %self.alert.name, why, "a receiver refused an alert");
                    return AlertResult::Rejected;
                }
                Verdict::Later(why, asked) => (why, asked),
            };
            let wait = pace.wait(attempt, asked);
            tracing::debug!(alert = %self.alert.name, why, attempt, ?wait, "an alert must wait");
            if attempt < pace.attempts {
                metric::alert(&self.alert.name, AlertResult::Retried);
                // Once the sidecar stops, there is one attempt each and no waiting.
                if cancel.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                    return AlertResult::Expired;
                }
            }
        }
        AlertResult::Expired
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace {
    /// The wait after a failed attempt: doubled each time, cut by up to half so that a fleet does
    /// not come back in step, and never shorter than the receiver asked for.
    fn wait(&self, attempt: u32, asked: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
        let whole = doubled.min(self.longest);
        // The hasher's keys come from the system's randomness.
        let [dice, ..] = RandomState::new().hash_one(attempt).to_ne_bytes();
        let cut = whole.mul_f64(f64::from(dice) / 512.0);
        let asked = asked.unwrap_or_default().min(self.retry_after_max);
        whole.saturating_sub(cut).max(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::secret::Secret;

    fn outbox() -> Outbox {
        Outbox::new(Alert {
            name: String::from("pager"),
            url: Secret::from("http://127.0.0.1:9/"),
            headers: Vec::new(),
            events: Vec::new(),
            timeout: Duration::from_secs(1),
        })
    }

    fn item(id: usize, critical: bool) -> Item {
        Item { id: Arc::from(id.to_string()), body: Bytes::new(), critical }
    }

    #[test]
    fn a_full_outbox_drops_the_oldest_that_is_not_critical() {
        let outbox = outbox();
        outbox.push(item(0, true));
        (1..ITEMS_MAX).for_each(|id| outbox.push(item(id, false)));
        outbox.push(item(ITEMS_MAX, false));
        let queue = outbox.lock();
        let ids: Vec<&str> = queue.items.iter().map(|item| &*item.id).collect();
        assert_eq!(ids.len(), ITEMS_MAX);
        assert_eq!(ids[..2], ["0", "2"]);
        assert_eq!(ids.last(), Some(&"1000"));
    }

    #[test]
    fn what_is_not_critical_never_displaces_what_is() {
        let outbox = outbox();
        (0..ITEMS_MAX).for_each(|id| outbox.push(item(id, true)));
        outbox.push(item(ITEMS_MAX, false));
        assert!(outbox.lock().items.iter().all(|item| item.critical));
        outbox.push(item(ITEMS_MAX + 1, true));
        assert_eq!(
            outbox.lock().items.front().map(|item| item.id.to_string()).as_deref(),
            Some("1")
        );
    }

    #[test]
    fn a_wait_grows_to_its_bound_and_heeds_the_receiver() {
        let pace = Pace::default();
        for attempt in 1..100 {
            let wait = pace.wait(attempt, None);
            let whole = pace.first.saturating_mul(1 << (attempt - 1).min(20)).min(pace.longest);
            assert!(wait <= whole && whole <= wait * 2, "{attempt}: {wait:?}");
        }
        assert_eq!(pace.wait(1, Some(Duration::from_secs(120))), Duration::from_secs(120));
        assert_eq!(pace.wait(1, Some(Duration::MAX)), pace.retry_after_max);
    }
}

//! Tells people: a bounded outbox for each receiver, emptied by webhook.
//!
//! An alert is one JSON object, `POST`ed:
//! `{"schema":1,"id":…,"sidecar":…,"severity":…,"text":…,"event":{…}}`. The `id` stays the same over
//! retries, and is sent as `Idempotency-Key` too, so that a receiver can drop what it has already.
//!
//! Invariants
//! 1. Nothing waits for a receiver: events are queued at once, or dropped and counted.
//! 2. A full outbox loses its oldest event that is not critical before any that is.
//! 3. Addresses and headers of receivers are secrets: no log line or error repeats them.

mod outbox;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::action::{Event, HoldReason};
use crate::core::record::{EventRecord, SCHEMA};
use crate::policy::model::Alert;
use crate::telemetry::{log, metric};
use outbox::{Item, Outbox};
pub use webhook::{Client, ClientError};

/// How long receivers may still be served once the sidecar stops.
const GOODBYE: Duration = Duration::from_secs(2);

/// How often a receiver who does not answer is tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    /// Wait after the first failed attempt; doubled after each further one.
    pub first: Duration,
    /// Longest such wait.
    pub longest: Duration,
    /// Attempts before an alert is given up: with the other defaults, after about eight minutes.
    pub attempts: u32,
    /// Longest wait that a receiver can order by `Retry-After`.
    pub retry_after_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            attempts: 14,
            retry_after_max: Duration::from_secs(600),
        }
    }
}

/// Who tells, and how patiently.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The sidecar's name, as shown in alerts.
    pub sidecar: String,
    /// The shared HTTP client.
    pub client: Client,
    /// How often a receiver is tried.
    pub pace: Pace,
}

/// Tells `alerts` of the events until `cancel`, then tries once more what is still queued.
pub async fn run(
    alerts: Vec<Alert>,
    sender: Sender,
    mut events: broadcast::Receiver<Arc<EventRecord>>,
    cancel: CancellationToken,
) {
    let tasks = TaskTracker::new();
    let sender = Arc::new(sender);
    let outboxes: Vec<Arc<Outbox>> = alerts
        .into_iter()
        .map(|alert| {
            let outbox = Arc::new(Outbox::new(alert));
            let delivery = Arc::clone(&outbox).deliver(Arc::clone(&sender), cancel.clone());
            tasks.spawn(delivery);
            outbox
        })
        .collect();
    loop {
        let event = tokio::select! {
            () = cancel.cancelled() => break,
            event = events.recv() => event,
        };
        match event {
            Ok(record) => queue(&outboxes, &record, &sender.sidecar),
            Err(RecvError::Lagged(lost)) => metric::events_dropped("alert", lost),
            Err(RecvError::Closed) => break,
        }
    }
    tasks.close();
    for outbox in &outboxes {
        outbox.close();
    }
    tokio::time::timeout(GOODBYE, tasks.wait()).await.ok();
}

fn queue(outboxes: &[Arc<Outbox>], record: &EventRecord, sidecar: &str) {
    let mut item = None;
    for outbox in outboxes.iter().filter(|outbox| wants(outbox.alert(), &record.event)) {
        let item = item.get_or_insert_with(|| Item::new(record, sidecar));
        outbox.push(item.clone());
    }
}

/// Whether an alert is for this event.
#[must_use]
pub fn wants(alert: &Alert, event: &Event) -> bool {
    if alert.events.is_empty() {
        return alerts_by_default(event);
    }
    alert.events.iter().any(|name| name == event.label())
}

/// Whether somebody should be told of this event unless the policy says otherwise.
fn alerts_by_default(event: &Event) -> bool {
    match event {
        Event::CriticalFailure { .. }
        | Event::AllDown { .. }
        | Event::Revived { .. }
        | Event::Switched(_)
        | Event::AuthFailed { .. }
        | Event::ProbeMisconfigured { .. }
        | Event::Isolation { .. }
        | Event::Output { .. }
        | Event::Ineffective { .. }
        | Event::Effective { .. }
        | Event::Backup { .. }
        | Event::Redis { .. } => true,
        Event::Held { why, .. } => *why == HoldReason::Budget,
        Event::StatusChange { .. }
        | Event::BreakerChange { .. }
        | Event::Throttled { .. }
        | Event::Commanded(_)
        | Event::RulesReplaced { .. } => false,
    }
}

/// An alert as it is sent.
#[derive(Debug, Serialize)]
struct Payload<'a> {
    schema: u32,
    id: &'a str,
    sidecar: &'a str,
    severity: &'static str,
    /// One sentence; receivers of the Slack kind show it as it is.
    text: String,
    event: &'a EventRecord,
}

impl Item {
    fn new(record: &EventRecord, sidecar: &str) -> Self {
        let told = log::describe(&record.event);
        let critical = told.level == tracing::Level::ERROR;
        // Time and number together name an event for ever: numbers start anew with each run.
        let id = format!("{sidecar}/{}/{}", record.at, record.seq);
        let severity = match told.level {
            tracing::Level::ERROR => "critical",
            tracing::Level::WARN => "warning",
            _ => "info",
        };
        let text = format!("{sidecar}: {}", told.sentence);
        let payload = Payload { schema: SCHEMA, id: &id, sidecar, severity, text, event: record };
        let body = serde_json::to_vec(&payload).unwrap_or_default();
        Self { id: Arc::from(id), body: body.into(), critical }
    }
}

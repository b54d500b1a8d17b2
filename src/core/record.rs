//! What is kept and shown of the past: decisions and events with the time of day.
//!
//! The core never learns the time of day; the daemon stamps these on the way out.

use serde::{Deserialize, Serialize};

use crate::core::action::{Decision, Event};

/// Version of every JSON document we print or store. Fields are added, never renamed.
pub const SCHEMA: u32 = 1;

/// One line of the history.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HistoryRecord {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When, as RFC 3339 in UTC with milliseconds.
    pub at: String,
    /// The move.
    #[serde(flatten)]
    pub decision: Decision,
}

/// One event as told to listeners.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct EventRecord {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Rises by one with each event of this run of the daemon.
    pub seq: u64,
    /// When, as RFC 3339 in UTC with milliseconds.
    pub at: String,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

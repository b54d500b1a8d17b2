//! What is counted of the copy of the state in Redis.

use std::time::Duration;

use super::ledger::{add, observe, set};
use super::{
    REDIS_COMMIT_DURATION, REDIS_CONFLICTS, REDIS_DROPPED, REDIS_FAILURES, REDIS_LAST_COMMIT,
    REDIS_OUTBOX, REDIS_UP, float,
};

/// Whether the state in Redis is ours and up to date; `None` when none is asked for any more.
pub fn redis_up(up: Option<bool>) {
    set(&REDIS_UP, &[], up.map_or(f64::NAN, |up| f64::from(u8::from(up))));
}

/// At `now`, in seconds since 1970-01-01 UTC, Redis had the present state; `span` is what it took.
pub fn redis_committed(now: f64, span: Duration) {
    set(&REDIS_LAST_COMMIT, &[], now);
    observe(&REDIS_COMMIT_DURATION, &[], span);
}

/// So many decisions wait for Redis.
pub fn redis_outbox(waiting: usize) {
    set(&REDIS_OUTBOX, &[], float(waiting));
}

/// So many had to be dropped.
pub fn redis_dropped(count: u64) {
    add(&REDIS_DROPPED, &[], count);
}

/// An exchange failed; `reason` is a word of the program.
pub fn redis_failed(reason: &'static str) {
    add(&REDIS_FAILURES, &[reason], 1);
}

/// Somebody else writes under our name.
pub fn redis_conflict() {
    add(&REDIS_CONFLICTS, &[], 1);
}

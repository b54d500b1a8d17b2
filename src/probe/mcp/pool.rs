//! Children that are kept from one attempt to the next.
//!
//! Invariants
//! 1. At most [`KEPT_MAX`] are kept, each for at most [`IDLE_MAX`] without use.
//! 2. A kept child is nobody's while an attempt has it; with the pool all of them die.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::probe::digest::Key;
use crate::probe::mcp::child::Server;

/// How many are kept.
const KEPT_MAX: usize = 64;
/// How long one is kept that nobody asks any more: its endpoint may have left the policy.
const IDLE_MAX: Duration = Duration::from_secs(15 * 60);

/// A child, and which time it was put here.
type Kept = BTreeMap<Key, (u64, Server)>;

/// The children at hand.
#[derive(Debug, Default)]
pub(super) struct Pool {
    kept: Arc<Mutex<Kept>>,
}

impl Pool {
    pub(super) fn take(&self, key: &Key) -> Option<Server> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(key).map(|(_, server)| server)
    }

    /// Keeps a child; `turn` is never the same twice.
    pub(super) fn keep(&self, key: Key, turn: u64, server: Server) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX && !kept.contains_key(&key) {
            return;
        }
        kept.insert(key, (turn, server));
        drop(kept);
        let pool = Arc::downgrade(&self.kept);
        drop(tokio::spawn(async move {
            tokio::time::sleep(IDLE_MAX).await;
            let Some(pool) = pool.upgrade() else { return };
            let mut kept = pool.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.get(&key).is_some_and(|(put, _)| *put == turn) {
                kept.remove(&key);
            }
        }));
    }
}

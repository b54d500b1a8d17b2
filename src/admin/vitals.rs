//! Whether the sidecar is alive, and whether it is ready.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A loop that has not turned for this long is taken for dead.
pub const BEAT_AGE_MAX: Duration = Duration::from_secs(10);

/// Set by the daemon, read by `/healthz` and `/readyz`.
#[derive(Debug)]
pub struct Vitals {
    start: Instant,
    /// Milliseconds from `start` to the latest beat.
    beat: AtomicU64,
    policy_loaded: AtomicBool,
    outputs_written: AtomicBool,
}

impl Default for Vitals {
    fn default() -> Self {
        Self::new()
    }
}

impl Vitals {
    /// A loop that has just turned, without policy or outputs.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            beat: AtomicU64::new(0),
            policy_loaded: AtomicBool::new(false),
            outputs_written: AtomicBool::new(false),
        }
    }

    /// The decision loop turned.
    pub fn beat(&self) {
        let since = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat.store(since, Ordering::Relaxed);
    }

    /// Whether a policy is in force.
    pub fn set_policy_loaded(&self, loaded: bool) {
        self.policy_loaded.store(loaded, Ordering::Relaxed);
    }

    /// Whether every output has written the revision in force.
    pub fn set_outputs_written(&self, written: bool) {
        self.outputs_written.store(written, Ordering::Relaxed);
    }

    /// How long ago the loop last turned.
    #[must_use]
    pub fn beat_age(&self) -> Duration {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(beat)
    }

    /// Whether the loop turns.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.beat_age() <= BEAT_AGE_MAX
    }

    /// What is missing before the sidecar is ready; `None` when it is.
    #[must_use]
    pub fn missing(&self) -> Option<&'static str> {
        if !self.policy_loaded.load(Ordering::Relaxed) {
            return Some("no policy is loaded");
        }
        if !self.outputs_written.load(Ordering::Relaxed) {
            return Some("the outputs have not written the revision in force");
        }
        (!self.is_alive()).then_some("the decision loop stands still")
    }
}

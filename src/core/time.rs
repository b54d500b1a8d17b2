//! Time as data: the core never reads a clock.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on the daemon's monotonic line, counted from its start.
///
/// Printable, serializable and cheap to generate in tests, none of which `std::time::Instant` is.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct Instant(Duration);

impl Instant {
    /// The daemon's start.
    pub const START: Self = Self(Duration::ZERO);

    /// Places a point `since_start` after the daemon began.
    #[must_use]
    pub const fn new(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// Time passed since the daemon began.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// Time passed since `earlier`; zero when `earlier` lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The point `span` before this one, or the start when that would lie before it.
    #[must_use]
    pub const fn back(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, delta: Duration) -> Self {
        Self(self.0.saturating_add(delta))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

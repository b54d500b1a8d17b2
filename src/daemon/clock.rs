//! The only clock reads of the program.
//!
//! Durations are measured on the monotonic clock; the time of day is read only to stamp records
//! and to say how old a stored state is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::core::time::Instant;
use crate::daemon::lapse::Reading;

/// Places the daemon's own line of time beside the clocks of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
    origin_tokio: tokio::time::Instant,
    origin_monotonic: Duration,
    origin_boot: Duration,
}

impl Clock {
    /// Starts the daemon's line of time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
    pub fn start() -> Self {
        Self {
            origin: std::time::Instant::now(),
            origin_tokio: tokio::time::Instant::now(),
            // Read later than `origin`, so that what is due by it is never early by ours.
            origin_monotonic: clock(ClockId::Monotonic),
            origin_boot: boot(),
        }
    }

    /// Where we are on the daemon's line of time.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::new(self.origin.elapsed())
    }

    /// The runtime's name for a point on our line.
    #[must_use]
    pub fn deadline(&self, at: Instant) -> tokio::time::Instant {
        self.origin_tokio + at.since_start()
    }

    /// The kernel's name for a point on our line, on its monotonic clock.
    pub(crate) fn monotonic(&self, at: Instant) -> Timespec {
        let at = self.origin_monotonic.saturating_add(at.since_start());
        Timespec {
            tv_sec: i64::try_from(at.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(at.subsec_nanos()),
        }
    }

    /// Milliseconds since 1970, now.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        millis(wall())
    }

    /// Milliseconds since 1970 at `at`, by the time of day as it is set now.
    #[must_use]
    pub fn wall_ms_at(&self, at: Instant) -> u64 {
        let now = self.now();
        millis((wall() + at.since(now)).saturating_sub(now.since(at)))
    }

    /// The time of day at `at`, as RFC 3339 in UTC with milliseconds.
    #[must_use]
    pub fn rfc3339(&self, at: Instant) -> String {
        rfc3339(self.wall_ms_at(at))
    }

    /// All clocks at this moment.
    pub(crate) fn reading(&self) -> Reading {
        Reading { at: self.now(), suspended: self.suspended(), wall: wall() }
    }

    /// Time spent suspended since the start: what the monotonic clock does not count.
    #[must_use]
    pub fn suspended(&self) -> Duration {
        boot().saturating_sub(self.origin_boot).saturating_sub(self.origin.elapsed())
    }
}

/// Formats milliseconds since 1970 as RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn rfc3339(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(String::new, |at| format!("{at:.3}"))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn boot() -> Duration {
    clock(ClockId::Boottime)
}

fn clock(clock: ClockId) -> Duration {
    let at = clock_gettime(clock);
    Duration::new(
        u64::try_from(at.tv_sec).unwrap_or_default(),
        u32::try_from(at.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_as_rfc_3339_in_utc_with_milliseconds() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_763_910_000_123), "2025-11-23T15:00:00.123Z");
    }
}

//! Points and spans of time in the words of people.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A span in at most two units: `412ms`, `3.2s`, `45s`, `5m 12s`, `3h 4m`, `2d 3h`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit} {small}{small_unit}"),
    };
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..10 => format!("{:.1}s", span.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3_600 => two(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds / 60 % 60, "m"),
        _ => two(seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    }
}

/// How long an attempt or a phase of one took: `0.42ms`, `12ms`, `1.20s`.
pub(crate) fn latency(span: Duration) -> String {
    let millis = span.as_secs_f64() * 1000.0;
    match millis {
        ..10.0 => format!("{millis:.2}ms"),
        10.0..1000.0 => format!("{millis:.0}ms"),
        _ => format!("{:.2}s", span.as_secs_f64()),
    }
}

/// Reads the RFC 3339 times that the sidecar writes.
pub(crate) fn parse(at: &str) -> Option<Timestamp> {
    at.parse().ok()
}

/// The time of day in UTC, as in the log, with the date when it was not today: `14:03:07Z`,
/// `2026-01-31 14:03:07Z`.
pub(crate) fn clock(at: &str, now: Timestamp) -> String {
    let today = now.to_string().chars().take(10).collect::<String>();
    let text: String = at.chars().take(19).collect();
    match text.split_once('T') {
        Some((day, time)) if day == today => format!("{time}Z"),
        Some((day, time)) => format!("{day} {time}Z"),
        None => at.to_owned(),
    }
}

/// How long ago a time was; zero when it lies ahead.
pub(crate) fn since(at: &str, now: Timestamp) -> Option<Duration> {
    Some(positive(now.duration_since(parse(at)?)))
}

/// How long it is until a time; zero when it has passed.
pub(crate) fn until(at: &str, now: Timestamp) -> Option<Duration> {
    Some(positive(parse(at)?.duration_since(now)))
}

fn positive(span: SignedDuration) -> Duration {
    span.try_into().unwrap_or_default()
}

/// The time of day.
pub(crate) fn now() -> Timestamp {
    let ms = i64::try_from(crate::daemon::Clock::start().wall_ms()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_two_units_at_most() {
        let told = |ms| span(Duration::from_millis(ms));
        assert_eq!(told(0), "0ms");
        assert_eq!(told(412), "412ms");
        assert_eq!(told(3_240), "3.2s");
        assert_eq!(told(45_900), "45s");
        assert_eq!(told(312_000), "5m 12s");
        assert_eq!(told(3_600_000), "1h");
        assert_eq!(told(11_040_000), "3h 4m");
        assert_eq!(told(183_600_000), "2d 3h");
    }

    #[test]
    fn latencies_keep_the_digits_that_matter() {
        assert_eq!(latency(Duration::from_micros(420)), "0.42ms");
        assert_eq!(latency(Duration::from_micros(12_300)), "12ms");
        assert_eq!(latency(Duration::from_millis(1_204)), "1.20s");
    }

    #[test]
    fn the_date_is_told_only_when_it_was_another_day() {
        let now = parse("2026-01-31T12:00:00Z").expect("a time");
        assert_eq!(clock("2026-01-31T11:02:03.456Z", now), "11:02:03Z");
        assert_eq!(clock("2026-01-30T11:02:03.456Z", now), "2026-01-30 11:02:03Z");
        assert_eq!(clock("then", now), "then");
    }

    #[test]
    fn a_time_ahead_is_no_time_ago() {
        let now = parse("2026-01-31T00:00:00Z").expect("a time");
        assert_eq!(since("2026-01-31T00:00:05Z", now), Some(Duration::ZERO));
        assert_eq!(until("2026-01-31T00:00:05Z", now), Some(Duration::from_secs(5)));
        assert_eq!(since("yesterday", now), None);
    }
}

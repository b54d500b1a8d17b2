//! Spans of time as headers spell them. Pure: no I/O, no clock.

use std::time::{Duration, SystemTime};

use hyper::header::{DATE, HeaderMap};

/// Longer than any period anybody counts a quota by; what says more means this.
const SPAN_MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// A number of seconds from here on is a time of day, not a span: nobody waits for a month.
const EPOCH_FROM: f64 = 30.0 * 24.0 * 60.0 * 60.0;
/// A time of day from here on is told in milliseconds: as seconds it would lie in the year 5138.
const MILLIS_FROM: f64 = 1.0e11;

/// Units of the compound form, longest name first.
const UNITS: [(&str, f64); 5] =
    [("ms", 0.001), ("us", 0.000_001), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];

/// A number without sign or exponent: `12`, `1.5`. `parse` alone would take `+5` and `inf`.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then(|| text.parse().ok()).flatten()
}

fn span(seconds: f64) -> Duration {
    let bounded = seconds.clamp(0.0, SPAN_MAX.as_secs_f64());
    Duration::try_from_secs_f64(bounded).unwrap_or(SPAN_MAX)
}

/// `12` or `1.5` seconds.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    decimal(text).map(span)
}

/// `1500` or `0.5` milliseconds.
pub(super) fn millis(text: &str) -> Option<Duration> {
    decimal(text).map(|millis| span(millis / 1000.0))
}

/// An HTTP date, counted from the answer's own, so that no clock but the server's matters.
pub(super) fn date(text: &str, headers: &HeaderMap) -> Option<Duration> {
    let end = httpdate::parse_http_date(text).ok()?;
    Some(end.duration_since(now(headers)?).unwrap_or_default())
}

/// When a period ends: in seconds, as a time of day, or as `6m0s`.
pub(super) fn reset(text: &str, headers: &HeaderMap) -> Option<Duration> {
    match decimal(text) {
        Some(number) if number < EPOCH_FROM => Some(span(number)),
        Some(number) => {
            let at = if number < MILLIS_FROM { number } else { number / 1000.0 };
            let now = now(headers)?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            Some(span(at - now.as_secs_f64()))
        }
        None => compound(text),
    }
}

fn now(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

/// `6m0s`, `1h2m3.5s`, `120ms`.
fn compound(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|next: char| !next.is_ascii_digit() && next != '.')?;
        let (number, tail) = rest.split_at_checked(end)?;
        let named = |(name, unit): &(&str, f64)| Some((tail.strip_prefix(name)?, *unit));
        let (left, unit) = UNITS.iter().find_map(named)?;
        sum += decimal(number)? * unit;
        rest = left;
    }
    (!text.is_empty()).then(|| span(sum))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: &str = "Mon, 23 Nov 2026 12:00:00 GMT";
    /// [`NOON`] in seconds since 1970.
    const NOON_EPOCH: u64 = 1_795_435_200;

    fn at_noon() -> HeaderMap {
        HeaderMap::from_iter([(DATE, NOON.parse().unwrap())])
    }

    fn reset_at_noon(text: &str) -> Option<f64> {
        reset(text, &at_noon()).map(|span| span.as_secs_f64())
    }

    #[test]
    fn numbers_are_whole_or_have_a_fraction() {
        assert_eq!(seconds("12"), Some(Duration::from_secs(12)));
        assert_eq!(seconds("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(millis("250"), Some(Duration::from_millis(250)));
        for garbage in ["", ".", "-1", "+1", "1e9", "inf", "NaN", "1.2.3", "0x10", "1 s"] {
            assert_eq!(seconds(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn a_small_number_is_a_span_and_a_large_one_a_time_of_day() {
        assert_eq!(reset_at_noon("60"), Some(60.0));
        assert_eq!(reset_at_noon("2591999"), Some(2_591_999.0));
        assert_eq!(reset_at_noon(&(NOON_EPOCH + 90).to_string()), Some(90.0));
        assert_eq!(reset_at_noon(&format!("{}500", NOON_EPOCH + 90)), Some(90.5));
        assert_eq!(reset_at_noon(&(NOON_EPOCH - 90).to_string()), Some(0.0), "passed already");
        assert_eq!(reset(&NOON_EPOCH.to_string(), &HeaderMap::new()), None, "by no known clock");
    }

    #[test]
    fn spans_with_units_are_added_up() {
        assert_eq!(reset_at_noon("1s"), Some(1.0));
        assert_eq!(reset_at_noon("6m0s"), Some(360.0));
        assert_eq!(reset_at_noon("1h2m3.5s"), Some(3723.5));
        assert_eq!(reset_at_noon("120ms"), Some(0.12));
        for garbage in ["", "s", "5d", "m5", "1h2", "-1s", "1..5s", "\u{e9}s"] {
            assert_eq!(reset_at_noon(garbage), None, "{garbage}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_said_is_bounded(text in "\\PC{0,40}|[0-9.hmsu]{0,40}") {
            for read in [seconds(&text), millis(&text), reset(&text, &at_noon())] {
                prop_assert!(read.is_none_or(|span| span <= SPAN_MAX));
            }
        }
    }
}

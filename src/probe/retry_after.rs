//! How long a server asks us to stay away. Pure: no I/O, no clock.

use std::time::Duration;

use hyper::header::{DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use crate::probe::{quota, span};

/// No server is obeyed for longer than this.
const STAY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads how long to stay away; `None` when that is not said or makes no sense.
///
/// In this order: `Retry-After-Ms`, `Retry-After` in seconds or as a date, and the end of a rate
/// limit's period. A date counts from the answer's own `Date`.
pub(super) fn read(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let stay = text("retry-after-ms")
        .and_then(span::millis)
        .or_else(|| {
            let text = text("retry-after")?;
            span::seconds(text).or_else(|| span::date(text, headers))
        })
        .or_else(|| quota::read(headers)?.resets_in)?;
    Some(stay.min(STAY_MAX))
}

/// Reads gRPC's own form; a negative number asks not to come again, which no probe can promise.
pub(super) fn pushback(trailers: &HeaderMap) -> Option<Duration> {
    let text = trailers.get("grpc-retry-pushback-ms")?.to_str().ok()?;
    Some(span::millis(text.trim())?.min(STAY_MAX))
}

/// Puts the values of headers through every parser of limits and waits.
pub fn fuzz(values: [&[u8]; 3]) {
    let names = ["retry-after", "x-ratelimit-reset", "ratelimit"].map(HeaderName::from_static);
    let [after, reset, limit] = values.map(HeaderValue::from_bytes);
    let headers = names.into_iter().zip([after, reset, limit]);
    let mut headers: HeaderMap =
        headers.filter_map(|(name, value)| Some((name, value.ok()?))).collect();
    headers.insert(DATE, HeaderValue::from_static("Mon, 23 Nov 2026 12:00:00 GMT"));
    for _ in 0..3 {
        // Each in turn, as the first that is understood hides the others.
        let stay = read(&headers);
        assert!(stay.is_none_or(|stay| stay <= STAY_MAX), "nobody is obeyed for longer");
        headers.remove(if headers.contains_key(RETRY_AFTER) { "retry-after" } else { "ratelimit" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "Mon, 23 Nov 2026 12:00:00 GMT";

    fn stay_by(pairs: &[(&'static str, &str)]) -> Option<f64> {
        let pairs = pairs.iter().chain(&[("date", NOW)]);
        let headers = pairs.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        read(&headers.collect()).map(|stay| stay.as_secs_f64())
    }

    fn stay(value: &str) -> Option<f64> {
        stay_by(&[("retry-after", value)])
    }

    #[test]
    fn seconds_are_read() {
        assert_eq!(stay("0"), Some(0.0));
        assert_eq!(stay("120"), Some(120.0));
        assert_eq!(stay("1.5"), Some(1.5));
    }

    #[test]
    fn a_date_counts_from_the_servers_own_clock() {
        assert_eq!(stay("Mon, 23 Nov 2026 12:01:30 GMT"), Some(90.0));
        assert_eq!(stay("Mon, 23 Nov 2026 11:00:00 GMT"), Some(0.0), "a date in the past is now");
    }

    #[test]
    fn a_date_without_the_servers_clock_makes_no_sense() {
        let headers =
            HeaderMap::from_iter([("retry-after".parse().unwrap(), NOW.parse().unwrap())]);
        assert_eq!(read(&headers), None);
    }

    #[test]
    fn milliseconds_say_it_more_exactly() {
        assert_eq!(stay_by(&[("retry-after", "2"), ("retry-after-ms", "1500")]), Some(1.5));
        assert_eq!(stay_by(&[("retry-after", "2"), ("retry-after-ms", "soon")]), Some(2.0));
    }

    #[test]
    fn the_end_of_a_rate_limit_is_when_to_come_again() {
        assert_eq!(
            stay_by(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "30")]),
            Some(30.0)
        );
        assert_eq!(stay_by(&[("ratelimit", "\"daily\";r=0;t=45")]), Some(45.0));
        assert_eq!(stay_by(&[("retry-after", "5"), ("ratelimit-reset", "45")]), Some(5.0));
    }

    #[test]
    fn nobody_is_obeyed_for_longer_than_a_day() {
        assert_eq!(stay("86401"), Some(86_400.0));
        assert_eq!(stay("99999999999999999999999999"), Some(86_400.0));
        assert_eq!(stay("Fri, 31 Dec 9999 23:59:59 GMT"), Some(86_400.0));
        assert_eq!(stay_by(&[("x-ratelimit-reset", "2000000")]), Some(86_400.0));
    }

    #[test]
    fn garbage_is_no_promise() {
        for garbage in ["", "soon", "-5", "+5", "0x10", "5 seconds", "Mon, 99 Nov 2026"] {
            assert_eq!(stay(garbage), None, "{garbage}");
        }
        assert_eq!(read(&HeaderMap::new()), None);
    }

    #[test]
    fn grpc_pushes_back_in_milliseconds() {
        let pushed = |text: &str| {
            let name = "grpc-retry-pushback-ms".parse().unwrap();
            pushback(&HeaderMap::from_iter([(name, text.parse().unwrap())]))
        };
        assert_eq!(pushed("2500"), Some(Duration::from_millis(2500)));
        assert_eq!(pushed("-1"), None);
        assert_eq!(pushed("99999999999999"), Some(STAY_MAX));
    }
}

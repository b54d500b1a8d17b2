//! How long a server asks us to stay away.

use std::time::Duration;

use hyper::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

/// No server is obeyed for longer than this.
const STAY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads `Retry-After`, in seconds or as a date; `None` when it is absent or makes no sense.
///
/// A date is counted from the answer's own `Date`, so that no clock but the server's matters.
pub(super) fn read(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let stay = match seconds(text) {
        Some(seconds) => Duration::from_secs(seconds),
        None => until(headers)?,
    };
    Some(stay.min(STAY_MAX))
}

/// Digits only: `parse` alone would take `+5`. A number too large to hold is just very long.
fn seconds(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn until(headers: &HeaderMap) -> Option<Duration> {
    let date = |name: HeaderName| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
    let (now, end) = (date(DATE)?, date(RETRY_AFTER)?);
    Some(end.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "Mon, 23 Nov 2026 12:00:00 GMT";

    fn stay(value: &str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, NOW.parse().unwrap());
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        read(&headers).map(|stay| stay.as_secs())
    }

    #[test]
    fn seconds_are_read() {
        assert_eq!(stay("0"), Some(0));
        assert_eq!(stay("120"), Some(120));
    }

    #[test]
    fn a_date_counts_from_the_servers_own_clock() {
        assert_eq!(stay("Mon, 23 Nov 2026 12:01:30 GMT"), Some(90));
        assert_eq!(stay("Mon, 23 Nov 2026 11:00:00 GMT"), Some(0), "a date in the past is now");
    }

    #[test]
    fn a_date_without_the_servers_clock_makes_no_sense() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, NOW.parse().unwrap());
        assert_eq!(read(&headers), None);
    }

    #[test]
    fn nobody_is_obeyed_for_longer_than_a_day() {
        assert_eq!(stay("86401"), Some(86_400));
        assert_eq!(stay("99999999999999999999999999"), Some(86_400));
        assert_eq!(stay("Fri, 31 Dec 9999 23:59:59 GMT"), Some(86_400));
    }

    #[test]
    fn garbage_is_no_promise() {
        for garbage in ["", "soon", "-5", "+5", "1.5", "0x10", "5 seconds", "Mon, 99 Nov 2026"] {
            assert_eq!(stay(garbage), None, "{garbage}");
        }
        assert_eq!(read(&HeaderMap::new()), None);
    }
}

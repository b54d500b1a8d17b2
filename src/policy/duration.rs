//! Durations as people write them: `500ms`, `5s`, `1m 30s`, `2h`, `7d`.
//!
//! Months and years have no fixed length and are not known. Largest unit first, each unit once,
//! whole numbers only, so that every duration has one obvious spelling.

use std::time::Duration;

/// The longest duration that is accepted: a year.
pub(crate) const MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The units in falling order, in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DurationError {
    /// It starts with a minus sign.
    #[error("a duration cannot be negative")]
    Negative,
    /// It is a number without a unit.
    #[error("a duration needs a unit")]
    NoUnit,
    /// It has a fraction.
    #[error("a duration is made of whole numbers")]
    Fraction,
    /// A unit is not known.
    #[error("unknown unit of time")]
    UnknownUnit,
    /// Units are repeated or not in falling order.
    #[error("units of time out of order")]
    Order,
    /// It is longer than a year.
    #[error("a duration longer than a year")]
    TooLong,
    /// It is anything else.
    #[error("not a duration")]
    Malformed,
}

/// Reads a duration; zero is a duration here.
///
/// # Errors
/// When the text is not a duration of at most a year.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text.trim();
    if rest.starts_with('-') {
        return Err(DurationError::Negative);
    }
    let mut total: u64 = 0;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let (count, unit, tail) = take(rest)?;
        if unit >= last {
            return Err(DurationError::Order);
        }
        last = unit;
        let span = count.checked_mul(unit).ok_or(DurationError::TooLong)?;
        total = total.checked_add(span).ok_or(DurationError::TooLong)?;
        rest = tail.trim_start();
    }
    match Duration::from_millis(total) {
        _ if last == u64::MAX => Err(DurationError::Malformed),
        span if span > MAX => Err(DurationError::TooLong),
        span => Ok(span),
    }
}

/// Takes one number with its unit off the front.
fn take(text: &str) -> Result<(u64, u64, &str), DurationError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    if number.is_empty() {
        return Err(DurationError::Malformed);
    }
    if rest.starts_with(['.', ',']) {
        return Err(DurationError::Fraction);
    }
    let rest = rest.trim_start();
    let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(letters);
    if name.is_empty() {
        return Err(DurationError::NoUnit);
    }
    let unit = UNITS.iter().find(|(known, _)| *known == name).ok_or(DurationError::UnknownUnit)?.1;
    Ok((number.parse().ok().ok_or(DurationError::TooLong)?, unit, rest))
}

/// Writes a duration so that [`parse`] reads it back; anything below a millisecond is dropped.
#[must_use]
pub fn format(span: Duration) -> String {
    let mut rest = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    for (name, unit) in UNITS {
        let count = rest / unit;
        rest %= unit;
        if count > 0 {
            parts.push(format!("{count}{name}"));
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_documented_spellings_are_read() {
        for (text, millis) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("1m 30s", 90_000),
            ("1m30s", 90_000),
            ("2 h", 7_200_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused_for_its_own_reason() {
        for (text, error) in [
            ("", DurationError::Malformed),
            ("soon", DurationError::Malformed),
            ("10", DurationError::NoUnit),
            ("-5s", DurationError::Negative),
            ("1.5s", DurationError::Fraction),
            ("3mo", DurationError::UnknownUnit),
            ("30s 1m", DurationError::Order),
            ("1s 1s", DurationError::Order),
            ("400d", DurationError::TooLong),
            ("99999999999999999999s", DurationError::TooLong),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(millis in 0..=31_622_400_000_u64) {
            let span = Duration::from_millis(millis);
            prop_assert_eq!(parse(&format(span)), Ok(span));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _checked = parse(&text).map(format);
        }
    }
}

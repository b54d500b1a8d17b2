//! Holds an answer against what the policy expects. Pure: no I/O, no clock.
//!
//! Findings name the status, header or JSON pointer at fault and never quote what was sent.

use std::cmp::Ordering;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use serde_json::Value;

use crate::core::outcome::Outcome;
use crate::policy::model::{HttpExpect, MappedOutcome};
use crate::probe::finding::{Finding, Step};
use crate::probe::report::Quota;
use crate::probe::{quota, retry_after};

/// What was read of a body.
#[derive(Debug)]
pub(super) struct Body {
    /// Its bytes; empty when nobody looks at them.
    pub(super) bytes: Vec<u8>,
    /// Whether this is all of it.
    pub(super) whole: bool,
}

/// Sorts the status: first by the policy's own map, then by what it accepts, then by class.
///
/// A status that the policy maps to anything but `ok` decides alone.
pub(super) fn status(expect: &HttpExpect, status: StatusCode, headers: &HeaderMap) -> Step {
    let code = status.as_u16();
    let outcome = match expect.outcomes.get(&code) {
        Some(MappedOutcome::Ok) => return Ok(()),
        Some(MappedOutcome::Degraded) => Outcome::Degraded,
        Some(MappedOutcome::ServerError) => Outcome::ServerError,
        Some(MappedOutcome::Throttled) => throttled(headers),
        Some(MappedOutcome::Auth) => Outcome::Auth,
        Some(MappedOutcome::ClientError) => Outcome::ClientError,
        Some(MappedOutcome::WrongRole) => Outcome::WrongRole,
        None if expect.status.iter().any(|&(low, high)| (low..=high).contains(&code)) => {
            return Ok(());
        }
        None => class(code, headers),
    };
    Err(told(outcome, code))
}

/// What a status that nobody expects means by its class.
pub(super) fn by_class(status: StatusCode, headers: &HeaderMap) -> Finding {
    let code = status.as_u16();
    told(class(code, headers), code)
}

fn told(outcome: Outcome, code: u16) -> Finding {
    let what = if (300..400).contains(&code) { ": redirect to another address" } else { "" };
    Finding::new(outcome, format!("HTTP {code}{what}"))
}

fn class(code: u16, headers: &HeaderMap) -> Outcome {
    match code {
        401 | 403 => Outcome::Auth,
        429 => throttled(headers),
        400..500 => Outcome::ClientError,
        500..600 => Outcome::ServerError,
        _ => Outcome::Protocol,
    }
}

fn throttled(headers: &HeaderMap) -> Outcome {
    Outcome::Throttled { retry_after: retry_after::read(headers) }
}

/// Every header named is there, and one of its values contains what it must.
pub(super) fn headers(expect: &HttpExpect, headers: &HeaderMap) -> Step {
    for (name, part) in &expect.headers {
        let mut values = headers.get_all(name.as_str()).iter().peekable();
        if values.peek().is_none() {
            return Err(Finding::protocol(format!("header {name} is missing")));
        }
        if !values.any(|value| String::from_utf8_lossy(value.as_bytes()).contains(part)) {
            return Err(Finding::protocol(format!("header {name} differs")));
        }
    }
    Ok(())
}

/// Whether any expectation needs the body's bytes.
pub(super) fn looks_at_body(expect: &HttpExpect) -> bool {
    looks_at_text(expect) || looks_at_json(expect) || quota::is_in_body(expect)
}

fn looks_at_text(expect: &HttpExpect) -> bool {
    let HttpExpect { body_contains, body_excludes, body_matches, .. } = expect;
    !body_contains.is_empty() || !body_excludes.is_empty() || body_matches.is_some()
}

fn looks_at_json(expect: &HttpExpect) -> bool {
    expect.graphql || !expect.json.is_empty()
}

/// Holds the body, or as much as was read of it, against the expectations.
pub(super) fn body(expect: &HttpExpect, headers: &HeaderMap, body: &Body) -> Step {
    if !looks_at_body(expect) {
        return Ok(());
    }
    if is_encoded(headers) {
        return Err(Finding::protocol("body is compressed, though that was not offered"));
    }
    if looks_at_text(expect) {
        text(expect, &String::from_utf8_lossy(&body.bytes))?;
    }
    if looks_at_json(expect) {
        let value = parse(body)?;
        graphql(expect, &value)?;
        json(expect, &value)?;
    }
    Ok(())
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn text(expect: &HttpExpect, text: &str) -> Step {
    if !expect.body_contains.iter().all(|part| text.contains(part)) {
        return Err(Finding::protocol("body lacks an expected text"));
    }
    if expect.body_excludes.iter().any(|part| text.contains(part)) {
        return Err(Finding::protocol("body contains an excluded text"));
    }
    if expect.body_matches.as_ref().is_some_and(|pattern| !pattern.is_match(text)) {
        return Err(Finding::protocol("body does not match the pattern"));
    }
    Ok(())
}

fn parse(body: &Body) -> Step<Value> {
    if !body.whole {
        return Err(Finding::protocol("body is too long to be read as JSON"));
    }
    serde_json::from_slice(&body.bytes).map_err(|_error| Finding::protocol("body is not JSON"))
}

/// GraphQL reports its failures in a 200.
fn graphql(expect: &HttpExpect, value: &Value) -> Step {
    if !expect.graphql {
        return Ok(());
    }
    if !value.is_object() {
        return Err(Finding::protocol("body is not a GraphQL answer"));
    }
    match value.get("errors") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(errors)) if errors.is_empty() => Ok(()),
        Some(_) => Err(Finding::protocol("GraphQL answered with errors")),
    }
}

fn json(expect: &HttpExpect, value: &Value) -> Step {
    for (pointer, wanted) in &expect.json {
        let Some(found) = value.pointer(pointer) else {
            return Err(Finding::protocol(format!("JSON {pointer} is missing")));
        };
        if wanted.as_ref().is_some_and(|wanted| !same(wanted, found)) {
            return Err(Finding::protocol(format!("JSON {pointer} differs")));
        }
    }
    Ok(())
}

/// Equality as JSON means it: `1536` and `1536.0` are one number.
fn same(wanted: &Value, found: &Value) -> bool {
    if wanted == found {
        return true;
    }
    // Two integers are compared above, exactly; as floats large neighbours would be equal.
    let exact = |value: &Value| value.is_i64() || value.is_u64();
    match (wanted.as_f64(), found.as_f64()) {
        (Some(left), Some(right)) if !(exact(wanted) && exact(found)) => {
            left.partial_cmp(&right) == Some(Ordering::Equal)
        }
        _ => false,
    }
}

/// A good answer that says that a quota named by the policy is used up: the next real call will
/// be refused.
pub(super) fn quota(expect: &HttpExpect, quota: Option<Quota>) -> Step {
    let used_up = quota.is_some_and(|quota| quota.remaining == Some(0));
    if quota::is_in_body(expect) && used_up {
        let retry_after = quota.and_then(|quota| quota.resets_in);
        return Err(Finding::new(Outcome::Throttled { retry_after }, "quota is used up"));
    }
    Ok(())
}

/// A good answer that came late is `degraded`.
pub(super) fn speed(slow: Option<Duration>, took: Duration) -> Step {
    match slow {
        Some(slow) if took > slow => {
            let detail = format!("slow: took longer than {slow:?}");
            Err(Finding::new(Outcome::Degraded, detail))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
#[path = "expect_tests.rs"]
mod tests;

//! What is left of a quota, as headers or a body tell it. Pure: no I/O, no clock.
//!
//! Nothing here is a verdict by itself: headers may come with any answer. Numbers are taken, text
//! is not.

use hyper::header::HeaderMap;
use serde_json::Value;

use crate::policy::model::HttpExpect;
use crate::probe::expect::Body;
use crate::probe::report::Quota;
use crate::probe::span;

/// What stands before and after `limit`, `remaining` and `reset` in the names of headers, the
/// most telling first.
const FAMILIES: [(&str, &str); 5] = [
    ("ratelimit-", ""),
    ("x-ratelimit-", ""),
    ("x-ratelimit-", "-requests"),
    ("x-ratelimit-", "-requests-day"),
    ("x-rate-limit-", ""),
];

/// Reads the rate-limit headers: the structured ones of the IETF draft, else the first family
/// that says anything.
pub(super) fn read(headers: &HeaderMap) -> Option<Quota> {
    structured(headers).or_else(|| FAMILIES.iter().find_map(|names| family(headers, *names)))
}

/// Reads the numbers at the policy's JSON pointers, where the body has them.
pub(super) fn of_body(expect: &HttpExpect, body: &Body) -> Option<Quota> {
    if !is_in_body(expect) || !body.whole {
        return None;
    }
    of_json(expect, &serde_json::from_slice(&body.bytes).ok()?)
}

fn of_json(expect: &HttpExpect, body: &Value) -> Option<Quota> {
    let at = |pointer: &Option<String>| amount_of(body.pointer(pointer.as_deref()?)?);
    let (limit, used) = (at(&expect.quota_limit), at(&expect.quota_used));
    let remaining = limit.zip(used).map(|(limit, used)| limit.saturating_sub(used));
    limit.map(|limit| Quota { limit: Some(limit), remaining, resets_in: None })
}

/// Whether the policy names a quota in the body.
pub(super) const fn is_in_body(expect: &HttpExpect) -> bool {
    expect.quota_limit.is_some() || expect.quota_used.is_some()
}

/// A whole number, rounded down; `null` and text are none.
fn amount_of(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| amount(&value.as_f64()?.to_string()))
}

/// The whole number before a fraction or the parameters of a list: `100`, `99.5`, `100, 100;w=60`.
fn amount(text: &str) -> Option<u64> {
    let end = text.find(|next: char| !next.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    let ends = rest.trim_start().chars().next().is_none_or(|next| ".,;".contains(next));
    // A number too large to hold is as good as no limit, and no number is none at all.
    (ends && !digits.is_empty()).then(|| digits.parse().unwrap_or(u64::MAX))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn family(headers: &HeaderMap, (before, after): (&str, &str)) -> Option<Quota> {
    let value = |what: &str| text(headers, &format!("{before}{what}{after}"));
    let quota = Quota {
        limit: value("limit").and_then(amount),
        remaining: value("remaining").and_then(amount),
        resets_in: value("reset").and_then(|text| span::reset(text, headers)),
    };
    (quota != Quota::default()).then_some(quota)
}

/// `RateLimit: "daily";r=50;t=30` with `RateLimit-Policy: "daily";q=100`, or the older
/// `RateLimit: limit=100, remaining=50, reset=30`.
fn structured(headers: &HeaderMap) -> Option<Quota> {
    let told = text(headers, "ratelimit")?;
    let flat = |name: &str| split(told, ',').find_map(|item| pair(item, name));
    let older = Quota {
        limit: flat("limit").and_then(amount),
        remaining: flat("remaining").and_then(amount),
        resets_in: flat("reset").and_then(|text| span::reset(text, headers)),
    };
    if older != Quota::default() {
        return Some(older);
    }
    let remaining = |item: &&str| parameter(item, "r").and_then(amount);
    // Of several limits, the one that will be hit first.
    let tightest =
        split(told, ',').filter(|item| remaining(item).is_some()).min_by_key(remaining)?;
    let policies = text(headers, "ratelimit-policy").unwrap_or_default();
    let policy = split(policies, ',').find(|policy| name(policy) == name(tightest));
    Some(Quota {
        limit: policy.and_then(|policy| parameter(policy, "q")).and_then(amount),
        remaining: remaining(&tightest),
        resets_in: parameter(tightest, "t").and_then(|text| span::reset(text, headers)),
    })
}

/// Splits outside of quotes.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let parts = text.split(move |next| {
        quoted ^= next == '"';
        next == at && !quoted
    });
    parts.map(str::trim)
}

fn name(item: &str) -> Option<&str> {
    split(item, ';').next()
}

fn parameter<'a>(item: &'a str, name: &str) -> Option<&'a str> {
    split(item, ';').skip(1).find_map(|part| pair(part, name))
}

fn pair<'a>(part: &'a str, name: &str) -> Option<&'a str> {
    let (key, value) = part.split_once('=')?;
    key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;

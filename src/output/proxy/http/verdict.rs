//! What an answer, or the lack of one, says about an upstream.

use std::error::Error;
use std::io;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use hyper_util::client::legacy;

use crate::core::outcome::Outcome;
use crate::output::proxy::dial::{Unreached, sort};
use crate::output::proxy::http::replay::BodyError;
use crate::output::proxy::http::serve::Refusal;

/// How an attempt ended without an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    /// Nothing was sent.
    Unreached(Outcome),
    /// Something was sent, perhaps all.
    Broken(Outcome),
    /// The engine called it off.
    Cut,
    /// It was the caller's doing.
    Caller,
    /// The caller's session cannot go on.
    Gone,
}

impl Failure {
    /// What it says about the upstream, if anything.
    pub(super) const fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Unreached(outcome) | Self::Broken(outcome) => Some(outcome),
            Self::Cut | Self::Caller | Self::Gone => None,
        }
    }

    /// What the caller is told when there is nobody else to ask.
    pub(super) const fn refusal(self) -> Refusal {
        match self {
            Self::Unreached(Outcome::Timeout) | Self::Broken(Outcome::Timeout) => Refusal::Late,
            Self::Unreached(_) | Self::Broken(_) | Self::Cut => Refusal::Unreached,
            Self::Caller => Refusal::Invalid,
            Self::Gone => Refusal::Gone,
        }
    }
}

/// Sorts what the client library says.
pub(super) fn failure(error: &legacy::Error) -> Failure {
    if let Some(unreached) = find::<Unreached>(error) {
        return Failure::Unreached(unreached.0);
    }
    if find::<BodyError>(error).is_some() {
        return Failure::Caller;
    }
    if error.is_connect() {
        return Failure::Unreached(Outcome::Protocol);
    }
    let protocol =
        find::<hyper::Error>(error).is_some_and(|error| error.is_parse() || error.is_user());
    let reset = find::<io::Error>(error).map_or(Outcome::Reset, sort);
    Failure::Broken(if protocol { Outcome::Protocol } else { reset })
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// What a status says; `ours` tells whether the credential in the request was set by us.
pub(super) fn outcome(status: StatusCode, headers: &HeaderMap, ours: bool) -> Outcome {
    match status.as_u16() {
        429 => Outcome::Throttled { retry_after: retry_after(headers) },
        503 if headers.contains_key(RETRY_AFTER) => {
            Outcome::Throttled { retry_after: retry_after(headers) }
        }
        // The caller's own credential says nothing about the upstream.
        401 if ours => Outcome::Auth,
        501 | 505 => Outcome::Ok,
        500.. => Outcome::ServerError,
        _ => Outcome::Ok,
    }
}

/// How long a server asks to be left alone: seconds, or a date counted from its own `Date`.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX).min(86_400)));
    }
    let date = |name: HeaderName| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
    let span = date(RETRY_AFTER)?.duration_since(date(DATE)?).unwrap_or_default();
    Some(span.min(Duration::from_secs(86_400)))
}

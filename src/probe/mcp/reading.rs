//! What an answer to an MCP request means: the table of replies, as code. Pure.
//!
//! A server that speaks, but of another era or about another session, is neither up nor down yet:
//! the attempt goes on in that case. Everything else is a result or a finding.

use hyper::StatusCode;
use hyper::header::{HeaderMap, WWW_AUTHENTICATE};
use serde_json::value::RawValue;

use crate::core::outcome::Outcome;
use crate::probe::expect;
use crate::probe::finding::Finding;
use crate::probe::mcp::message::{Ask, Refusal, Reply};

/// JSON-RPC: not understood, in three ways; the last two say so of method and parameters.
const PARSE_ERROR: i64 = -32_700;
const INVALID_REQUEST: i64 = -32_600;
const METHOD_NOT_FOUND: i64 = -32_601;
const INVALID_PARAMS: i64 = -32_602;
/// MCP: headers and body differ; a capability of ours is missing; not a version of the server's.
const HEADER_MISMATCH: i64 = -32_020;
const MISSING_CAPABILITY: i64 = -32_021;
const UNSUPPORTED_VERSION: i64 = -32_022;

/// An answer over HTTP.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) content: Content,
}

/// What stood in an answer's body.
#[derive(Debug)]
pub(super) enum Content {
    /// The reply to what was asked.
    Reply(Reply),
    /// Nothing.
    Nothing,
    /// Something else, and what.
    Foreign(&'static str),
}

/// What an answer means: what was asked for (a notification asks for nothing), or otherwise.
pub(super) type Reading = Result<Option<Box<RawValue>>, Otherwise>;

/// What an answer means that is not the one hoped for.
#[derive(Debug)]
pub(super) enum Otherwise {
    /// The server does not know this request: it is of the other era.
    OtherEra,
    /// The server is of this era, but speaks these versions only.
    Versions(Vec<String>),
    /// The server does not know the session (any more).
    SessionLost,
    /// The server is there and asks for a credential before anything else.
    Guarded,
    /// The attempt ends here.
    Bad(Finding),
}

impl From<Finding> for Otherwise {
    fn from(finding: Finding) -> Self {
        Self::Bad(finding)
    }
}

/// Reads an answer over HTTP; `in_session` when the request named a session.
pub(super) fn read(ask: &Ask, in_session: bool, answer: Answer) -> Reading {
    let Answer { status, headers, content } = answer;
    let code = status.as_u16();
    match code {
        401 if headers.contains_key(WWW_AUTHENTICATE) => return Err(Otherwise::Guarded),
        300..=399 | 401 | 403 | 429 | 502..=504 => return by_status(status, &headers),
        _ => {}
    }
    if in_session && forgets_session(code, &content) {
        return Err(Otherwise::SessionLost);
    }
    if !ask.is_request() && status.is_success() {
        return Ok(None);
    }
    match content {
        Content::Reply(Reply::Result(result)) if status.is_success() => Ok(Some(result)),
        Content::Reply(Reply::Error(refusal)) => refused(ask, &refusal, Some(status)),
        Content::Nothing | Content::Foreign(_) if *ask == Ask::Discover => Err(Otherwise::OtherEra),
        Content::Nothing if status.is_success() => bad(Finding::protocol("answer is empty")),
        Content::Foreign(what) if status.is_success() => bad(Finding::protocol(what)),
        Content::Reply(_) | Content::Nothing | Content::Foreign(_) => by_status(status, &headers),
    }
}

const fn bad(finding: Finding) -> Reading {
    Err(Otherwise::Bad(finding))
}

fn by_status(status: StatusCode, headers: &HeaderMap) -> Reading {
    bad(expect::by_class(status, headers))
}

/// 404 by the specification; the TypeScript SDK says 400 with a code of its own.
fn forgets_session(status: u16, content: &Content) -> bool {
    match (status, content) {
        (404, Content::Reply(Reply::Error(refusal))) => refusal.code != METHOD_NOT_FOUND,
        (400, Content::Reply(Reply::Error(refusal))) => !is_of_json_rpc(refusal.code),
        (404, _) => true,
        _ => false,
    }
}

const fn is_of_json_rpc(code: i64) -> bool {
    code >= PARSE_ERROR && code <= INVALID_REQUEST
}

/// Reads a refusal; without a status when it did not come over HTTP.
pub(super) fn refused(ask: &Ask, refusal: &Refusal, status: Option<StatusCode>) -> Reading {
    match (ask, refusal.code) {
        (Ask::Discover, UNSUPPORTED_VERSION) => Err(Otherwise::Versions(refusal.supported.clone())),
        (Ask::Discover | Ask::Tools { .. }, HEADER_MISMATCH | MISSING_CAPABILITY) => {
            bad(Finding::misconfigured(named(refusal.code, status)))
        }
        (Ask::Discover, _)
        | (
            Ask::Initialize,
            METHOD_NOT_FOUND | UNSUPPORTED_VERSION | HEADER_MISMATCH | MISSING_CAPABILITY,
        ) => Err(Otherwise::OtherEra),
        // It understood us well enough to say so, which is all that was asked.
        (Ask::Ping, METHOD_NOT_FOUND) => Ok(None),
        (Ask::Tools { .. }, METHOD_NOT_FOUND) => bad(Finding::protocol("server has no tools")),
        (_, PARSE_ERROR | INVALID_REQUEST | INVALID_PARAMS) => {
            bad(Finding::misconfigured(named(refusal.code, status)))
        }
        _ if status.is_some_and(|status| status.is_client_error()) => {
            bad(Finding::misconfigured(named(refusal.code, status)))
        }
        _ => bad(Finding::new(Outcome::ServerError, named(refusal.code, status))),
    }
}

/// A code of the range that JSON-RPC reserves is told; others could be anything.
fn named(code: i64, status: Option<StatusCode>) -> String {
    let error = match code {
        -32_768..=-32_000 => format!("JSON-RPC error {code}"),
        _ => "JSON-RPC error of its own".to_owned(),
    };
    match status {
        Some(status) if !status.is_success() => format!("HTTP {}: {error}", status.as_u16()),
        Some(_) | None => error,
    }
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;

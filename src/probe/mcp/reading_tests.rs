//! The table of replies: each row an answer that a real server gives, and what it means.

use hyper::header::{HeaderValue, RETRY_AFTER};

use super::*;
use crate::probe::mcp::message::{Found, find};

const INITIALIZED: &str = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
const LOST: &str = r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"x"},"id":null}"#;

fn error(code: i64) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{{\"code\":{code},\"message\":\"x\"}}}}")
}

fn answer(status: u16, text: &str) -> Answer {
    let content = match find(text.as_bytes(), 7) {
        _ if text.is_empty() => Content::Nothing,
        Found::Reply(reply) => Content::Reply(reply),
        Found::Other => Content::Foreign("answer is to another request"),
        Found::Foreign => Content::Foreign("answer is not JSON-RPC"),
    };
    let status = StatusCode::from_u16(status).unwrap();
    Answer { status, headers: HeaderMap::new(), content }
}

fn told(reading: &Reading) -> String {
    match reading {
        Ok(Some(_)) => "result".to_owned(),
        Ok(None) => "accepted".to_owned(),
        Err(Otherwise::OtherEra) => "other era".to_owned(),
        Err(Otherwise::Versions(versions)) => format!("versions {}", versions.join(" ")),
        Err(Otherwise::SessionLost) => "session lost".to_owned(),
        Err(Otherwise::Guarded) => "guarded".to_owned(),
        Err(Otherwise::Bad(finding)) => format!("{}: {}", finding.outcome.label(), finding.detail),
    }
}

#[track_caller]
fn assert_rows(ask: &Ask, in_session: bool, rows: &[(u16, &str, &str)]) {
    for (status, text, expected) in rows {
        let reading = read(ask, in_session, answer(*status, text));
        assert_eq!(&told(&reading), expected, "{ask:?} {status} {text}");
    }
}

#[test]
fn a_question_of_the_modern_era() {
    let versions =
        r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32022,"data":{"supported":["2027-01-01"]}}}"#;
    assert_rows(
        &Ask::Discover,
        false,
        &[
            (200, INITIALIZED, "result"),
            // FastMCP without `Mcp-Method`; with a version of its future.
            (400, &error(-32020), "client_error: HTTP 400: JSON-RPC error -32020"),
            (400, &error(-32021), "client_error: HTTP 400: JSON-RPC error -32021"),
            (400, versions, "versions 2027-01-01"),
            // Servers of the older era: the TypeScript SDK, Python's, and others.
            (400, LOST, "other era"),
            (404, &error(-32601), "other era"),
            (200, &error(-32601), "other era"),
            (200, &error(-32602), "other era"),
            (200, &error(-32603), "other era"),
            (400, "", "other era"),
            (400, "Missing session ID", "other era"),
            (404, "", "other era"),
            (405, "", "other era"),
            (406, "", "other era"),
            (422, "", "other era"),
            (500, "", "other era"),
            (501, "", "other era"),
            (200, "<html>", "other era"),
            (202, "", "other era"),
            // Whatever the era, these are answers.
            (401, "", "auth: HTTP 401"),
            (403, "", "auth: HTTP 403"),
            (429, "", "throttled: HTTP 429"),
            (502, "", "server_error: HTTP 502"),
            (503, "", "server_error: HTTP 503"),
            (504, "", "server_error: HTTP 504"),
            (302, "", "protocol: HTTP 302: redirect to another address"),
        ],
    );
}

#[test]
fn the_beginning_of_a_session() {
    assert_rows(
        &Ask::Initialize,
        false,
        &[
            (200, INITIALIZED, "result"),
            // A server of the newer era only.
            (400, &error(-32022), "other era"),
            (400, &error(-32020), "other era"),
            (404, &error(-32601), "other era"),
            (200, &error(-32601), "other era"),
            // Our own fault.
            (400, LOST, "client_error: HTTP 400: JSON-RPC error -32000"),
            (400, "", "client_error: HTTP 400"),
            (404, "", "client_error: HTTP 404"),
            (404, "<html>", "client_error: HTTP 404"),
            (405, "", "client_error: HTTP 405"),
            (406, &error(-32000), "client_error: HTTP 406: JSON-RPC error -32000"),
            (406, "", "client_error: HTTP 406"),
            (415, "", "client_error: HTTP 415"),
            (200, &error(-32700), "client_error: JSON-RPC error -32700"),
            (200, &error(-32600), "client_error: JSON-RPC error -32600"),
            (200, &error(-32602), "client_error: JSON-RPC error -32602"),
            // It cannot serve.
            (200, &error(-32603), "server_error: JSON-RPC error -32603"),
            (200, &error(-32000), "server_error: JSON-RPC error -32000"),
            (200, &error(42), "server_error: JSON-RPC error of its own"),
            (500, &error(-32603), "server_error: HTTP 500: JSON-RPC error -32603"),
            (500, "", "server_error: HTTP 500"),
            (503, &error(-32603), "server_error: HTTP 503"),
            // Something else answered.
            (200, "", "protocol: answer is empty"),
            (202, "", "protocol: answer is empty"),
            (200, "<html>", "protocol: answer is not JSON-RPC"),
            (200, r#"{"status":"ok"}"#, "protocol: answer is not JSON-RPC"),
            (
                200,
                r#"{"jsonrpc":"2.0","id":8,"result":{}}"#,
                "protocol: answer is to another request",
            ),
            (307, "", "protocol: HTTP 307: redirect to another address"),
            (401, "", "auth: HTTP 401"),
            (403, "", "auth: HTTP 403"),
            (429, "", "throttled: HTTP 429"),
        ],
    );
}

#[test]
fn a_sign_of_life_within_a_session() {
    assert_rows(
        &Ask::Ping,
        true,
        &[
            (200, INITIALIZED, "result"),
            // FastMCP, and the specification; then the TypeScript SDK.
            (404, LOST, "session lost"),
            (404, "", "session lost"),
            (404, &error(-32600), "session lost"),
            (400, LOST, "session lost"),
            // Not known to this server, which is no reason to call it down.
            (404, &error(-32601), "accepted"),
            (200, &error(-32601), "accepted"),
            (400, &error(-32602), "client_error: HTTP 400: JSON-RPC error -32602"),
            (400, "", "client_error: HTTP 400"),
            (200, &error(-32603), "server_error: JSON-RPC error -32603"),
            (202, "", "protocol: answer is empty"),
            (401, "", "auth: HTTP 401"),
            (503, "", "server_error: HTTP 503"),
        ],
    );
    // Without a session there is none to lose.
    assert_rows(
        &Ask::Ping,
        false,
        &[
            (200, INITIALIZED, "result"),
            (400, LOST, "client_error: HTTP 400: JSON-RPC error -32000"),
            (404, "", "client_error: HTTP 404"),
        ],
    );
}

#[test]
fn a_notification_wants_no_answer() {
    assert_rows(
        &Ask::Initialized,
        true,
        &[
            (202, "", "accepted"),
            (204, "", "accepted"),
            (200, "", "accepted"),
            (200, "null", "accepted"),
            (404, LOST, "session lost"),
            (400, LOST, "session lost"),
            (500, "", "server_error: HTTP 500"),
        ],
    );
}

#[test]
fn a_page_of_tools() {
    let ask = Ask::Tools { cursor: None };
    assert_rows(
        &ask,
        true,
        &[
            (200, INITIALIZED, "result"),
            (200, &error(-32601), "protocol: server has no tools"),
            (200, &error(-32602), "client_error: JSON-RPC error -32602"),
            (404, LOST, "session lost"),
        ],
    );
    assert_rows(
        &ask,
        false,
        &[
            (404, &error(-32601), "protocol: server has no tools"),
            (400, &error(-32020), "client_error: HTTP 400: JSON-RPC error -32020"),
        ],
    );
}

#[test]
fn a_challenge_says_that_the_server_is_there() {
    let mut guarded = answer(401, "");
    guarded.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"x\""));
    assert_eq!(told(&read(&Ask::Discover, false, guarded)), "guarded");
    let mut forbidden = answer(403, "");
    forbidden.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    assert_eq!(told(&read(&Ask::Initialize, false, forbidden)), "auth: HTTP 403");
}

#[test]
fn a_throttled_answer_says_for_how_long() {
    let mut busy = answer(429, LOST);
    busy.headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
    let Err(Otherwise::Bad(finding)) = read(&Ask::Ping, true, busy) else {
        panic!("a finding");
    };
    let retry_after = Some(std::time::Duration::from_secs(7));
    assert_eq!(finding.outcome, Outcome::Throttled { retry_after });
}

#[test]
fn a_refusal_over_a_pipe_has_no_status() {
    let refuse =
        |ask: &Ask, code| told(&refused(ask, &Refusal { code, supported: Vec::new() }, None));
    assert_eq!(refuse(&Ask::Discover, -32601), "other era");
    assert_eq!(refuse(&Ask::Discover, -32602), "other era");
    assert_eq!(refuse(&Ask::Initialize, -32022), "other era");
    assert_eq!(refuse(&Ask::Ping, -32601), "accepted");
    assert_eq!(refuse(&Ask::Ping, -32603), "server_error: JSON-RPC error -32603");
}

//! Servers that mean harm, or have lost their mind: a typed outcome within the deadline, and no
//! more read than the limits allow.

use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::McpEra;
use mcp_failover::probe::Report;

use super::fake::{Fake, Reply};
use super::{PATIENT, ask, assert_end, mcp, prober};
use crate::common::upstream::{Behaviour, Upstream};
use crate::probe::{SHORT, outcome};

/// What a server can get rid of before it notices that nobody reads: kernel buffers, mostly.
const BUFFERED: u64 = 16 * 1024 * 1024;

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                      Transfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn every_way_to_fail_ends_in_time() {
    let cases = [
        (Behaviour::Refuse, Outcome::Refused),
        (Behaviour::Hang, Outcome::Timeout),
        (Behaviour::Close, Outcome::Reset),
        (Behaviour::Drip(Duration::from_millis(1)), Outcome::Timeout),
        (Behaviour::Flood, Outcome::Protocol),
        (Behaviour::Huge(1 << 40), Outcome::Protocol),
        (Behaviour::HeaderFlood, Outcome::Protocol),
        (Behaviour::InterimFlood, Outcome::Protocol),
        (Behaviour::Truncate, Outcome::Reset),
        (Behaviour::Reset, Outcome::Reset),
        (Behaviour::garbage(), Outcome::Protocol),
        (Behaviour::Banner(b"SSH-2.0-x\r\n".to_vec()), Outcome::Protocol),
        (Behaviour::redirect("https://example.com/"), Outcome::Protocol),
        (
            Behaviour::throttle("7"),
            Outcome::Throttled { retry_after: Some(Duration::from_secs(7)) },
        ),
        (Behaviour::Healthy, Outcome::Protocol),
        (Behaviour::Status(500), Outcome::ServerError),
    ];
    let prober = prober();
    for (behaviour, expected) in cases {
        let upstream = Upstream::start(behaviour.clone());
        let patience = if expected == Outcome::Timeout { SHORT } else { PATIENT };
        for era in [McpEra::Auto, McpEra::Legacy] {
            let mut check = mcp(upstream.port());
            check.era = era;
            let report = ask(&prober, &check, patience).await;
            assert_eq!(outcome(&report), expected, "{behaviour:?}: {report:?}");
        }
        assert!(upstream.bytes_sent() < BUFFERED, "{} bytes sent", upstream.bytes_sent());
    }
}

/// An attempt in the legacy era against a server that answers everything with these bytes.
async fn against(bytes: String, patience: Duration) -> Report {
    let fake = Fake::start(move |_| Reply::raw(bytes.clone())).await;
    let mut check = mcp(fake.port());
    check.era = McpEra::Legacy;
    ask(&prober(), &check, patience).await
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[tokio::test]
async fn a_stream_of_other_peoples_messages_has_an_end() {
    let notice = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n";
    let flood = format!("{STREAM}{}", chunk(&notice.repeat(64)).repeat(1000));
    assert_end(&against(flood, PATIENT).await, Outcome::Protocol, "answer has no end");
    let comments = format!("{STREAM}{}", chunk(&": ping\n\n".repeat(1000)).repeat(1000));
    assert_end(&against(comments, PATIENT).await, Outcome::Protocol, "answer has no end");
    let silence = format!("{STREAM}{}", chunk(": ping\n\n"));
    let report = against(silence, SHORT).await;
    assert_eq!(outcome(&report), Outcome::Timeout, "{report:?}");
}

#[tokio::test]
async fn an_event_or_a_line_without_end_is_given_up() {
    let line = format!("{STREAM}{}", chunk(&"x".repeat(2 << 20)));
    let report = against(line, PATIENT).await;
    assert_end(&report, Outcome::Protocol, "event is too long");
    let event = format!("{STREAM}{}", chunk(&"data: x\n".repeat(1 << 20)));
    let report = against(event, PATIENT).await;
    assert_eq!(outcome(&report), Outcome::Protocol, "{report:?}");
}

#[tokio::test]
async fn json_that_is_deep_or_long_is_no_answer() {
    let deep = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}", "[".repeat(500_000));
    let json = |body: &str| {
        let kind = "Content-Type: application/json";
        format!("HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let report = against(json(&deep), PATIENT).await;
    assert_end(&report, Outcome::Protocol, "answer is not JSON-RPC");
    let in_stream = format!("{STREAM}{}0\r\n\r\n", chunk(&format!("data: {deep}\n\n")));
    let report = against(in_stream, PATIENT).await;
    assert_end(&report, Outcome::Protocol, "event stream ended without the answer");
    let long = "x".repeat((1 << 20) + 1);
    let report = against(json(&long), PATIENT).await;
    assert_end(&report, Outcome::Protocol, "answer is too long");
    let batch = format!("[{}{{}}]", "{\"jsonrpc\":\"2.0\",\"method\":\"x\"},".repeat(20_000));
    let report = against(json(&batch), PATIENT).await;
    assert_end(&report, Outcome::Protocol, "answer is not JSON-RPC");
}

#[tokio::test]
async fn nothing_that_a_server_says_is_repeated() {
    const CANARY: &str = "canary-5f3a";
    let error = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{{\"code\":77,\"message\":\"{CANARY}\",\"data\":{{\"supported\":[\"{CANARY}\"]}}}}}}"
    );
    for status in [200, 400, 404, 500] {
        let text = format!(
            "HTTP/1.1 {status} {CANARY}\r\nMcp-Session-Id: {CANARY}\r\nContent-Length: {}\r\n\r\n{error}",
            error.len()
        );
        let report = against(text, PATIENT).await;
        assert!(!format!("{report:?}").contains(CANARY), "{report:?}");
    }
}

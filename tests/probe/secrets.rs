//! Nothing that is secret, and nothing that a peer sent, shows in a report.

use std::collections::BTreeMap;
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{Check, ExecCheck, HttpCheck, TcpCheck};
use mcp_failover::policy::secret::Secret;
use mcp_failover::probe::Report;

use super::{PATIENT, SHORT, attempt, get, http, outcome, target};
use crate::common::upstream::{Behaviour, Upstream};

/// Stands in every place that must not be quoted.
const CANARY: &str = "canary-5f3a";

fn loaded(upstream: &Upstream) -> HttpCheck {
    let mut check = http(upstream);
    check.method = "POST".to_owned();
    check.path = Secret::new(format!("/{CANARY}?key={CANARY}"));
    check.headers = vec![("Authorization".to_owned(), Secret::new(format!("Bearer {CANARY}")))];
    check.body = Some(Secret::new(format!("{{\"key\":\"{CANARY}\"}}")));
    check
}

#[track_caller]
fn assert_silent(report: &Report) {
    assert!(!format!("{report:?}").contains(CANARY), "{report:?}");
    let detail = report.observation.detail.as_deref().unwrap_or("");
    assert!(detail.len() < 80, "a detail is short: {detail}");
}

#[tokio::test]
async fn no_answer_makes_a_report_quote_a_secret() {
    let canary = || CANARY.to_owned();
    let lines = format!("X-Key: {CANARY}\r\n");
    let behaviours = [
        Behaviour::Healthy,
        Behaviour::Refuse,
        Behaviour::Hang,
        Behaviour::Status(401),
        Behaviour::Status(404),
        Behaviour::Status(500),
        Behaviour::redirect(&format!("https://example.com/{CANARY}?key={CANARY}")),
        Behaviour::throttle(CANARY),
        Behaviour::Json(format!("{{\"errors\":[{{\"message\":\"{CANARY}\"}}]}}")),
        Behaviour::Answer(200, vec![("X-Key".to_owned(), canary())], canary()),
        Behaviour::Reply(format!("HTTP/1.1 500 {CANARY}\r\n\r\n").into()),
        Behaviour::Reply(format!("HTTP/1.1 {CANARY}\r\n\r\n").into()),
        Behaviour::Reply(format!("HTTP/1.1 200 OK\r\n{CANARY}\r\n\r\n").into()),
        Behaviour::Reply(format!("HTTP/1.1 200 OK\r\n{}\r\n", lines.repeat(200)).into()),
        Behaviour::Reply(format!("HTTP/1.1 200 OK\r\nContent-Length: {CANARY}\r\n\r\n").into()),
        Behaviour::Banner(canary().into()),
        Behaviour::Truncate,
        Behaviour::Reset,
    ];
    for behaviour in behaviours {
        let upstream = Upstream::start(behaviour);
        let mut check = loaded(&upstream);
        assert_silent(&get(&check, SHORT).await);
        check.expect.graphql = true;
        check.expect.json = BTreeMap::from([("/a".to_owned(), Some(CANARY.into()))]);
        assert_silent(&get(&check, SHORT).await);
        check.expect.graphql = false;
        check.expect.body_contains = vec![format!("{CANARY}!")];
        check.expect.headers = BTreeMap::from([("x-key".to_owned(), CANARY.to_owned())]);
        assert_silent(&get(&check, SHORT).await);
    }
}

#[tokio::test]
async fn no_request_that_cannot_be_sent_is_quoted() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let mut check = loaded(&upstream);
    check.path = Secret::new(format!("/ {CANARY}"));
    assert_silent(&get(&check, PATIENT).await);
    let mut check = loaded(&upstream);
    check.headers = vec![("Key".to_owned(), Secret::new(format!("{CANARY}\n")))];
    let report = get(&check, PATIENT).await;
    assert_eq!(outcome(&report), Outcome::ClientError);
    assert_silent(&report);
}

#[tokio::test]
async fn a_redirect_carries_our_headers_nowhere() {
    let elsewhere = Upstream::start(Behaviour::Healthy);
    let upstream = Upstream::start(Behaviour::redirect(&elsewhere.url()));
    assert_eq!(outcome(&get(&loaded(&upstream), PATIENT).await), Outcome::Protocol);
    assert!(upstream.last_request().contains(CANARY), "the endpoint itself gets them");
    assert_eq!((elsewhere.connections(), elsewhere.last_request().as_str()), (0, ""));
}

#[tokio::test]
async fn what_a_tcp_probe_sends_and_gets_is_not_quoted() {
    let upstream = Upstream::start(Behaviour::Raw(format!("-ERR {CANARY}\r\n").into()));
    let check = TcpCheck {
        target: target(upstream.port()),
        send: Some(Secret::new(format!("AUTH {CANARY}\r\n"))),
        expect: Some("+OK".to_owned()),
    };
    assert_silent(&attempt(Check::Tcp(check), PATIENT).await);
}

#[tokio::test]
async fn what_a_command_is_given_and_says_is_not_quoted() {
    let script = "echo \"$KEY\"; echo \"$KEY\" >&2; exit \"$CODE\"";
    for code in ["0", "1", "127"] {
        let env = [("KEY", CANARY), ("CODE", code)];
        let check = ExecCheck {
            argv: ["sh", "-c", script, CANARY].map(str::to_owned).to_vec(),
            env: env.map(|(name, value)| (name.to_owned(), Secret::from(value))).into(),
        };
        assert_silent(&attempt(Check::Exec(check), Duration::from_secs(20)).await);
    }
}

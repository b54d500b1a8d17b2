//! TCP: a connection, bytes to send, bytes to wait for.

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{Check, TcpCheck};
use mcp_failover::policy::secret::Secret;
use mcp_failover::probe::Report;

use super::{PATIENT, SHORT, assert_end, attempt, target};
use crate::common::upstream::{Behaviour, Upstream};

fn tcp(upstream: &Upstream, send: Option<&str>, expect: Option<&str>) -> Check {
    Check::Tcp(TcpCheck {
        target: target(upstream.port()),
        send: send.map(Secret::from),
        expect: expect.map(str::to_owned),
    })
}

async fn banner(bytes: &[u8], expect: &str) -> Report {
    let upstream = Upstream::start(Behaviour::Raw(bytes.to_vec()));
    attempt(tcp(&upstream, None, Some(expect)), PATIENT).await
}

#[tokio::test]
async fn a_connection_is_a_pass() {
    let upstream = Upstream::start(Behaviour::Hang);
    let report = attempt(tcp(&upstream, None, None), PATIENT).await;
    assert_end(&report, Outcome::Ok, "");
    assert!(report.phases.connect.is_some());
    assert_eq!(report.phases.first_byte, None, "nothing was waited for");
    upstream.set(Behaviour::Refuse);
    let report = attempt(tcp(&upstream, None, None), PATIENT).await;
    assert_end(&report, Outcome::Refused, "connection refused");
}

#[tokio::test]
async fn bytes_are_sent_and_the_answer_is_searched() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let request = Some("GET / HTTP/1.1\r\n\r\n");
    let report = attempt(tcp(&upstream, request, Some("\"ok\"")), PATIENT).await;
    assert_end(&report, Outcome::Ok, "");
    assert!(report.phases.first_byte.is_some());
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn an_answer_may_come_in_any_pieces() {
    let upstream = Upstream::start(Behaviour::Drip(std::time::Duration::from_millis(1)));
    let request = Some("GET / HTTP/1.1\r\n\r\n");
    let report = attempt(tcp(&upstream, request, Some("\r\n\r\nxxxxxxxx")), PATIENT).await;
    assert_end(&report, Outcome::Ok, "");
}

#[tokio::test]
async fn another_answer_fails() {
    assert_end(&banner(b"+PONG\r\n", "+PONG").await, Outcome::Ok, "");
    let report = banner(b"-LOADING\r\n", "+PONG").await;
    assert_end(&report, Outcome::Protocol, "answer lacks the expected bytes");
    let report = banner(b"", "+PONG").await;
    assert_end(&report, Outcome::Reset, "connection closed without an answer");
}

#[tokio::test]
async fn silence_runs_into_the_deadline() {
    let upstream = Upstream::start(Behaviour::Hang);
    let report = attempt(tcp(&upstream, None, Some("+PONG")), SHORT).await;
    assert_end(&report, Outcome::Timeout, "no answer within 250ms");
    upstream.set(Behaviour::Banner(b"+P".to_vec()));
    let report = attempt(tcp(&upstream, None, Some("+PONG")), SHORT).await;
    assert_end(&report, Outcome::Timeout, "no complete answer within 250ms");
}

#[tokio::test]
async fn a_flood_without_the_expected_bytes_is_cut() {
    let upstream = Upstream::start(Behaviour::Flood);
    let request = Some("GET / HTTP/1.1\r\n\r\n");
    let report = attempt(tcp(&upstream, request, Some("+PONG")), PATIENT).await;
    assert_end(&report, Outcome::Protocol, "answer lacks the expected bytes");
}

//! Servers that fail in every way they can, and those that mean harm: a typed outcome within the
//! deadline, and no more read than the limits allow.

use std::net::TcpListener;
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use tokio::net::TcpStream;

use super::{PATIENT, SHORT, assert_end, get, http, pointer, target};
use crate::common::upstream::{Behaviour, Upstream};

/// What a server can get rid of before it notices that nobody reads: kernel buffers, mostly.
pub(super) const BUFFERED: u64 = 16 * 1024 * 1024;

async fn assert_ends(behaviour: Behaviour, timeout: Duration, outcome: Outcome, detail: &str) {
    let upstream = Upstream::start(behaviour);
    let report = get(&http(&upstream), timeout).await;
    assert_end(&report, outcome, detail);
    assert!(upstream.bytes_sent() < BUFFERED, "{} bytes sent", upstream.bytes_sent());
}

#[tokio::test]
async fn refusing() {
    assert_ends(Behaviour::Refuse, PATIENT, Outcome::Refused, "connection refused").await;
}

#[tokio::test]
async fn accepting_and_hanging() {
    assert_ends(Behaviour::Hang, SHORT, Outcome::Timeout, "no answer within 250ms").await;
}

#[tokio::test]
async fn closing_at_once() {
    let detail = "connection closed without an answer";
    let upstream = Upstream::start(Behaviour::Close);
    let report = get(&http(&upstream), PATIENT).await;
    // Whether the close is seen as an end or as a reset depends on who was faster.
    let seen = report.observation.detail.as_deref();
    assert_eq!(report.observation.outcome, Outcome::Reset);
    assert!(seen == Some(detail) || seen == Some("connection reset"), "{report:?}");
}

#[tokio::test]
async fn dripping() {
    let drip = Behaviour::Drip(Duration::from_secs(1));
    assert_ends(drip, SHORT, Outcome::Timeout, "no complete answer within 250ms").await;
}

#[tokio::test]
async fn flooding_a_body_is_cut_and_passes_when_nobody_looks_at_it() {
    assert_ends(Behaviour::Flood, PATIENT, Outcome::Ok, "").await;
    assert_ends(Behaviour::Huge(10 << 30), PATIENT, Outcome::Ok, "").await;
}

#[tokio::test]
async fn flooding_a_body_that_is_looked_at_is_cut_too() {
    for behaviour in [Behaviour::Flood, Behaviour::Huge(10 << 30)] {
        let upstream = Upstream::start(behaviour);
        let mut check = http(&upstream);
        check.expect.json = pointer("/dimension", "1536");
        let report = get(&check, PATIENT).await;
        assert_end(&report, Outcome::Protocol, "body is too long to be read as JSON");
        assert!(upstream.bytes_sent() < BUFFERED, "{} bytes sent", upstream.bytes_sent());
    }
}

#[tokio::test]
async fn chopping_a_body_into_single_bytes() {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    bytes.extend(b"1\r\nx\r\n".repeat(1 << 20));
    assert_ends(Behaviour::Reply(bytes), PATIENT, Outcome::Ok, "").await;
}

#[tokio::test]
async fn flooding_headers() {
    let detail = "answer has too many or too long headers";
    assert_ends(Behaviour::HeaderFlood, PATIENT, Outcome::Protocol, detail).await;
}

#[tokio::test]
async fn too_many_headers_are_refused_and_just_enough_are_not() {
    let with = |count: usize| {
        let filler = "A: b\r\n".repeat(count - 1);
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{filler}\r\n");
        Behaviour::Reply(text.into_bytes())
    };
    assert_ends(with(100), PATIENT, Outcome::Ok, "").await;
    let detail = "answer has too many or too long headers";
    assert_ends(with(101), PATIENT, Outcome::Protocol, detail).await;
}

#[tokio::test]
async fn one_endless_header_line() {
    let mut bytes = b"HTTP/1.1 200 OK\r\nX-Long: ".to_vec();
    bytes.resize(1 << 20, b'x');
    let detail = "answer has too many or too long headers";
    assert_ends(Behaviour::Reply(bytes), PATIENT, Outcome::Protocol, detail).await;
}

#[tokio::test]
async fn interim_answers_without_end() {
    assert_ends(Behaviour::InterimFlood, PATIENT, Outcome::Protocol, "answer has no end").await;
}

#[tokio::test]
async fn one_interim_answer_is_in_order() {
    let text = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert_ends(Behaviour::Reply(text.into()), PATIENT, Outcome::Ok, "").await;
}

#[tokio::test]
async fn a_truncated_body() {
    let detail = "connection closed before the answer was complete";
    assert_ends(Behaviour::Truncate, PATIENT, Outcome::Reset, detail).await;
}

#[tokio::test]
async fn a_reset_in_the_middle_of_an_answer() {
    let upstream = Upstream::start(Behaviour::Reset);
    let report = get(&http(&upstream), PATIENT).await;
    assert_end(&report, Outcome::Reset, "connection reset");
}

#[tokio::test]
async fn half_a_head() {
    let upstream = Upstream::start(Behaviour::Reply(b"HTTP/1.1 200 OK\r\nContent-".to_vec()));
    let report = get(&http(&upstream), PATIENT).await;
    assert_eq!(report.observation.outcome, Outcome::Reset, "{report:?}");
}

#[tokio::test]
async fn something_else_on_the_port() {
    let not_http = "answer is not HTTP";
    let others: [&[u8]; 6] = [
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"220 mail.example.com ESMTP\r\n",
        b"-ERR unknown command 'GET'\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64",
        b"HTTP/1.1 abc OK\r\n\r\n",
    ];
    for bytes in others {
        let banner = Behaviour::Banner(bytes.to_vec());
        assert_ends(banner, PATIENT, Outcome::Protocol, not_http).await;
    }
    assert_ends(Behaviour::garbage(), PATIENT, Outcome::Protocol, not_http).await;
}

#[tokio::test]
async fn contradicting_lengths() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!";
    let upstream = Upstream::start(Behaviour::Reply(text.into()));
    let report = get(&http(&upstream), PATIENT).await;
    assert_eq!(report.observation.outcome, Outcome::Protocol, "{report:?}");
}

#[tokio::test]
async fn a_compressed_bomb_is_not_unpacked() {
    let headers = vec![("Content-Encoding".to_owned(), "gzip".to_owned())];
    let upstream =
        Upstream::start(Behaviour::Answer(200, headers, "\u{1f}not unpacked".to_owned()));
    let mut check = http(&upstream);
    assert_end(&get(&check, PATIENT).await, Outcome::Ok, "");
    check.expect.body_contains = vec!["unpacked".to_owned()];
    let detail = "body is compressed, though that was not offered";
    assert_end(&get(&check, PATIENT).await, Outcome::Protocol, detail);
}

#[tokio::test]
async fn a_redirect_leads_nowhere() {
    let canary = Upstream::start(Behaviour::Healthy);
    let upstream = Upstream::start(Behaviour::Healthy);
    for status in [300, 301, 302, 303, 307, 308] {
        let location = vec![("Location".to_owned(), canary.url())];
        upstream.set(Behaviour::Answer(status, location, String::new()));
        let report = get(&http(&upstream), PATIENT).await;
        let detail = format!("HTTP {status}: redirect to another address");
        assert_end(&report, Outcome::Protocol, &detail);
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn an_error_is_told_without_waiting_for_its_body() {
    let text = "HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\n";
    let stall = Behaviour::Stall(text.into());
    assert_ends(stall, PATIENT, Outcome::ServerError, "HTTP 503").await;
}

#[tokio::test]
async fn who_speaks_first_is_read_all_the_same() {
    let text = b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n";
    let banner = Behaviour::Banner(text.to_vec());
    assert_ends(banner, PATIENT, Outcome::ServerError, "HTTP 503").await;
}

#[tokio::test]
async fn a_body_whose_framing_is_nonsense() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let detail = "body is not framed as HTTP";
    for body in ["zz\r\n", "ffffffffffffffffff\r\n", "1\r\nxy\r\n"] {
        let stall = Behaviour::Stall(format!("{head}{body}").into());
        assert_ends(stall, PATIENT, Outcome::Protocol, detail).await;
    }
}

#[tokio::test]
async fn a_listener_that_drops_what_it_cannot_queue() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
        assert!(queued.len() < 100, "the queue never fills");
    }
    let upstream = Upstream::start(Behaviour::Refuse);
    let mut check = http(&upstream);
    check.target = target(address.port());
    let report = get(&check, SHORT).await;
    assert_end(&report, Outcome::Timeout, "no connection within 250ms");
}

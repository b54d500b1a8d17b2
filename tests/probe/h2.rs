//! HTTP/2 against peers that break it in every way they can: a typed outcome within the deadline,
//! and no more read than the limits allow. Against a server that keeps to it, see `nginx`.

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{HttpCheck, HttpVersion};

use super::h2_peer::{self as peer, Peer, Script, data, frame, headers};
use super::{PATIENT, SHORT, assert_end, get, outcome, target};
use crate::common::upstream::{Behaviour, Upstream};

fn h2(port: u16) -> HttpCheck {
    HttpCheck { version: HttpVersion::Http2, ..HttpCheck::new(target(port)) }
}

async fn assert_answer(bytes: Vec<u8>, outcome: Outcome, detail: &str) {
    let peer = Peer::start(Script::once(bytes));
    assert_end(&get(&h2(peer.port()), PATIENT).await, outcome, detail);
}

#[tokio::test]
async fn a_small_answer_passes_and_every_phase_is_timed() {
    let peer = Peer::start(Script::once([headers(&[peer::OK], false), data(b"ok", true)].concat()));
    let mut check = h2(peer.port());
    check.expect.body_contains = vec!["ok".to_owned()];
    let report = get(&check, PATIENT).await;
    assert_end(&report, Outcome::Ok, "");
    assert_eq!(report.status, Some(200));
    assert!(report.phases.connect.is_some() && report.phases.first_byte.is_some());
}

#[tokio::test]
async fn statuses_become_outcomes_and_say_for_how_long() {
    let status = |status: &str| [&[0x08, 3], status.as_bytes()].concat();
    let cases = [
        (headers(&[0x8d], true), Outcome::ClientError, "HTTP 404"),
        (headers(&[0x8e], true), Outcome::ServerError, "HTTP 500"),
        (headers(&status("403"), true), Outcome::Auth, "HTTP 403"),
        (headers(&status("429"), true), Outcome::Throttled { retry_after: None }, "HTTP 429"),
    ];
    for (bytes, outcome, detail) in cases {
        assert_answer(bytes, outcome, detail).await;
    }
    let block = [status("429"), peer::field("retry-after", "7")].concat();
    let retry_after = Some(std::time::Duration::from_secs(7));
    assert_answer(headers(&block, true), Outcome::Throttled { retry_after }, "HTTP 429").await;
}

#[tokio::test]
async fn what_is_not_http2_is_told_apart() {
    let others: [&[u8]; 3] =
        [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2p1\r\n", &[0xff; 64]];
    for bytes in others {
        let upstream = Upstream::start(Behaviour::Banner(bytes.to_vec()));
        let report = get(&h2(upstream.port()), PATIENT).await;
        assert_eq!(outcome(&report), Outcome::Protocol, "{report:?}");
    }
    let closing = Upstream::start(Behaviour::Close);
    assert_eq!(outcome(&get(&h2(closing.port()), PATIENT).await), Outcome::Reset);
    let refusing = Upstream::start(Behaviour::Refuse);
    let report = get(&h2(refusing.port()), PATIENT).await;
    assert_end(&report, Outcome::Refused, "connection refused");
    let hanging = Upstream::start(Behaviour::Hang);
    let report = get(&h2(hanging.port()), SHORT).await;
    assert_end(&report, Outcome::Timeout, "no answer within 250ms");
}

/// `begin`, then `repeat` without end.
async fn flood(begin: Vec<u8>, repeat: Vec<u8>) -> super::Report {
    let peer = Peer::start(Script { begin, repeat });
    let report = get(&h2(peer.port()), PATIENT).await;
    assert!(peer.sent() < super::hostile::BUFFERED, "{} bytes sent", peer.sent());
    report
}

#[tokio::test]
async fn frames_that_are_no_answer_do_not_come_without_end() {
    let floods = [
        ("pings", frame(peer::PING, 0, 0, &[0; 8])),
        ("settings", frame(peer::SETTINGS, 0, 0, &[])),
        ("window updates", frame(peer::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown frames", frame(0xee, 0, 0, &[0; 64])),
        ("interim answers", frame(peer::HEADERS, 4, 1, &[0x08, 3, b'1', b'0', b'0'])),
    ];
    for (what, repeat) in floods {
        let report = flood(Vec::new(), repeat).await;
        let bad = matches!(outcome(&report), Outcome::Protocol | Outcome::Throttled { .. });
        assert!(bad, "{what}: {report:?}");
    }
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let begin = frame(peer::HEADERS, 0, 1, &[peer::OK]);
    let more = peer::field("x-filler", &"a".repeat(100));
    for repeat in [more, Vec::new()] {
        let report = flood(begin.clone(), frame(peer::CONTINUATION, 0, 1, &repeat)).await;
        assert_eq!(outcome(&report), Outcome::Protocol, "{report:?}");
    }
}

#[tokio::test]
async fn a_head_of_too_many_bytes_is_refused() {
    let block = peer::field("x-filler", &"a".repeat(120)).repeat(300);
    let (first, rest) = block.split_at(16_000);
    let mut bytes = frame(peer::HEADERS, 0, 1, &[&[peer::OK][..], first].concat());
    let last = rest.chunks(16_000).count() - 1;
    for (index, piece) in rest.chunks(16_000).enumerate() {
        bytes.extend(frame(peer::CONTINUATION, if index == last { 4 } else { 0 }, 1, piece));
    }
    let peer = Peer::start(Script::once(bytes));
    let report = get(&h2(peer.port()), PATIENT).await;
    assert_eq!(outcome(&report), Outcome::Protocol, "{report:?}");
}

#[tokio::test]
async fn a_body_without_end_is_cut() {
    for piece in [data(&[b'x'; 1000], false), data(b"x", false)] {
        let report = flood(headers(&[peer::OK], false), piece).await;
        // A peer that sends more than it was allowed to is wrong; before that, nobody looks.
        assert!(matches!(outcome(&report), Outcome::Ok | Outcome::Protocol), "{report:?}");
    }
}

#[tokio::test]
async fn pieces_of_nothing_do_not_come_without_end() {
    let report = flood(headers(&[peer::OK], false), data(&[], false)).await;
    assert_ne!(outcome(&report), Outcome::Timeout, "{report:?}");
}

#[tokio::test]
async fn frames_that_are_wrong_are_refused() {
    let head = headers(&[peer::OK], false);
    let giant = [0xff, 0xff, 0xff, peer::DATA, 0, 0, 0, 0, 1].to_vec();
    let wrong = [
        ("a giant frame", giant),
        ("a body before its head", data(b"x", false)),
        ("a head that does not unpack", headers(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff], true)),
        ("a head without a status", headers(&peer::field("a", "b"), true)),
        ("two heads", [head.clone(), headers(&[peer::OK], false)].concat()),
        ("a stream nobody opened", frame(peer::DATA, 0, 7, b"x")),
        ("a push nobody wants", frame(peer::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2, 0x82])),
        ("a ping of nine bytes", frame(peer::PING, 0, 0, &[0; 9])),
        ("a window too large", frame(peer::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        (
            "an upper-case header",
            headers(&[&[peer::OK][..], &peer::field("A", "b")].concat(), true),
        ),
    ];
    for (what, bytes) in wrong {
        let peer = Peer::start(Script::once(bytes));
        let report = get(&h2(peer.port()), PATIENT).await;
        assert_eq!(outcome(&report), Outcome::Protocol, "{what}: {report:?}");
    }
}

#[tokio::test]
async fn who_breaks_off_says_why() {
    let reset = |reason: u8| frame(peer::RST_STREAM, 0, 1, &[0, 0, 0, reason]);
    let goaway = |reason: u8| frame(peer::GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, reason]);
    let throttled = Outcome::Throttled { retry_after: None };
    let cases = [
        (0, Outcome::Reset, "connection closed without an answer"),
        (2, Outcome::ServerError, "server failed"),
        (7, Outcome::ServerError, "server refused the request"),
        (8, Outcome::Reset, "connection closed without an answer"),
        (11, throttled, "server asks for calm"),
        (13, Outcome::Protocol, "server wants HTTP/1.1"),
        (1, Outcome::Protocol, "server broke off with HTTP/2 error 1"),
    ];
    for (reason, outcome, detail) in cases {
        assert_answer(reset(reason), outcome, detail).await;
        assert_answer(goaway(reason), outcome, detail).await;
    }
    let storm = flood(Vec::new(), reset(8)).await;
    assert_eq!(outcome(&storm), Outcome::Reset, "{storm:?}");
}

#[tokio::test]
async fn an_answer_cut_in_the_middle_is_a_reset() {
    let bytes =
        [headers(&[peer::OK], false), frame(peer::RST_STREAM, 0, 1, &[0, 0, 0, 8])].concat();
    let detail = "connection closed before the answer was complete";
    assert_answer(bytes, Outcome::Reset, detail).await;
}

#[tokio::test]
async fn an_answer_that_never_ends_reaches_the_deadline() {
    let peer = Peer::start(Script::once(headers(&[peer::OK], false)));
    let report = get(&h2(peer.port()), SHORT).await;
    assert_end(&report, Outcome::Timeout, "no complete answer within 250ms");
}

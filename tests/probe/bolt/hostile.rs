//! Bolt servers that mean harm: a typed outcome within the deadline, and little read.

use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{BoltDepth, Check};
use mcp_failover::probe::codec::chunk::MESSAGE_MAX;
use mcp_failover::probe::codec::packstream::Value;

use super::stub::{HELLO, Instead, LOGON, PULL, ROUTE, RUN, Script, Stub};
use super::{check, map, probe, text};
use crate::probe::{PATIENT, SHORT, assert_end, attempt, target};

/// What a server can get rid of before it notices that nobody reads: kernel buffers, mostly.
const BUFFERED: u64 = 16 * 1024 * 1024;

async fn assert_ends(instead: Instead, timeout: Duration, outcome: Outcome, detail: &str) {
    let stub = Stub::start(Script::instead(HELLO, instead)).await;
    let check = check(target(stub.port()), BoltDepth::Query);
    let report = attempt(Check::Bolt(Box::new(check)), timeout).await;
    assert_end(&report, outcome, detail);
    assert!(stub.bytes_sent() < BUFFERED, "{} bytes sent", stub.bytes_sent());
}

#[tokio::test]
async fn keepalives_without_end() {
    let flood = Instead::Flood(vec![0; 4096]);
    assert_ends(flood, PATIENT, Outcome::Protocol, "answer has no end").await;
    let drip = Instead::Drip(vec![0, 0], Duration::from_millis(1));
    assert_ends(drip, SHORT, Outcome::Timeout, "no complete answer within 250ms").await;
}

#[tokio::test]
async fn a_message_without_end() {
    let chunk = [vec![0xFF, 0xFF], [0xC0].repeat(0xFFFF)].concat();
    assert_ends(Instead::Flood(chunk), PATIENT, Outcome::Protocol, "message is too long").await;
    let chunks = Instead::Flood(b"\x00\x01\xC0".repeat(1000));
    assert_ends(chunks, PATIENT, Outcome::Protocol, "answer has no end").await;
}

#[tokio::test]
async fn a_chunk_that_never_comes() {
    let promised = Instead::Send(vec![0xFF, 0xFF, 0xB1]);
    assert_ends(promised, SHORT, Outcome::Timeout, "no complete answer within 250ms").await;
    let cut = Instead::Close(vec![0xFF, 0xFF, 0xB1]);
    let detail = "connection closed before the answer was complete";
    assert_ends(cut, PATIENT, Outcome::Reset, detail).await;
}

#[tokio::test]
async fn dripping_a_message() {
    let drip = Instead::Drip(b"\x00\x03\xB1\x70\xA0".to_vec(), Duration::from_secs(1));
    assert_ends(drip, SHORT, Outcome::Timeout, "no complete answer within 250ms").await;
}

#[tokio::test]
async fn bytes_that_are_no_message() {
    for (message, detail) in [
        (vec![0x91; 1000], "message is not PackStream"),
        (vec![0xB1; 1000], "message is not PackStream"),
        (vec![0xB1, 0x70, 0xDA, 0xFF, 0xFF, 0xFF, 0xFF], "message is not PackStream"),
        (vec![0xB1, 0x70, 0xD6, 0x7F, 0xFF, 0xFF, 0xFF], "message is not PackStream"),
        (
            [vec![0xB1, 0x70, 0xD5, 0xFF, 0xF0], [0xC0].repeat(0xFFF0)].concat(),
            "message is not PackStream",
        ),
        (vec![0xC4], "message is not PackStream"),
        (vec![0xB0, 0x70], "message is not one of Bolt's"),
        (vec![0xB1, 0x55, 0xA0], "message is not one of Bolt's"),
        (vec![0x01], "message is not one of Bolt's"),
        (vec![0xB1, 0x7F, 0xA0], "failure without a code"),
        (vec![0xB0, 0x7E], "answer is out of order"),
        (vec![0xB1, 0x71, 0x90], "answer is out of order"),
    ] {
        assert!(message.len() <= MESSAGE_MAX);
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        let framed = [length.as_slice(), &message, &[0, 0]].concat();
        assert_ends(Instead::Send(framed), PATIENT, Outcome::Protocol, detail).await;
    }
}

#[tokio::test]
async fn records_without_end() {
    let record = b"\x00\x04\xB1\x71\x91\x01\x00\x00";
    let flood = Instead::Flood(record.repeat(500));
    let stub = Stub::start(Script::instead(PULL, flood)).await;
    let check = check(target(stub.port()), BoltDepth::Query);
    let report = attempt(Check::Bolt(Box::new(check)), PATIENT).await;
    assert_end(&report, Outcome::Protocol, "answer has no end");
    assert!(stub.bytes_sent() < BUFFERED, "{} bytes sent", stub.bytes_sent());
}

#[tokio::test]
async fn leaving_at_any_moment() {
    for tag in [HELLO, LOGON, RUN, PULL] {
        let script = Script::instead(tag, Instead::Close(Vec::new()));
        let report = probe(script, BoltDepth::Query).await;
        assert_eq!(report.observation.outcome, Outcome::Reset, "{tag:#x} {report:?}");
    }
}

#[tokio::test]
async fn nothing_that_is_secret_or_foreign_is_quoted() {
    const CANARY: &str = "canary-5f3a";
    let known = map(&[("code", text(&format!("Neo.ClientError.Security.{CANARY}")))]);
    let strange = map(&[("server", text(CANARY)), ("rt", text(CANARY))]);
    for said in [
        Value::Structure { tag: 0x7F, fields: vec![known] },
        Value::Structure { tag: 0x70, fields: vec![strange] },
        Value::Structure { tag: 0x71, fields: vec![Value::List(vec![text(CANARY)])] },
        text(CANARY),
    ] {
        for tag in [HELLO, LOGON, RUN, PULL, ROUTE] {
            let script = Script::instead(tag, Instead::Say(said.clone()));
            let stub = Stub::start(script).await;
            let mut check = check(target(stub.port()), BoltDepth::Query);
            check.login = Some(super::login(CANARY, CANARY));
            check.database = Some(CANARY.to_owned());
            check.role = mcp_failover::policy::model::Role::Writer;
            check.server = Some("Neo4j".to_owned());
            let report = attempt(Check::Bolt(Box::new(check)), SHORT).await;
            assert!(!format!("{report:?}").contains(CANARY), "{report:?}");
        }
    }
}

//! The official driver: what it says is what we say, and the stub is a server to it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{BoltCheck, BoltDepth, Role};
use mcp_failover::probe::codec::packstream::{self, Value};
use serde_json::json;
use tokio::process::Command;

use super::stub::{GOODBYE, HELLO, LOGON, Opening, PULL, ROUTE, RUN, Script, Stub};
use super::{bolt, check, login, manifest};
use crate::common;
use crate::probe::{PATIENT, assert_end, target};

/// How our probe calls itself.
const AGENT: &str = concat!("mcp-failover/", env!("CARGO_PKG_VERSION"));

fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/venv/bin/python");
    if own.is_file() { own } else { PathBuf::from("python3") }
}

async fn has_driver() -> bool {
    let import = Command::new(python()).args(["-c", "import neo4j"]).stderr(Stdio::null()).status();
    let has = import.await.is_ok_and(|status| status.success());
    if !has {
        common::skip("the neo4j driver for Python is not installed");
    }
    has
}

/// Lets the driver run `RETURN 1`, and returns what it saw.
async fn drive(scheme: &str, stub: &Stub) -> serde_json::Value {
    let uri = format!("{scheme}://127.0.0.1:{}", stub.port());
    let driver = Command::new(python())
        .args(["-c", include_str!("driver.py"), &uri, "neo4j", "secret", AGENT])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(3 * PATIENT, driver).await.expect("the driver ends").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

async fn stub(opening: Opening) -> Stub {
    Stub::start(Script { login: Some(("neo4j", "secret")), ..Script::of(opening) }).await
}

fn like_the_driver(stub: &Stub) -> BoltCheck {
    BoltCheck {
        login: Some(login("neo4j", "secret")),
        database: Some("neo4j".to_owned()),
        ..check(target(stub.port()), BoltDepth::Query)
    }
}

/// What a stub heard, in the words of the fixture.
fn said(stub: &Stub) -> Vec<(&'static str, Vec<u8>)> {
    let heard = stub.heard();
    let message = |tag| stub.message(tag).unwrap_or_default();
    vec![
        ("greeting", heard[..20].to_vec()),
        ("choice", heard[20..25].to_vec()),
        ("logon", message(LOGON)),
        ("run", message(RUN)),
        ("pull", message(PULL)),
        ("goodbye", message(GOODBYE)),
    ]
}

/// The captured words.
fn captured() -> Vec<(&'static str, Vec<u8>)> {
    let lines = include_str!("driver.txt").lines().filter(|line| !line.starts_with('#'));
    let word = |line: &'static str| {
        let (name, hex) = line.split_once(' ').expect("a name and bytes");
        let digits: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        (name, digits.chunks(2).map(|pair| byte(pair).expect("hex")).collect())
    };
    lines.map(word).collect()
}

#[tokio::test]
async fn we_say_what_the_official_driver_was_heard_to_say() {
    let stub = stub(manifest()).await;
    assert_end(&bolt(like_the_driver(&stub)).await, Outcome::Ok, "");
    stub.farewell().await;
    assert_eq!(said(&stub), captured());
}

#[tokio::test]
async fn the_official_driver_still_says_what_it_was_heard_to_say() {
    if !has_driver().await {
        return;
    }
    let stub = stub(manifest()).await;
    drive("bolt", &stub).await;
    stub.farewell().await;
    assert_eq!(said(&stub), captured());
    // Of itself it says more than we do; under the same names.
    let theirs = keys(&stub.message(HELLO).unwrap());
    bolt(like_the_driver(&stub)).await;
    assert_eq!(keys(stub.messages(HELLO).last().unwrap()), theirs);
}

fn keys(hello: &[u8]) -> Vec<String> {
    entries(hello).into_iter().map(|(key, _)| key).collect()
}

/// What a message of one map holds.
fn entries(message: &[u8]) -> Vec<(String, Value)> {
    match packstream::decode(message) {
        Ok(Value::Structure { fields, .. }) => match fields.into_iter().next() {
            Some(Value::Map(entries)) => entries,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_stub_is_a_server_to_the_official_driver_at_every_version() {
    if !has_driver().await {
        return;
    }
    for (opening, version) in [
        (Opening::Pick(4, 4), [4, 4]),
        (Opening::Pick(5, 0), [5, 0]),
        (Opening::Pick(5, 4), [5, 4]),
        (manifest(), [5, 8]),
    ] {
        let stub = stub(opening).await;
        let seen = drive("bolt", &stub).await;
        let wanted = json!({ "value": 1, "agent": "Neo4j/5.26.0", "protocol": version });
        assert_eq!(seen, wanted);
    }
}

#[tokio::test]
async fn we_ask_for_routes_as_the_official_driver_does() {
    if !has_driver().await {
        return;
    }
    for opening in [Opening::Pick(4, 4), manifest()] {
        let stub = stub(opening.clone()).await;
        assert_eq!(drive("neo4j", &stub).await["value"], 1);
        let theirs = stub.message(ROUTE).expect("the driver routes");
        let check = BoltCheck { role: Role::Writer, ..like_the_driver(&stub) };
        assert_end(&bolt(check).await, Outcome::Ok, "");
        assert_eq!(stub.messages(ROUTE).last(), Some(&theirs), "{opening:?}");
    }
}

#[tokio::test]
async fn before_logon_the_credential_is_where_the_official_driver_puts_it() {
    if !has_driver().await {
        return;
    }
    for opening in [Opening::Pick(4, 4), Opening::Pick(5, 0)] {
        let stub = stub(opening.clone()).await;
        drive("bolt", &stub).await;
        bolt(like_the_driver(&stub)).await;
        for tag in [RUN, PULL] {
            let said = stub.messages(tag);
            assert_eq!((said.len(), said.first()), (2, said.last()), "{opening:?} {tag:#x}");
        }
        let hello = stub.messages(HELLO);
        let mut theirs = entries(&hello[0]);
        // Asks a 4.4 server for times in another form, of which we need none.
        theirs.retain(|(key, _)| key != "patch_bolt");
        assert_eq!(entries(&hello[1]), theirs, "{opening:?}");
    }
}

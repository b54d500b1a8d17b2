//! Callers and upstreams that mean no good.

use std::io::{Read, Write};
use std::time::Duration;

use super::caller::{get, send};
use super::rig::{Plan, Rig, eventually};
use crate::common::upstream::{Behaviour, Upstream};

fn rig(output: &str) -> (Upstream, Upstream, Rig) {
    let (primary, backup) =
        (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy));
    let mut plan = Plan::new(&primary.url(), &backup.url(), output);
    // Probed over TCP, so that every request seen is a caller's.
    plan.probe = "type = \"tcp\"".to_owned();
    let rig = Rig::start(&plan);
    (primary, backup, rig)
}

#[test]
fn a_request_cannot_be_smuggled_in_another() {
    let (primary, backup, rig) = rig("");
    let inner = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let chunked = format!("0\r\n\r\n{inner}");
    for heads in [
        format!("Content-Length: {}\r\nContent-Length: 3", chunked.len()),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".to_owned(),
        format!("Content-Length: +{}", chunked.len()),
        "X-Folded: one\r\n two".to_owned(),
        "Bad Name: x".to_owned(),
    ] {
        let request =
            format!("POST /outer HTTP/1.1\r\nHost: localhost\r\n{heads}\r\n\r\n{chunked}");
        let status = send(rig.address, request.as_bytes()).map(|answer| answer.status);
        assert_eq!(status.unwrap_or(400), 400, "{heads}");
    }
    assert_eq!(primary.requests() + backup.requests(), 0);
    // The length is dropped, as it must be; what follows the body is a request of its own.
    let length = format!("Content-Length: {}", chunked.len());
    let coding = "Transfer-Encoding: chunked".to_owned();
    for both in [[&length, &coding], [&coding, &length]] {
        let lines = both.map(|line| format!("{line}\r\n")).concat();
        let request = format!("POST /outer HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n{chunked}");
        send(rig.address, request.as_bytes());
        let seen = primary.last_request().to_lowercase();
        assert!(!seen.contains("smuggled") || seen.starts_with("get /smuggled"), "{seen}");
        assert!(!(seen.contains("content-length") && seen.contains("transfer-encoding")), "{seen}");
    }
}

#[test]
fn heads_are_bounded() {
    let (primary, backup, rig) = rig("");
    let many = "X-A: b\r\n".repeat(1_000);
    let long = format!("X-A: {}\r\n", "b".repeat(1 << 20));
    for lines in [many, long] {
        let status = get(rig.address, "/", &lines).map(|answer| answer.status);
        assert!(matches!(status, None | Some(400 | 431)), "{status:?}");
    }
    assert_eq!(primary.requests() + backup.requests(), 0);
    assert_eq!(get(rig.address, "/", "").expect("it serves on").status, 200);
}

#[test]
fn a_caller_who_never_finishes_its_head_is_dropped() {
    let (_primary, _backup, rig) = rig("idle_timeout = \"1s\"\nmax_connections = 2");
    let mut slow: Vec<_> = (0..2).map(|_| rig.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: local").expect("sent");
    }
    for stream in &mut slow {
        // A word of farewell or none: it ends.
        let mut rest = Vec::new();
        let _ended = stream.read_to_end(&mut rest);
        assert!(!String::from_utf8_lossy(&rest).contains("200"));
    }
    eventually("its place is free again", || {
        get(rig.address, "/", "").filter(|answer| answer.status == 200).map(drop)
    });
}

#[test]
fn a_page_from_elsewhere_gets_nothing() {
    let (primary, backup, rig) = rig("headers = { Authorization = \"${endpoint.env.KEY}\" }");
    for request in [
        "GET / HTTP/1.1\r\nHost: rebound.example.com\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://example.com\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n",
    ] {
        assert_eq!(send(rig.address, request.as_bytes()).expect("an answer").status, 403);
    }
    assert_eq!(primary.requests() + backup.requests(), 0);
}

#[test]
fn a_hostile_upstream_harms_only_itself() {
    let (primary, _backup, rig) = rig("first_byte_timeout = \"3s\"");
    for behaviour in [
        Behaviour::HeaderFlood,
        Behaviour::garbage(),
        Behaviour::InterimFlood,
        Behaviour::Reply(
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd".to_vec(),
        ),
        Behaviour::Close,
        Behaviour::Reset,
    ] {
        let shown = format!("{behaviour:?}");
        primary.set(behaviour);
        let answer = get(rig.address, "/", "");
        // The backup's answer, or word that nobody answers; never what the other one sent.
        let fine = answer.is_none_or(|answer| {
            (answer.status == 200 && answer.body.contains("ok")) || answer.status >= 502
        });
        assert!(fine, "{shown}");
    }
    primary.set(Behaviour::Healthy);
    eventually("it serves on", || {
        get(rig.address, "/", "").filter(|answer| answer.status == 200).map(drop)
    });
}

#[test]
fn there_are_never_more_requests_than_allowed() {
    let (primary, _backup, rig) = rig("max_connections = 3");
    primary.set(Behaviour::Hang);
    let post = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let mut held = Vec::new();
    // One more than fits is turned away, so trying again does no harm.
    eventually("three are at the upstream", || {
        let mut stream = rig.connect();
        stream.write_all(post).ok()?;
        held.push(stream);
        (primary.requests() >= 3).then_some(())
    });
    assert!(get(rig.address, "/", "").is_none(), "a fourth is turned away at once");
    drop(held);
    primary.set(Behaviour::Healthy);
    eventually("their places are free again", || {
        std::thread::sleep(Duration::from_millis(5)); // poll
        get(rig.address, "/", "").filter(|answer| answer.status == 200).map(drop)
    });
}

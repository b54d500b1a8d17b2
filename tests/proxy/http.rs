//! What HTTP callers get.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::caller::{self, Scripted, get, post, read_answer, read_chunk, read_head};
use super::rig::{Plan, Rig, eventually};
use crate::common::upstream::{Behaviour, Upstream};

fn named(name: &str) -> Upstream {
    Upstream::start(Behaviour::Json(format!("{{\"name\":\"{name}\"}}")))
}

#[test]
fn the_policys_headers_replace_the_callers_and_the_host_is_the_endpoints() {
    let (primary, backup) = (named("primary"), named("backup"));
    let url = format!("{}/base", primary.url());
    let mut plan = Plan::new(&url, &backup.url(), "");
    plan.output = "headers = { Authorization = \"Bearer ${endpoint.env.KEY}\" }".to_owned();
    // Probed over TCP, so that every request seen is a caller's.
    plan.probe = "type = \"tcp\"".to_owned();
    let rig = Rig::start(&plan);
    let lines = "Authorization: Bearer mine\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Kept: 2\r\n";
    let answer = get(rig.address, "/path?q=1", lines).expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"name\":\"primary\"}"));
    let seen = primary.last_request().to_lowercase();
    assert!(seen.starts_with("get /base/path?q=1 http/1.1\r\n"), "{seen}");
    assert!(
        seen.contains("authorization: bearer canary-one\r\n") && !seen.contains("mine"),
        "{seen}"
    );
    assert!(seen.contains(&format!("host: {}\r\n", primary.address())), "{seen}");
    assert!(seen.contains("x-kept: 2") && !seen.contains("x-hop"), "{seen}");
    primary.set(Behaviour::Refuse);
    let answer = get(rig.address, "/", "").expect("an answer");
    assert_eq!(answer.body, "{\"name\":\"backup\"}");
    assert!(backup.last_request().to_lowercase().contains("bearer canary-two"));
    assert!(!rig.log().contains("canary"), "a secret in the log: {}", rig.log());
}

/// 200 requests a second, each on its own connection, until told to stop.
fn load(rig: &Rig, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<(usize, Vec<String>)> {
    let (address, stop) = (rig.address, Arc::clone(stop));
    std::thread::spawn(move || {
        let mut sent = 0;
        let mut failed = Vec::new();
        while !stop.load(Ordering::SeqCst) {
            let due = Duration::from_millis(5);
            let since = tokio::time::Instant::now();
            sent += 1;
            match get(address, "/", "") {
                Some(answer) if answer.status == 200 => {}
                other => failed.push(format!("{other:?}")),
            }
            if let Some(rest) = due.checked_sub(since.elapsed()) {
                std::thread::sleep(rest); // poll
            }
        }
        (sent, failed)
    })
}

#[test]
fn killing_an_upstream_under_load_fails_no_idempotent_request() {
    let (primary, backup) = (named("primary"), named("backup"));
    let rig = Rig::start(&Plan::new(&primary.url(), &backup.url(), ""));
    let stop = Arc::new(AtomicBool::new(false));
    let client = load(&rig, &stop);
    eventually("load", || (primary.requests() > 100).then_some(()));
    primary.set(Behaviour::Refuse);
    rig.wait_for("backup");
    primary.set(Behaviour::Healthy);
    eventually("the primary is good again", || {
        let status = rig.status()?;
        let primary = &status["endpoints"]["primary"];
        (primary["health"] == "healthy" && primary["breaker"] == "closed").then_some(())
    });
    let before = backup.requests();
    eventually("load", || (backup.requests() > before + 100).then_some(()));
    // The other way: not refused, but answering that it cannot serve.
    backup.set(Behaviour::Status(503));
    rig.wait_for("primary");
    stop.store(true, Ordering::SeqCst);
    let (sent, failed) = client.join().expect("the client");
    assert!(sent > 200, "{sent}");
    assert!(failed.is_empty(), "{} of {sent} failed: {:?}", failed.len(), failed.first());
}

#[test]
fn a_request_to_an_endpoint_that_hangs_ends_on_the_backup() {
    let (primary, backup) = (named("primary"), named("backup"));
    let rig = Rig::start(&Plan::new(&primary.url(), &backup.url(), ""));
    primary.set(Behaviour::Hang);
    let began = tokio::time::Instant::now();
    let answer = get(rig.address, "/", "").expect("an answer");
    assert_eq!(answer.body, "{\"name\":\"backup\"}");
    // The deadline for a first byte is a minute: only the switch can have ended it.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn a_post_that_may_have_been_done_is_never_sent_twice() {
    let posts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&posts);
    let rude = Scripted::start(move |stream| {
        let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
        while let Some((first, headers)) = read_head(&mut reader) {
            caller::read_body(&mut reader, &headers);
            if first.starts_with("POST") {
                count.fetch_add(1, Ordering::SeqCst);
                return;
            }
            (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok();
        }
    });
    let backup = named("backup");
    let rig = Rig::start(&Plan::new(&rude.url(), &backup.url(), ""));
    let answer = post(rig.address, "/", "{}").expect("an answer");
    assert_eq!(answer.status, 502);
    assert_eq!(posts.load(Ordering::SeqCst), 1);
    assert!(!backup.last_request().starts_with("POST"));
}

#[test]
fn a_post_that_was_not_sent_goes_elsewhere_whole() {
    let (primary, backup) = (named("primary"), named("backup"));
    let mut plan = Plan::new(&primary.url(), &backup.url(), "");
    plan.probe =
        "type = \"http\"\npath = \"/\"\ninterval = \"60s\"\nfast_interval = \"60s\"".to_owned();
    let rig = Rig::start(&plan);
    primary.set(Behaviour::Refuse);
    let body = "x".repeat(200_000);
    let answer = post(rig.address, "/", &body).expect("an answer");
    assert_eq!(answer.status, 200);
    let seen = backup.last_request();
    assert!(seen.starts_with("POST") && seen.ends_with(&body), "{} bytes", seen.len());
}

#[test]
fn events_and_uploads_are_passed_on_as_they_come() {
    let (told, hears) = mpsc::channel::<String>();
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let told = std::sync::Mutex::new(told);
    let upstream = Scripted::start(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
        while let Some((first, _)) = read_head(&mut reader) {
            if first.starts_with("POST /stream") {
                while let Some(chunk @ [_, ..]) = read_chunk(&mut reader).as_deref() {
                    let text = String::from_utf8_lossy(chunk).into_owned();
                    told.lock().expect("told").send(text).ok();
                }
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                            transfer-encoding: chunked\r\n\r\n";
                stream.write_all(head.as_bytes()).ok();
                while wait.lock().expect("wait").recv().is_ok() {
                    stream.write_all(b"9\r\ndata: x\n\n\r\n").ok();
                }
                return;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok();
        }
    });
    let backup = named("backup");
    let rig = Rig::start(&Plan::new(&upstream.url(), &backup.url(), "idle_timeout = \"1s\""));
    let mut stream = rig.connect();
    let head = format!(
        "POST /stream HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        rig.address
    );
    stream.write_all(head.as_bytes()).expect("sent");
    for piece in ["one", "two"] {
        stream.write_all(format!("3\r\n{piece}\r\n").as_bytes()).expect("sent");
        assert_eq!(hears.recv_timeout(super::rig::PATIENCE).expect("it arrives"), piece);
    }
    stream.write_all(b"0\r\n\r\n").expect("sent");
    let mut reader = BufReader::new(stream);
    let (first, _) = read_head(&mut reader).expect("an answer");
    assert!(first.contains("200"), "{first}");
    for _ in 0..3 {
        go.send(()).expect("the upstream lives");
        let event = read_chunk(&mut reader).expect("an event");
        assert_eq!(event, b"data: x\n\n");
    }
}

#[test]
fn an_event_stream_of_an_endpoint_that_was_left_ends() {
    let stream_of = |mut stream: TcpStream| {
        let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
        while let Some((first, _)) = read_head(&mut reader) {
            if first.starts_with("GET /events") {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                            transfer-encoding: chunked\r\n\r\n3\r\n: x\r\n";
                stream.write_all(head.as_bytes()).ok();
                let _held = stream.read(&mut [0]);
                return;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok();
        }
    };
    let (primary, backup) = (Scripted::start(stream_of), named("backup"));
    let rig = Rig::start(&Plan::new(&primary.url(), &backup.url(), "drain = \"200ms\""));
    let mut stream = rig.connect();
    write!(stream, "GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", rig.address).expect("sent");
    let mut reader = BufReader::new(stream);
    read_head(&mut reader).expect("an answer");
    read_chunk(&mut reader).expect("an event");
    rig.switch("backup");
    assert_eq!(read_chunk(&mut reader), None, "cut once its time was up");
}

#[test]
fn a_websocket_goes_through() {
    let echo = |mut stream: TcpStream| {
        let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
        while let Some((_, headers)) = read_head(&mut reader) {
            if !headers.iter().any(|(name, value)| name == "upgrade" && value == "websocket") {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok();
                continue;
            }
            let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                        upgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";
            stream.write_all(head.as_bytes()).ok();
            let mut bytes = [0; 64];
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                stream.write_all(&bytes[..read]).ok();
            }
            return;
        }
    };
    let (primary, backup) = (Scripted::start(echo), named("backup"));
    let rig = Rig::start(&Plan::new(&primary.url(), &backup.url(), ""));
    let mut stream = rig.connect();
    write!(
        stream,
        "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: eA==\r\n\r\n",
        rig.address
    )
    .expect("sent");
    let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
    let (first, headers) = read_head(&mut reader).expect("an answer");
    assert!(first.contains("101"), "{first}");
    assert!(headers.contains(&("sec-websocket-accept".to_owned(), "x".to_owned())));
    for word in ["hello", "again"] {
        stream.write_all(word.as_bytes()).expect("sent");
        let mut back = [0; 5];
        reader.read_exact(&mut back).expect("an echo");
        assert_eq!(back, word.as_bytes());
    }
}

#[test]
fn peers_take_turns() {
    let (one, two) = (named("one"), named("two"));
    let mut plan = Plan::new(&one.url(), &two.url(), "");
    plan.peers = true;
    plan.service = "strategy = \"round_robin\"";
    let rig = Rig::start(&plan);
    eventually("both are known to be good", || {
        let status = rig.status()?;
        (status["endpoints"]["backup"]["health"] == "healthy").then_some(())
    });
    let answers = || (0..20).filter_map(|_| get(rig.address, "/", "")).map(|answer| answer.body);
    eventually("each takes half", || {
        let ones = answers().filter(|body| body.contains("one")).count();
        (ones == 10).then_some(())
    });
}

#[test]
fn a_call_goes_where_the_fewest_are_open() {
    let (one, two) = (named("one"), named("two"));
    let mut plan = Plan::new(&one.url(), &two.url(), "");
    plan.peers = true;
    plan.service = "strategy = \"least_connections\"";
    plan.probe = "type = \"tcp\"".to_owned();
    let rig = Rig::start(&plan);
    eventually("both are known to be good", || {
        let status = rig.status()?;
        (status["endpoints"]["backup"]["health"] == "healthy").then_some(())
    });
    one.set(Behaviour::Slow(Duration::from_secs(20)));
    let address = rig.address;
    let (before_one, before_two) = (one.requests(), two.requests());
    let held: Vec<_> = (0..4).map(|_| std::thread::spawn(move || get(address, "/", ""))).collect();
    eventually("one holds a call", || (one.requests() > before_one).then_some(()));
    for _ in 0..10 {
        assert_eq!(get(address, "/", "").expect("an answer").body, "{\"name\":\"two\"}");
    }
    assert!(two.requests() >= before_two + 10);
    drop(held);
}

#[test]
fn an_edit_of_the_policy_breaks_no_connection() {
    let (primary, backup) = (named("primary"), named("backup"));
    let mut plan = Plan::new(&primary.url(), &backup.url(), "");
    let rig = Rig::start(&plan);
    let mut reader = BufReader::new(rig.connect());
    let mut ask = |lines: &str| {
        write!(reader.get_mut(), "GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").expect("sent");
        read_answer(&mut reader).expect("an answer on the same connection")
    };
    assert_eq!(ask("").status, 200);
    plan.output = "headers = { X-Edited = \"yes\" }\nfirst_byte_timeout = \"9s\"".to_owned();
    rig.write(&plan);
    eventually("the edit is in force", || {
        ask("");
        primary.last_request().to_lowercase().contains("x-edited: yes").then_some(())
    });
}

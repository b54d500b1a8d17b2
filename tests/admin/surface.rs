//! What the HTTP surface shows, and what it costs.

use std::time::Duration;

use mcp_failover::admin::http::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::fixture::{DEADLINE, Surface};

#[tokio::test]
async fn the_status_keeps_its_contract() {
    let surface = Surface::start().await;
    let reply = surface.get("/status").await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let document = reply.json();
    assert_eq!(document["schema"], 1);
    assert_eq!(document["revision"], 7);
    let policy = &document["policy"];
    assert_eq!(policy["digest"], "5f".repeat(32));
    assert_eq!(policy["valid"], true);
    assert_eq!(policy["loaded_at"], "2026-01-01T00:00:01.000Z");
    let service = &document["services"]["vectors"];
    for (key, value) in [
        ("active", "secondary".into()),
        ("critical", true.into()),
        ("strategy", "priority".into()),
        ("state", "failed_over".into()),
        ("breaker", "closed".into()),
        ("pinned", serde_json::Value::Null),
    ] {
        assert_eq!(service[key], value, "{key}");
        assert!(service.get(key).is_some(), "{key} is always there");
    }
    let endpoint = &service["endpoints"]["primary"];
    for (key, value) in [
        ("health", "unhealthy".into()),
        ("admin", "enabled".into()),
        ("score", serde_json::json!(0.12)),
        ("breaker", "open".into()),
        ("tier", 0.into()),
        ("last_outcome", "server_error".into()),
        ("last_probe_at", "2026-01-01T00:01:40.000Z".into()),
        ("latency_seconds", serde_json::json!(1.31)),
    ] {
        assert_eq!(endpoint[key], value, "{key}");
    }
    let again: mcp_failover::admin::document::StatusDocument =
        serde_json::from_value(document).expect("the document reads back");
    assert_eq!(again, super::fixture::document());
}

#[tokio::test]
async fn a_reader_of_a_loop_that_stands_still_is_told_so() {
    let surface = Surface::start_from(Limits::default(), None).await;
    for route in ["/status", "/metrics"] {
        let reply = surface.get(route).await;
        assert_eq!(reply.code, 503, "{route}");
        assert_eq!(reply.body, "the decision loop stands still\n");
    }
}

#[tokio::test]
async fn the_history_is_one_object_a_line_newest_first() {
    let surface = Surface::start().await;
    let reply = surface.get("/history?n=3&service=vectors").await;
    let lines: Vec<serde_json::Value> =
        reply.body.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let revisions: Vec<_> = lines.iter().map(|line| line["revision"].clone()).collect();
    assert_eq!(revisions, [7, 6, 5]);
    for key in ["schema", "at", "service", "from", "to", "kind", "cause", "evidence"] {
        assert!(lines[0].get(key).is_some(), "{key}");
    }
    assert_eq!(surface.get("/history?service=other").await.body, "");
    for query in ["n=x", "n=-1", "n=10001", "m=1", "n", "service=", "service=%2e"] {
        assert_eq!(surface.get(&format!("/history?{query}")).await.code, 400, "{query}");
    }
}

#[tokio::test]
async fn health_is_the_loop_and_readiness_is_policy_and_outputs() {
    let surface = Surface::start().await;
    assert_eq!(surface.get("/healthz").await.code, 200);
    let ready = surface.get("/readyz").await;
    assert_eq!((ready.code, ready.json()["status"].as_str()), (503, Some("no policy is loaded")));
    surface.vitals.set_policy_loaded(true);
    assert_eq!(surface.get("/readyz").await.code, 503);
    surface.vitals.set_outputs_written(true);
    assert_eq!(surface.get("/readyz").await.code, 200);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_stands_still_is_not_alive() {
    let vitals = mcp_failover::admin::vitals::Vitals::new();
    tokio::time::advance(Duration::from_secs(9)).await;
    assert!(vitals.is_alive());
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(!vitals.is_alive());
    vitals.beat();
    assert!(vitals.is_alive());
}

#[tokio::test]
async fn head_tells_the_length_and_sends_nothing() {
    let surface = Surface::start().await;
    for route in ["/", "/status", "/history", "/metrics", "/healthz"] {
        let host = format!("host: {}", surface.address);
        let reply = surface.ask("HEAD", route, &[&host]).await;
        assert_eq!((reply.code, reply.body.as_str()), (200, ""), "{route}");
    }
}

#[tokio::test]
async fn the_page_runs_its_own_script_and_no_other() {
    let surface = Surface::start().await;
    let reply = surface.get("/").await;
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = reply.header("content-security-policy").expect("a policy");
    assert!(policy.contains("script-src 'sha256-"), "{policy}");
    assert!(policy.contains("style-src 'sha256-"), "{policy}");
    assert!(policy.contains("connect-src 'self'"), "{policy}");
}

fn tight() -> Limits {
    Limits {
        connections: 4,
        streams: 2,
        head: Duration::from_millis(200),
        stall: Duration::from_millis(200),
        heartbeat: Duration::from_millis(50),
    }
}

#[tokio::test]
async fn a_client_who_says_nothing_or_half_is_cut_off() {
    let surface = Surface::start_with(tight()).await;
    for start in ["", "GET /sta", "GET /status HTTP/1.1\r\nhost: localhost\r\nx-slow: "] {
        let mut stream = surface.connect().await;
        stream.write_all(start.as_bytes()).await.expect("taken");
        let mut rest = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("cut off").ok();
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{start}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_cut_off_after_its_answer() {
    let surface = Surface::start_with(tight()).await;
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", surface.address);
    // Without `connection: close` only the idle bound ends it.
    assert_eq!(surface.raw(request.as_bytes()).await.code, 200);
}

#[tokio::test]
async fn one_client_too_many_is_turned_away_and_let_in_later() {
    let surface = Surface::start_with(Limits { connections: 4, ..Limits::default() }).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = surface.connect().await;
        let request = format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", surface.address);
        stream.write_all(request.as_bytes()).await.expect("taken");
        let mut first = [0; 12];
        timeout(DEADLINE, stream.read_exact(&mut first))
            .await
            .expect("in time")
            .expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(stream);
    }
    assert_eq!(surface.get("/healthz").await.code, 503);
    drop(held);
    let admitted = async {
        while surface.get("/healthz").await.code != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, admitted).await.expect("places are given back");
}

#[tokio::test]
async fn garbage_and_floods_get_an_error_and_harm_nobody() {
    let surface = Surface::start().await;
    let many = "x-many: y\r\n".repeat(200);
    let huge = format!("x-huge: {}\r\n", "y".repeat(1 << 20));
    for request in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"\0\0\0\0\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\nhost: localhost\r\n\r\n".to_vec(),
        b"GET  /status  HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"CONNECT example.com:443 HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        format!("GET / HTTP/1.1\r\nhost: localhost\r\n{many}\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\nhost: localhost\r\n{huge}\r\n").into_bytes(),
        b"GET / HTTP/1.1\r\nhost: localhost\r\nhost : x\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
    ] {
        let mut stream = surface.connect().await;
        stream.write_all(&request).await.ok();
        stream.shutdown().await.ok();
        let mut answer = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an end").ok();
        let shown = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{shown}");
    }
    assert_eq!(surface.get("/healthz").await.code, 200);
}

#[tokio::test]
async fn stopping_lets_an_answer_end_and_closes_streams() {
    let mut surface = Surface::start().await;
    let mut stream = surface.connect().await;
    let request = format!("GET /events HTTP/1.1\r\nhost: {}\r\n\r\n", surface.address);
    stream.write_all(request.as_bytes()).await.expect("taken");
    let mut first = [0; 12];
    timeout(DEADLINE, stream.read_exact(&mut first)).await.expect("in time").expect("an answer");
    surface.cancel.cancel();
    let task = std::mem::replace(&mut surface.task, tokio::spawn(async {}));
    timeout(DEADLINE, task).await.expect("the server ends").expect("without a panic");
    let mut rest = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("the stream ends").ok();
}

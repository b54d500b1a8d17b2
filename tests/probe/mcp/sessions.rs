//! Sessions begin, and they end: whatever comes between.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{Check, McpCheck, McpEra, Probe};
use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;

use super::fake::{Fake, Reply};
use super::{PATIENT, ask, assert_end, assert_ok, expecting, mcp, prober};
use crate::probe::SHORT;
use crate::probe::peer::{Running, until};

const WHOLE: [&str; 4] = ["initialize", "notifications/initialized", "ping", "DELETE"];

fn legacy(port: u16) -> McpCheck {
    let mut check = mcp(port);
    check.era = McpEra::Legacy;
    check
}

#[tokio::test]
async fn a_session_is_begun_used_and_ended_in_the_version_agreed_on() {
    let fake = Fake::legacy(|_| None).await;
    assert_ok(&ask(&prober(), &legacy(fake.port()), PATIENT).await);
    assert_eq!(fake.methods(), WHOLE);
    let seen = fake.seen();
    assert_eq!(
        (seen[0].header("mcp-session-id"), seen[0].header("mcp-protocol-version")),
        ("", "")
    );
    assert_eq!(seen[0].body["params"]["protocolVersion"], "2025-11-25");
    for later in &seen[1..] {
        assert_eq!(later.header("mcp-session-id"), "session-1", "{}", later.raw);
        assert_eq!(later.header("mcp-protocol-version"), "2025-06-18", "{}", later.raw);
        assert_eq!(later.header("mcp-method"), "", "{}", later.raw);
    }
    for post in &seen[..3] {
        assert!(post.raw.starts_with("POST /mcp HTTP/1.1\r\n"), "{}", post.raw);
        assert_eq!(post.header("content-type"), "application/json");
        assert_eq!(post.header("accept"), "application/json, text/event-stream");
    }
    assert!(seen[3].raw.starts_with("DELETE /mcp HTTP/1.1\r\n"), "{}", seen[3].raw);
}

#[tokio::test]
async fn a_server_without_sessions_is_left_without_a_word() {
    let fake = Fake::legacy(|seen| {
        (seen.method() == "initialize")
            .then(|| seen.result(&json!({ "protocolVersion": "2025-03-26", "capabilities": {} })))
    })
    .await;
    assert_ok(&ask(&prober(), &legacy(fake.port()), PATIENT).await);
    assert_eq!(fake.methods(), WHOLE[..3]);
    // That version knows no header for it.
    assert!(fake.seen().iter().all(|seen| seen.header("mcp-protocol-version").is_empty()));
}

#[tokio::test]
async fn a_session_is_ended_also_when_a_later_step_fails() {
    let guard = Reply::new(401, &[("WWW-Authenticate", "Bearer")], "");
    let half = Reply::new(200, &[("Mcp-Session-Id", "session-1")], "half an ans");
    let cases = [
        ("ping", Reply::new(503, &[], ""), Outcome::ServerError, "HTTP 503"),
        ("ping", Reply::new(200, &[], "what?"), Outcome::Protocol, "answer is not JSON-RPC"),
        ("notifications/initialized", guard, Outcome::Auth, "HTTP 401"),
        ("initialize", half, Outcome::Protocol, "answer is not JSON-RPC"),
    ];
    for (method, reply, outcome, detail) in cases {
        let fake = Fake::legacy(move |seen| (seen.method() == method).then(|| reply.clone())).await;
        let prober = prober();
        assert_end(&ask(&prober, &legacy(fake.port()), PATIENT).await, outcome, detail);
        prober.settled().await;
        assert_eq!(fake.methods().last().unwrap(), "DELETE", "{method}");
    }
    let fake = Fake::legacy(|_| None).await;
    let mut other = expecting(fake.port(), &[], Some("somebody else"));
    other.era = McpEra::Legacy;
    let report = ask(&prober(), &other, PATIENT).await;
    assert_end(&report, Outcome::Protocol, "server has another name");
    assert_eq!(fake.methods(), ["initialize", "DELETE"]);
}

/// Deadlines to try in turn: on a busy machine the first may come before anything was asked.
const DEADLINES: [Duration; 3] = [SHORT, Duration::from_secs(2), Duration::from_secs(8)];

#[tokio::test]
async fn a_session_is_ended_also_when_the_deadline_comes_first() {
    for deadline in DEADLINES {
        let fake = Fake::legacy(|seen| (seen.method() == "ping").then(Reply::never)).await;
        let prober = prober();
        let report = ask(&prober, &legacy(fake.port()), deadline).await;
        assert_eq!(report.observation.outcome, Outcome::Timeout, "{report:?}");
        prober.settled().await;
        let methods = fake.methods();
        if methods.contains(&"ping".to_owned()) {
            assert_eq!(methods, WHOLE);
            let detail = format!("no answer to ping within {deadline:?}");
            return assert_end(&report, Outcome::Timeout, &detail);
        }
    }
    panic!("no attempt came as far as a ping");
}

#[tokio::test]
async fn a_session_is_ended_also_when_it_was_granted_too_late() {
    for deadline in DEADLINES {
        let fake = Fake::start(move |seen| match seen.method() {
            "initialize" => {
                let result = json!({ "protocolVersion": "2025-06-18", "capabilities": {} });
                let late = deadline + SHORT;
                seen.result(&result).with("Mcp-Session-Id", "late").after(late)
            }
            _ => Reply::new(200, &[], ""),
        })
        .await;
        let prober = prober();
        let report = ask(&prober, &legacy(fake.port()), deadline).await;
        assert_eq!(report.observation.outcome, Outcome::Timeout, "{report:?}");
        prober.settled().await;
        let seen = fake.seen();
        if !seen.is_empty() {
            assert_eq!(fake.methods(), ["initialize", "DELETE"]);
            // Nobody read which version was agreed on, so none is named.
            let said = (seen[1].header("mcp-session-id"), seen[1].header("mcp-protocol-version"));
            return assert_eq!(said, ("late", ""));
        }
    }
    panic!("no attempt came as far as a request");
}

#[tokio::test]
async fn a_session_is_ended_also_when_the_attempt_is_abandoned() {
    let fake = Fake::legacy(|seen| (seen.method() == "ping").then(Reply::never)).await;
    let prober = Arc::new(prober());
    let probe = Probe::new(PATIENT, Check::Mcp(Box::new(legacy(fake.port()))));
    let runner = Arc::clone(&prober);
    let attempt = tokio::spawn(async move { runner.run(&probe, PATIENT).await });
    fake.asked_for("ping").await;
    attempt.abort();
    assert!(attempt.await.unwrap_err().is_cancelled());
    prober.settled().await;
    assert_eq!(fake.methods(), WHOLE);
}

#[tokio::test]
async fn a_farewell_changes_neither_the_verdict_nor_the_latency() {
    let prober = prober();
    let refused = Fake::legacy(|seen| (seen.method() == "DELETE").then(|| seen.error(405, -32000)));
    let report = ask(&prober, &legacy(refused.await.port()), PATIENT).await;
    assert_ok(&report);
    assert_eq!(report.status, Some(200), "that of the last answer that counts");
    let never = Fake::legacy(|seen| (seen.method() == "DELETE").then(Reply::never)).await;
    let begun = Instant::now();
    let report = ask(&prober, &legacy(never.port()), PATIENT).await;
    assert_ok(&report);
    // The attempt waits for the answer a while, which is not counted.
    let uncounted = begun.elapsed().saturating_sub(report.observation.latency);
    assert!(uncounted > Duration::from_millis(900), "{uncounted:?}");
}

#[tokio::test]
async fn a_farewell_gives_way_to_the_deadline() {
    for deadline in DEADLINES {
        let never = Fake::legacy(|seen| (seen.method() == "DELETE").then(Reply::never)).await;
        let report = ask(&prober(), &legacy(never.port()), deadline).await;
        if never.methods().contains(&"DELETE".to_owned()) {
            return assert_ok(&report);
        }
    }
    panic!("no attempt came as far as a farewell");
}

#[tokio::test]
async fn a_session_that_is_lost_is_begun_anew_once() {
    for status in [404, 400] {
        let lost = AtomicUsize::new(0);
        let fake = Fake::legacy(move |seen| {
            let first = seen.method() == "ping" && lost.fetch_add(1, Ordering::SeqCst) == 0;
            first.then(|| seen.error(status, -32000))
        })
        .await;
        assert_ok(&ask(&prober(), &legacy(fake.port()), PATIENT).await);
        assert_eq!(fake.methods(), [WHOLE, WHOLE].concat());
        let always =
            Fake::legacy(move |seen| (seen.method() == "ping").then(|| seen.error(status, -32000)))
                .await;
        let report = ask(&prober(), &legacy(always.port()), PATIENT).await;
        assert_end(&report, Outcome::Protocol, "server forgets its sessions");
        assert_eq!(always.methods(), [WHOLE, WHOLE].concat());
    }
}

#[tokio::test]
async fn one_connection_serves_the_whole_attempt_unless_the_server_closes_it() {
    let closing = Fake::legacy(|seen| match seen.method() {
        "notifications/initialized" => Some(Reply::new(202, &[], "").then_close()),
        _ => None,
    })
    .await;
    assert_ok(&ask(&prober(), &legacy(closing.port()), PATIENT).await);
    let polite = Fake::legacy(|seen| match seen.method() {
        "notifications/initialized" => Some(Reply::new(202, &[("Connection", "close")], "")),
        _ => None,
    })
    .await;
    assert_ok(&ask(&prober(), &legacy(polite.port()), PATIENT).await);
    assert_eq!(polite.methods(), WHOLE);
}

#[tokio::test]
async fn tools_are_found_on_any_page() {
    let fake = Fake::legacy(|seen| {
        let page = match seen.body["params"]["cursor"].as_str() {
            None => json!({ "tools": [{ "name": "one" }], "nextCursor": "p2" }),
            Some("p2") => json!({ "tools": [{ "name": "two" }], "nextCursor": "p3" }),
            Some(_) => json!({ "tools": [{ "name": "three" }] }),
        };
        (seen.method() == "tools/list").then(|| seen.result(&page))
    })
    .await;
    let prober = prober();
    let with = |tools: &[&str]| {
        let mut check = expecting(fake.port(), tools, Some("fake"));
        check.era = McpEra::Legacy;
        check
    };
    assert_ok(&ask(&prober, &with(&["three", "one"]), PATIENT).await);
    let asked = ["initialize", "notifications/initialized"];
    let turned = ["tools/list", "tools/list", "tools/list", "DELETE"];
    assert_eq!(fake.methods(), [&asked[..], &turned].concat());
    let report = ask(&prober, &with(&["four"]), PATIENT).await;
    assert_end(&report, Outcome::Protocol, "tool \"four\" is missing");
}

#[tokio::test]
async fn a_sidecar_that_ends_ends_the_sessions_of_its_attempts() {
    let fake = Fake::legacy(|seen| (seen.method() == "ping").then(Reply::never)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let policy = format!(
        "version = 1\n[sidecar]\nstate_dir = {:?}\n[admin]\nlisten = \"off\"\n[control]\n\
         socket = {:?}\n[services.a]\nprobe = {{ type = \"mcp\", era = \"legacy\", timeout = \"30s\" }}\n\
         endpoints = [{{ name = \"a\", url = \"http://127.0.0.1:{}/mcp\" }}]\n\
         [[outputs]]\ntype = \"env_file\"\npath = {:?}\n",
        path("state"),
        path("control"),
        fake.port(),
        path("env"),
    );
    std::fs::write(path("failover.toml"), policy).expect("a writable folder");
    let binary = env!("CARGO_BIN_EXE_mcp-failover");
    let mut command = std::process::Command::new(binary);
    command.arg("run").arg("--policy").arg(path("failover.toml"));
    let mut sidecar = Running::start(&mut command);
    until("an attempt is under way", || async { fake.methods().contains(&"ping".to_owned()) })
        .await;
    tokio::task::spawn_blocking(move || sidecar.end(Signal::TERM)).await.expect("it ends");
    assert!(fake.methods().contains(&"DELETE".to_owned()), "{:?}", fake.methods());
}

//! Which era a server speaks is found out, remembered, and found out again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::McpEra;
use mcp_failover::policy::secret::Secret;
use serde_json::json;

use super::fake::{Fake, Reply, Seen};
use super::{PATIENT, ask, assert_end, assert_ok, expecting, mcp, prober};

#[tokio::test]
async fn a_modern_server_is_asked_one_question() {
    let fake = Fake::modern(|_| None).await;
    let prober = prober();
    for _ in 0..2 {
        assert_ok(&ask(&prober, &mcp(fake.port()), PATIENT).await);
    }
    assert_eq!(fake.methods(), ["server/discover"; 2]);
    let seen = fake.seen();
    assert_eq!(seen[0].header("mcp-protocol-version"), "2026-07-28");
    assert_eq!(seen[0].header("mcp-method"), "server/discover");
    assert_eq!(seen[0].header("content-type"), "application/json");
    assert_eq!(seen[0].header("accept"), "application/json, text/event-stream");
    assert_ne!(seen[0].body["id"], seen[1].body["id"], "no answer fits two questions");
    assert_ok(&ask(&prober, &expecting(fake.port(), &["greet"], Some("fake")), PATIENT).await);
    let list = fake.asked_for("tools/list").await;
    assert_eq!(list.header("mcp-method"), "tools/list");
    let meta = &list.body["params"]["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
}

#[tokio::test]
async fn a_legacy_server_is_asked_in_the_modern_way_only_once() {
    let fake = Fake::legacy(|_| None).await;
    let prober = prober();
    for _ in 0..3 {
        assert_ok(&ask(&prober, &mcp(fake.port()), PATIENT).await);
    }
    let whole = ["initialize", "notifications/initialized", "ping", "DELETE"];
    let expected = [&["server/discover"][..], &whole, &whole, &whole].concat();
    assert_eq!(fake.methods(), expected);
    // Another path may be another server.
    let mut other = mcp(fake.port());
    other.http.path = Secret::from("/other");
    assert_ok(&ask(&prober, &other, PATIENT).await);
    assert_eq!(fake.methods()[expected.len()], "server/discover");
}

/// Serves in the era that the switch says.
async fn turncoat(modern: &Arc<AtomicBool>) -> Fake {
    let modern = Arc::clone(modern);
    Fake::legacy(move |seen| {
        let as_modern = || match seen.method() {
            "server/discover" => seen.result(&json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"],
            })),
            _ => seen.error(404, -32601),
        };
        modern.load(Ordering::SeqCst).then(as_modern)
    })
    .await
}

#[tokio::test]
async fn a_server_that_changes_its_era_is_followed_within_the_attempt() {
    let modern = Arc::new(AtomicBool::new(true));
    let fake = turncoat(&modern).await;
    let prober = prober();
    for era in [true, false, true, true, false] {
        modern.store(era, Ordering::SeqCst);
        assert_ok(&ask(&prober, &mcp(fake.port()), PATIENT).await);
    }
}

#[tokio::test]
async fn a_server_of_another_era_than_the_configured_one_is_told() {
    let (modern, legacy) = (Fake::modern(|_| None).await, Fake::legacy(|_| None).await);
    let detail = "server does not speak the era of MCP that is configured";
    let prober = prober();
    for (fake, era) in [(&modern, McpEra::Legacy), (&legacy, McpEra::Modern)] {
        let mut check = mcp(fake.port());
        check.era = era;
        let report = ask(&prober, &check, PATIENT).await;
        assert_end(&report, Outcome::Protocol, detail);
        check.era = McpEra::Auto;
        assert_ok(&ask(&prober, &check, PATIENT).await);
    }
}

#[tokio::test]
async fn a_server_of_the_future_is_asked_in_a_version_of_its_own() {
    let fake = Fake::modern(|seen| {
        let old = seen.header("mcp-protocol-version") == "2026-07-28";
        let data = json!({ "supported": ["2027-01-15", "2027-06-30"], "requested": "2026-07-28" });
        let error = json!({ "code": -32022, "message": "no", "data": data });
        let refusal = json!({ "jsonrpc": "2.0", "id": seen.body["id"], "error": error });
        old.then(|| Reply::json(400, &refusal))
    })
    .await;
    let prober = prober();
    for _ in 0..2 {
        assert_ok(&ask(&prober, &mcp(fake.port()), PATIENT).await);
    }
    let versions: Vec<_> =
        fake.seen().iter().map(|seen| seen.header("mcp-protocol-version").to_owned()).collect();
    assert_eq!(versions, ["2026-07-28", "2027-06-30", "2027-06-30"], "and that is remembered");
}

#[tokio::test]
async fn a_server_that_speaks_neither_era_is_told() {
    let fake = Fake::start(|seen| seen.error(404, -32601)).await;
    let report = ask(&prober(), &mcp(fake.port()), PATIENT).await;
    let detail = "server speaks no version of MCP that this build knows";
    assert_end(&report, Outcome::Protocol, detail);
    let website = Fake::start(|_| Reply::new(200, &[], "<html>welcome</html>")).await;
    let report = ask(&prober(), &mcp(website.port()), PATIENT).await;
    assert_end(&report, Outcome::Protocol, "answer is not JSON-RPC");
    let elsewhere = Fake::start(|_| Reply::new(404, &[], "")).await;
    let report = ask(&prober(), &mcp(elsewhere.port()), PATIENT).await;
    assert_end(&report, Outcome::ClientError, "HTTP 404");
}

#[tokio::test]
async fn a_server_that_asks_for_a_credential_is_there() {
    let challenge = [("WWW-Authenticate", "Bearer resource_metadata=\"https://example.com/\"")];
    let fake = Fake::start(move |_| Reply::new(401, &challenge, "")).await;
    let mut check = mcp(fake.port());
    assert_end(&ask(&prober(), &check, PATIENT).await, Outcome::Auth, "HTTP 401");
    check.expect.unauthorized = true;
    assert_ok(&ask(&prober(), &check, PATIENT).await);
    let forbidding = Fake::start(move |_| Reply::new(403, &challenge, "")).await;
    check.http.target.port = forbidding.port();
    assert_end(&ask(&prober(), &check, PATIENT).await, Outcome::Auth, "HTTP 403");
    let silent = Fake::start(|_| Reply::new(401, &[], "")).await;
    check.http.target.port = silent.port();
    assert_end(&ask(&prober(), &check, PATIENT).await, Outcome::Auth, "HTTP 401");
}

/// Answers every request with an event stream: `{}` stands for the answer's data.
async fn streaming(template: &'static str, complete: bool) -> Fake {
    Fake::modern(move |seen: &Seen| {
        let result = json!({ "resultType": "complete", "supportedVersions": ["2026-07-28"] });
        let data = json!({ "jsonrpc": "2.0", "id": seen.body["id"], "result": result });
        let half = data.to_string().replace(',', ",\ndata: ");
        let text = template.replace("{}", &data.to_string()).replace("{split}", &half);
        Some(Reply::stream(&text, complete))
    })
    .await
}

#[tokio::test]
async fn an_answer_is_found_in_every_form_of_an_event_stream() {
    for (template, complete) in [
        ("event: message\ndata: {}\n\n", true),
        ("event: message\r\ndata: {}\r\n\r\n", true),
        ("data: {}\r\r", true),
        ("id: 1\ndata: \n\nevent: message\nid: 2\ndata: {}\n\n", true),
        (": ping\n\nretry: 10\n\ndata:{}\n\n", true),
        ("data: {split}\n\n", true),
        ("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\ndata: {}\n\n", true),
        ("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n\ndata: {}\n\n", true),
        ("data: [{}]\n\n", true),
        ("data: {}", true),
        // A stream that goes on is not waited for.
        ("data: {}\n\n", false),
    ] {
        let fake = streaming(template, complete).await;
        assert_ok(&ask(&prober(), &mcp(fake.port()), PATIENT).await);
        assert_eq!(fake.methods(), ["server/discover"], "{template:?}");
    }
}

#[tokio::test]
async fn a_stream_or_an_answer_to_somebody_else_is_none() {
    let detail = |text: &'static str| async move {
        let fake = Fake::start(move |_| Reply::stream(text, true)).await;
        let mut check = mcp(fake.port());
        check.era = McpEra::Legacy;
        ask(&prober(), &check, PATIENT).await
    };
    let ended = "event stream ended without the answer";
    let wrong = "data: {\"jsonrpc\":\"2.0\",\"id\":999999,\"result\":{}}\n\n";
    assert_end(&detail(wrong).await, Outcome::Protocol, ended);
    assert_end(&detail("").await, Outcome::Protocol, ended);
    assert_end(&detail(": only comments\n\n").await, Outcome::Protocol, ended);
    let cached = Fake::modern(|seen| {
        let result = json!({ "resultType": "complete", "supportedVersions": ["2026-07-28"] });
        Some(seen.result(&result).with("Age", "12"))
    })
    .await;
    let mut check = mcp(cached.port());
    check.era = McpEra::Legacy;
    let report = ask(&prober(), &check, PATIENT).await;
    assert_end(&report, Outcome::Protocol, "answer comes from a cache");
}

#[tokio::test]
async fn a_late_answer_is_degraded() {
    let late = Duration::from_millis(60);
    let fake = Fake::modern(move |seen| {
        let result = json!({ "resultType": "complete", "supportedVersions": ["2026-07-28"] });
        Some(seen.result(&result).after(late))
    })
    .await;
    let mut check = mcp(fake.port());
    check.expect.slow = Some(Duration::from_millis(50));
    let report = ask(&prober(), &check, PATIENT).await;
    assert_end(&report, Outcome::Degraded, "slow: took longer than 50ms");
}

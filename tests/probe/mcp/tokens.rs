//! Bearer tokens: made, kept, renewed, and never more told than must be.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{Check, HttpCheck, JwtSigner, OAuthClient, Probe, TokenSource};
use mcp_failover::policy::secret::Secret;
use mcp_failover::probe::{Prober, Report};
use serde_json::json;

use super::fake::{Fake, Reply};
use super::{PATIENT, ask, assert_end, assert_ok, mcp, prober};
use crate::probe::{SHORT, target};

const CANARY: &str = "canary-5f3a";

fn client(port: u16) -> TokenSource {
    TokenSource::OAuth(Box::new(OAuthClient {
        target: target(port),
        tls: None,
        path: Secret::from("/token"),
        client_id: Secret::from("me"),
        client_secret: Secret::from(CANARY),
        scope: Some("mcp".to_owned()),
        resource: Some("https://mcp.example.com/mcp".to_owned()),
    }))
}

/// A token endpoint whose tokens are numbered, and valid for this many seconds.
async fn issuer(expires_in: u64) -> Fake {
    let count = AtomicUsize::new(0);
    Fake::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let token = format!("token-{number}");
        let answer =
            json!({ "access_token": token, "token_type": "Bearer", "expires_in": expires_in });
        Reply::json(200, &answer)
    })
    .await
}

/// A server that lets in whoever shows one of these.
async fn guarded(accepted: &'static [&'static str]) -> Fake {
    Fake::modern(move |seen| {
        let shown = seen.header("authorization").strip_prefix("Bearer ").unwrap_or_default();
        let challenge = [("WWW-Authenticate", "Bearer")];
        (!accepted.contains(&shown)).then(|| Reply::new(401, &challenge, ""))
    })
    .await
}

/// A plain HTTP probe with a token.
async fn get(prober: &Prober, port: u16, token: TokenSource) -> Report {
    let check = HttpCheck { token: Some(token), ..HttpCheck::new(target(port)) };
    let probe = Probe::new(PATIENT, Check::Http(Box::new(check)));
    Box::pin(prober.run(&probe, PATIENT)).await
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_kept() {
    let (issuer, server) = (issuer(3600).await, guarded(&["token-1"]).await);
    let prober = prober();
    let mut check = mcp(server.port());
    check.http.token = Some(client(issuer.port()));
    for _ in 0..3 {
        assert_ok(&ask(&prober, &check, PATIENT).await);
    }
    let asked = issuer.seen();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].raw.starts_with("POST /token HTTP/1.1\r\n"), "{}", asked[0].raw);
    assert_eq!(asked[0].header("content-type"), "application/x-www-form-urlencoded");
    // "me:canary-5f3a" in base 64.
    assert_eq!(asked[0].header("authorization"), "Basic bWU6Y2FuYXJ5LTVmM2E=");
    let body = "grant_type=client_credentials&scope=mcp\
                &resource=https%3A%2F%2Fmcp.example.com%2Fmcp";
    assert!(asked[0].raw.ends_with(body), "{}", asked[0].raw);
}

#[tokio::test]
async fn attempts_at_the_same_time_share_one_request_for_it() {
    let (issuer, server) = (issuer(3600).await, guarded(&["token-1"]).await);
    let prober = prober();
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (prober, mut check) = (prober.clone(), mcp(server.port()));
        check.http.token = Some(client(issuer.port()));
        attempts.spawn(async move { ask(&prober, &check, PATIENT).await });
    }
    while let Some(report) = attempts.join_next().await {
        assert_ok(&report.unwrap());
    }
    assert_eq!(issuer.seen().len(), 1);
}

#[tokio::test]
async fn a_token_that_is_about_to_end_is_replaced() {
    let (issuer, server) = (issuer(0).await, guarded(&["token-1", "token-2"]).await);
    let prober = prober();
    let mut check = mcp(server.port());
    check.http.token = Some(client(issuer.port()));
    for _ in 0..2 {
        assert_ok(&ask(&prober, &check, PATIENT).await);
    }
    assert_eq!(issuer.seen().len(), 2);
}

#[tokio::test]
async fn a_kept_token_that_is_refused_is_replaced_within_the_attempt() {
    let issuer = issuer(3600).await;
    let revoked = AtomicUsize::new(0);
    let server = Fake::start(move |seen| {
        let fine = match seen.header("authorization") {
            "Bearer token-1" => revoked.fetch_add(1, Ordering::SeqCst) == 0,
            "Bearer token-2" => true,
            _ => false,
        };
        Reply::new(if fine { 200 } else { 401 }, &[], "")
    })
    .await;
    let prober = prober();
    for _ in 0..3 {
        assert_ok(&get(&prober, server.port(), client(issuer.port())).await);
    }
    let shown: Vec<_> =
        server.seen().iter().map(|seen| seen.header("authorization").to_owned()).collect();
    let expected = ["Bearer token-1", "Bearer token-1", "Bearer token-2", "Bearer token-2"];
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn a_token_that_is_refused_at_once_is_no_reason_to_ask_for_more() {
    let (issuer, server) = (issuer(3600).await, guarded(&["another"]).await);
    let prober = prober();
    let mut check = mcp(server.port());
    check.http.token = Some(client(issuer.port()));
    assert_end(&ask(&prober, &check, PATIENT).await, Outcome::Auth, "HTTP 401");
    assert_eq!(issuer.seen().len(), 1);
    assert_end(&ask(&prober, &check, PATIENT).await, Outcome::Auth, "HTTP 401");
    assert_eq!(issuer.seen().len(), 2, "the kept one may have been at fault");
}

#[tokio::test]
async fn what_a_token_endpoint_does_is_told_as_its_own_doing() {
    let refusal = |status, error: &str| Reply::json(status, &json!({ "error": error }));
    let cases = [
        (refusal(401, "invalid_client"), Outcome::Auth, "HTTP 401: invalid_client"),
        (refusal(400, "invalid_target"), Outcome::ClientError, "HTTP 400: invalid_target"),
        (refusal(400, CANARY), Outcome::ClientError, "HTTP 400"),
        (refusal(503, "invalid_client"), Outcome::ServerError, "HTTP 503"),
        (Reply::new(429, &[], ""), Outcome::Throttled { retry_after: None }, "HTTP 429"),
        (
            Reply::new(302, &[("Location", "https://example.com/")], ""),
            Outcome::Protocol,
            "HTTP 302: redirect to another address",
        ),
        (Reply::new(200, &[], "<html>"), Outcome::Protocol, "answer holds no token"),
        (Reply::raw("what?"), Outcome::Protocol, "answer is not HTTP"),
    ];
    let server = guarded(&[]).await;
    for (reply, outcome, detail) in cases {
        let issuer = Fake::start(move |_| reply.clone()).await;
        let mut check = mcp(server.port());
        check.http.token = Some(client(issuer.port()));
        let report = ask(&prober(), &check, PATIENT).await;
        assert_end(&report, outcome, &format!("token endpoint: {detail}"));
    }
    let mute = Fake::start(|_| Reply::never()).await;
    let mut check = mcp(server.port());
    check.http.token = Some(client(mute.port()));
    let report = ask(&prober(), &check, SHORT).await;
    assert_end(&report, Outcome::Timeout, "no token within 250ms");
    assert!(server.seen().is_empty(), "the server is not asked without a token");
}

#[tokio::test]
async fn a_secret_goes_nowhere_but_where_it_must() {
    let signer = TokenSource::Jwt(Box::new(JwtSigner {
        secret: Secret::from(CANARY),
        claims: Secret::from("{\"iss\":\"graphlit\"}"),
        lifetime: Duration::from_secs(3600),
    }));
    let (issuer, modern) = (issuer(3600).await, Fake::modern(|_| None).await);
    let legacy = Fake::legacy(|seen| (seen.method() == "ping").then(|| seen.error(404, -32000)));
    let legacy = legacy.await;
    let prober = prober();
    for token in [signer, client(issuer.port())] {
        for fake in [&modern, &legacy] {
            let mut check = mcp(fake.port());
            check.http.token = Some(token.clone());
            let report = ask(&prober, &check, PATIENT).await;
            assert!(!format!("{report:?}").contains(CANARY), "{report:?}");
            get(&prober, fake.port(), token.clone()).await;
        }
    }
    prober.settled().await;
    let seen = [modern.seen(), legacy.seen()].concat();
    assert!(seen.iter().any(|seen| seen.verb == "DELETE"));
    for seen in &seen {
        assert!(!seen.raw.contains(CANARY), "{}", seen.raw);
        assert!(!seen.raw.contains("bWU6Y2FuYXJ5"), "{}", seen.raw);
        assert!(seen.header("authorization").starts_with("Bearer "), "{}", seen.raw);
    }
    assert!(issuer.seen().iter().all(|seen| !seen.raw.contains(CANARY)), "but in base 64");
    assert!(!format!("{:?}", client(1)).contains(CANARY));
}

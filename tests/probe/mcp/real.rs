//! Servers that others wrote: `FastMCP`, the SDKs of MCP, and their reference server.

use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{JwtSigner, McpCheck, McpEra, TokenSource};
use mcp_failover::policy::secret::Secret;

use super::server::Server;
use super::{PATIENT, ask, assert_end, assert_ok, expecting, mcp, prober};

/// Attempts of which each would leave a session behind, were it not ended.
const MANY: usize = 200;

fn of(era: McpEra, mut check: McpCheck) -> McpCheck {
    check.era = era;
    check
}

/// What holds for every server that speaks both eras.
async fn both_eras(server: &Server, name: &str) {
    let (prober, port) = (prober(), server.port());
    for era in [McpEra::Auto, McpEra::Modern, McpEra::Legacy] {
        assert_ok(&ask(&prober, &of(era, mcp(port)), PATIENT).await);
        let found = expecting(port, &["add", "greet"], Some(name));
        assert_ok(&ask(&prober, &of(era, found), PATIENT).await);
        let lacking = expecting(port, &["add", "absent"], None);
        let report = ask(&prober, &of(era, lacking), PATIENT).await;
        assert_end(&report, Outcome::Protocol, "tool \"absent\" is missing");
        let other = expecting(port, &[], Some("somebody else"));
        let report = ask(&prober, &of(era, other), PATIENT).await;
        assert_end(&report, Outcome::Protocol, "server has another name");
    }
    let mut elsewhere = mcp(port);
    elsewhere.http.path = Secret::from("/nothing-here");
    let report = ask(&prober, &elsewhere, PATIENT).await;
    assert_end(&report, Outcome::ClientError, "HTTP 404");
}

async fn many(server: &Server, era: McpEra) {
    let prober = prober();
    for _ in 0..MANY {
        assert_ok(&ask(&prober, &of(era, mcp(server.port())), PATIENT).await);
    }
    prober.settled().await;
}

#[tokio::test]
async fn fastmcp_speaks_both_eras_and_keeps_no_session() {
    let Some(server) = Server::python("fastmcp").await else { return };
    both_eras(&server, "probed-fastmcp").await;
    server.holds(0).await;
    many(&server, McpEra::Legacy).await;
    server.holds(0).await;
}

#[tokio::test]
async fn fastmcp_without_sessions_speaks_both_eras() {
    let Some(server) = Server::python("fastmcp-stateless").await else { return };
    both_eras(&server, "probed-fastmcp").await;
}

#[tokio::test]
async fn the_python_sdk_speaks_both_eras_and_keeps_no_session() {
    for kind in ["sdk", "sdk-json"] {
        let Some(server) = Server::python(kind).await else { return };
        both_eras(&server, "probed-sdk").await;
        server.holds(0).await;
    }
}

#[tokio::test]
async fn the_typescript_sdk_is_asked_in_its_era_and_keeps_no_session() {
    let Some(server) = Server::typescript().await else { return };
    let prober = prober();
    let check = expecting(server.port(), &["greet"], Some("probed-typescript"));
    for _ in 0..3 {
        assert_ok(&ask(&prober, &check, PATIENT).await);
    }
    many(&server, McpEra::Auto).await;
    server.holds(0).await;
}

#[tokio::test]
async fn the_reference_server_is_asked_in_its_era_and_keeps_no_session() {
    let Some(server) = Server::everything().await else { return };
    let prober = prober();
    let check = expecting(server.port(), &["echo", "get-sum"], Some("mcp-servers/everything"));
    for _ in 0..3 {
        assert_ok(&ask(&prober, &check, PATIENT).await);
    }
    many(&server, McpEra::Auto).await;
    assert_eq!(server.ended_all().await, MANY + 3);
}

#[tokio::test]
async fn fastmcp_lets_in_whoever_shows_a_token_that_was_signed_here() {
    let Some(server) = Server::python("guarded").await else { return };
    let prober = prober();
    let mut check = expecting(server.port(), &["greet"], None);
    assert_end(&ask(&prober, &check, PATIENT).await, Outcome::Auth, "HTTP 401");
    check.expect.unauthorized = true;
    assert_ok(&ask(&prober, &check, PATIENT).await);
    check.expect.unauthorized = false;
    let signed = |secret: &str, issuer: &str| {
        let claims = format!("{{\"iss\":\"{issuer}\",\"aud\":\"https://portal.graphlit.io\"}}");
        let signer = JwtSigner {
            secret: Secret::from(secret),
            claims: Secret::new(claims),
            lifetime: Duration::from_secs(3600),
        };
        Some(TokenSource::Jwt(Box::new(signer)))
    };
    let key = "a-key-of-the-organisation-0123456789";
    for era in [McpEra::Auto, McpEra::Legacy] {
        check.era = era;
        check.http.token = signed(key, "graphlit");
        assert_ok(&ask(&prober, &check, PATIENT).await);
        check.http.token = signed("another key", "graphlit");
        assert_end(&ask(&prober, &check, PATIENT).await, Outcome::Auth, "HTTP 401");
        check.http.token = signed(key, "somebody else");
        assert_end(&ask(&prober, &check, PATIENT).await, Outcome::Auth, "HTTP 401");
    }
    server.holds(0).await;
}

//! Connections kept for the next attempt, where the policy asks for that.

use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{Check, HttpCheck, Probe, TlsOptions};
use mcp_failover::policy::secret::Secret;
use mcp_failover::probe::{Prober, Report};

use super::{PATIENT, SHORT, SLACK, assert_end, http, outcome};
use crate::common::tls::Authority;
use crate::common::upstream::{Behaviour, Upstream};

/// Attempts of one prober, which keeps connections.
struct Keeper(Prober);

impl Keeper {
    fn new() -> Self {
        Self(Prober::new().expect("TLS works"))
    }

    async fn get(&self, check: &HttpCheck, timeout: Duration) -> Report {
        let probe = Probe::new(timeout, Check::Http(Box::new(check.clone())));
        let report = tokio::time::timeout(timeout + SLACK, self.0.run(&probe, timeout)).await;
        report.expect("an attempt ends by its deadline")
    }
}

fn kept(upstream: &Upstream) -> HttpCheck {
    HttpCheck { reuse: true, ..http(upstream) }
}

#[tokio::test]
async fn a_kept_connection_carries_the_next_attempts() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let keeper = Keeper::new();
    let first = keeper.get(&kept(&upstream), PATIENT).await;
    assert_end(&first, Outcome::Ok, "");
    assert!(first.phases.connect.is_some());
    for _ in 0..50 {
        let report = keeper.get(&kept(&upstream), PATIENT).await;
        assert_end(&report, Outcome::Ok, "");
        assert_eq!(report.phases.connect, None, "nobody connects again");
        assert_eq!(report.address, first.address, "where it leads is still told");
    }
    assert_eq!((upstream.connections(), upstream.requests()), (1, 51));
    assert!(!upstream.last_request().to_ascii_lowercase().contains("connection:"));
}

#[tokio::test]
async fn over_tls_the_end_of_the_certificate_is_remembered() {
    let authority = Authority::new();
    let upstream = Upstream::start_tls(Behaviour::Healthy, authority.issue("localhost").server());
    let mut check = kept(&upstream);
    check.tls = Some(TlsOptions {
        ca_pem: Some(authority.pem()),
        server_name: Some("localhost".to_owned()),
        ..TlsOptions::default()
    });
    let keeper = Keeper::new();
    for _ in 0..3 {
        let report = keeper.get(&check, PATIENT).await;
        assert_end(&report, Outcome::Ok, "");
        assert!(report.certificate_expires_in.is_some());
    }
    assert_eq!(upstream.connections(), 1);
    let stranger =
        Some(TlsOptions { ca_pem: Some(Authority::new().pem()), ..TlsOptions::default() });
    let report = keeper.get(&HttpCheck { tls: stranger, ..check }, PATIENT).await;
    assert_eq!(outcome(&report), Outcome::Tls, "who verifies otherwise has no share: {report:?}");
}

#[tokio::test]
async fn a_kept_connection_that_died_costs_no_verdict() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let keeper = Keeper::new();
    for round in 1..=20 {
        let report = keeper.get(&kept(&upstream), PATIENT).await;
        assert_end(&report, Outcome::Ok, "");
        assert_eq!(upstream.connections(), round);
        // Cuts what is open, and serves again at once.
        upstream.set(Behaviour::Refuse);
        upstream.set(Behaviour::Healthy);
    }
}

#[tokio::test]
async fn a_request_that_a_kept_connection_swallows_is_made_again_once() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let keeper = Keeper::new();
    assert_end(&keeper.get(&kept(&upstream), PATIENT).await, Outcome::Ok, "");
    // The kept connection takes the request and closes; so does the fresh one.
    upstream.set(Behaviour::Reply(Vec::new()));
    let report = keeper.get(&kept(&upstream), PATIENT).await;
    assert_end(&report, Outcome::Reset, "connection closed without an answer");
    assert_eq!((upstream.connections(), upstream.requests()), (2, 3));
}

#[tokio::test]
async fn a_dead_listener_hides_behind_a_kept_connection_only_while_that_lives() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let keeper = Keeper::new();
    assert_end(&keeper.get(&kept(&upstream), PATIENT).await, Outcome::Ok, "");
    upstream.set(Behaviour::Refuse);
    let report = keeper.get(&kept(&upstream), PATIENT).await;
    assert_end(&report, Outcome::Refused, "connection refused");
}

#[tokio::test]
async fn a_connection_is_kept_only_after_a_whole_answer() {
    let upstream = Upstream::start(Behaviour::Hang);
    let keeper = Keeper::new();
    let report = keeper.get(&kept(&upstream), SHORT).await;
    assert_end(&report, Outcome::Timeout, "no answer within 250ms");
    upstream.set(Behaviour::Flood);
    assert_end(&keeper.get(&kept(&upstream), PATIENT).await, Outcome::Ok, "");
    upstream.set(Behaviour::Healthy);
    assert_end(&keeper.get(&kept(&upstream), PATIENT).await, Outcome::Ok, "");
    assert_eq!(upstream.connections(), 3, "nothing of the first two is left to trip over");
}

#[tokio::test]
async fn a_server_that_wants_to_close_is_let() {
    let close = vec![("Connection".to_owned(), "close".to_owned())];
    let upstream = Upstream::start(Behaviour::Answer(200, close, "ok".to_owned()));
    let keeper = Keeper::new();
    for round in 1..=3 {
        assert_end(&keeper.get(&kept(&upstream), PATIENT).await, Outcome::Ok, "");
        assert_eq!(upstream.connections(), round);
    }
}

#[tokio::test]
async fn checks_of_one_place_share_what_is_kept_and_no_more() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let keeper = Keeper::new();
    let mut other = kept(&upstream);
    other.path = Secret::from("/other");
    other.headers = vec![("Api-Key".to_owned(), Secret::from("k"))];
    assert_end(&keeper.get(&other, PATIENT).await, Outcome::Ok, "");
    assert_end(&keeper.get(&kept(&upstream), PATIENT).await, Outcome::Ok, "");
    assert_eq!(upstream.connections(), 1);
    assert!(!upstream.last_request().to_ascii_lowercase().contains("api-key"));
    assert_end(&keeper.get(&http(&upstream), PATIENT).await, Outcome::Ok, "");
    assert_eq!(upstream.connections(), 2, "who did not ask for it has one of its own");
}

#[tokio::test]
async fn attempts_at_once_keep_a_bounded_number() {
    let upstream = Upstream::start(Behaviour::Slow(Duration::from_millis(20)));
    let keeper = Keeper::new();
    let check = kept(&upstream);
    let both = async || {
        let attempts = (keeper.get(&check, PATIENT), keeper.get(&check, PATIENT));
        let (one, two) = tokio::join!(Box::pin(attempts.0), Box::pin(attempts.1));
        assert_end(&one, Outcome::Ok, "");
        assert_end(&two, Outcome::Ok, "");
    };
    Box::pin(both()).await;
    Box::pin(both()).await;
    assert_eq!(upstream.connections(), 2);
}

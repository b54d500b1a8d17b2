//! HTTP against servers that answer properly.

use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::secret::Secret;
use mcp_failover::probe::Quota;

use super::{PATIENT, assert_end, detail, get, http, outcome, pointer, target};
use crate::common::upstream::{Behaviour, Upstream};

#[tokio::test]
async fn a_server_that_serves_passes_and_every_phase_is_timed() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let report = get(&http(&upstream), PATIENT).await;
    assert_end(&report, Outcome::Ok, "");
    assert_eq!(report.status, Some(200));
    assert_eq!(report.address, Some(upstream.address()));
    let phases = report.phases;
    assert_eq!((phases.resolve, phases.tls), (None, None), "an IP literal, no TLS");
    let parts = phases.connect.unwrap() + phases.first_byte.unwrap();
    assert!(parts <= phases.total);
    assert_eq!(phases.total, report.observation.latency);
}

#[tokio::test]
async fn a_name_is_resolved_and_that_is_timed() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let mut check = http(&upstream);
    check.target.host = "localhost".to_owned();
    let report = get(&check, PATIENT).await;
    assert_end(&report, Outcome::Ok, "");
    assert!(report.phases.resolve.is_some());
}

#[tokio::test]
async fn the_request_arrives_as_the_policy_says() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let mut check = http(&upstream);
    check.method = "POST".to_owned();
    check.path = Secret::from("/stats?deep=1");
    check.headers = vec![("Api-Key".to_owned(), Secret::from("k"))];
    check.body = Some(Secret::from("{\"a\":1}"));
    assert_end(&get(&check, PATIENT).await, Outcome::Ok, "");
    let request = upstream.last_request().to_ascii_lowercase();
    assert!(request.starts_with("post /stats?deep=1 http/1.1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n{\"a\":1}"), "{request}");
    let host = format!("\r\nhost: 127.0.0.1:{}\r\n", upstream.port());
    for line in [host.as_str(), "\r\napi-key: k\r\n", "\r\naccept-encoding: identity\r\n"] {
        assert!(request.contains(line), "{line} in {request}");
    }
}

#[tokio::test]
async fn each_attempt_has_a_connection_of_its_own() {
    let upstream = Upstream::start(Behaviour::Healthy);
    for _ in 0..3 {
        assert_end(&get(&http(&upstream), PATIENT).await, Outcome::Ok, "");
    }
    assert_eq!(upstream.connections(), 3);
}

#[tokio::test]
async fn statuses_become_outcomes() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let cases = [
        (204, Outcome::Ok, ""),
        (301, Outcome::Protocol, "HTTP 301: redirect to another address"),
        (401, Outcome::Auth, "HTTP 401"),
        (403, Outcome::Auth, "HTTP 403"),
        (404, Outcome::ClientError, "HTTP 404"),
        (429, Outcome::Throttled { retry_after: None }, "HTTP 429"),
        (500, Outcome::ServerError, "HTTP 500"),
        (503, Outcome::ServerError, "HTTP 503"),
    ];
    for (status, outcome, detail) in cases {
        upstream.set(Behaviour::Status(status));
        let report = get(&http(&upstream), PATIENT).await;
        assert_end(&report, outcome, detail);
        assert_eq!(report.status, Some(status));
    }
}

#[tokio::test]
async fn a_throttled_answer_says_for_how_long() {
    let upstream = Upstream::start(Behaviour::throttle("7"));
    let retry_after = Some(Duration::from_secs(7));
    let report = get(&http(&upstream), PATIENT).await;
    assert_eq!(outcome(&report), Outcome::Throttled { retry_after });
    upstream.set(Behaviour::throttle("when it suits"));
    let report = get(&http(&upstream), PATIENT).await;
    assert_eq!(outcome(&report), Outcome::Throttled { retry_after: None });
}

#[tokio::test]
async fn an_answer_must_meet_every_expectation() {
    let upstream = Upstream::start(Behaviour::Json("{\"dimension\":1536}".to_owned()));
    let mut check = http(&upstream);
    check.expect.json = pointer("/dimension", "1536");
    check.expect.body_contains = vec!["dimension".to_owned()];
    check.expect.headers.insert("content-type".to_owned(), "json".to_owned());
    assert_end(&get(&check, PATIENT).await, Outcome::Ok, "");
    check.expect.json = pointer("/dimension", "768");
    assert_end(&get(&check, PATIENT).await, Outcome::Protocol, "JSON /dimension differs");
}

#[tokio::test]
async fn a_lie_in_a_200_is_seen_through() {
    let upstream =
        Upstream::start(Behaviour::Json("{\"errors\":[{\"message\":\"x\"}]}".to_owned()));
    let mut check = http(&upstream);
    check.expect.graphql = true;
    assert_end(&get(&check, PATIENT).await, Outcome::Protocol, "GraphQL answered with errors");
    upstream.set(Behaviour::Answer(200, Vec::new(), "<html>parked</html>".to_owned()));
    assert_end(&get(&check, PATIENT).await, Outcome::Protocol, "body is not JSON");
}

#[tokio::test]
async fn a_slow_answer_is_degraded() {
    let upstream = Upstream::start(Behaviour::Slow(Duration::from_millis(60)));
    let mut check = http(&upstream);
    check.expect.slow = Some(Duration::from_millis(50));
    let report = get(&check, PATIENT).await;
    assert_end(&report, Outcome::Degraded, "slow: took longer than 50ms");
    check.expect.slow = Some(PATIENT);
    assert_end(&get(&check, PATIENT).await, Outcome::Ok, "");
}

#[tokio::test]
async fn a_body_of_the_limit_is_read_whole_and_one_byte_more_is_cut() {
    const LIMIT: usize = 64 * 1024;
    let json = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    let upstream = Upstream::start(Behaviour::Json(json(LIMIT)));
    let mut check = http(&upstream);
    check.expect.json = [(String::new(), None)].into();
    assert_end(&get(&check, PATIENT).await, Outcome::Ok, "");
    upstream.set(Behaviour::Json(json(LIMIT + 1)));
    let report = get(&check, PATIENT).await;
    assert_end(&report, Outcome::Protocol, "body is too long to be read as JSON");
}

#[tokio::test]
async fn what_lies_beyond_the_limit_of_a_body_is_not_looked_at() {
    let text = format!("{}needle", "x".repeat(64 * 1024));
    let upstream = Upstream::start(Behaviour::Answer(200, Vec::new(), text));
    let mut check = http(&upstream);
    assert_end(&get(&check, PATIENT).await, Outcome::Ok, "");
    check.expect.body_contains = vec!["needle".to_owned()];
    assert_end(&get(&check, PATIENT).await, Outcome::Protocol, "body lacks an expected text");
}

#[tokio::test]
async fn a_probe_that_cannot_be_sent_is_the_probes_fault_and_nobody_is_asked() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let mut check = http(&upstream);
    check.path = Secret::from("/a b");
    let report = get(&check, PATIENT).await;
    assert_eq!(outcome(&report), Outcome::ClientError, "{}", detail(&report));
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn a_dead_listener_is_noticed_at_once_and_so_is_its_return() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let check = http(&upstream);
    assert_end(&get(&check, PATIENT).await, Outcome::Ok, "");
    upstream.set(Behaviour::Refuse);
    assert_end(&get(&check, PATIENT).await, Outcome::Refused, "connection refused");
    upstream.set(Behaviour::Healthy);
    assert_end(&get(&check, PATIENT).await, Outcome::Ok, "");
}

#[tokio::test]
async fn port_zero_is_an_outcome_too() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let mut check = http(&upstream);
    check.target = target(0);
    assert_ne!(outcome(&get(&check, PATIENT).await), Outcome::Ok);
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Behaviour {
    let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Behaviour::Answer(status, headers.collect(), body.to_owned())
}

#[tokio::test]
async fn what_is_left_of_a_rate_limit_is_reported_with_any_answer() {
    let limits =
        [("X-RateLimit-Limit", "100"), ("X-RateLimit-Remaining", "7"), ("X-RateLimit-Reset", "30")];
    let quota =
        Quota { limit: Some(100), remaining: Some(7), resets_in: Some(Duration::from_secs(30)) };
    let upstream = Upstream::start(answer(200, &limits, ""));
    let report = get(&http(&upstream), PATIENT).await;
    assert_end(&report, Outcome::Ok, "");
    assert_eq!(report.quota, Some(quota));
    upstream.set(answer(429, &limits, ""));
    let report = get(&http(&upstream), PATIENT).await;
    assert_end(&report, Outcome::Throttled { retry_after: quota.resets_in }, "HTTP 429");
    assert_eq!(report.quota, Some(quota));
}

#[tokio::test]
async fn a_quota_in_the_body_is_reported_and_all_of_it_used_is_throttled() {
    let usage =
        |used: u32| Behaviour::Json(format!("{{\"key\":{{\"usage\":{used},\"limit\":1000}}}}"));
    let upstream = Upstream::start(usage(150));
    let mut check = http(&upstream);
    check.expect.quota_used = Some("/key/usage".to_owned());
    check.expect.quota_limit = Some("/key/limit".to_owned());
    let report = get(&check, PATIENT).await;
    assert_end(&report, Outcome::Ok, "");
    let left = |remaining| Quota { limit: Some(1000), remaining: Some(remaining), resets_in: None };
    assert_eq!(report.quota, Some(left(850)));
    upstream.set(usage(1000));
    let report = get(&check, PATIENT).await;
    assert_end(&report, Outcome::Throttled { retry_after: None }, "quota is used up");
    assert_eq!(report.quota, Some(left(0)));
    upstream.set(Behaviour::Json("{\"key\":{}}".to_owned()));
    let report = get(&check, PATIENT).await;
    assert_end(&report, Outcome::Ok, "");
    assert_eq!(report.quota, None, "what is not told is not made up");
}

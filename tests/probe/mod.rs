//! Probes against servers that serve, that fail, and that mean harm.

mod bolt;
mod dns;
mod exec;
mod grpc;
mod h2;
mod h2_peer;
mod hostile;
mod http;
mod mcp;
mod neo4j;
mod nginx;
pub(crate) mod peer;
pub(crate) mod postgres;
mod redis;
mod replies;
mod reuse;
mod secrets;
mod several;
mod system;
mod tcp;
mod tls;
mod unix;

use std::collections::BTreeMap;
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{Check, HttpCheck, Probe, Target};
use mcp_failover::probe::{Prober, Report};

use crate::common::upstream::{Behaviour, Upstream};

/// A deadline that no attempt against a server that serves comes near, on a busy machine too.
const PATIENT: Duration = Duration::from_secs(20);
/// A deadline for attempts that are meant to reach it.
const SHORT: Duration = Duration::from_millis(250);
/// What an attempt may take beyond its deadline before it counts as stuck.
const SLACK: Duration = Duration::from_secs(20);

/// One attempt; fails the test when the deadline does not hold.
async fn attempt(check: Check, timeout: Duration) -> Report {
    let prober = Prober::new().expect("TLS works");
    let probe = Probe::new(timeout, check);
    let attempt = Box::pin(prober.run(&probe, timeout));
    let report = tokio::time::timeout(timeout + SLACK, attempt).await;
    report.expect("an attempt ends by its deadline")
}

/// One HTTP attempt.
async fn get(check: &HttpCheck, timeout: Duration) -> Report {
    attempt(Check::Http(Box::new(check.clone())), timeout).await
}

/// `GET /` of a plain server, any 2xx expected.
fn http(upstream: &Upstream) -> HttpCheck {
    HttpCheck::new(target(upstream.port()))
}

fn target(port: u16) -> Target {
    Target { host: "127.0.0.1".to_owned(), port }
}

/// Expects this value at this JSON pointer.
fn pointer(pointer: &str, value: &str) -> BTreeMap<String, Option<serde_json::Value>> {
    let value = serde_json::from_str(value).expect("JSON");
    BTreeMap::from([(pointer.to_owned(), Some(value))])
}

fn outcome(report: &Report) -> Outcome {
    report.observation.outcome
}

fn detail(report: &Report) -> &str {
    report.observation.detail.as_deref().unwrap_or("")
}

#[track_caller]
fn assert_end(report: &Report, outcome: Outcome, detail: &str) {
    let seen = &report.observation;
    assert_eq!(
        (seen.outcome, seen.detail.as_deref().unwrap_or("")),
        (outcome, detail),
        "{report:?}"
    );
}

/// Attempts in flight cost this much memory each, besides what the kernel holds.
const ATTEMPT_BYTES: usize = 4 * 1024;

#[test]
fn an_attempt_in_flight_is_small() {
    let upstream = Upstream::start(Behaviour::Refuse);
    let probe = Probe::new(SHORT, Check::Http(Box::new(http(&upstream))));
    let prober = Prober::new().expect("TLS works");
    let attempt = prober.run(&probe, SHORT);
    assert!(size_of_val(&attempt) <= ATTEMPT_BYTES);
}

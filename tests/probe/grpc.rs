//! gRPC health against the server of another language, and against peers that break the protocol.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{Check, GrpcCheck, Probe, Target, TlsOptions};
use mcp_failover::policy::secret::Secret;
use mcp_failover::probe::{Prober, Report};

use super::h2_peer::{self as peer, Peer, Script};
use super::{PATIENT, SHORT, SLACK, assert_end, attempt, outcome, target};
use crate::common;
use crate::common::tls::Authority;
use crate::common::upstream::{Behaviour, Upstream};

/// The Python server, which takes orders.
struct Health {
    server: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    port: u16,
}

impl Drop for Health {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

impl Health {
    fn start(arguments: &[&str]) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("target/test-tools/venv/bin/python");
        let has = |module: &str| {
            let found = Command::new(&python).args(["-c", &format!("import {module}")]).output();
            found.is_ok_and(|found| found.status.success())
        };
        if !(python.exists() && has("grpc_health.v1.health")) {
            common::skip("no grpcio-health-checking: run tests/run");
            return None;
        }
        Some(Self::launch(&python, arguments))
    }

    fn launch(python: &Path, arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe/health_server.py");
        let mut server = Command::new(python)
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let orders = server.stdin.take().expect("a pipe");
        let answers = BufReader::new(server.stdout.take().expect("a pipe"));
        let mut health = Self { server, orders, answers, port: 0 };
        health.port = health.line().parse().expect("a port");
        health
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the server answers");
        line.trim().to_owned()
    }

    /// In force when this returns.
    fn order(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").expect("the server takes orders");
        self.line()
    }

    fn check(&self) -> GrpcCheck {
        grpc(self.port)
    }
}

fn grpc(port: u16) -> GrpcCheck {
    GrpcCheck {
        target: target(port),
        tls: None,
        service: String::new(),
        metadata: Vec::new(),
        watch: false,
        slow: None,
    }
}

fn probe(check: &GrpcCheck, timeout: Duration) -> Probe {
    Probe::new(timeout, Check::Grpc(Box::new(check.clone())))
}

async fn ask(check: &GrpcCheck) -> Report {
    attempt(Check::Grpc(Box::new(check.clone())), PATIENT).await
}

/// Attempts of one prober, which remembers its streams.
struct Watcher {
    prober: Prober,
    check: GrpcCheck,
}

impl Watcher {
    fn new(check: GrpcCheck) -> Self {
        Self {
            prober: Prober::new().expect("TLS works"),
            check: GrpcCheck { watch: true, ..check },
        }
    }

    async fn look(&self, timeout: Duration) -> Report {
        let probe = probe(&self.check, timeout);
        let report = tokio::time::timeout(timeout + SLACK, self.prober.run(&probe, timeout)).await;
        report.expect("an attempt ends by its deadline")
    }

    /// Looks until the outcome is this one.
    async fn until(&self, wanted: Outcome, detail: &str) {
        let found = async {
            loop {
                let report = self.look(PATIENT).await;
                let seen = report.observation.detail.as_deref().unwrap_or("");
                if (outcome(&report), seen) == (wanted, detail) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENT, found).await;
        waited.unwrap_or_else(|_| panic!("never {wanted} {detail:?}"));
    }
}

#[tokio::test]
async fn a_status_of_health_is_understood() {
    let Some(mut health) = Health::start(&[]) else { return };
    let report = ask(&health.check()).await;
    assert_end(&report, Outcome::Ok, "");
    assert!(report.phases.connect.is_some() && report.phases.first_byte.is_some());
    health.order("set - NOT_SERVING");
    assert_end(&ask(&health.check()).await, Outcome::ServerError, "health is NOT_SERVING");
    health.order("set index.Search SERVING");
    let mut check = health.check();
    check.service = "index.Search".to_owned();
    assert_end(&ask(&check).await, Outcome::Ok, "");
    check.service = "index.Absent".to_owned();
    assert_end(&ask(&check).await, Outcome::ClientError, "gRPC NOT_FOUND");
}

#[tokio::test]
async fn a_call_that_fails_says_how() {
    let Some(mut health) = Health::start(&[]) else { return };
    let cases = [
        ("UNAVAILABLE", Outcome::ServerError, "gRPC UNAVAILABLE"),
        ("INTERNAL", Outcome::ServerError, "gRPC INTERNAL"),
        ("UNAUTHENTICATED", Outcome::Auth, "gRPC UNAUTHENTICATED"),
        ("PERMISSION_DENIED", Outcome::Auth, "gRPC PERMISSION_DENIED"),
        ("INVALID_ARGUMENT", Outcome::ClientError, "gRPC INVALID_ARGUMENT"),
        ("DEADLINE_EXCEEDED", Outcome::Timeout, "gRPC DEADLINE_EXCEEDED"),
    ];
    for (code, outcome, detail) in cases {
        health.order(&format!("abort {code}"));
        assert_end(&ask(&health.check()).await, outcome, detail);
        assert_end(&Watcher::new(health.check()).look(PATIENT).await, outcome, detail);
    }
    health.order("abort RESOURCE_EXHAUSTED");
    health.order("metadata grpc-retry-pushback-ms 2500");
    let throttled = Outcome::Throttled { retry_after: Some(Duration::from_millis(2500)) };
    assert_end(&ask(&health.check()).await, throttled, "gRPC RESOURCE_EXHAUSTED");
}

#[tokio::test]
async fn a_server_without_a_health_service_passes_and_that_is_told() {
    let Some(health) = Health::start(&["--no-health"]) else { return };
    let detail = "server answers, but has no health service to ask";
    assert_end(&ask(&health.check()).await, Outcome::Ok, detail);
    assert_end(&Watcher::new(health.check()).look(PATIENT).await, Outcome::Ok, detail);
}

#[tokio::test]
async fn a_watched_server_tells_of_changes_and_is_not_asked_again() {
    let Some(mut health) = Health::start(&[]) else { return };
    let watcher = Watcher::new(health.check());
    let first = watcher.look(PATIENT).await;
    assert_end(&first, Outcome::Ok, "");
    assert!(first.phases.connect.is_some(), "the first attempt opens the stream");
    for _ in 0..50 {
        let report = watcher.look(PATIENT).await;
        assert_end(&report, Outcome::Ok, "");
        assert_eq!(report.phases.connect, None, "nobody connects again");
        assert_eq!(report.address, first.address);
    }
    health.order("set - NOT_SERVING");
    watcher.until(Outcome::ServerError, "health is NOT_SERVING").await;
    health.order("set - SERVING");
    watcher.until(Outcome::Ok, "").await;
    assert_eq!(health.order("calls"), "0 1", "one Watch, and never a Check");
}

#[tokio::test]
async fn a_watched_server_that_dies_is_noticed_and_so_is_its_return() {
    let Some(health) = Health::start(&[]) else { return };
    let watcher = Watcher::new(health.check());
    assert_end(&watcher.look(PATIENT).await, Outcome::Ok, "");
    drop(health);
    watcher.until(Outcome::Refused, "connection refused").await;
    let Some(health) = Health::start(&[]) else { return };
    let watcher = Watcher { check: GrpcCheck { watch: true, ..health.check() }, ..watcher };
    assert_end(&watcher.look(PATIENT).await, Outcome::Ok, "");
}

#[tokio::test]
async fn a_server_without_watch_is_asked_instead() {
    let Some(mut health) = Health::start(&["--no-watch"]) else { return };
    let watcher = Watcher::new(health.check());
    for _ in 0..3 {
        assert_end(&watcher.look(PATIENT).await, Outcome::Ok, "");
    }
    assert_eq!(health.order("calls"), "3 1", "Watch is tried once");
    health.order("set - NOT_SERVING");
    let report = watcher.look(PATIENT).await;
    assert_end(&report, Outcome::ServerError, "health is NOT_SERVING");
}

#[tokio::test]
async fn a_watched_service_that_nobody_knows_is_the_probes_fault() {
    let Some(health) = Health::start(&[]) else { return };
    let mut check = health.check();
    check.service = "index.Absent".to_owned();
    let report = Watcher::new(check).look(PATIENT).await;
    assert_end(&report, Outcome::ClientError, "health is SERVICE_UNKNOWN");
}

#[tokio::test]
async fn over_tls_the_certificate_is_verified_and_its_end_told() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_str().expect("a path").to_owned();
    let authority = Authority::new();
    let certified = authority.issue("localhost");
    std::fs::write(path("cert.pem"), certified.pem()).unwrap();
    std::fs::write(path("key.pem"), certified.key_pem()).unwrap();
    let start = Health::start(&["--tls", &path("cert.pem"), &path("key.pem")]);
    let Some(health) = start else { return };
    let tls = TlsOptions {
        ca_pem: Some(authority.pem()),
        server_name: Some("localhost".to_owned()),
        ..TlsOptions::default()
    };
    let check = GrpcCheck { tls: Some(tls), ..health.check() };
    let report = ask(&check).await;
    assert_end(&report, Outcome::Ok, "");
    assert!(report.certificate_expires_in.is_some());
    let watcher = Watcher::new(check.clone());
    for _ in 0..2 {
        let report = watcher.look(PATIENT).await;
        assert_end(&report, Outcome::Ok, "");
        assert!(report.certificate_expires_in.is_some(), "remembered with the stream");
    }
    let stranger = TlsOptions { ca_pem: Some(Authority::new().pem()), ..TlsOptions::default() };
    let report = ask(&GrpcCheck { tls: Some(stranger), ..check }).await;
    assert_eq!(outcome(&report), Outcome::Tls, "{report:?}");
}

#[tokio::test]
async fn what_is_not_grpc_is_told_apart() {
    let refusing = Upstream::start(Behaviour::Refuse);
    assert_end(&ask(&grpc(refusing.port())).await, Outcome::Refused, "connection refused");
    let http1 = Upstream::start(Behaviour::Banner(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()));
    assert_end(&ask(&grpc(http1.port())).await, Outcome::Protocol, "answer is not HTTP/2");
    let hanging = Upstream::start(Behaviour::Hang);
    let check = Check::Grpc(Box::new(grpc(hanging.port())));
    assert_end(&attempt(check, SHORT).await, Outcome::Timeout, "no answer within 250ms");
}

fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], bytes].concat()
}

/// A head, these bytes as body, and an end with this status.
fn answer(body: &[u8], status: Option<&str>) -> Vec<u8> {
    let head = [&[peer::OK][..], &peer::field("content-type", "application/grpc")].concat();
    let end = status
        .map_or_else(Vec::new, |status| peer::headers(&peer::field("grpc-status", status), true));
    [peer::headers(&head, false), peer::data(body, status.is_none()), end].concat()
}

async fn assert_answer(bytes: Vec<u8>, outcome: Outcome, detail: &str) {
    let peer = Peer::start(Script::once(bytes));
    assert_end(&ask(&grpc(peer.port())).await, outcome, detail);
    let watcher = Watcher::new(grpc(peer.port()));
    let report = watcher.look(PATIENT).await;
    assert_eq!(report.observation.outcome, outcome, "{report:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_the_protocol_is_no_pass() {
    let good = message(&[8, 1]);
    assert_answer(answer(&good, Some("0")), Outcome::Ok, "").await;
    let protocol = Outcome::Protocol;
    assert_answer(answer(&[], Some("0")), protocol, "answer lacks a health status").await;
    let compressed = [&[1], &good[1..]].concat();
    let detail = "message is compressed, though that was not offered";
    assert_answer(answer(&compressed, Some("0")), protocol, detail).await;
    let huge = [0, 0xff, 0xff, 0xff, 0xff];
    let detail = "message is too long for a health status";
    assert_answer(answer(&huge, Some("0")), protocol, detail).await;
    let broken = message(&[0x22, 0xff, 1]);
    assert_answer(answer(&broken, Some("0")), protocol, "message is not a health status").await;
    let web = peer::headers(&[peer::OK], true);
    assert_answer(web, protocol, "answer is not gRPC").await;
}

#[tokio::test]
async fn an_answer_without_trailers_is_no_pass() {
    let peer = Peer::start(Script::once(answer(&message(&[8, 1]), None)));
    let report = ask(&grpc(peer.port())).await;
    assert_end(&report, Outcome::Protocol, "answer lacks a gRPC status");
}

#[tokio::test]
async fn an_answer_whose_head_is_all_of_it_is_understood() {
    let fields = [
        &[peer::OK][..],
        &peer::field("content-type", "application/grpc"),
        &peer::field("grpc-status", "14"),
    ];
    let bytes = peer::headers(&fields.concat(), true);
    assert_answer(bytes, Outcome::ServerError, "gRPC UNAVAILABLE").await;
}

#[tokio::test]
async fn a_stream_that_floods_between_attempts_is_given_up() {
    let head = [&[peer::OK][..], &peer::field("content-type", "application/grpc")].concat();
    let script = Script {
        begin: [peer::headers(&head, false), peer::data(&message(&[8, 1]), false)].concat(),
        repeat: peer::data(&message(&[8, 2]), false),
    };
    let peer = Peer::start(script);
    let watcher = Watcher::new(grpc(peer.port()));
    let report = watcher.look(PATIENT).await;
    assert!(matches!(outcome(&report), Outcome::Ok | Outcome::ServerError), "{report:?}");
    peer.wait_until_cut().await;
    assert!(peer.sent() < super::hostile::BUFFERED, "{} bytes sent", peer.sent());
}

#[tokio::test]
async fn a_credential_arrives_and_is_not_told() {
    let Some(mut health) = Health::start(&[]) else { return };
    health.order("abort UNAUTHENTICATED");
    let metadata = vec![("authorization".to_owned(), Secret::from("Bearer canary"))];
    let check = GrpcCheck { metadata, ..health.check() };
    let report = ask(&check).await;
    assert_end(&report, Outcome::Auth, "gRPC UNAUTHENTICATED");
    assert!(!format!("{report:?}").contains("canary"));
    let broken = vec![("authorization".to_owned(), Secret::from("a\nb"))];
    let report = ask(&GrpcCheck { metadata: broken, ..check }).await;
    let detail = "request header \"authorization\" is not valid";
    assert_end(&report, Outcome::ClientError, detail);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_told_apart() {
    let target = Target { host: "absent.invalid".to_owned(), port: 1 };
    let report = ask(&GrpcCheck { target, ..grpc(1) }).await;
    assert!(matches!(outcome(&report), Outcome::Dns | Outcome::Local), "{report:?}");
}

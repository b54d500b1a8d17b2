//! The commands that talk to a running sidecar, against a control socket of the test's own.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use mcp_failover::admin::control::{ControlRequest, ControlSocket};
use mcp_failover::admin::document::StatusDocument;
use mcp_failover::admin::hub::EventHub;
use mcp_failover::admin::protocol::{Answer, ControlFailure, FailureCode, Request, Response};
use mcp_failover::core::action::{Receipt, Refusal};
use mcp_failover::core::id::{EndpointName, Revision, ServiceName};
use mcp_failover::core::record::{EventRecord, HistoryRecord};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Place, quiet_policy};

/// A sidecar that only answers, always the same.
struct Stub {
    place: Place,
    socket: PathBuf,
    asked: Arc<Mutex<Vec<Request>>>,
    hub: EventHub,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Stub {
    fn start(answer: impl Fn(&Request) -> Response + Send + 'static) -> Self {
        let place = Place::new();
        let socket = place.path().join("control.sock");
        let (asked, hub, stop) = (Arc::default(), EventHub::new(), CancellationToken::new());
        let (ready, started) = std::sync::mpsc::channel();
        let side = Side {
            socket: socket.clone(),
            asked: Arc::clone(&asked),
            hub: hub.clone(),
            stop: stop.clone(),
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(side.run(answer, ready));
        });
        started.recv().expect("the stub starts");
        Self { place, socket, asked, hub, stop, thread: Some(thread) }
    }

    fn run(&self, args: &[&str]) -> super::Ran {
        let socket = self.socket.to_string_lossy().into_owned();
        let args: Vec<&str> = args.iter().copied().chain(["--control", &socket]).collect();
        self.place.run(&args)
    }

    fn asked(&self) -> serde_json::Value {
        json!(*self.asked.lock().expect("nobody panicked"))
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the stub ends well");
        }
    }
}

/// What the stub's thread has.
struct Side {
    socket: PathBuf,
    asked: Arc<Mutex<Vec<Request>>>,
    hub: EventHub,
    stop: CancellationToken,
}

impl Side {
    async fn run(self, answer: impl Fn(&Request) -> Response, ready: std::sync::mpsc::Sender<()>) {
        let (sender, mut requests) = mpsc::channel(8);
        let socket = ControlSocket::bind(&self.socket).await;
        let serving = socket.expect("the socket").serve(sender, self.hub, self.stop.clone());
        ready.send(()).expect("the test waits");
        let answering = async {
            while let Some(ControlRequest { request, reply }) = requests.recv().await {
                let response = answer(&request);
                self.asked.lock().expect("nobody panicked").push(request);
                reply.send(response).ok();
            }
        };
        tokio::join!(serving, answering);
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is an answer as every other")]
fn receipt() -> Response {
    Ok(Answer::Receipt(Receipt { revision: Revision::new(7), message: "done as told".into() }))
}

fn status() -> StatusDocument {
    serde_json::from_value(json!({
        "schema": 1,
        "revision": 7,
        "sidecar": {
            "name": "here", "version": "0.1.0", "pid": 1, "started_at": "2026-01-01T00:00:00.000Z",
        },
        "policy": {
            "digest": "00", "valid": false, "loaded_at": "2026-01-01T00:00:00.000Z",
            "path": "/etc/failover.toml", "diagnostics": ["MF0206: a duration without a unit"],
        },
        "services": {
            "search": {
                "active": "secondary", "critical": true, "strategy": "priority",
                "state": "failed_over", "breaker": "closed", "pinned": null,
                "endpoints": {
                    "primary": {
                        "health": "unhealthy", "admin": "drained", "score": 0.0, "breaker": "open",
                        "tier": 0, "last_outcome": "refused",
                        "last_probe_at": "2026-01-01T00:00:00.000Z", "latency_seconds": 0.0005,
                        "last_detail": "connection refused",
                    },
                    "secondary": {
                        "health": "healthy", "admin": "enabled", "score": 1.0, "breaker": "closed",
                        "tier": 1, "last_outcome": "ok",
                        "last_probe_at": "2026-01-01T00:00:00.000Z", "latency_seconds": 0.012,
                    },
                },
            },
        },
        "outputs": {
            "env_file:/run/x.env": {
                "revision": 6, "failure": "no space left", "at": "2026-01-01T00:00:00.000Z",
            },
        },
    }))
    .expect("a status document")
}

fn record() -> HistoryRecord {
    serde_json::from_value(json!({
        "schema": 1, "at": "2026-01-01T00:00:00.000Z", "revision": 7, "service": "search",
        "from": "primary", "to": "secondary", "kind": "failover",
        "cause": "primary refused three times", "evidence": [],
    }))
    .expect("a record")
}

fn event(seq: u64) -> EventRecord {
    serde_json::from_value(json!({
        "schema": 1, "seq": seq, "at": "2026-01-01T00:00:00.000Z", "event": "all_down",
        "service": "search", "critical": true,
    }))
    .expect("an event")
}

#[test]
fn every_order_is_passed_on_as_it_was_given() {
    let orders: [(&[&str], serde_json::Value); 12] = [
        (
            &["switch", "s"],
            json!({"order": "switch", "service": "s", "endpoint": null, "force": false}),
        ),
        (
            &["switch", "s", "e", "--force"],
            json!({"order": "switch", "service": "s", "endpoint": "e", "force": true}),
        ),
        (
            &["pin", "s", "e"],
            json!({"order": "pin", "service": "s", "endpoint": "e", "duration": null}),
        ),
        (
            &["pin", "s", "e", "--for", "1h 30m"],
            json!({"order": "pin", "service": "s", "endpoint": "e",
                   "duration": {"secs": 5400, "nanos": 0}}),
        ),
        (&["unpin", "s"], json!({"order": "unpin", "service": "s"})),
        (&["drain", "s", "e"], json!({"order": "drain", "service": "s", "endpoint": "e"})),
        (&["undrain", "s", "e"], json!({"order": "undrain", "service": "s", "endpoint": "e"})),
        (&["pause"], json!({"order": "pause", "service": null})),
        (&["pause", "s"], json!({"order": "pause", "service": "s"})),
        (&["resume"], json!({"order": "resume", "service": null})),
        (&["resume", "s"], json!({"order": "resume", "service": "s"})),
        (
            &["drain", "s", "e", "--json"],
            json!({"order": "drain", "service": "s", "endpoint": "e"}),
        ),
    ];
    let stub = Stub::start(|_| receipt());
    for (args, _) in &orders {
        let args: Vec<&str> = args.iter().copied().chain(["--reason", "because"]).collect();
        stub.run(&args).code(0);
    }
    let asked = stub.asked();
    for (at, (args, order)) in orders.iter().enumerate() {
        assert_eq!(asked[at]["request"], "command", "{args:?}");
        assert_eq!(asked[at]["command"]["order"], *order, "{args:?}");
        assert_eq!(asked[at]["command"]["reason"], "because", "{args:?}");
    }
}

#[test]
fn a_receipt_is_a_line_or_a_document() {
    let stub = Stub::start(|_| receipt());
    assert_eq!(stub.run(&["pause"]).code(0).out, "done as told (revision 7)\n");
    let document = stub.run(&["pause", "--json"]).code(0).json();
    assert_eq!(document, json!({"schema": 1, "revision": 7, "message": "done as told"}));
}

#[test]
fn a_refusal_exits_1_with_its_reason_and_help() {
    let refusal =
        Refusal::TargetUnusable { endpoint: EndpointName::new("e"), why: "it is dead".into() };
    let stub = Stub::start(move |_| Err(refusal.clone().into()));
    let ran = stub.run(&["switch", "s", "e"]).code(1);
    assert!(ran.err.starts_with("error: failed to carry out the request: "), "{}", ran.err);
    assert!(ran.err.contains("endpoint `e` is not usable: it is dead"), "{}", ran.err);
    assert!(ran.err.contains("help: add `--force`"), "{}", ran.err);
    assert!(ran.out.is_empty(), "{}", ran.out);
}

#[test]
fn no_sidecar_exits_1_with_the_socket_it_looked_for() {
    let place = Place::new();
    place.file("failover.toml", &quiet_policy());
    let ran = place.run(&["status"]).code(1);
    assert!(ran.err.contains("failed to reach the sidecar at control.sock"), "{}", ran.err);
    assert!(ran.err.contains("help: is the sidecar running?"), "{}", ran.err);
}

#[test]
fn the_socket_is_found_by_option_then_variable_then_policy() {
    let stub = Stub::start(|_| Ok(Answer::Status(Box::new(status()))));
    let socket = stub.socket.to_string_lossy().into_owned();
    stub.place.file("failover.toml", &quiet_policy());
    stub.place.run(&["status"]).code(0);
    let elsewhere = Place::new().with("MCP_FAILOVER_CONTROL", &socket);
    elsewhere.run(&["status"]).code(0);
    let misled = Place::new().with("MCP_FAILOVER_CONTROL", "/nowhere.sock");
    misled.run(&["status"]).code(1);
    misled.run(&["status", "--control", &socket]).code(0);
}

#[test]
fn the_socket_is_found_even_in_a_policy_that_is_not_valid_here() {
    let stub = Stub::start(|_| Ok(Answer::Status(Box::new(status()))));
    let text = quiet_policy().replace("${KEY:-", "${UNSET_HERE}${KEY:-").replace("\"5s\"", "5");
    stub.place.file("failover.toml", &text);
    stub.place.run(&["check"]).code(78);
    stub.place.run(&["status"]).code(0);
}

#[test]
fn status_shows_services_endpoints_outputs_and_what_is_wrong() {
    let stub = Stub::start(|_| Ok(Answer::Status(Box::new(status()))));
    let text = stub.run(&["status"]).code(0).out;
    for part in [
        "here  version 0.1.0, pid 1",
        "revision 7",
        "/etc/failover.toml is not valid; running on the one loaded",
        "  MF0206: a duration without a unit",
        "failed over",
        "critical",
        "search/primary",
        "drained, connection refused",
        "0.50ms",
        "no space left",
    ] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn status_json_is_the_document_as_it_is() {
    let stub = Stub::start(|_| Ok(Answer::Status(Box::new(status()))));
    let document = stub.run(&["status", "--json"]).code(0).json();
    assert_eq!(document, json!(status()));
}

#[test]
fn history_is_a_table_or_one_object_a_line() {
    let stub = Stub::start(|_| Ok(Answer::History(vec![record(), record()])));
    let text = stub.run(&["history", "--service", "search", "-n", "5"]).code(0).out;
    assert!(text.contains("primary -> secondary  primary refused three times"), "{text}");
    assert_eq!(stub.asked()[0], json!({"request": "history", "service": "search", "n": 5}));
    let lines = stub.run(&["history", "--json"]).code(0).out;
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(lines, [json!(record()), json!(record())]);
}

#[test]
fn watch_prints_each_event_as_it_comes_and_exits_1_when_the_sidecar_goes() {
    let stub = Stub::start(|_| receipt());
    let mut command = stub.place.command(["watch", "--control"]);
    let mut child = command
        .arg(&stub.socket)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    // It listens from when it is connected; until then events are told again.
    let hub = stub.hub.clone();
    let (heard, hearing) = oneshot::channel::<()>();
    let teller = std::thread::spawn(move || tell_until(&hub, hearing));
    let line = lines.next().expect("a line").expect("text");
    drop(heard);
    teller.join().expect("the teller ends");
    let told: EventRecord = serde_json::from_str(&line).expect("an event");
    assert_eq!(told.event, event(0).event);
    drop(stub);
    let ran = super::Ran::from(child.wait_with_output().expect("it ends")).code(1);
    assert!(ran.err.contains("failed to follow the sidecar: it went down"), "{}", ran.err);
}

/// Publishes events until somebody has heard one.
fn tell_until(hub: &EventHub, mut hearing: oneshot::Receiver<()>) {
    for seq in 0.. {
        if hearing.try_recv() == Err(oneshot::error::TryRecvError::Closed) {
            return;
        }
        hub.publish(event(seq));
        std::thread::sleep(std::time::Duration::from_millis(10)); // poll
    }
}

#[test]
fn healthcheck_is_0_when_the_sidecar_answers_and_1_otherwise() {
    let stub = Stub::start(|_| Ok(Answer::Pong(status().sidecar)));
    assert_eq!(stub.run(&["healthcheck"]).code(0).out, "here is alive, pid 1\n");
    let socket = stub.socket.to_string_lossy().into_owned();
    drop(stub);
    Place::new().run(&["healthcheck", "--control", &socket]).code(1);
    let place = Place::new();
    place.file("failover.toml", "not a policy");
    place.run(&["healthcheck"]).code(1);
}

#[test]
fn healthcheck_does_not_wait_for_a_sidecar_that_hangs() {
    let place = Place::new();
    let socket = place.path().join("deaf.sock");
    let _deaf = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let ran = place.run(&["healthcheck", "--control", &socket.to_string_lossy()]).code(1);
    assert!(ran.err.contains("failed to get an answer within 2 s"), "{}", ran.err);
}

#[test]
fn reload_tells_the_verdict() {
    let invalid = || ControlFailure::new(FailureCode::PolicyInvalid, "x.toml:1:1: MF0101: broken");
    let stub = Stub::start(move |_| Err(invalid()));
    let ran = stub.run(&["reload"]).code(78);
    assert!(ran.err.contains("x.toml:1:1: MF0101: broken"), "{}", ran.err);
    let stub = Stub::start(|_| Ok(Answer::Policy(status().policy)));
    let ran = stub.run(&["reload"]).code(0);
    assert_eq!(ran.out, "/etc/failover.toml is in force, digest 00\n");
}

#[test]
fn render_shows_what_the_running_sidecar_has_published() {
    let stub = Stub::start(|_| Ok(Answer::Status(Box::new(status()))));
    stub.place.file("failover.toml", &quiet_policy());
    let text = stub.place.run(&["render"]).code(0).out;
    assert!(text.contains("MCP_FAILOVER_SEARCH_ENDPOINT=secondary"), "{text}");
    assert!(text.contains("MCP_FAILOVER_REVISION=7"), "{text}");
}

#[test]
fn an_answer_to_another_question_is_not_taken() {
    let stub = Stub::start(|_| receipt());
    for args in [["status"].as_slice(), &["history"], &["explain", "s"], &["reload"]] {
        let ran = stub.run(args).code(1);
        assert!(ran.err.contains("failed to understand the sidecar's answer"), "{}", ran.err);
    }
}

#[test]
fn explain_asks_for_the_service_named() {
    let stub = Stub::start(|_| {
        let service = ServiceName::new("other");
        Err(Refusal::UnknownService { service }.into())
    });
    let ran = stub.run(&["explain", "other"]).code(1);
    assert!(ran.err.contains("no service named `other`"), "{}", ran.err);
    assert_eq!(stub.asked()[0], json!({"request": "explain", "service": "other"}));
}

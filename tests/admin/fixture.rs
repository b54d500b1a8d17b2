//! A small world to show: three services, some history, some events.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mcp_failover::admin::document::{PolicyInfo, SidecarInfo, StatusDocument};
use mcp_failover::admin::http::{self, AdminState, Limits};
use mcp_failover::admin::hub::EventHub;
use mcp_failover::admin::vitals::Vitals;
use mcp_failover::core::action::{Decision, Event, Evidence, MoveKind};
use mcp_failover::core::breaker::BreakerState;
use mcp_failover::core::health::Health;
use mcp_failover::core::id::{EndpointName, Revision, ServiceName};
use mcp_failover::core::outcome::Outcome;
use mcp_failover::core::record::{EventRecord, HistoryRecord, SCHEMA};
use mcp_failover::core::rules::Strategy;
use mcp_failover::core::status::{
    AdminState as Admin, EndpointStatus, OutputStatus, ServiceState, ServiceStatus, Status,
};
use mcp_failover::core::time::Instant;
use mcp_failover::telemetry::metric;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn at(seconds: u64) -> Instant {
    Instant::new(Duration::from_secs(seconds))
}

pub(crate) fn clock(at: Instant) -> String {
    let seconds = at.since_start().as_secs();
    format!("2026-01-01T{:02}:{:02}:{:02}.000Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

pub(crate) fn endpoint(health: Health, breaker: BreakerState, tier: u32) -> EndpointStatus {
    let healthy = health == Health::Healthy;
    EndpointStatus {
        health,
        admin: Admin::Enabled,
        unusable: (!healthy).then(|| String::from("3 failures in a row")),
        score: if healthy { 970 } else { 120 },
        breaker,
        breaker_retry_at: (breaker == BreakerState::Open).then(|| at(130)),
        tier,
        last_outcome: Some(if healthy { Outcome::Ok } else { Outcome::ServerError }),
        last_detail: (!healthy).then(|| Arc::from("HTTP 503")),
        last_probe_at: Some(at(100)),
        latency: Some(Duration::from_millis(if healthy { 42 } else { 1_310 })),
        passes: u32::from(healthy) * 12,
        failures: u32::from(!healthy) * 3,
        throttled_until: None,
        flap_penalty: 0,
        suppressed: false,
        leases: 0,
        next_probe_at: Some(at(105)),
    }
}

pub(crate) fn service(active: &str, endpoints: Vec<(&str, EndpointStatus)>) -> ServiceStatus {
    let endpoints =
        endpoints.into_iter().map(|(name, seen)| (EndpointName::new(name), seen)).collect();
    ServiceStatus {
        active: Some(EndpointName::new(active)),
        active_since: Some(at(20)),
        critical: false,
        strategy: Strategy::Priority,
        state: ServiceState::Healthy,
        held: None,
        breaker: BreakerState::Closed,
        pinned: None,
        pinned_until: None,
        paused: false,
        budget_left: 6,
        failback_at: None,
        endpoints,
    }
}

pub(crate) fn status() -> Status {
    let good = || endpoint(Health::Healthy, BreakerState::Closed, 0);
    let spare = || endpoint(Health::Healthy, BreakerState::Closed, 1);
    let bad = || endpoint(Health::Unhealthy, BreakerState::Open, 0);
    let mut vectors = service("secondary", vec![("primary", bad()), ("secondary", spare())]);
    vectors.state = ServiceState::FailedOver;
    vectors.critical = true;
    vectors.failback_at = Some(at(400));
    let graph = service("primary", vec![("primary", good()), ("replica", spare())]);
    let mut search = service("only", vec![("only", bad())]);
    search.state = ServiceState::AllDown;
    search.breaker = BreakerState::Open;
    let services = [("vectors", vectors), ("graph", graph), ("search", search)];
    let written =
        OutputStatus { revision: Some(Revision::new(7)), failure: None, at: Some(at(90)) };
    Status {
        revision: Revision::new(7),
        isolated: false,
        confirmation_wait: Duration::ZERO,
        services: services.into_iter().map(|(name, seen)| (ServiceName::new(name), seen)).collect(),
        outputs: [(Arc::from("env_file:/run/mcp/failover.env"), written)].into(),
    }
}

pub(crate) fn document() -> StatusDocument {
    let policy = PolicyInfo {
        digest: "5f".repeat(32),
        valid: true,
        loaded_at: clock(at(1)),
        path: String::from("/etc/mcp-failover/failover.toml"),
        diagnostics: Vec::new(),
    };
    let sidecar = SidecarInfo {
        name: String::from("local"),
        version: String::from("0.1.0"),
        pid: 1,
        started_at: clock(at(0)),
    };
    StatusDocument::new(&status(), policy, sidecar, &clock)
}

pub(crate) fn decision(revision: u64) -> Decision {
    Decision {
        revision: Revision::new(revision),
        service: ServiceName::new("vectors"),
        from: Some(EndpointName::new("primary")),
        to: Some(EndpointName::new("secondary")),
        kind: MoveKind::Failover,
        cause: String::from("primary is unhealthy: server_error (HTTP 503) 3 times in a row"),
        evidence: vec![Evidence {
            endpoint: EndpointName::new("primary"),
            health: Health::Unhealthy,
            breaker: BreakerState::Open,
            score: 120,
            proven: false,
            last_outcome: Some(Outcome::ServerError),
            age: Some(Duration::from_millis(8)),
            detail: Some(Arc::from("HTTP 503")),
            attempts: Vec::new(),
        }],
    }
}

pub(crate) fn history() -> Vec<HistoryRecord> {
    let record = |revision| HistoryRecord {
        schema: SCHEMA,
        at: clock(at(revision)),
        decision: decision(revision),
    };
    (1..=7).rev().map(record).collect()
}

pub(crate) fn event(seq: u64) -> EventRecord {
    let event = Event::Switched(decision(seq));
    EventRecord { schema: SCHEMA, seq, at: clock(at(seq)), event }
}

/// A served surface, ended when dropped.
pub(crate) struct Surface {
    pub(crate) address: SocketAddr,
    pub(crate) hub: EventHub,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) cancel: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Drop for Surface {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Surface {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        Self::start_from(limits, Some(document())).await
    }

    /// Serves for a loop that does not answer, when there is no document.
    pub(crate) async fn start_from(limits: Limits, document: Option<StatusDocument>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let handle = metric::install();
        let (hub, vitals) = (EventHub::new(), Arc::new(Vitals::new()));
        let (answers, shown) = (document.is_some(), document.map(Arc::new));
        let state = AdminState {
            status: Arc::new(move || Box::pin(std::future::ready(shown.clone()))),
            hub: hub.clone(),
            metrics: Arc::new(move || {
                Box::pin(std::future::ready(answers.then(|| handle.render(&status()))))
            }),
            history: Arc::new(|query| {
                let wanted = move |record: &HistoryRecord| {
                    query.service.as_ref().is_none_or(|name| *name == record.decision.service)
                };
                let records = history().into_iter().filter(wanted).take(query.n).collect();
                Box::pin(std::future::ready(records))
            }),
            vitals: Arc::clone(&vitals),
            allowed_hosts: vec![
                String::from("Status.example.com"),
                String::from("a.example.com:81"),
            ],
            limits,
        };
        let cancel = CancellationToken::new();
        let task = tokio::spawn(http::serve(listener, state, cancel.clone()));
        Self { address, hub, vitals, cancel, task }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the surface listens")
    }

    /// Sends a request as it is and reads the whole answer.
    pub(crate) async fn raw(&self, request: &[u8]) -> Reply {
        let mut stream = self.connect().await;
        stream.write_all(request).await.expect("a request is taken");
        let mut bytes = Vec::new();
        let read = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("an end");
        // An answer given before the whole request was read may end in a reset.
        if let Err(error) = read {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
        }
        Reply::parse(&bytes)
    }

    /// One request with these header lines, on a connection of its own.
    pub(crate) async fn ask(&self, method: &str, target: &str, headers: &[&str]) -> Reply {
        let start = format!("{method} {target} HTTP/1.1\r\nconnection: close");
        let lines: Vec<&str> = std::iter::once(&*start).chain(headers.iter().copied()).collect();
        let request = format!("{}\r\n\r\n", lines.join("\r\n"));
        self.raw(request.as_bytes()).await
    }

    /// A plain `GET` by our own address.
    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, &[&format!("host: {}", self.address)]).await
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    head: String,
    pub(crate) body: String,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Self { code, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("a JSON document")
    }
}

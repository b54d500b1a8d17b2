//! Metrics and logs, as their readers see them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mcp_failover::core::action::{Event, HoldReason, ProbeKind};
use mcp_failover::core::breaker::{BreakerState, TripReason};
use mcp_failover::core::id::{EndpointName, Revision, ServiceName};
use mcp_failover::core::outcome::Outcome;
use mcp_failover::telemetry::log::{self, Format};
use mcp_failover::telemetry::metric::{
    self, AlertResult, BackupResult, CATALOGUE, HookResult, Kind, MetricsHandle, Phases,
    ProxyLabels, Reload, Stall, WatchMode,
};
use tracing_subscriber::fmt::MakeWriter;

use super::fixture;
use crate::common;

/// Collects what is logged on this thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capture(Arc<Mutex<Vec<u8>>>);

impl Capture {
    pub(crate) fn install(&self) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(self.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("not poisoned")).into_owned()
    }
}

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Capture {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The recorder belongs to the process, so these tests take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> (MutexGuard<'static, ()>, MetricsHandle) {
    let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    (turn, metric::install())
}

fn names() -> (ServiceName, EndpointName) {
    (ServiceName::new("vectors"), EndpointName::new("primary"))
}

/// Everything the sidecar can say of itself, once.
fn say_everything() {
    let (service, endpoint) = names();
    let second = Duration::from_secs(1);
    let phases = Phases {
        resolve: Some(second),
        connect: Some(second),
        tls: Some(second),
        first_byte: Some(second),
        total: second,
    };
    metric::probe_finished(&service, &endpoint, ProbeKind::Shallow, Outcome::Ok, &phases);
    metric::probe_started(second);
    metric::probes_in_flight(3);
    metric::probe_shared();
    metric::references(2, 3);
    metric::stalled(Stall::Clock);
    metric::tls_expiry(&service, &endpoint, -5.0);
    metric::quota(&service, &endpoint, Some(1000), Some(850));
    metric::event(&Event::Switched(fixture::decision(1)));
    let (why, cause) = (HoldReason::Budget, String::from("6 moves"));
    metric::event(&Event::Held { service: service.clone(), why, cause: cause.clone() });
    metric::event(&Event::CriticalFailure { service: service.clone(), endpoint: None, cause });
    let (from, to) = (BreakerState::Closed, BreakerState::Open);
    let reason = Some(TripReason::Consecutive);
    metric::event(&Event::BreakerChange { service: service.clone(), endpoint, from, to, reason });
    metric::events_dropped("sse", 2);
    metric::detected(&service, second);
    metric::published(second);
    metric::reloaded(Reload::Applied, second, 1_700_000_000.0);
    metric::watch_mode(WatchMode::Notify);
    metric::watch_stale_bind_mount(false);
    metric::output_written("env", Ok(Revision::new(7)), second);
    metric::drift_repaired("env");
    metric::effective("env", "started", second);
    metric::effective_revision("env", Revision::new(7));
    metric::hook_ran("env", HookResult::Timeout);
    say_of_a_proxy(&service);
    metric::store_written(true, second);
    metric::backup(BackupResult::Stored, second);
    metric::backup_good(1_700_000_000.0, 3_120, 24);
    metric::redis_up(Some(true));
    metric::redis_committed(1_700_000_000.0, second);
    metric::redis_outbox(3);
    metric::redis_dropped(1);
    metric::redis_failed("timeout");
    metric::redis_conflict();
    metric::alert("pager", AlertResult::Delivered);
    metric::alerts_queued("pager", 1);
    metric::admin_request("status", 200);
    metric::control_request("status", true);
    metric::loop_lag(second);
    metric::process_started(1_700_000_000.0);
}

fn say_of_a_proxy(service: &ServiceName) {
    let (_, endpoint) = names();
    let place = ProxyLabels { output: "proxy", service, endpoint: &endpoint };
    metric::proxy_requests(&place, Outcome::Ok.label(), 1);
    metric::proxy_open(&place, 1);
    metric::proxy_bytes(&place, 5, 7);
    metric::proxy_cut(&place, 1, 1);
    metric::proxy_retry("proxy", true);
    metric::proxy_refused("proxy", "busy");
    metric::proxy_first_byte("proxy", service, Duration::from_secs(1));
}

/// Kind by name, and label names by name, as exposed.
fn exposed(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' ')) {
            found.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        }
    }
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (series, _) = line.rsplit_once(' ').expect("a sample");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let base = base.filter(|base| found.contains_key(*base)).unwrap_or(name);
        let (_, known) = found.get_mut(base).unwrap_or_else(|| panic!("{name} has no type"));
        for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()) {
            let (label, _) = label.split_once("=\"").expect("a label");
            if label != "le" {
                known.insert(label.to_owned());
            }
        }
    }
    found
}

#[test]
fn what_is_exposed_is_the_catalogue_no_more_and_no_less() {
    let (_turn, metrics) = turn();
    say_everything();
    let found = exposed(&metrics.render(&fixture::status()));
    for (name, (kind, labels)) in &found {
        let row = CATALOGUE.iter().find(|metric| metric.name == name);
        let row = row.unwrap_or_else(|| panic!("{name} is not in the catalogue"));
        assert_eq!(row.kind.label(), kind, "{name}");
        let wanted: BTreeSet<String> = row.labels.iter().map(|label| (*label).to_owned()).collect();
        assert_eq!(&wanted, labels, "{name}");
    }
    for metric in CATALOGUE {
        assert!(found.contains_key(metric.name), "nothing says {}", metric.name);
    }
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let (_turn, metrics) = turn();
    say_everything();
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        return common::skip("promtool is not installed");
    };
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(metrics.render(&fixture::status()).as_bytes()).expect("it reads");
    drop(input);
    let said = child.wait_with_output().expect("it ends");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
    assert!(said.status.success() && text.trim().is_empty(), "{text}");
}

#[test]
fn a_removed_endpoint_is_gone_by_the_next_scrape_and_the_others_stay() {
    let (_turn, metrics) = turn();
    say_everything();
    let mut status = fixture::status();
    let primary = r#"service="vectors",endpoint="primary""#;
    let secondary = r#"service="vectors",endpoint="secondary""#;
    let counter = r#"mcp_failover_switches_total{service="vectors",kind="failover"}"#;
    assert!(metrics.render(&status).contains(primary));
    let vectors = status.services.get_mut("vectors").expect("a service");
    vectors.endpoints.remove("primary").expect("an endpoint");
    status.services.remove("search").expect("a service");
    metric::keep(|service, endpoint| {
        let service = status.services.get(service);
        service.is_some_and(|s| endpoint.is_none_or(|name| s.endpoints.contains_key(name)))
    });
    let text = metrics.render(&status);
    assert!(!text.contains(primary), "{text}");
    assert!(!text.contains(r#"service="search""#), "{text}");
    assert!(text.contains(secondary) && text.contains(counter), "what is alive stays");
    metric::forget_output("env");
    assert!(!metrics.render(&status).contains("mcp_failover_output_revision{"));
}

#[test]
fn a_metric_carries_no_label_but_names_and_words_of_ours() {
    for metric in CATALOGUE.iter().filter(|metric| metric.kind == Kind::Histogram) {
        assert!(!metric.labels.contains(&"endpoint"), "{}: too many series", metric.name);
    }
    let bounded = [
        "service",
        "endpoint",
        "state",
        "kind",
        "outcome",
        "phase",
        "reason",
        "event",
        "listener",
        "result",
        "mode",
        "output",
        "alert",
        "route",
        "code",
        "request",
        "version",
        "direction",
        "cause",
        "proof",
    ];
    for metric in CATALOGUE {
        for label in metric.labels {
            assert!(bounded.contains(label), "{}: {label}", metric.name);
        }
    }
}

/// Runs this very test again in a process of its own, where logs and panic hook can be installed.
fn as_child(test: &str, mode: &str) -> String {
    let exe = std::env::current_exe().expect("our own path");
    let said = Command::new(exe)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("MCPF_TEST_CHILD", mode)
        .output()
        .expect("it runs");
    String::from_utf8_lossy(&said.stderr).into_owned()
}

#[test]
fn logs_are_json_lines_where_nobody_watches_and_a_panic_keeps_its_message_to_itself() {
    let this = "admin::telemetry::logs_are_json_lines_where_nobody_watches_and_a_panic_keeps_its_message_to_itself";
    match std::env::var("MCPF_TEST_CHILD").as_deref() {
        Ok("json") => {
            let _guard = log::init(Format::Auto, "info").expect("logs");
            log::event(&fixture::event(1));
            tracing::debug!("below the level");
            let secret = String::from("canary");
            panic!("the value is {secret}");
        }
        Ok("text") => {
            let _guard = log::init(Format::Text, "warn").expect("logs");
            log::event(&fixture::event(1));
            return;
        }
        Ok(other) => panic!("{other}"),
        Err(_) => {}
    }
    let text = as_child(this, "json");
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[0]["level"], "WARN");
    assert_eq!(lines[0]["event"], "switched");
    assert_eq!(lines[0]["service"], "vectors");
    assert_eq!(lines[0]["endpoint"], "secondary");
    assert_eq!(
        lines[0]["message"],
        "failover: vectors moved from primary to secondary at revision 1: \
         primary is unhealthy: server_error (HTTP 503) 3 times in a row"
    );
    assert_eq!((&lines[1]["level"], &lines[1]["event"]), (&"ERROR".into(), &"panic".into()));
    assert!(lines[1]["place"].as_str().is_some_and(|place| place.contains("telemetry.rs")));
    assert!(!text.contains("canary"), "{text}");
    let text = as_child(this, "text");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("WARN failover: vectors moved"), "{text}");
}

#[test]
fn a_filter_that_cannot_be_read_is_refused() {
    for filter in ["loud", "inof", "", "info,", "mcp_failover=loud", "info,debugg"] {
        let refused = log::init(Format::Text, filter);
        assert!(matches!(refused, Err(log::LogError::Filter(_))), "{filter}");
    }
    assert!("yaml".parse::<Format>().is_err());
    assert_eq!("json".parse::<Format>().ok(), Some(Format::Json));
}

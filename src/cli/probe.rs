//! `probe`: every endpoint, once, now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cli::connect::block_on;
use crate::cli::events::{left_of, words};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::locate::PolicyArgs;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{Terminal, Tone};
use crate::cli::time;
use crate::core::action::ProbeKind;
use crate::core::id::{EndpointName, ServiceName};
use crate::core::ordered::Gather as _;
use crate::core::outcome::{Outcome, Verdict};
use crate::core::record::SCHEMA;
use crate::policy::model::{self, Policy};
use crate::probe::{Phases, Prober, Report};

/// Attempts under way at the same time, at most.
const AT_ONCE: usize = 64;

/// Probe every endpoint of the policy once and show what each phase took.
///
/// No sidecar needs to run. Exit code 3 when a critical service has no healthy endpoint.
#[derive(Args, Debug)]
pub(crate) struct Probe {
    /// Probe these services only.
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Run the deep probes too.
    #[arg(long)]
    deep: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// One probe to run: where the row stands in the table.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Place {
    service: ServiceName,
    tier: u32,
    order: usize,
    endpoint: EndpointName,
    kind: ProbeKind,
}

type Reports = BTreeMap<Place, Report>;

impl Probe {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let policy = self.policy.load(terminal)?;
        let places = self.places(&policy)?;
        let reports = block_on(attempt_all(places, terminal))??;
        let dark = dark_services(&policy, &reports);
        if self.json {
            terminal.print_json(&document(&policy, &reports))?;
        } else {
            terminal.print(&table(&reports).render(terminal))?;
            for service in &dark {
                terminal.warn(&format!("critical service {service} has no healthy endpoint"));
            }
        }
        Ok(if dark.is_empty() { Exit::Fine } else { Exit::Unhealthy })
    }

    fn places(&self, policy: &Policy) -> Result<BTreeMap<Place, Arc<model::Probe>>, Failure> {
        let known = |name: &&String| !policy.services.contains_key(name.as_str());
        if let Some(service) = self.services.iter().find(known) {
            return Err(Failure::UnknownService { service: service.clone() });
        }
        let wanted: BTreeSet<&str> = self.services.iter().map(String::as_str).collect();
        let mut places = BTreeMap::new();
        for (service, rules) in &policy.rules.services {
            if !wanted.is_empty() && !wanted.contains(service.as_str()) {
                continue;
            }
            let Some(known) = policy.services.get(service) else { continue };
            for (order, rules) in rules.endpoints.iter().enumerate() {
                let Some(endpoint) = known.endpoints.get(&rules.name) else { continue };
                let place = |kind| Place {
                    service: service.clone(),
                    tier: rules.tier,
                    order,
                    endpoint: rules.name.clone(),
                    kind,
                };
                places.insert(place(ProbeKind::Shallow), Arc::clone(&endpoint.probe));
                if let Some(deep) = endpoint.deep_probe.as_ref().filter(|_| self.deep) {
                    places.insert(place(ProbeKind::Deep), Arc::clone(deep));
                }
            }
        }
        Ok(places)
    }
}

async fn attempt_all(
    places: BTreeMap<Place, Arc<model::Probe>>,
    terminal: Terminal,
) -> Result<Reports, Failure> {
    let prober = Prober::new().map_err(Failure::Probing)?;
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut waiting: BTreeSet<Place> = places.keys().cloned().collect();
    let total = waiting.len();
    let mut attempts = JoinSet::new();
    for (place, probe) in places {
        let (prober, permits) = (prober.clone(), Arc::clone(&permits));
        attempts.spawn(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire_owned().await;
            let report = prober.run(&probe, probe.timeout).await;
            (place, report)
        });
    }
    let mut reports = Reports::new();
    terminal.progress(&progress(&waiting, total));
    while let Some(ended) = attempts.join_next().await {
        let Ok((place, report)) = ended else { continue };
        waiting.remove(&place);
        reports.insert(place, report);
        terminal.progress(&progress(&waiting, total));
    }
    // Nothing that was begun at a server is left there; this ends within seconds.
    prober.settled().await;
    Ok(reports)
}

/// How far it is, and for whom it waits; empty when it is done.
fn progress(waiting: &BTreeSet<Place>, total: usize) -> String {
    let Some(first) = waiting.first() else { return String::new() };
    let done = total - waiting.len();
    format!("probed {done} of {total}, waiting for {}/{} ...", first.service, first.endpoint)
}

/// The critical services probed of which no endpoint passed every probe.
fn dark_services(policy: &Policy, reports: &Reports) -> Vec<ServiceName> {
    let mut passed: BTreeMap<(&ServiceName, &EndpointName), bool> = BTreeMap::new();
    for (place, report) in reports {
        let pass = passes(report.observation.outcome);
        *passed.entry((&place.service, &place.endpoint)).or_insert(true) &= pass;
    }
    let probed: BTreeSet<&ServiceName> = passed.keys().map(|(service, _)| *service).gather_set();
    let critical = |service: &ServiceName| {
        policy.rules.services.get(service).is_some_and(|rules| rules.critical)
    };
    let lit = |wanted: &ServiceName| {
        passed.iter().any(|((service, _), passed)| *service == wanted && *passed)
    };
    probed.into_iter().filter(|service| critical(service) && !lit(service)).cloned().collect()
}

fn passes(outcome: Outcome) -> bool {
    outcome.verdict() == Verdict::Pass
}

fn tone(outcome: Outcome) -> Tone {
    match outcome.verdict() {
        Verdict::Pass if outcome == Outcome::Ok => Tone::Good,
        Verdict::Pass | Verdict::Neutral => Tone::Warn,
        Verdict::Fail => Tone::Bad,
    }
}

/// A phase in the table, and how long it took.
type Column = (&'static str, fn(&Phases) -> Option<Duration>);

const COLUMNS: [Column; 4] = [
    ("RESOLVE", |phases| phases.resolve),
    ("CONNECT", |phases| phases.connect),
    ("TLS", |phases| phases.tls),
    ("FIRST BYTE", |phases| phases.first_byte),
];

fn table(reports: &Reports) -> Table {
    // A phase that nothing went through is only in the way.
    let used = |(_, took): &Column| reports.values().any(|report| took(&report.phases).is_some());
    let columns: Vec<Column> = COLUMNS.into_iter().filter(used).collect();
    let mut header = vec!["ENDPOINT", "TIER", "OUTCOME", "TOTAL"];
    header.extend(columns.iter().map(|(title, _)| *title));
    header.push("DETAIL");
    let mut table = Table::new(&header);
    for (place, report) in reports {
        let outcome = report.observation.outcome;
        let deep = if place.kind == ProbeKind::Deep { " (deep)" } else { "" };
        let mut row = vec![
            Cell::new(Tone::Strong, format!("{}/{}{deep}", place.service, place.endpoint)),
            place.tier.to_string().into(),
            Cell::new(tone(outcome), words(outcome.label())),
            time::latency(report.phases.total).into(),
        ];
        row.extend(columns.iter().map(|(_, took)| phase(took(&report.phases))));
        row.push(detail(report).into());
        table.row(row);
    }
    table
}

fn phase(took: Option<Duration>) -> Cell {
    took.map_or_else(Cell::none, |took| time::latency(took).into())
}

fn detail(report: &Report) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(report.observation.detail.as_deref().map(str::to_owned));
    if let Some(left) = report.certificate_expires_in {
        parts.push(format!("certificate ends in {}", time::span(left)));
    }
    parts.extend(report.quota.and_then(|quota| left_of(quota.remaining, quota.limit)));
    parts.join(", ")
}

fn document(policy: &Policy, reports: &Reports) -> Value {
    let mut services = serde_json::Map::new();
    for (place, report) in reports {
        let critical =
            policy.rules.services.get(&place.service).is_some_and(|rules| rules.critical);
        let service = services
            .entry(place.service.as_str())
            .or_insert_with(|| json!({ "critical": critical, "endpoints": {} }));
        let kind = if place.kind == ProbeKind::Deep { "deep_probe" } else { "probe" };
        if let Some(endpoints) = service.get_mut("endpoints").and_then(Value::as_object_mut) {
            let endpoint = endpoints.entry(place.endpoint.as_str()).or_insert_with(|| json!({}));
            if let Some(endpoint) = endpoint.as_object_mut() {
                endpoint.insert("tier".into(), place.tier.into());
                endpoint.insert(kind.into(), attempt(report));
            }
        }
    }
    json!({ "schema": SCHEMA, "at": time::now().to_string(), "services": services })
}

fn attempt(report: &Report) -> Value {
    let seconds = |span: Option<Duration>| span.map(|span| span.as_secs_f64());
    let Phases { resolve, connect, tls, first_byte, total } = report.phases;
    let passed = passes(report.observation.outcome);
    json!({
        "outcome": report.observation.outcome.label(),
        "passed": passed,
        "detail": report.observation.detail,
        "error": report.observation.detail.as_ref().filter(|_| !passed),
        "status": report.status,
        "address": report.address.map(|address| address.to_string()),
        "certificate_seconds": seconds(report.certificate_expires_in),
        "quota": report.quota.map(|quota| json!({
            "limit": quota.limit,
            "remaining": quota.remaining,
            "resets_in_seconds": seconds(quota.resets_in),
        })),
        "phases_seconds": {
            "resolve": seconds(resolve),
            "connect": seconds(connect),
            "tls": seconds(tls),
            "first_byte": seconds(first_byte),
            "total": total.as_secs_f64(),
        },
    })
}

//! One JSON document.

use serde_json::{Value, json};

use crate::chaos::check::{Check, Limit, Quantity};
use crate::chaos::drill::Run;
use crate::chaos::lab::Entry;
use crate::chaos::report::Report;
use crate::chaos::scenario::Step;
use crate::chaos::suite::{Figure, Outcome};
use crate::core::record::SCHEMA;

/// The report as one JSON document.
#[must_use]
pub fn json(report: &Report) -> Value {
    let services: Vec<Value> = report.book.services.iter().map(service).collect();
    let drills: Vec<Value> = report.outcomes.iter().map(drill).collect();
    json!({
        "schema": SCHEMA,
        "at": report.at,
        "version": env!("CARGO_PKG_VERSION"),
        "verdict": report.verdict().label(),
        "policy": report.policy,
        "allowance_seconds": report.allowance.as_secs_f64(),
        "seed": report.seed,
        "runs": report.runs,
        "jobs": report.jobs,
        "services": services,
        "drills": drills,
    })
}

fn service(entry: &Entry) -> Value {
    let notes = entry.part.as_ref().map(|part| part.notes.clone()).unwrap_or_default();
    json!({
        "service": entry.name.as_str(),
        "played": entry.part.is_ok(),
        "why_not": entry.part.as_ref().err(),
        "probe": entry.part.as_ref().ok().map(|part| part.probe),
        "notes": notes,
    })
}

fn drill(outcome: &Outcome) -> Value {
    let figures: serde_json::Map<String, Value> =
        outcome.figures().iter().map(|one| (one.id.to_owned(), figure(one))).collect();
    let runs: Vec<Value> = outcome.runs.iter().map(run).collect();
    json!({
        "scenario": outcome.scenario.name,
        "service": outcome.service.as_str(),
        "injects": outcome.scenario.injects,
        "must": outcome.scenario.must,
        "verdict": outcome.verdict().label(),
        "figures": figures,
        "runs": runs,
    })
}

fn figure(figure: &Figure) -> Value {
    let spread = figure.spread();
    let number = |quantity: Option<Quantity>| quantity.map(Quantity::number);
    json!({
        "min": number(spread.map(|(least, _, _)| least)),
        "median": number(spread.map(|(_, median, _)| median)),
        "max": number(spread.map(|(_, _, most)| most)),
        "unit": spread.map(|(least, _, _)| least.unit()),
        "bound": bound(figure.limit),
        "limit": figure.limit.label(),
        "holds": figure.holds,
    })
}

fn run(run: &Run) -> Value {
    let checks: Vec<Value> = run.judgement.checks.iter().map(check).collect();
    let script = run.plan.iter().flat_map(|plan| &plan.steps).map(Step::sentence);
    let script: Vec<String> = script.collect();
    json!({
        "seed": run.seed,
        "verdict": run.judgement.verdict.label(),
        "reasons": run.judgement.reasons,
        "interrupted": run.interrupted,
        "seconds": run.took.as_secs_f64(),
        "script": script,
        "checks": checks,
    })
}

fn check(check: &Check) -> Value {
    json!({
        "id": check.id,
        "measured": check.measured.map(Quantity::number),
        "unit": check.measured.map(Quantity::unit),
        "bound": bound(check.limit),
        "limit": check.limit.label(),
        "holds": check.holds(),
    })
}

fn bound(limit: Limit) -> Option<f64> {
    match limit {
        Limit::AtMost(bound) | Limit::AtLeast(bound) | Limit::Exactly(bound) => {
            Some(bound.number())
        }
        Limit::Told => None,
    }
}

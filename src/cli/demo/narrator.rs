//! Puts what is seen into the timeline.
//!
//! Sees only what any operator could: events, the status document, the env file.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::admin::document::{EndpointDocument, PolicyInfo, ServiceDocument, StatusDocument};
use crate::cli::demo::stage::{FALL, RISE, SERVICE};
use crate::cli::demo::timeline::Timeline;
use crate::cli::events::{arrow, breaker_tone, event_tone, health_tone, words};
use crate::cli::failure::Failure;
use crate::cli::terminal::Tone;
use crate::cli::time;
use crate::core::action::{Decision, Event, Evidence};
use crate::core::health::Health;
use crate::core::id::EndpointName;
use crate::telemetry::log;

/// What was told of an endpoint's probes last.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Told {
    at: Option<String>,
    outcome: String,
    /// How often in a row it has been seen.
    times: u32,
}

/// Puts what is seen into the timeline.
#[derive(Debug, Default)]
pub(super) struct Narrator {
    probes: BTreeMap<EndpointName, Told>,
    env: BTreeMap<String, String>,
    diagnostics: Vec<String>,
    hold: Option<String>,
}

impl Narrator {
    /// Tells what is new in the status.
    ///
    /// # Errors
    /// When the terminal does not take it.
    pub(super) fn status(
        &mut self,
        document: &StatusDocument,
        timeline: &mut Timeline,
    ) -> Result<(), Failure> {
        self.policy(&document.policy, timeline)?;
        let Some(service) = document.services.get(SERVICE) else { return Ok(()) };
        for (name, endpoint) in &service.endpoints {
            self.probe(name, endpoint, timeline)?;
        }
        self.hold(service, timeline)
    }

    /// One line a probe while it matters: when the outcome is another than before, and while
    /// results are being counted.
    fn probe(
        &mut self,
        name: &EndpointName,
        endpoint: &EndpointDocument,
        timeline: &mut Timeline,
    ) -> Result<(), Failure> {
        let told = self.probes.entry(name.clone()).or_default();
        let Some(outcome) = endpoint.last_outcome.as_deref() else { return Ok(()) };
        if told.at == endpoint.last_probe_at {
            return Ok(());
        }
        let changed = told.outcome != outcome;
        let before = std::mem::replace(
            told,
            Told {
                at: endpoint.last_probe_at.clone(),
                outcome: outcome.to_owned(),
                times: if changed { 1 } else { told.times + 1 },
            },
        );
        let counting = count(endpoint);
        if !changed && counting.is_none() {
            return Ok(());
        }
        let tone = if endpoint.failures > 0 { Tone::Bad } else { Tone::Good };
        timeline.line(tone, "probe", probe_text(name, endpoint, &before, changed))
    }

    /// Says that a hold has begun; the living line counts it down.
    fn hold(&mut self, service: &ServiceDocument, timeline: &mut Timeline) -> Result<(), Failure> {
        let begun = service.failback_at.is_some() && self.hold.is_none();
        self.hold.clone_from(&service.failback_at);
        let Some(at) = self.hold.as_deref().filter(|_| begun) else { return Ok(()) };
        let left = time::until(at, time::now()).unwrap_or_default();
        let text =
            format!("primary is well again; back to it in {} if it stays so", time::span(left));
        timeline.line(Tone::Accent, "hold", text)
    }

    fn policy(&mut self, policy: &PolicyInfo, timeline: &mut Timeline) -> Result<(), Failure> {
        if policy.diagnostics == self.diagnostics {
            return Ok(());
        }
        self.diagnostics.clone_from(&policy.diagnostics);
        let mut lines = policy.diagnostics.iter().flat_map(|text| text.lines());
        let Some(first) = lines.next() else {
            return timeline.line(Tone::Good, "policy", "the file is valid again, and in force");
        };
        timeline.line(Tone::Bad, "policy", "your edit is not valid; the running policy stays")?;
        timeline.aside(Tone::Plain, first)?;
        lines.try_for_each(|line| timeline.aside(Tone::Plain, line))
    }

    /// Tells what changed in the env file, and gives the endpoint it names.
    ///
    /// # Errors
    /// When the terminal does not take it.
    pub(super) fn env(&mut self, text: &str, timeline: &mut Timeline) -> Result<(), Failure> {
        let now: BTreeMap<String, String> = variables(text).collect();
        let before = std::mem::replace(&mut self.env, now);
        let terminal = timeline.terminal();
        let mut diff = Vec::new();
        for (name, value) in self.env.iter().filter(|(name, _)| *name != REVISION) {
            let old = before.get(name);
            if old == Some(value) {
                continue;
            }
            diff.extend(old.map(|old| terminal.paint(Tone::Bad, format!("- {name}={old}"))));
            diff.push(terminal.paint(Tone::Good, format!("+ {name}={value}")));
        }
        let revision = self.env.get(REVISION).map_or("?", String::as_str);
        let what = if before.is_empty() { "written" } else { "rewritten in one step" };
        timeline.line(Tone::Accent, "env file", format!("{what}, revision {revision}"))?;
        diff.into_iter().try_for_each(|line| timeline.more(line))
    }

    /// The endpoint that the env file names.
    pub(super) fn published(&self) -> Option<&str> {
        self.env.get(ENDPOINT).map(String::as_str).filter(|name| !name.is_empty())
    }
}

/// Tells an event.
///
/// # Errors
/// When the terminal does not take it.
pub(super) fn event(event: &Event, timeline: &mut Timeline) -> Result<(), Failure> {
    let tone = event_tone(event);
    match event {
        Event::StatusChange { endpoint, from, to, cause, .. } => {
            let to = timeline.terminal().paint(health_tone(*to), words(to.label()));
            timeline.line(tone, "health", format!("{endpoint} {} -> {to}: {cause}", from.label()))
        }
        Event::BreakerChange { endpoint, from, to, reason, .. } => {
            let why = reason.map(|reason| format!(": {}", words(reason.label())));
            let to = timeline.terminal().paint(breaker_tone(*to), words(to.label()));
            let (from, why) = (words(from.label()), why.unwrap_or_default());
            timeline.line(tone, "breaker", format!("{endpoint} {from} -> {to}{why}"))
        }
        Event::Switched(decision) => switched(decision, timeline),
        Event::RulesReplaced { .. } => timeline.line(tone, "policy", log::describe(event).sentence),
        other @ (Event::CriticalFailure { .. }
        | Event::Held { .. }
        | Event::AllDown { .. }
        | Event::Revived { .. }
        | Event::AuthFailed { .. }
        | Event::Throttled { .. }
        | Event::ProbeMisconfigured { .. }
        | Event::Isolation { .. }
        | Event::Commanded(_)
        | Event::Output { .. }
        | Event::Ineffective { .. }
        | Event::Effective { .. }
        | Event::Backup { .. }
        | Event::Redis { .. }) => {
            timeline.line(tone, &words(other.label()), log::describe(other).sentence)
        }
    }
}

const REVISION: &str = "MCP_FAILOVER_REVISION";
const ENDPOINT: &str = "MCP_FAILOVER_SEARCH_ENDPOINT";

/// The variables of an env file as the demo writes it: no value needs an escape.
fn variables(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        Some((name.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
    })
}

/// The place of a result in a row that is being counted; `None` when nothing hangs on it.
fn count(endpoint: &EndpointDocument) -> Option<String> {
    let flipped = |to: &[Health]| to.contains(&endpoint.health);
    if endpoint.failures > 0 && !flipped(&[Health::Unhealthy]) {
        return Some(format!("failure {} of {FALL}", endpoint.failures));
    }
    if endpoint.passes > 0 && !flipped(&[Health::Healthy, Health::Degraded]) {
        return Some(format!("pass {} of {RISE}", endpoint.passes));
    }
    None
}

fn probe_text(
    name: &EndpointName,
    endpoint: &EndpointDocument,
    before: &Told,
    changed: bool,
) -> String {
    let outcome = endpoint.last_outcome.as_deref().unwrap_or_default();
    let latency = endpoint.latency_seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
    let took = latency.map(|latency| format!(" in {}", time::latency(latency)));
    let count = count(endpoint).map(|count| format!(", {count}"));
    let after = (changed && before.times > 1)
        .then(|| format!(" (after {} x {})", before.times, words(&before.outcome)));
    let parts = [took, count, after].map(Option::unwrap_or_default).concat();
    format!("{name} {}{parts}", words(outcome))
}

fn switched(decision: &Decision, timeline: &mut Timeline) -> Result<(), Failure> {
    let terminal = timeline.terminal();
    let tone = crate::cli::events::move_tone(decision.kind);
    let kind = terminal.paint(tone, decision.kind.label());
    let way = terminal.paint(Tone::Strong, arrow(decision.from.as_ref(), decision.to.as_ref()));
    timeline.line(tone, "decision", format!("{kind} {way}"))?;
    timeline.aside(Tone::Plain, &decision.cause)?;
    let evidence: Vec<String> = decision.evidence.iter().map(evidence).collect();
    if evidence.is_empty() {
        return Ok(());
    }
    timeline.aside(Tone::Quiet, &format!("evidence: {}", evidence.join("; ")))
}

fn evidence(seen: &Evidence) -> String {
    let outcome = seen.last_outcome.map(|outcome| format!(", {}", words(outcome.label())));
    let age = seen.age.map(|age| format!(" {} ago", time::span(age)));
    let proven = if seen.proven { ", proven" } else { "" };
    format!(
        "{} {}{}{}{proven}",
        seen.endpoint,
        words(seen.health.label()),
        outcome.unwrap_or_default(),
        age.unwrap_or_default(),
    )
}

/// The living line: where things stand.
pub(super) fn standing(document: &StatusDocument) -> Vec<(Tone, String)> {
    let Some(service) = document.services.get(SERVICE) else { return Vec::new() };
    let mut parts = vec![(Tone::Quiet, "  now ".to_owned())];
    for (name, endpoint) in &service.endpoints {
        let active = service.active.as_ref() == Some(name);
        let (mark, tone) = if active { ('*', Tone::Strong) } else { (' ', Tone::Plain) };
        parts.push((tone, format!(" {mark}{name} ")));
        parts.push((health_tone(endpoint.health), words(endpoint.health.label())));
    }
    if let Some(left) = service.failback_at.as_deref().and_then(|at| time::until(at, time::now())) {
        let text = format!("   back to primary in {:.1}s", left.as_secs_f64());
        parts.push((Tone::Accent, text));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_whatever_their_quotes() {
        let text = "# a comment=1\nA=1\nB=\"two\"\n";
        let read: Vec<_> = variables(text).collect();
        assert_eq!(read, [("A".into(), "1".into()), ("B".into(), "two".into())]);
    }
}

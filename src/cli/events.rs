//! How events and moves look to people.
//!
//! The words are those of the log, so that a line here can be found there.

use jiff::Timestamp;
use tracing::Level;

use crate::cli::terminal::{Terminal, Tone};
use crate::cli::time;
use crate::core::action::{Event, MoveKind};
use crate::core::breaker::BreakerState;
use crate::core::health::Health;
use crate::core::id::EndpointName;
use crate::core::record::EventRecord;
use crate::telemetry::log;

/// One line of `watch`.
pub(crate) fn event_line(record: &EventRecord, terminal: Terminal, now: Timestamp) -> String {
    let at = terminal.paint(Tone::Quiet, time::clock(&record.at, now));
    let label = terminal.paint(event_tone(&record.event), words(record.event.label()));
    format!("{at}  {label}  {}\n", log::describe(&record.event).sentence)
}

/// How bad an event is.
pub(crate) fn event_tone(event: &Event) -> Tone {
    match event {
        Event::StatusChange { to, .. } => health_tone(*to),
        Event::BreakerChange { to, .. } => breaker_tone(*to),
        Event::Switched(decision) => move_tone(decision.kind),
        Event::Revived { .. }
        | Event::Isolation { isolated: false, .. }
        | Event::Output { failure: None, .. }
        | Event::Effective { .. }
        | Event::Backup { failure: None, .. }
        | Event::Redis { failure: None, .. } => Tone::Good,
        Event::RulesReplaced { .. } | Event::Commanded(_) => Tone::Accent,
        Event::CriticalFailure { .. }
        | Event::Held { .. }
        | Event::AllDown { .. }
        | Event::AuthFailed { .. }
        | Event::Throttled { .. }
        | Event::ProbeMisconfigured { .. }
        | Event::Isolation { .. }
        | Event::Output { .. }
        | Event::Ineffective { .. }
        | Event::Backup { .. }
        | Event::Redis { .. } => level_tone(log::describe(event).level),
    }
}

fn level_tone(level: Level) -> Tone {
    match level {
        Level::ERROR => Tone::Bad,
        Level::WARN => Tone::Warn,
        Level::INFO | Level::DEBUG | Level::TRACE => Tone::Plain,
    }
}

/// How bad a sort of move is.
pub(crate) const fn move_tone(kind: MoveKind) -> Tone {
    match kind {
        MoveKind::Failover => Tone::Bad,
        MoveKind::Failback => Tone::Good,
        MoveKind::Switchover | MoveKind::Reload | MoveKind::Rollback => Tone::Warn,
        MoveKind::Start => Tone::Accent,
    }
}

/// How bad a state of health is.
pub(crate) const fn health_tone(health: Health) -> Tone {
    match health {
        Health::Unknown => Tone::Quiet,
        Health::Healthy => Tone::Good,
        Health::Degraded | Health::Throttled => Tone::Warn,
        Health::Unhealthy | Health::AuthFailed => Tone::Bad,
    }
}

/// How bad a state of a breaker is.
pub(crate) const fn breaker_tone(breaker: BreakerState) -> Tone {
    match breaker {
        BreakerState::Closed => Tone::Good,
        BreakerState::HalfOpen | BreakerState::ForcedClosed => Tone::Warn,
        BreakerState::Open | BreakerState::ForcedOpen => Tone::Bad,
        BreakerState::Disabled | BreakerState::MetricsOnly => Tone::Quiet,
    }
}

/// From where to where.
pub(crate) fn arrow(from: Option<&EndpointName>, to: Option<&EndpointName>) -> String {
    let name = |end: Option<&EndpointName>| end.map_or("none", EndpointName::as_str).to_owned();
    match from {
        None => name(to),
        Some(_) => format!("{} -> {}", name(from), name(to)),
    }
}

/// What is left of a quota, if that is known: `850 of 1000 left`.
pub(crate) fn left_of(remaining: Option<u64>, limit: Option<u64>) -> Option<String> {
    let remaining = remaining?;
    Some(match limit {
        Some(limit) => format!("{remaining} of {limit} left"),
        None => format!("{remaining} left"),
    })
}

/// A label in words: `trial_failed` becomes `trial failed`.
pub(crate) fn words(label: &str) -> String {
    label.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_in_the_words_of_the_log() {
        let record = r#"{"schema":1,"seq":1,"at":"then","event":"status_change","service":"s",
            "endpoint":"e","from":"healthy","to":"unhealthy","cause":"refused 3 times"}"#;
        let record: EventRecord = serde_json::from_str(record).expect("an event");
        let text = event_line(&record, Terminal::plain(), Timestamp::UNIX_EPOCH);
        let sentence = log::describe(&record.event).sentence;
        assert_eq!(text, format!("then  status change  {sentence}\n"));
    }
}

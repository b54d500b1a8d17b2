//! Says an event in one sentence, and how loudly.

use tracing::Level;

use crate::core::action::{Decision, Event, HoldReason, MoveKind};
use crate::core::health::Health;
use crate::core::id::EndpointName;
use crate::core::input::{Command, Forced, Order};

/// An event, for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told {
    /// How loudly: `error` is a critical failure, `warn` is for somebody to look at.
    pub level: Level,
    /// The service it is about.
    pub service: Option<String>,
    /// The endpoint it is about.
    pub endpoint: Option<String>,
    /// What happened and why, in one line without a period; free of secrets.
    pub sentence: String,
}

/// Puts an event into words.
#[must_use]
pub fn describe(event: &Event) -> Told {
    let (level, sentence) = say(event);
    let (service, endpoint) = about(event);
    Told { level, service, endpoint, sentence }
}

fn say(event: &Event) -> (Level, String) {
    match event {
        Event::StatusChange { service, endpoint, from, to, cause } => (
            health_level(*to),
            format!("{service}/{endpoint} went from {} to {}: {cause}", from.label(), to.label()),
        ),
        Event::CriticalFailure { service, endpoint, cause } => (
            Level::ERROR,
            format!("critical service {service} lost {}: {cause}", shown(endpoint.as_ref())),
        ),
        Event::BreakerChange { service, endpoint, from, to, reason } => {
            let level = if reason.is_some() { Level::WARN } else { Level::INFO };
            let why = reason.map(|reason| format!(": {}", reason.label())).unwrap_or_default();
            let (from, to) = (from.label(), to.label());
            (level, format!("breaker of {service}/{endpoint} went from {from} to {to}{why}"))
        }
        Event::Switched(decision) => switched(decision),
        Event::Held { service, why, cause } => {
            let level = if *why == HoldReason::Budget { Level::WARN } else { Level::INFO };
            (level, format!("{service} stays where it is ({}): {cause}", why.label()))
        }
        Event::AllDown { service, critical } => {
            let level = if *critical { Level::ERROR } else { Level::WARN };
            (level, format!("no endpoint of {service} is alive"))
        }
        Event::Revived { service, endpoint } => {
            (Level::INFO, format!("{service}/{endpoint} is alive again"))
        }
        Event::AuthFailed { service, endpoint } => {
            (Level::WARN, format!("{service}/{endpoint} refuses our credential"))
        }
        Event::Throttled { service, endpoint, retry_after } => {
            let seconds = retry_after.as_secs_f64();
            (Level::WARN, format!("{service}/{endpoint} throttles us, left alone for {seconds} s"))
        }
        Event::ProbeMisconfigured { service, endpoint, cause } => {
            (Level::WARN, format!("the probe of {service}/{endpoint} is wrong: {cause}"))
        }
        Event::Isolation { isolated: true, cause } => {
            (Level::WARN, format!("we seem to be cut off, nothing moves: {cause}"))
        }
        Event::Isolation { isolated: false, cause } => {
            (Level::INFO, format!("we are connected again: {cause}"))
        }
        Event::Commanded(command) => (Level::INFO, commanded(command)),
        Event::RulesReplaced { added, removed, changed } => {
            let (added, removed, changed) = (added.len(), removed.len(), changed.len());
            let counts = format!("{added} endpoints added, {removed} removed, {changed} changed");
            (Level::INFO, format!("a new policy is in force: {counts}"))
        }
        Event::Output { output, revision, failure: Some(failure) } => {
            (Level::WARN, format!("{output} could not write revision {revision}: {failure}"))
        }
        Event::Output { output, revision, failure: None } => {
            (Level::INFO, format!("{output} works again, revision {revision} is written"))
        }
        Event::Ineffective { service, output, revision, cause } => (
            Level::WARN,
            format!("{output} does not follow {service} to revision {revision}: {cause}"),
        ),
        Event::Effective { service, output, revision } => (
            Level::INFO,
            format!("{output} follows {service} after all, revision {revision} is in use"),
        ),
        Event::Backup { to, failure } => backed_up(to, failure.as_deref()),
        Event::Redis { to, failure } => copied(to, failure.as_deref()),
    }
}

fn copied(to: &str, failure: Option<&str>) -> (Level, String) {
    match failure {
        Some(failure) => {
            (Level::WARN, format!("the state is not kept in {to}: failed to {failure}"))
        }
        None => (Level::INFO, format!("the state is kept in {to} again")),
    }
}

fn backed_up(to: &str, failure: Option<&str>) -> (Level, String) {
    match failure {
        Some(failure) => {
            (Level::WARN, format!("the state cannot be backed up to {to}: failed to {failure}"))
        }
        None => (Level::INFO, format!("the state is backed up to {to} again")),
    }
}

const fn health_level(to: Health) -> Level {
    match to {
        Health::Unhealthy | Health::Throttled | Health::AuthFailed => Level::WARN,
        Health::Unknown | Health::Healthy | Health::Degraded => Level::INFO,
    }
}

fn switched(decision: &Decision) -> (Level, String) {
    let Decision { service, from, to, kind, cause, revision, .. } = decision;
    let level = if *kind == MoveKind::Failover { Level::WARN } else { Level::INFO };
    let (from, to) = (shown(from.as_ref()), shown(to.as_ref()));
    let kind = kind.label();
    (level, format!("{kind}: {service} moved from {from} to {to} at revision {revision}: {cause}"))
}

fn commanded(command: &Command) -> String {
    let order = match &command.order {
        Order::Switch { service, endpoint: Some(to), .. } => format!("switch {service} to {to}"),
        Order::Switch { service, endpoint: None, .. } => format!("switch {service}"),
        Order::Pin { service, endpoint, duration: Some(span) } => {
            format!("pin {service} to {endpoint} for {} s", span.as_secs())
        }
        Order::Pin { service, endpoint, duration: None } => format!("pin {service} to {endpoint}"),
        Order::Unpin { service } => format!("unpin {service}"),
        Order::Drain { service, endpoint } => format!("drain {service}/{endpoint}"),
        Order::Undrain { service, endpoint } => format!("undrain {service}/{endpoint}"),
        Order::Pause { service: Some(service) } => format!("pause {service}"),
        Order::Pause { service: None } => String::from("pause all services"),
        Order::Resume { service: Some(service) } => format!("resume {service}"),
        Order::Resume { service: None } => String::from("resume all services"),
        Order::Breaker { service, endpoint, forced } => {
            let to = match forced {
                Some(Forced::Open) => "open",
                Some(Forced::Closed) => "closed",
                None => "automatic",
            };
            format!("set the breaker of {service}/{endpoint} to {to}")
        }
    };
    let by = command.by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
    let why = command.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("ordered{by}: {order}{why}")
}

fn about(event: &Event) -> (Option<String>, Option<String>) {
    match event {
        Event::StatusChange { service, endpoint, .. }
        | Event::BreakerChange { service, endpoint, .. }
        | Event::Revived { service, endpoint }
        | Event::AuthFailed { service, endpoint }
        | Event::Throttled { service, endpoint, .. }
        | Event::ProbeMisconfigured { service, endpoint, .. } => {
            (Some(service.to_string()), Some(endpoint.to_string()))
        }
        Event::CriticalFailure { service, endpoint, .. } => {
            (Some(service.to_string()), endpoint.as_ref().map(ToString::to_string))
        }
        Event::Switched(decision) => {
            (Some(decision.service.to_string()), decision.to.as_ref().map(ToString::to_string))
        }
        Event::Held { service, .. }
        | Event::AllDown { service, .. }
        | Event::Ineffective { service, .. }
        | Event::Effective { service, .. } => (Some(service.to_string()), None),
        Event::Isolation { .. }
        | Event::Commanded(_)
        | Event::RulesReplaced { .. }
        | Event::Output { .. }
        | Event::Backup { .. }
        | Event::Redis { .. } => (None, None),
    }
}

fn shown(endpoint: Option<&EndpointName>) -> &str {
    endpoint.map_or("nothing", EndpointName::as_str)
}

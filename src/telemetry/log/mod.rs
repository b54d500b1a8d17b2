//! Logs: one line a transition, with its cause.
//!
//! Text when standard error is a terminal, JSON lines otherwise. Lines are written by a thread of
//! their own behind a bounded queue, so that a reader of our log who stands still never delays a
//! switch; what the queue cannot hold is dropped and counted.
//!
//! Levels: `error` a critical service is without an endpoint; `warn` somebody should look; `info`
//! something changed; `debug` each probe and write.

mod sentence;
mod sink;

use std::io::IsTerminal;
use std::str::FromStr;

use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use sentence::{Told, describe};
pub use sink::LogGuard;

use crate::core::record::EventRecord;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for Format {
    type Err = LogError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(LogError::Format(other.to_owned())),
        }
    }
}

/// Why logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No such format.
    #[error("understand the log format `{0}`: it is auto, text or json")]
    Format(String),
    /// The filter cannot be read.
    #[error("understand the log level `{0}`: write `info`, or `warn,mcp_failover=debug`")]
    Filter(String),
    /// Logs are set up already.
    #[error("set up logs: {0}")]
    Install(String),
}

/// Sets up logs on standard error for the whole process, and the line a panic leaves.
///
/// `filter` is a level (`info`), or levels by target (`warn,mcp_failover=debug`). The guard writes
/// out what is still queued when it is dropped.
///
/// # Errors
/// When the filter cannot be read, or logs are set up already.
pub fn init(format: Format, filter: &str) -> Result<LogGuard, LogError> {
    let targets = targets(filter)?;
    let terminal = std::io::stderr().is_terminal();
    let (sink, guard) = sink::spawn(std::io::stderr());
    let layer = tracing_subscriber::fmt::layer().with_writer(sink);
    let layer = match format {
        Format::Json => layer.json().flatten_event(true).with_target(false).boxed(),
        Format::Auto if !terminal => layer.json().flatten_event(true).with_target(false).boxed(),
        Format::Auto | Format::Text => layer.with_ansi(terminal).with_target(false).boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(targets))
        .try_init()
        .map_err(|error| LogError::Install(error.to_string()))?;
    install_panic_hook(guard.flusher());
    Ok(guard)
}

/// A bare word is a level here: the library would take a misspelt one for the name of a target and
/// log nothing at all, and nothing for `error`.
fn targets(filter: &str) -> Result<Targets, LogError> {
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    let known = |part: &str| part.contains('=') || is_level(part.trim());
    let targets = filter.split(',').all(known).then(|| filter.parse().ok()).flatten();
    targets.ok_or_else(|| LogError::Filter(filter.to_owned()))
}

/// Writes one event, at the level it deserves.
pub fn event(record: &EventRecord) {
    let told = describe(&record.event);
    let (service, endpoint) = (told.service.as_deref(), told.endpoint.as_deref());
    let (event, seq, sentence) = (record.event.label(), record.seq, told.sentence);
    match told.level {
        Level::ERROR => tracing::error!(event, seq, service, endpoint, "{sentence}"),
        Level::WARN => tracing::warn!(event, seq, service, endpoint, "{sentence}"),
        Level::INFO => tracing::info!(event, seq, service, endpoint, "{sentence}"),
        Level::DEBUG | Level::TRACE => {
            tracing::debug!(event, seq, service, endpoint, "{sentence}");
        }
    }
}

/// The message of a panic may quote a value, so only one written out in the source is repeated.
fn install_panic_hook(flush: impl Fn() + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string);
        let thread = std::thread::current();
        let literal = panic.payload().downcast_ref::<&'static str>().copied();
        tracing::error!(
            event = "panic",
            place = place.as_deref(),
            thread = thread.name(),
            "panicked: {}",
            literal.unwrap_or("message withheld, it may hold a secret")
        );
        flush();
    }));
}

//! Which policy a drill is played on, and which of its services.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::chaos::bounds::ALLOWANCE;
use crate::chaos::lab::{Book, Part};
use crate::cli::failure::Failure;
use crate::cli::terminal::Terminal;
use crate::policy::duration;
use crate::watch::read_once;

/// What is drilled.
#[derive(Args, Clone, Debug)]
pub(super) struct DrilledArgs {
    /// Take timings, thresholds and probes from this policy, not from a quick one of our own.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Drill this service only; may be given again.
    #[arg(long = "service", value_name = "SERVICE")]
    services: Vec<String>,
    /// What each bound allows the machine beyond the policy [default: 250ms].
    #[arg(long, value_name = "DURATION", value_parser = span)]
    allowance: Option<Duration>,
}

fn span(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| error.to_string())
}

impl DrilledArgs {
    /// What each bound allows the machine.
    pub(super) fn allowance(&self) -> Duration {
        self.allowance.unwrap_or(ALLOWANCE)
    }

    /// The policy, when it is not the one that is built in.
    pub(super) fn path(&self) -> Option<String> {
        self.policy.as_ref().map(|path| path.display().to_string())
    }

    /// The services asked for, those included that cannot be played.
    ///
    /// # Errors
    /// When the policy cannot be read, or has no such service.
    pub(super) fn book(&self) -> Result<Book, Failure> {
        let mut book = match &self.policy {
            None => Book::built_in(),
            Some(path) => Book::read(&read_once(path).map_err(Failure::ReadPolicy)?.text),
        }
        .map_err(Failure::Book)?;
        for wanted in &self.services {
            if !book.services.iter().any(|entry| entry.name.as_str() == wanted) {
                return Err(Failure::UnknownService { service: wanted.clone() });
            }
        }
        if !self.services.is_empty() {
            book.services
                .retain(|entry| self.services.iter().any(|one| entry.name.as_str() == one));
        }
        Ok(book)
    }
}

/// The services that can be played; the others are told.
///
/// # Errors
/// When none can.
pub(super) fn parts(book: &Book, terminal: Terminal) -> Result<Vec<Arc<Part>>, Failure> {
    let mut parts = Vec::new();
    for entry in &book.services {
        match &entry.part {
            Ok(part) => {
                for note in &part.notes {
                    terminal.warn(&format!("{}: {note}", entry.name));
                }
                parts.push(Arc::new(part.clone()));
            }
            Err(why) => terminal.warn(&format!("{} is not played: {why}", entry.name)),
        }
    }
    if parts.is_empty() { Err(Failure::NothingToPlay) } else { Ok(parts) }
}

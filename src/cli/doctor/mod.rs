//! `doctor`: which way of making a switch effective works for a server, and what is in its way.
//!
//! It knows servers by a table ([`servers`]), looks behind the programs that start them
//! ([`started`]), judges each mode ([`modes`]), and looks at the files and processes around
//! ([`look`], [`files`], [`redis`]).
//!
//! Invariants
//! 1. It changes nothing, and connects to nothing but the Redis of `[redis]`. The one program it
//!    runs is `node --version`.
//! 2. No value of a variable is shown.

mod files;
mod finding;
mod look;
mod modes;
mod redis;
mod servers;
mod show;
mod started;

use std::ffi::OsString;

use clap::Args;

use crate::cli::doctor::modes::{Facts, judge, recommended};
use crate::cli::doctor::show::Report;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::locate::PolicyArgs;
use crate::cli::terminal::Terminal;

/// Say which way of making a switch effective works for a server, and what is in its way.
///
/// Looks at the policy, at the server's command (which is not run), and at files and processes
/// around. Exit code 0 when nothing is wrong, 3 when something keeps a switch from being effective.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// The server's command, as a host starts it.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Doctor {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let words: Vec<String> =
            self.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let started = started::resolve(&words);
        let node = look::node_version(&started);
        // Without a policy there is still something to say of a server.
        let located = match self.policy.path() {
            Err(Failure::NoPolicy) if !words.is_empty() => None,
            other => Some(other?),
        };
        let policy = located.as_ref().map(|_| self.policy.load(terminal)).transpose()?;
        let both = policy.as_ref().zip(located.as_deref());
        let findings = both.map(|(policy, path)| look::look(policy, path, &started, node));
        let mut findings = findings.unwrap_or_default();
        if let Some(policy) = &policy {
            findings.extend(redis::look(policy)?);
        }
        let service = policy
            .as_ref()
            .zip(started.server)
            .and_then(|(policy, server)| look::service_of(policy, server));
        let facts = Facts { server: started.server, node };
        let asked = !words.is_empty();
        let report = Report {
            policy: located.as_deref(),
            started: asked.then_some(&started),
            verdicts: if asked { judge(facts) } else { Vec::new() },
            recommended: if asked { recommended(facts, service) } else { None },
            findings: &findings,
        };
        if self.json {
            terminal.print_json(&report.json())?;
        } else {
            terminal.print(&report.text(terminal))?;
        }
        Ok(if look::is_ill(&findings) { Exit::Unhealthy } else { Exit::Fine })
    }
}

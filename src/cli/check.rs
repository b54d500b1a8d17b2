//! `check`: whether a policy is valid, with every diagnostic at once.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::locate::PolicyArgs;
use crate::cli::table::counted;
use crate::cli::terminal::{Terminal, Tone};
use crate::core::record::SCHEMA;
use crate::policy::code::{self, Code};
use crate::policy::diagnostic::{Diagnostic, render_json, render_text};
use crate::policy::model::Policy;
use crate::policy::{Source, compile};
use crate::watch::{ReadError, SystemLookup, read_once};

/// Check a policy and print every diagnostic at once.
///
/// Exit code 0 when it is valid, 78 when not. Variables, secret files and templates that the policy names are looked up, but nothing is connected to;
/// `probe` does that.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The policy to check.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    policy: PolicyArgs,
    /// How to print diagnostics.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Explain a diagnostic's code instead, such as `MF0101`.
    #[arg(long, value_name = "CODE")]
    explain: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// As the Rust compiler does.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

impl Check {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        if let Some(code) = &self.explain {
            return explain(code, terminal);
        }
        let path = self.file.clone().map_or_else(|| self.policy.path(), Ok)?;
        match (read_once(&path), self.format) {
            (Ok(loaded), format) => {
                let name = path.display().to_string();
                judge(&Source { name: &name, text: &loaded.text }, format, terminal)
            }
            (Err(error), Format::Text) => Err(Failure::ReadPolicy(error)),
            (Err(error), Format::Json) => {
                terminal.print_json(&unreadable(&path.display().to_string(), &error))?;
                Ok(Exit::PolicyInvalid)
            }
        }
    }
}

fn judge(source: &Source<'_>, format: Format, terminal: Terminal) -> Result<Exit, Failure> {
    let (exit, found, summary) = match compile(source, &SystemLookup::new()) {
        Ok(compiled) => (Exit::Fine, compiled.warnings, Some(summary(&compiled.policy))),
        Err(found) => (Exit::PolicyInvalid, found.0, None),
    };
    match format {
        Format::Json => terminal.print_json(&render_json(&found, source))?,
        Format::Text => {
            terminal.say(&render_text(&found, source, terminal.error_colour()));
            match summary {
                Some(summary) => terminal.print(&good_news(source.name, &summary, terminal))?,
                None => terminal.say(&bad_news(source.name, &found)),
            }
        }
    }
    Ok(exit)
}

fn good_news(name: &str, summary: &str, terminal: Terminal) -> String {
    format!("{name}: {}, {summary}\n", terminal.paint(Tone::Good, "valid"))
}

fn bad_news(name: &str, found: &[Diagnostic]) -> String {
    let count = match found.len() {
        1 => "1 diagnostic".to_owned(),
        more => format!("{more} diagnostics"),
    };
    format!("{name}: not valid, {count}; `mcp-failover check --explain CODE` says more\n")
}

fn summary(policy: &Policy) -> String {
    let endpoints = policy.services.values().map(|service| service.endpoints.len()).sum();
    format!(
        "{}, {}, {}",
        counted(policy.services.len(), "service"),
        counted(endpoints, "endpoint"),
        counted(policy.outputs.len(), "output"),
    )
}

/// What cannot be read has no place to point at, but is told in the same form.
fn unreadable(file: &str, error: &ReadError) -> Value {
    json!({
        "schema": SCHEMA,
        "diagnostics": [{
            "code": Code::UnreadableFile.as_str(),
            "severity": "error",
            "message": error.to_string(),
            "file": file,
            "line": null,
            "column": null,
            "help": error.help(),
        }],
    })
}

fn explain(code: &str, terminal: Terminal) -> Result<Exit, Failure> {
    let Some(known) = code::explain(code) else {
        return Err(Failure::UnknownCode { code: code.to_owned() });
    };
    let head = format!("{} {}: {}", known.severity.label(), known.code, known.title);
    let head = terminal.paint(Tone::Strong, head);
    terminal.print(&format!("{head}\n\n{}\n", known.explanation))?;
    Ok(Exit::Fine)
}

//! `chaos list`: what can be played.

use clap::Args;
use serde_json::json;

use crate::chaos::scenario::CATALOGUE;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::terminal::{Terminal, Tone};
use crate::core::record::SCHEMA;

/// List the scenarios: what is injected, and what must happen.
#[derive(Args, Debug)]
pub(super) struct List {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        if self.json {
            let one = |scenario: &crate::chaos::scenario::Scenario| {
                json!({
                    "name": scenario.name,
                    "injects": scenario.injects,
                    "must": scenario.must,
                    "basic": scenario.basic,
                })
            };
            let scenarios: Vec<_> = CATALOGUE.iter().map(one).collect();
            terminal.print_json(&json!({ "schema": SCHEMA, "scenarios": scenarios }))?;
            return Ok(Exit::Fine);
        }
        let mut text = String::new();
        for scenario in &CATALOGUE {
            let mark = if scenario.basic { "  (played when none is named)" } else { "" };
            let name = terminal.paint(Tone::Strong, scenario.name);
            let mark = terminal.paint(Tone::Quiet, mark);
            let quiet = |word: &str| terminal.paint(Tone::Quiet, word);
            let line = format!(
                "{name}{mark}\n  {} {}\n  {} {}\n",
                quiet("injects"),
                scenario.injects,
                quiet("must   "),
                scenario.must,
            );
            text.push_str(&line);
        }
        terminal.print(&text)?;
        Ok(Exit::Fine)
    }
}

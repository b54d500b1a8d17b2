//! The doctor's report, for people and for programs.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::doctor::finding::{Finding, Severity};
use crate::cli::doctor::modes::{Mode, Verdict, Works};
use crate::cli::doctor::started::Started;
use crate::cli::table::counted;
use crate::cli::terminal::{Terminal, Tone};
use crate::core::record::SCHEMA;

/// The width of text where nobody says how wide it may be.
const WIDTH: usize = 100;
/// Narrower than this nothing is folded.
const NARROWEST: usize = 24;

/// What was found out.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) policy: Option<&'a Path>,
    pub(super) started: Option<&'a Started>,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) recommended: Option<(Mode, String)>,
    pub(super) findings: &'a [Finding],
}

impl Report<'_> {
    /// For programs.
    pub(super) fn json(&self) -> Value {
        let server = self.started.map(|started| {
            json!({
                "name": started.server.map_or(started.name.as_str(), |server| server.name),
                "known": started.server.is_some(),
                "version_looked_at": started.server.map(|server| server.version),
                "supervised": started.ours,
            })
        });
        let verdict = |one: &Verdict| json!({ "mode": one.mode.name(), "works": works(one.works), "why": one.why });
        let finding = |one: &Finding| {
            json!({
                "finding": one.name, "severity": one.severity.label(),
                "message": one.message, "help": one.help,
            })
        };
        json!({
            "schema": SCHEMA,
            "policy": self.policy,
            "server": server,
            "modes": self.verdicts.iter().map(verdict).collect::<Vec<_>>(),
            "recommended": self.recommended.as_ref().map(|(mode, _)| mode.name()),
            "snippet": self.recommended.as_ref().map(|(_, snippet)| snippet),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub(super) fn text(&self, terminal: Terminal) -> String {
        let mut text = String::new();
        if let Some(started) = self.started {
            text.push_str(&head(started, terminal));
            text.push_str(&self.modes(terminal));
        }
        if let Some((mode, snippet)) = &self.recommended {
            let title = terminal.paint(Tone::Strong, mode.title());
            text = format!("{text}\nrecommended: {title}\n\n");
            for line in snippet.lines() {
                let line = format!("    {line}");
                if !line.trim().is_empty() {
                    text.push_str(&terminal.paint(Tone::Accent, line));
                }
                text.push('\n');
            }
        }
        if !text.is_empty() && self.policy.is_some() {
            text.push('\n');
        }
        text.push_str(&self.findings(terminal));
        text
    }

    fn modes(&self, terminal: Terminal) -> String {
        let width = self.verdicts.iter().map(|one| one.mode.title().chars().count()).max();
        let (width, state) = (width.unwrap_or(0), Works::If.label().len());
        let mut text = String::new();
        for verdict in &self.verdicts {
            let tone = match verdict.works {
                Works::Yes => Tone::Good,
                Works::If => Tone::Warn,
                Works::No => Tone::Quiet,
            };
            let chosen = self.recommended.as_ref().is_some_and(|(mode, _)| *mode == verdict.mode);
            let mark = if chosen { "*" } else { " " };
            let label = format!("{:<state$}", verdict.works.label());
            let first = format!(
                "{mark} {:<width$}  {}  ",
                verdict.mode.title(),
                terminal.paint(tone, label)
            );
            text.push_str(&folded(&verdict.why, (&first, width + state + 6), terminal));
        }
        text
    }

    fn findings(&self, terminal: Terminal) -> String {
        let Some(policy) = self.policy else {
            return "no policy was found; name it with --policy to have it looked at\n".to_owned();
        };
        let mut text = String::new();
        for finding in self.findings {
            let tone = match finding.severity {
                Severity::Error => Tone::Bad,
                Severity::Warning => Tone::Warn,
            };
            let label = format!("{}[{}]", finding.severity.label(), finding.name);
            let (indent, shown) = (label.len() + 2, terminal.paint(tone, &label));
            // What stands below a label need not be as narrow as the label leaves it.
            let (first, indent) = (format!("{shown}: "), indent.min(4));
            text.push_str(&folded_after(
                &finding.message,
                (&first, label.len() + 2),
                indent,
                terminal,
            ));
            let help = format!("    {}: ", terminal.paint(Tone::Accent, "help"));
            text.push_str(&folded_after(&finding.help, (&help, 10), 10, terminal));
        }
        let errors = self.findings.iter().filter(|one| one.severity == Severity::Error).count();
        let warnings = self.findings.len() - errors;
        let verdict = match (errors, warnings) {
            (0, 0) => terminal.paint(Tone::Good, "nothing is wrong"),
            (0, _) => format!("no error, {}", counted(warnings, "warning")),
            (_, 0) => counted(errors, "error"),
            _ => format!("{}, {}", counted(errors, "error"), counted(warnings, "warning")),
        };
        text + &format!("{}: {verdict}\n", policy.display())
    }
}

const fn works(works: Works) -> &'static str {
    match works {
        Works::Yes => "yes",
        Works::If => "conditional",
        Works::No => "no",
    }
}

fn head(started: &Started, terminal: Terminal) -> String {
    let name = match (started.server, started.name.as_str()) {
        (Some(server), _) => {
            let name = terminal.paint(Tone::Strong, server.name);
            format!("{name}, known as of version {}", server.version)
        }
        (None, "") => "the server cannot be made out from this command".to_owned(),
        (None, name) => {
            format!("{} is not a server that is known", terminal.paint(Tone::Strong, name))
        }
    };
    format!("{name}\n\n")
}

fn folded(text: &str, first: (&str, usize), terminal: Terminal) -> String {
    let indent = first.1;
    folded_after(text, first, indent, terminal)
}

/// The text behind a beginning of some width, its further lines indented.
fn folded_after(text: &str, first: (&str, usize), indent: usize, terminal: Terminal) -> String {
    let (beginning, used) = first;
    let width = terminal.columns().unwrap_or(WIDTH).max(indent + NARROWEST);
    let mut out = beginning.to_owned();
    let (mut column, mut fresh) = (used, true);
    for word in text.split(' ') {
        let length = word.chars().count();
        if !fresh && column + 1 + length > width {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            (column, fresh) = (indent, true);
        }
        if !fresh {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
        fresh = false;
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reasons_are_folded_under_themselves() {
        let text = "word ".repeat(30);
        let shown = folded(text.trim(), ("* mode  ", 8), Terminal::plain());
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{shown}");
        assert!(lines[1].starts_with("        word"), "{shown}");
    }
}

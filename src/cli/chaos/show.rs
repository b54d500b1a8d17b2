//! The table at the end.

use crate::chaos::check::{Limit, Quantity};
use crate::chaos::report::Report;
use crate::chaos::suite::{Figure, Outcome};
use crate::chaos::verdict::Verdict;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{Terminal, Tone};
use crate::cli::time;

/// The columns of the table: title, and the figures of which one stands in it.
const COLUMNS: [(&str, &[&str]); 7] = [
    ("DETECTED", &["detection"]),
    ("TO FILE", &["switch"]),
    ("SWITCHED", &["fault_to_file", "rescue", "resume"]),
    ("OUTAGE", &["client_outage"]),
    ("FAILBACK", &["failback"]),
    ("MOVES", &["moves"]),
    ("FAILED CALLS", &["failed_calls"]),
];

/// How bad a verdict is.
pub(super) const fn verdict_tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Pass => Tone::Good,
        Verdict::Fail => Tone::Bad,
        Verdict::Error => Tone::Warn,
    }
}

/// A quantity for people.
pub(super) fn quantity(quantity: Quantity) -> String {
    match quantity {
        Quantity::Time(span) => time::latency(span),
        Quantity::Count(count) => count.to_string(),
        Quantity::Bytes(bytes) => format!("{} KiB", bytes / 1024),
    }
}

/// Everything at the end.
pub(super) fn view(report: &Report, terminal: Terminal) -> String {
    let mut header = vec!["SCENARIO", "SERVICE", "VERDICT"];
    header.extend(COLUMNS.iter().map(|(title, _)| *title));
    let mut table = Table::new(&header);
    for outcome in &report.outcomes {
        let verdict = outcome.verdict();
        let mut row = vec![
            Cell::new(Tone::Strong, outcome.scenario.name),
            outcome.service.as_str().into(),
            Cell::new(verdict_tone(verdict), verdict.label()),
        ];
        row.extend(COLUMNS.iter().map(|(_, ids)| {
            let figure = ids.iter().find_map(|id| outcome.figure(id));
            figure.map_or_else(Cell::none, |figure| worst(&figure))
        }));
        table.row(row);
    }
    let mut text = table.render(terminal);
    if report.runs > 1 {
        text.push('\n');
        text.push_str(&spread(report).render(terminal));
    }
    for outcome in report.outcomes.iter().filter(|one| one.verdict() != Verdict::Pass) {
        text.push_str(&reasons(outcome, terminal));
    }
    text.push_str(&closing(report, terminal));
    text
}

/// What was measured beside its bound; the worst of several runs.
fn worst(figure: &Figure) -> Cell {
    let tone = if figure.holds { Tone::Plain } else { Tone::Bad };
    let measured = figure.spread().map(|(_, _, most)| quantity(most));
    let measured = measured.unwrap_or_else(|| "not seen".to_owned());
    let text = match figure.limit {
        Limit::AtMost(bound) => format!("{measured} / {}", quantity(bound)),
        Limit::Exactly(wanted) if !figure.holds => format!("{measured}, not {}", quantity(wanted)),
        Limit::AtLeast(_) | Limit::Exactly(_) | Limit::Told => measured,
    };
    Cell::new(tone, text)
}

/// Least, median and greatest of what is measured in time.
fn spread(report: &Report) -> Table {
    let mut table = Table::new(&["SCENARIO", "SERVICE", "FIGURE", "MIN", "MEDIAN", "MAX", "BOUND"]);
    for outcome in &report.outcomes {
        for figure in outcome.figures() {
            let (Some((least, median, most)), Limit::AtMost(bound)) =
                (figure.spread(), figure.limit)
            else {
                continue;
            };
            table.row(vec![
                Cell::new(Tone::Strong, outcome.scenario.name),
                outcome.service.as_str().into(),
                figure.id.replace('_', " ").into(),
                quantity(least).into(),
                quantity(median).into(),
                Cell::new(if figure.holds { Tone::Plain } else { Tone::Bad }, quantity(most)),
                quantity(bound).into(),
            ]);
        }
    }
    table
}

fn reasons(outcome: &Outcome, terminal: Terminal) -> String {
    let mut text = String::new();
    for run in outcome.runs.iter().filter(|run| run.judgement.verdict != Verdict::Pass) {
        let verdict = run.judgement.verdict;
        let name = format!("{}/{}", outcome.scenario.name, outcome.service);
        let verdict = terminal.paint(verdict_tone(verdict), verdict.label());
        let line = format!("\n{name}, seed {}: {verdict}\n", run.seed);
        text.push_str(&line);
        for reason in &run.judgement.reasons {
            let line = format!("  - {reason}\n");
            text.push_str(&line);
        }
    }
    text
}

fn closing(report: &Report, terminal: Terminal) -> String {
    let sum = |id: &str| -> f64 {
        let figures = report.outcomes.iter().filter_map(|outcome| outcome.figure(id));
        figures.flat_map(|figure| figure.measured).map(Quantity::number).sum()
    };
    let note = format!(
        "\nMeasured / bound; the worst of several runs. Each bound is computed from the policy, with \
         {} for the machine.\nThe env file was read {:.0} times and was unusable {:.0} times. \
         {:.0} calls were answered. Seed {}, {} at the same time.\n",
        time::latency(report.allowance),
        sum("reads"),
        sum("bad_reads"),
        sum("good_calls"),
        report.seed,
        report.jobs,
    );
    let count = |wanted| report.outcomes.iter().filter(|one| one.verdict() == wanted).count();
    let (pass, all) = (count(Verdict::Pass), report.outcomes.len());
    let verdict = report.verdict();
    let line = format!("{}: {pass} of {all} drills passed", verdict.label());
    format!(
        "{}{}\n",
        terminal.paint(Tone::Quiet, note),
        terminal.paint(verdict_tone(verdict), line)
    )
}

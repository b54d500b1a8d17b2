//! Markdown: a table of all drills, and one for each that is not a pass.

use crate::chaos::check::Limit;
use crate::chaos::check::shown;
use crate::chaos::report::Report;
use crate::chaos::suite::{Figure, Outcome};
use crate::chaos::verdict::Verdict;

/// The columns of the first table: title, and the figure that stands in it.
const COLUMNS: [(&str, &str); 7] = [
    ("detection", "detection"),
    ("decision to file", "switch"),
    ("client outage", "client_outage"),
    ("failback", "failback"),
    ("moves", "moves"),
    ("failed outside", "failed_outside"),
    ("bad reads", "bad_reads"),
];

/// The report as Markdown.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let policy = report.policy.as_deref().unwrap_or("built in");
    let mut text = format!(
        "# Chaos drills: {verdict}\n\nPolicy: {policy}. Seed {seed}, {runs} a drill, {jobs} at the \
         same time. Each bound is computed from the policy and holds {allowance} for the machine.\n\n",
        verdict = report.verdict().label(),
        policy = escape(policy),
        seed = report.seed,
        runs =
            if report.runs == 1 { "one run".to_owned() } else { format!("{} runs", report.runs) },
        jobs = report.jobs,
        allowance = shown(crate::chaos::check::Quantity::Time(report.allowance)),
    );
    let titles = COLUMNS.iter().map(|(title, _)| *title);
    row(&mut text, ["drill", "verdict"].into_iter().chain(titles).map(ToOwned::to_owned));
    row(&mut text, (0..COLUMNS.len() + 2).map(|_| "---".to_owned()));
    for outcome in &report.outcomes {
        let name = format!("{}/{}", outcome.scenario.name, outcome.service);
        let cells = COLUMNS.iter().map(|(_, id)| {
            outcome.figure(id).map_or_else(|| "–".to_owned(), |figure| worst(&figure))
        });
        row(&mut text, [name, outcome.verdict().label().to_owned()].into_iter().chain(cells));
    }
    for entry in &report.book.services {
        if let Err(why) = &entry.part {
            let line = format!("\nNot played: {}: {}.\n", entry.name, escape(why));
            text.push_str(&line);
        }
    }
    for outcome in report.outcomes.iter().filter(|one| one.verdict() != Verdict::Pass) {
        trouble(&mut text, outcome);
    }
    text
}

/// The greatest measurement and its bound.
fn worst(figure: &Figure) -> String {
    let measured =
        figure.spread().map_or_else(|| "not seen".to_owned(), |(_, _, most)| shown(most));
    match figure.limit {
        Limit::AtMost(bound) => format!("{measured} of {}", shown(bound)),
        Limit::AtLeast(bound) => format!("{measured}, at least {}", shown(bound)),
        Limit::Exactly(wanted) if figure.holds => shown(wanted),
        Limit::Exactly(wanted) => format!("{measured}, not {}", shown(wanted)),
        Limit::Told => measured,
    }
}

fn trouble(text: &mut String, outcome: &Outcome) {
    let (name, service) = (outcome.scenario.name, &outcome.service);
    let line = format!("\n## {name}/{service}: {}\n\n", outcome.verdict().label());
    text.push_str(&line);
    for run in &outcome.runs {
        for reason in &run.judgement.reasons {
            let line = format!("- seed {}: {}\n", run.seed, escape(reason));
            text.push_str(&line);
        }
    }
    if let Some(plan) = outcome.runs.iter().find_map(|run| run.plan.as_ref()) {
        text.push_str("\nScript:\n\n");
        let steps = plan.steps.iter().map(|one| format!("1. {}\n", escape(&one.sentence())));
        text.push_str(&steps.collect::<String>());
    }
}

fn row(text: &mut String, cells: impl Iterator<Item = String>) {
    let cells: Vec<String> = cells.map(|cell| escape(&cell)).collect();
    let line = format!("| {} |\n", cells.join(" | "));
    text.push_str(&line);
}

/// Text that cannot break out of a cell or a line.
fn escape(text: &str) -> String {
    let one = |c: char| match c {
        '|' => "\\|".into(),
        '<' => "&lt;".into(),
        '\n' | '\r' => " ".into(),
        c => c.to_string(),
    };
    text.chars().map(one).collect()
}

//! `JUnit` XML: a suite a drill, a case a check.

use crate::chaos::check::Limit;
use crate::chaos::check::shown;
use crate::chaos::report::Report;
use crate::chaos::suite::{Figure, Outcome};
use crate::chaos::verdict::Verdict;

/// The report as `JUnit` XML.
#[must_use]
pub fn junit(report: &Report) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    text.push_str("<testsuites name=\"mcp-failover chaos\">\n");
    for outcome in &report.outcomes {
        suite(&mut text, outcome, report);
    }
    let skipped = report.book.services.iter();
    for (name, why) in skipped.filter_map(|one| Some((&one.name, one.part.as_ref().err()?))) {
        let (name, why) = (escape(name.as_str()), escape(why));
        let line = format!(
            "  <testsuite name=\"{name}\" tests=\"1\" skipped=\"1\">\n    <testcase name=\"played\" \
             classname=\"{name}\"><skipped message=\"{why}\"/></testcase>\n  </testsuite>\n"
        );
        text.push_str(&line);
    }
    text.push_str("</testsuites>\n");
    text
}

fn suite(text: &mut String, outcome: &Outcome, report: &Report) {
    let figures = outcome.figures();
    let name = escape(&format!("{}/{}", outcome.scenario.name, outcome.service));
    let failures = figures.iter().filter(|figure| !figure.holds).count();
    let errors = usize::from(outcome.verdict() == Verdict::Error);
    let took: f64 = outcome.runs.iter().map(|run| run.took.as_secs_f64()).sum();
    let line = format!(
        "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" \
         errors=\"{errors}\" time=\"{took:.3}\" timestamp=\"{at}\">\n",
        tests = figures.len() + 1,
        at = escape(&report.at),
    );
    text.push_str(&line);
    text.push_str("    <properties>\n");
    property(text, "seed", &report.seed.to_string());
    property(text, "allowance", &format!("{:.3} s", report.allowance.as_secs_f64()));
    for figure in &figures {
        if let Some((least, median, most)) = figure.spread() {
            let value = format!("{} / {} / {}", shown(least), shown(median), shown(most));
            property(text, figure.id, &value);
        }
    }
    text.push_str("    </properties>\n");
    let reasons = outcome.runs.iter().flat_map(|run| &run.judgement.reasons);
    let reasons: Vec<String> = reasons.map(|reason| escape(reason)).collect();
    let drill = if errors > 0 {
        format!("<error type=\"harness\" message=\"{}\"/>", reasons.join("; "))
    } else {
        String::new()
    };
    let line = format!("    <testcase name=\"drill\" classname=\"{name}\">{drill}</testcase>\n");
    text.push_str(&line);
    for figure in &figures {
        case(text, figure, &name);
    }
    text.push_str("  </testsuite>\n");
}

fn property(text: &mut String, name: &str, value: &str) {
    let (name, value) = (escape(name), escape(value));
    let line = format!("      <property name=\"{name}\" value=\"{value}\"/>\n");
    text.push_str(&line);
}

fn case(text: &mut String, figure: &Figure, suite: &str) {
    let measured =
        figure.spread().map_or_else(|| "not seen".to_owned(), |(_, _, most)| shown(most));
    let failure = match figure.limit {
        _ if figure.holds => String::new(),
        Limit::AtMost(most) => failure("bound", &format!("{measured}, at most {}", shown(most))),
        Limit::AtLeast(least) => {
            failure("bound", &format!("{measured}, at least {}", shown(least)))
        }
        Limit::Exactly(wanted) => {
            failure("invariant", &format!("{measured}, {} wanted", shown(wanted)))
        }
        Limit::Told => String::new(),
    };
    let line = format!(
        "    <testcase name=\"{}\" classname=\"{suite}\">{failure}</testcase>\n",
        figure.id
    );
    text.push_str(&line);
}

fn failure(kind: &str, message: &str) -> String {
    format!("<failure type=\"{kind}\" message=\"{}\"/>", escape(message))
}

/// Text as it may stand in an attribute. What XML cannot hold at all becomes a question mark.
fn escape(text: &str) -> String {
    let one = |c: char| match c {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '"' => "&quot;".into(),
        '\n' | '\r' | '\t' => " ".into(),
        c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => "?".to_owned(),
        c => c.to_string(),
    };
    text.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_in_a_text_ends_its_attribute(text in "\\PC*|[\u{0}-\u{20}]*") {
            let out = escape(&text);
            prop_assert!(!out.contains(['"', '<', '>', '\u{0}', '\n']), "{out}");
        }
    }
}

//! What is handed on can be read by those for whom it is meant.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{ALLOWANCE, Place};
use crate::common::skip;

/// Prints, for each suite: its name, how many cases, and how many of them are not passed.
const READ_JUNIT: &str = r#"
import sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
assert root.tag == "testsuites"
for suite in root.iter("testsuite"):
    cases = suite.findall("testcase")
    assert int(suite.get("tests")) == len(cases), suite.attrib
    float(suite.get("time"))
    names = [case.get("name") for case in cases]
    assert len(set(names)) == len(names), names
    bad = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    assert int(suite.get("failures")) + int(suite.get("errors")) == len(bad), suite.attrib
    props = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert "seed" in props and "allowance" in props, props
    print(suite.get("name"), len(cases), len(bad))
"#;

#[test]
fn the_reports_of_one_run_agree() {
    let place = Place::new();
    let (junit, markdown) = (place.path("report.xml"), place.path("report.md"));
    let (junit_text, markdown_text) = (junit.to_string_lossy(), markdown.to_string_lossy());
    let args = ["run", "kill-service", "latency-jitter", "--json", "--allowance", ALLOWANCE];
    let files = ["--junit", &junit_text, "--markdown", &markdown_text];
    let output = place.run(&[&args[..], &files[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));

    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    json_has_its_keys(&report);
    markdown_has_its_columns(&fs::read_to_string(&markdown).expect("the Markdown"));
    junit_is_read(&junit);
}

fn json_has_its_keys(report: &Value) {
    let has = |value: &Value, keys: &[&str]| {
        let missing: Vec<_> = keys.iter().filter(|key| value.get(**key).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?} is missing in {value}");
    };
    has(report, &["schema", "at", "version", "verdict", "policy", "allowance_seconds", "seed"]);
    has(report, &["runs", "jobs", "services", "drills"]);
    for drill in report["drills"].as_array().expect("drills") {
        has(drill, &["scenario", "service", "injects", "must", "verdict", "figures", "runs"]);
        for check in drill["runs"][0]["checks"].as_array().expect("checks") {
            has(check, &["id", "measured", "unit", "bound", "limit", "holds"]);
        }
    }
}

fn markdown_has_its_columns(text: &str) {
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 4, "a header, a rule and two drills:\n{text}");
    let columns: Vec<usize> = rows.iter().map(|row| row.matches(" |").count()).collect();
    assert_eq!(columns, vec![9; 4], "{text}");
    assert!(rows[2].starts_with("| kill-service/search | pass |"), "{text}");
}

fn junit_is_read(path: &Path) {
    let read = Command::new("python3").args(["-c", READ_JUNIT]).arg(path).output();
    let Ok(read) = read else { return skip("python3 is not installed") };
    let (out, err) = (String::from_utf8_lossy(&read.stdout), String::from_utf8_lossy(&read.stderr));
    assert!(read.status.success(), "{err}");
    assert!(out.lines().all(|line| line.ends_with(" 0")), "{out}");
    assert!(out.contains("kill-service/search") && out.contains("latency-jitter/search"), "{out}");
}

#[test]
fn the_table_shows_what_was_measured_beside_its_bound() {
    let place = Place::new();
    let output = place.run(&["run", "kill-service", "--allowance", ALLOWANCE]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let row = text.lines().find(|line| line.starts_with("kill-service")).expect("a row");
    assert!(row.contains(" pass ") && row.matches(" / ").count() == 5, "{text}");
    assert!(text.contains("with 4.00s for the machine"), "{text}");
    assert!(text.contains("pass: 1 of 1 drills passed"), "{text}");
}

//! Every scenario on the real sidecar.

use std::collections::BTreeSet;

use mcp_failover::chaos::scenario::CATALOGUE;
use serde_json::Value;

use super::{ALLOWANCE, Place};

#[test]
fn every_scenario_is_injected_measured_and_passed() {
    let place = Place::new();
    let output = place.run(&[
        "run",
        "--all",
        "--jobs",
        "5",
        "--seed",
        "7",
        "--allowance",
        ALLOWANCE,
        "--json",
    ]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(report["schema"], 1);
    assert_eq!(report["verdict"], "pass");
    let drills = report["drills"].as_array().expect("drills");
    let played: BTreeSet<&str> =
        drills.iter().filter_map(|drill| drill["scenario"].as_str()).collect();
    assert_eq!(played, CATALOGUE.iter().map(|scenario| scenario.name).collect());
    drills.iter().for_each(sound);
    let of = |name: &str| {
        let found = drills.iter().find(|drill| drill["scenario"] == name).expect("a drill");
        found["figures"].clone()
    };
    for name in ["kill-service", "network-partition", "resource-exhaustion", "slow-response"] {
        measured(name, &of(name));
    }
    for (name, id, wanted) in [
        ("latency-jitter", "failed_calls", 0.0),
        ("latency-jitter", "moves", 0.0),
        ("all-down", "all_down_told", 1.0),
        ("all-down", "moves", 0.0),
        ("flapping", "moves", 2.0),
    ] {
        assert_eq!(of(name)[id]["max"], wanted, "{name}: {id}");
    }
    for (name, id) in [("sidecar-killed", "resume"), ("secondary-dies-first", "rescue")] {
        assert!(of(name)[id]["max"].as_f64().is_some(), "{name} measures no {id}");
    }
    assert!(place.left().is_empty(), "{:?}", place.left());
}

/// What holds in every drill.
fn sound(drill: &Value) {
    let (name, figures) = (&drill["scenario"], &drill["figures"]);
    assert_eq!(drill["verdict"], "pass", "{name}");
    for id in ["bad_reads", "leftovers", "false_moves", "wrong_answers", "failed_outside"] {
        let measured = &figures[id]["max"];
        assert!(measured.is_null() || *measured == 0.0, "{name}: {id} is {measured}");
    }
    for (id, least) in [("reads", 500.0), ("good_calls", 20.0)] {
        assert!(figures[id]["max"].as_f64() > Some(least), "{name}: {}", figures[id]);
    }
    let steps = drill["runs"][0]["script"].as_array().expect("a script");
    assert!(steps.len() >= 4, "{name}: {steps:?}");
}

/// What is measured where a service is broken and comes back.
fn measured(name: &str, figures: &Value) {
    for id in ["detection", "switch", "fault_to_file", "client_outage", "failback", "hold"] {
        let measured = figures[id]["max"].as_f64();
        assert!(measured.is_some_and(|seconds| seconds >= 0.0), "{name} measures no {id}");
    }
    assert_eq!(figures["moves"]["max"], 2.0, "{name}");
    assert!(figures["client_outage"]["max"].as_f64() > Some(0.1), "{name} hurt nobody");
}

#[test]
fn runs_differ_by_their_seed_and_are_told_together() {
    let place = Place::new();
    let args = ["run", "kill-service", "--runs", "3", "--jobs", "3", "--allowance", ALLOWANCE];
    let output = place.run(&[&args[..], &["--json"]].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let drill = &report["drills"][0];
    let seeds: Vec<_> =
        drill["runs"].as_array().expect("runs").iter().map(|run| &run["seed"]).collect();
    assert_eq!(seeds, [1, 2, 3]);
    let detection = &drill["figures"]["detection"];
    let number = |key: &str| detection[key].as_f64().expect("a number");
    assert!(number("min") <= number("median") && number("median") <= number("max"));
    assert!(number("max") <= number("bound"));
    assert_eq!(detection["unit"], "seconds");
}

//! Drills on somebody's own policy.

use std::fs;

use serde_json::Value;

use super::{ALLOWANCE, Place};

/// Two services: one that a lab can play, one that it cannot.
const OWN: &str = r#"
version = 1

[alerts_are_left_out]

[defaults.probe]
timeout = "900ms"

[services.docs]
preset   = "pinecone"
critical = true
[services.docs.probe]
interval         = "400ms"
fast_interval    = "80ms"
standby_interval = "400ms"
down_interval    = "200ms"
fall             = 2
expect           = { json = { "/dimension" = 1536 } }
[services.docs.failover]
failback = { mode = "manual" }
[[services.docs.endpoints]]
name = "one"
env  = { PINECONE_HOST = "${PINECONE_HOST}", PINECONE_API_KEY = "${PINECONE_API_KEY}" }
[[services.docs.endpoints]]
name = "two"
env  = { PINECONE_HOST = "${OTHER_HOST}", PINECONE_API_KEY = "${file:/run/secrets/other}" }

[services.mail]
[services.mail.probe]
type = "tls"
[[services.mail.endpoints]]
name = "one"
url  = "https://mail.example.com"
[[services.mail.endpoints]]
name = "two"
url  = "https://mail2.example.com"
"#;

fn policy(place: &Place) -> String {
    let path = place.path("failover.toml");
    fs::write(&path, OWN.replace("[alerts_are_left_out]\n", "")).expect("a file");
    path.to_string_lossy().into_owned()
}

#[test]
fn timings_and_probe_are_those_of_the_policy() {
    let place = Place::new();
    let path = policy(&place);
    let args = ["explain", "kill-service", "--policy", &path, "--allowance", "0ms", "--json"];
    let output = place.run(&args);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("mail is not played: the lab does not speak what its tls probe asks"));
    let plan: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let plan = &plan["plans"][0];
    assert_eq!(plan["service"], "docs");
    assert_eq!(plan["endpoint"], "one");
    let promises = plan["promises"].as_array().expect("promises");
    let bound = |what: &str| {
        let found = promises.iter().find(|promise| promise["promise"] == what);
        found.map(|promise| promise["bound"].clone())
    };
    // interval and its jitter, and one confirmation.
    assert_eq!(bound("fault to verdict"), Some("520ms".into()));
    assert_eq!(bound("moves"), Some("exactly 1".into()));
    assert_eq!(bound("healed to env file, hold included"), None, "only a person returns");
}

#[test]
fn a_service_is_drilled_with_its_own_probe_and_none_of_its_secrets() {
    let place = Place::new();
    let path = policy(&place);
    let args = ["run", "kill-service", "--policy", &path, "--keep", "--json"];
    let mut command = place.command(&[&args[..], &["--allowance", ALLOWANCE]].concat());
    command.env("PINECONE_HOST", "https://canary-host.example.com");
    command.env("PINECONE_API_KEY", "canary-key");
    let output = command.output().expect("the binary starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let services = report["services"].as_array().expect("services");
    let played: Vec<_> = services.iter().map(|one| (&one["service"], &one["played"])).collect();
    assert_eq!(played, [(&"docs".into(), &true.into()), (&"mail".into(), &false.into())]);
    assert_eq!(report["drills"][0]["figures"]["moves"]["max"], 1.0);
    let lab = place.left().pop().expect("the lab was kept");
    for name in ["failover.toml", "failover.env", "sidecar.log"] {
        let text = fs::read_to_string(lab.join(name)).expect("a file of the lab");
        assert!(!text.contains("canary"), "{name}:\n{text}");
    }
    let env = fs::read_to_string(lab.join("failover.env")).expect("the env file");
    assert!(env.contains("MCP_FAILOVER_DOCS_ENDPOINT=two"), "{env}");
}

#[test]
fn a_policy_without_a_service_to_play_is_said() {
    let place = Place::new();
    let path = policy(&place);
    let output = place.run(&["run", "--policy", &path, "--service", "mail"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("failed to find a service to drill"), "{told}");
}

#[test]
fn what_does_not_exist_is_a_usage_error() {
    let place = Place::new();
    let path = policy(&place);
    for args in [
        &["run", "kill-serivce"][..],
        &["explain", "nonsense"],
        &["run", "--policy", &path, "--service", "nobody"],
        &["run", "--runs", "0"],
        &["run", "--allowance", "5"],
        &["run", "--all", "flapping"],
    ] {
        let output = place.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn the_policies_we_ship_can_be_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    for entry in fs::read_dir(folder).expect("the policies").flatten() {
        if entry.path().extension().is_none_or(|ending| ending != "toml") {
            continue;
        }
        let text = fs::read_to_string(entry.path()).expect("a policy");
        let book = mcp_failover::chaos::lab::Book::read(&text).expect("a policy with services");
        assert!(!book.services.is_empty(), "{}", entry.path().display());
    }
}

#[test]
fn the_same_seed_gives_the_same_script() {
    let place = Place::new();
    let explain = |seed: &str| place.run(&["explain", "flapping", "--seed", seed]).stdout;
    assert_eq!(explain("3"), explain("3"));
    assert_ne!(explain("3"), explain("4"));
}

#[test]
fn every_scenario_is_listed_and_explained() {
    let place = Place::new();
    let listed = place.run(&["list"]).stdout;
    let listed = String::from_utf8_lossy(&listed);
    for scenario in &mcp_failover::chaos::scenario::CATALOGUE {
        assert!(listed.contains(scenario.injects) && listed.contains(scenario.must), "{listed}");
        let output = place.run(&["explain", scenario.name]);
        assert_eq!(output.status.code(), Some(0), "{}", scenario.name);
        assert!(String::from_utf8_lossy(&output.stdout).contains("PROMISE"));
    }
}

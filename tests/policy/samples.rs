//! The policies that we ship: each compiles clean, and the schema knows every key of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mcp_failover::policy::model::{Check, Policy};
use mcp_failover::policy::{Source, compile, diagnostic};

use super::given::Given;
use crate::common;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")
}

/// The variables of `.env.example`.
pub(crate) fn example() -> Given {
    let text = fs::read_to_string(directory().join(".env.example")).unwrap();
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines.fold(Given::default(), |given, line| {
        let (name, value) = line.split_once('=').unwrap();
        given.with_var(name, value)
    })
}

/// Name and text of every policy.
pub(crate) fn all() -> Vec<(String, String)> {
    let files = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    all.sort();
    assert!(all.len() >= 3, "the samples are gone: {all:?}");
    all
}

fn policy(name: &str) -> Policy {
    let (_, text) = all().into_iter().find(|(file, _)| file == name).unwrap();
    compile(&Source { name, text: &text }, &example()).unwrap().policy
}

#[test]
fn every_sample_compiles_without_a_warning() {
    for (name, text) in all() {
        let source = Source { name: &name, text: &text };
        let found = match compile(&source, &example()) {
            Ok(compiled) => compiled.warnings,
            Err(found) => found.0,
        };
        assert!(found.is_empty(), "{}", diagnostic::render_text(&found, &source, false));
        assert_eq!(text.lines().next(), Some("#:schema ./failover.schema.json"), "{name}");
    }
}

#[test]
fn the_four_services_trip_as_documented() {
    let policy = policy("four-services.toml");
    let limits: Vec<_> = policy
        .rules
        .services
        .values()
        .map(|rules| {
            let breaker = &rules.breaker;
            (rules.name.as_str(), breaker.failure_threshold, breaker.reset_timeout.as_secs())
        })
        .collect();
    let expected = [("graphlit", 5, 60), ("neo4j", 3, 30), ("pinecone", 3, 30), ("tavily", 10, 60)];
    assert_eq!(limits, expected);
}

#[test]
fn the_presets_choose_the_probe_that_the_address_allows() {
    let policy = policy("four-services.toml");
    let kinds: Vec<_> = policy
        .services
        .values()
        .map(|service| {
            let check = &service.endpoints["primary"].probe.check;
            let target = match check {
                Check::Http(http) => &http.target,
                Check::Tcp(tcp) => &tcp.target,
                Check::Tls(tls) => &tls.target,
                Check::Bolt(bolt) => &bolt.target,
                other => panic!("{} is none of these", other.label()),
            };
            (check.label(), target.to_string())
        })
        .collect();
    let expected = [
        ("tls", "data-scus.graphlit.io:443"),
        ("bolt", "primary.databases.example.com:7687"),
        ("http", "primary-index.svc.example.com:443"),
        ("tls", "api.tavily.com:443"),
    ];
    assert_eq!(kinds, expected.map(|(kind, target)| (kind, target.to_owned())));
}

/// Validates each file given with an independent implementation of JSON Schema; prints a line for
/// each that does not pass.
const VALIDATE: &str = "
import json, sys, tomllib
import jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft7Validator.check_schema(schema)
validator = jsonschema.Draft7Validator(schema)
for path in sys.argv[2:]:
    for error in validator.iter_errors(tomllib.load(open(path, 'rb'))):
        print(path, error.json_path, error.message)
";

fn validate(files: &[PathBuf]) -> Option<String> {
    let ready = Command::new("python3").args(["-c", "import jsonschema, tomllib"]).output();
    if !ready.is_ok_and(|output| output.status.success()) {
        common::skip("python3 with jsonschema is not installed");
        return None;
    }
    let schema = directory().join("failover.schema.json");
    let output =
        Command::new("python3").args(["-c", VALIDATE]).arg(schema).args(files).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the schema itself is wrong: {errors}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn another_validator_finds_the_samples_valid() {
    let files: Vec<_> = all().iter().map(|(name, _)| directory().join(name)).collect();
    if let Some(found) = validate(&files) {
        assert_eq!(found, "");
    }
}

#[test]
fn the_schema_refuses_what_the_compiler_refuses_by_shape() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let bad =
        ["MF0201-unknown-key", "MF0203-wrong-type", "MF0204-unknown-value", "MF0206-bare-duration"];
    for name in bad {
        if let Some(found) = validate(&[golden.join(format!("{name}.toml"))]) {
            assert_ne!(found, "", "{name} passes the schema");
        }
    }
}

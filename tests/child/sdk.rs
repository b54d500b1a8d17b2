//! The real clients and servers: thousands of calls under repeated switches, and no error.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::host::{Place, script};
use crate::common::skip;

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools")
}

/// Switches that are effective before the clients may stop, at least.
const SWITCHES: usize = 4;

/// Who calls.
#[derive(Clone, Copy, Debug)]
enum Client {
    /// The Python SDK, major version 1 or 2.
    Python(u8),
    /// The TypeScript SDK, major version 1 or 2.
    Node(u8),
}

impl Client {
    fn command(self) -> Option<Command> {
        match self {
            Self::Python(version) => {
                let python = python(version)?;
                let mut command = Command::new(python);
                command.arg("-u").arg(script("client.py"));
                Some(command)
            }
            Self::Node(version) => {
                let name = if version == 1 { "sdk" } else { "client" };
                let modules = tools().join("node_modules");
                if !modules.join("@modelcontextprotocol").join(name).exists() {
                    return None;
                }
                // Node looks for packages beside the script.
                let here = tools().join("client.mjs");
                std::fs::copy(script("client.mjs"), &here).expect("a writable folder");
                let mut command = Command::new("node");
                command.arg(here);
                Some(command)
            }
        }
    }

    const fn sdk(self) -> &'static str {
        match self {
            Self::Python(1) | Self::Node(1) => "v1",
            Self::Python(_) | Self::Node(_) => "v2",
        }
    }
}

fn python(version: u8) -> Option<PathBuf> {
    let programs = tools().join(if version == 1 { "venv-mcp1" } else { "venv" }).join("bin");
    programs.join("mcp").exists().then(|| programs.join("python"))
}

fn node(package: &str, file: &str) -> Option<Vec<String>> {
    let path = tools().join("node_modules").join(package).join(file);
    path.exists().then(|| vec!["node".to_owned(), path.display().to_string()])
}

/// What is needed for that, or word that it is not there.
fn ready(client: Client, server: Option<Vec<String>>) -> Option<(Command, Vec<String>)> {
    let both = client.command().zip(server);
    if both.is_none() {
        skip("the MCP SDKs and servers are not installed: run tests/run");
    }
    both
}

/// Switches back and forth for as long as the client calls; what it saw.
fn drive(client: Client, mut options: Value, both: (Command, Vec<String>)) -> Value {
    let (mut command, server) = both;
    let place = Place::new();
    let server: Vec<&str> = server.iter().map(String::as_str).collect();
    options["sdk"] = json!(client.sdk());
    let until = place.path("enough");
    options["until"] = json!(until);
    let mut running = command
        .arg(options.to_string())
        .arg("--")
        .args(place.words(&["--log", "warn"], &server))
        // What these servers want before they start; no call of these tests leaves the machine.
        .env("TAVILY_API_KEY", "tvly-none")
        .env("PINECONE_API_KEY", "none")
        .env("NEO4J_URI", "bolt://127.0.0.1:9")
        .env("NEO4J_USERNAME", "none")
        .env("NEO4J_PASSWORD", "none")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the client starts");
    let mut lines = BufReader::new(running.stdout.take().expect("a pipe")).lines();
    let first = lines.next().and_then(Result::ok);
    assert_eq!(first.as_deref(), Some("connected"), "{client:?}");
    let reader = std::thread::spawn(move || lines.map_while(Result::ok).last());
    let mut switches = 0;
    while !reader.is_finished() {
        let seq = place.sidecar.switch(if switches % 2 == 0 { "backup" } else { "primary" });
        super::host::eventually("the switch or the end", || {
            (reader.is_finished() || place.sidecar.acknowledged().contains(&seq)).then_some(())
        });
        switches += 1;
        if switches == SWITCHES {
            std::fs::write(&until, "").expect("a writable folder");
        }
    }
    let last = reader.join().expect("no panic").unwrap_or_default();
    running.wait().expect("a child of ours");
    let seen: Value = serde_json::from_str(&last).expect("what the client saw");
    assert_eq!(seen["errors"], json!([]), "{client:?}: {seen}");
    assert_eq!(seen["tools"], seen["tools_after"]);
    eprintln!(
        "{client:?}: {} calls, {switches} switches, worst {} ms",
        seen["calls"], seen["worst_ms"]
    );
    seen
}

fn sdk_server(version: u8) -> Option<Vec<String>> {
    let python = python(version)?.display().to_string();
    Some(vec![python, script("sdk_server.py").display().to_string()])
}

/// The server that says where it is, with a long call beside the others.
fn whereabouts(client: Client, mode: &str, server: u8) {
    let options = json!({
        "mode": mode, "calls": 2_000, "callers": 4, "tool": "where", "arguments": {},
        "long": { "tool": "slow", "arguments": { "steps": 40 } },
    });
    let Some(both) = ready(client, sdk_server(server)) else { return };
    let seen = drive(client, options, both);
    let texts = seen["texts"].as_object().expect("texts");
    assert!(texts.contains_key("primary") && texts.contains_key("backup"), "{texts:?}");
    let progress: Vec<f64> =
        serde_json::from_value(seen["long"]["progress"].clone()).expect("numbers");
    assert_eq!(progress.len(), 40, "all of it: {progress:?}");
    assert!(progress.is_sorted());
}

#[test]
fn the_python_client_of_the_legacy_era() {
    whereabouts(Client::Python(1), "legacy", 1);
}

#[test]
fn the_python_client_of_the_modern_era() {
    whereabouts(Client::Python(2), "2026-07-28", 2);
}

#[test]
fn the_python_client_that_finds_out_the_era() {
    whereabouts(Client::Python(2), "auto", 1);
}

#[test]
fn the_typescript_client_of_the_legacy_era() {
    whereabouts(Client::Node(1), "legacy", 2);
}

#[test]
fn the_typescript_client_of_the_modern_era() {
    whereabouts(Client::Node(2), "auto", 2);
}

#[test]
fn the_reference_server() {
    let package = "@modelcontextprotocol/server-everything";
    let options = json!({
        "mode": "auto", "calls": 2_000, "callers": 4, "tool": "echo",
        "arguments": { "message": "hello" },
        "long": {
            "tool": "trigger-long-running-operation", "arguments": { "duration": 5, "steps": 5 },
        },
    });
    for client in [Client::Node(2), Client::Python(1)] {
        let server = node(package, "dist/index.js").map(|mut words| {
            words.push("stdio".to_owned());
            words
        });
        let Some(both) = ready(client, server) else { return };
        let seen = drive(client, options.clone(), both);
        // The fifth comes together with the answer, and a client that has its answer drops it.
        assert!(seen["long"]["progress"].as_array().is_some_and(|all| all.len() >= 4), "{seen}");
    }
}

/// Servers whose tools need their services: their lists are asked for instead.
fn lists(server: Option<Vec<String>>) {
    let options = json!({ "mode": "auto", "calls": 200, "callers": 2, "tool": "", "pause": 0.01 });
    let Some(both) = ready(Client::Python(1), server) else { return };
    let seen = drive(Client::Python(1), options, both);
    assert!(seen["tools"].as_u64().is_some_and(|tools| tools > 0), "{seen}");
}

#[test]
fn the_server_for_tavily() {
    lists(node("tavily-mcp", "build/index.js"));
}

#[test]
fn the_server_for_pinecone() {
    lists(node("@pinecone-database/mcp", "dist/index.js"));
}

#[test]
fn the_server_for_neo4j() {
    let path = tools().join("venv-mcp1/bin/mcp-neo4j-cypher");
    lists(path.exists().then(|| vec![path.display().to_string()]));
}

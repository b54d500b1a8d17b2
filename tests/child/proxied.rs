//! A server whose host is hard-coded, sent through the sidecar's proxy by nothing but its start.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::host::{Host, Place, eventually};
use crate::common::binary::command;
use crate::common::skip;
use crate::common::upstream::{Behaviour, Upstream};

/// Variables that these tests must not inherit: what an operator has set is kept.
const WAYS: [&str; 11] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "NO_PROXY",
    "no_proxy",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
];

fn tavily() -> Option<PathBuf> {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/node_modules");
    let server = modules.join("tavily-mcp/build/index.js");
    if !server.exists() {
        skip("the server for Tavily is not installed: run tests/run");
        return None;
    }
    Some(server)
}

/// What the service that is searched would answer.
fn found(by: &str) -> Behaviour {
    let result = json!({
        "title": by, "url": "https://example.com/", "content": format!("found by the {by}"), "score": 1.0,
    });
    Behaviour::Json(json!({ "query": "q", "results": [result] }).to_string())
}

struct Scene {
    place: Place,
    primary: Upstream,
    backup: Upstream,
    door: SocketAddr,
}

impl Scene {
    fn new(stdio: &str, more: &str) -> Self {
        let place = Place::new();
        let (primary, backup) =
            (Upstream::start(found("primary")), Upstream::start(found("backup")));
        let door = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let scene = Self { place, primary, backup, door: door.expect("a free port") };
        scene.write(stdio, more);
        scene
    }

    /// Two endpoints that stand in for a service whose host nobody can change.
    fn write(&self, stdio: &str, more: &str) {
        let at = |name: &str| self.place.path(name).display().to_string();
        let text = format!(
            r#"version = 1
[sidecar]
state_dir = "{state}"
[admin]
listen = "off"
[control]
socket = "{control}"
[child]
on_switch = "none"
stdio = "{stdio}"
[defaults.probe]
interval = "300ms"
fast_interval = "50ms"
standby_interval = "300ms"
timeout = "1s"
fall = 2
[services.search]
probe = {{ type = "tcp" }}
[[services.search.endpoints]]
name = "primary"
url = "{primary}"
priority = 0
env = {{ SEARCH_TOKEN = "${{SECRET_PRIMARY}}" }}
[[services.search.endpoints]]
name = "backup"
url = "{backup}"
priority = 1
env = {{ SEARCH_TOKEN = "${{SECRET_BACKUP}}" }}
[[outputs]]
type = "proxy"
name = "door"
mode = "connect"
listen = "{door}"
service = "search"
headers = {{ Authorization = "Bearer ${{endpoint.env.SEARCH_TOKEN}}" }}
intercept = {{ hosts = ["api.tavily.com"], ca_file = "{ca}" }}
{more}"#,
            state = at("state"),
            control = at("control"),
            ca = at("ca.pem"),
            primary = self.primary.url(),
            backup = self.backup.url(),
            door = self.door,
        );
        std::fs::write(self.place.path("failover.toml"), text).expect("a writable folder");
    }

    fn binary(&self, words: &[&str]) -> Command {
        let mut command = command(&self.place.path("log"));
        command.args(words);
        command.envs([("SECRET_PRIMARY", "canary-one"), ("SECRET_BACKUP", "canary-two")]);
        command.env("TAVILY_API_KEY", "tvly-of-the-server");
        for name in WAYS {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, server: &[&str]) -> Command {
        let mut command = self.binary(&["run", "--policy"]);
        command.arg(self.place.path("failover.toml")).arg("--").args(server);
        command
    }

    fn log(&self) -> String {
        self.place.log()
    }

    fn starts(&self) -> usize {
        self.log().matches("the server was started").count()
    }
}

fn open(host: &mut Host) {
    let params = json!({
        "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" },
    });
    let opened = host.request("initialize", params);
    assert!(opened["result"]["serverInfo"].is_object(), "{opened}");
    host.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
}

fn search(host: &mut Host) -> Value {
    let answer = host.call("tavily_search", &json!({ "query": "anything" }));
    answer["result"]["content"][0]["text"].clone()
}

/// Calls reach our upstreams and follow a switch; the server stays the same process.
fn follows(scene: &Scene, host: &mut Host) {
    open(host);
    let text = search(host).to_string();
    assert!(text.contains("found by the primary"), "{text}\n{}", scene.log());
    let seen = scene.primary.last_request().to_lowercase();
    assert!(seen.contains("authorization: bearer canary-one"), "{seen}");
    scene.primary.set(Behaviour::Refuse);
    eventually("the backup", || {
        search(host).to_string().contains("found by the backup").then_some(())
    });
    let seen = scene.backup.last_request().to_lowercase();
    assert!(seen.contains("authorization: bearer canary-two"), "{seen}");
    assert_eq!(scene.starts(), 1, "{}", scene.log());
    assert!(!scene.log().contains("canary"), "{}", scene.log());
}

#[test]
fn run_sends_the_server_for_tavily_through_the_proxy() {
    let Some(server) = tavily() else { return };
    let scene = Scene::new("mcp", "");
    let mut host = Host::start(&mut scene.run(&["node", &server.display().to_string()]));
    follows(&scene, &mut host);
}

#[test]
fn exec_sends_the_server_for_tavily_through_the_sidecars_proxy() {
    let Some(server) = tavily() else { return };
    let scene = Scene::new("mcp", "");
    let socket = scene.place.path("config.sock");
    scene.write(
        "mcp",
        &format!("[[outputs]]\ntype = \"socket\"\npath = \"{}\"\n", socket.display()),
    );
    let mut sidecar = scene.binary(&["run", "--policy"]);
    let _sidecar = Host::start(sidecar.arg(scene.place.path("failover.toml")));
    let mut exec = scene.binary(&["exec", "--on-switch", "none", "--socket"]);
    exec.arg(&socket).args(["--", "node"]).arg(server);
    let mut host = Host::start(&mut exec);
    follows(&scene, &mut host);
}

#[test]
fn a_server_that_trusts_the_authority_of_an_earlier_sidecar_is_replaced() {
    let Some(server) = tavily() else { return };
    let scene = Scene::new("mcp", "");
    let socket = scene.place.path("config.sock");
    scene.write(
        "mcp",
        &format!("[[outputs]]\ntype = \"socket\"\npath = \"{}\"\n", socket.display()),
    );
    let sidecar = || {
        let mut sidecar = scene.binary(&["run", "--policy"]);
        Host::start(sidecar.arg(scene.place.path("failover.toml")))
    };
    let mut first = sidecar();
    let mut exec = scene.binary(&["exec", "--socket"]);
    exec.arg(&socket).args(["--", "node"]).arg(server);
    let mut host = Host::start(&mut exec);
    open(&mut host);
    assert!(search(&mut host).to_string().contains("found by the primary"));
    first.kill();
    let _second = sidecar();
    eventually("calls that trust the new authority", || {
        search(&mut host).to_string().contains("found by the primary").then_some(())
    });
    assert_eq!(scene.starts(), 2, "{}", scene.log());
}

/// What the environment of the server is; one that prints it and waits.
fn environment(command: &mut Command) -> (Host, Vec<String>) {
    let host = Host::start(command);
    let mut lines = Vec::new();
    loop {
        let line = host.line();
        if line == "that is all" {
            return (host, lines);
        }
        lines.push(line);
    }
}

/// Tells what it has in its environment, and that the files in it are there already.
const TELL: &str = "env; for file in \"$NODE_EXTRA_CA_CERTS\" \"$SSL_CERT_FILE\"; do \
                    grep -c 'BEGIN CERTIFICATE' \"$file\" | sed 's/^/certificates=/'; done; \
                    echo that is all; exec sleep 1000";

#[test]
fn the_files_that_the_variables_name_are_there_before_the_server_starts() {
    let scene = Scene::new("inherit", "");
    let (_host, lines) = environment(&mut scene.run(&["sh", "-c", TELL]));
    let has = |wanted: &str| lines.iter().any(|line| line == wanted);
    let ca = scene.place.path("ca.pem").display().to_string();
    assert!(has(&format!("HTTPS_PROXY=http://{}", scene.door)), "{lines:?}");
    assert!(has(&format!("NODE_EXTRA_CA_CERTS={ca}")), "{lines:?}");
    assert!(has("NODE_USE_ENV_PROXY=1") && has("NO_PROXY=localhost,127.0.0.1,::1"));
    let count = |line: &String| line.strip_prefix("certificates=")?.parse::<usize>().ok();
    let counts: Vec<usize> = lines.iter().filter_map(count).collect();
    assert_eq!(counts[0], 1, "it adds to the roots");
    let roots = rustls_native_certs::load_native_certs().certs.len();
    assert_eq!(counts[1], 1 + roots, "it replaces the roots, and holds them");
}

#[test]
fn a_variable_of_the_operator_is_kept_and_that_is_said() {
    let scene = Scene::new("inherit", "");
    let mut command = scene.run(&["sh", "-c", TELL]);
    command.env("https_proxy", "http://proxy.example.com:3128");
    let (_host, lines) = environment(&mut command);
    let proxies: Vec<_> = lines.iter().filter(|line| line.contains("PROXY=http")).collect();
    assert!(proxies.is_empty(), "not beside the other spelling: {proxies:?}");
    assert!(lines.iter().any(|line| line == "https_proxy=http://proxy.example.com:3128"));
    let log = scene.log();
    assert!(log.contains("HTTPS_PROXY") && log.contains("is set already and is kept"), "{log}");
}

#[test]
fn a_proxy_that_cannot_listen_does_not_keep_the_server_from_being_started() {
    let scene = Scene::new("inherit", "");
    let _taken = TcpListener::bind(scene.door).expect("it was free");
    let (_host, lines) = environment(&mut scene.run(&["sh", "-c", TELL]));
    assert!(!lines.iter().any(|line| line.starts_with("HTTPS_PROXY")), "{lines:?}");
    assert!(lines.iter().any(|line| line == "SEARCH_TOKEN=canary-one"), "{lines:?}");
    assert!(scene.log().contains("a proxy does not come up"), "{}", scene.log());
}

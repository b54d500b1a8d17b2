//! Whether a switch is in use: told, measured, and rolled back where the policy asks for it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::sidecar::{Home, PATIENCE, Sidecar, eventually};
use crate::common::upstream::{Behaviour, Upstream};

/// Two servers that serve, and a sidecar with more outputs than the file.
struct Stage {
    home: Home,
    sidecar: Sidecar,
    _upstreams: [Upstream; 2],
}

impl Stage {
    fn start(outputs: impl FnOnce(&Home) -> String) -> Self {
        let upstreams = [Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy)];
        let home = Home::new();
        let policy =
            home.quick_policy(&upstreams[0], &upstreams[1]).replace("\"auto\"", "\"never\"");
        home.write_policy(&(policy + &outputs(&home)));
        let sidecar = home.start();
        home.wait_for_active("primary");
        Self { home, sidecar, _upstreams: upstreams }
    }

    /// A socket whose clients have 300 ms.
    fn with_socket(on_ineffective: &str) -> Self {
        Self::start(|home| {
            let path = home.path("config.sock");
            format!(
                "[[outputs]]\ntype = \"socket\"\nname = \"socket\"\npath = \"{}\"\n\
                 effective_timeout = \"300ms\"\non_ineffective = \"{on_ineffective}\"\n",
                path.display()
            )
        })
    }

    fn switch(&self, endpoint: &str) -> u64 {
        let order =
            json!({"order": "switch", "service": "search", "endpoint": endpoint, "force": false});
        let command = json!({"request": "command", "command": {"order": order}});
        let answer = eventually("the order is carried out", || {
            self.sidecar.ask(&command).filter(|answer| answer["ok"] == true)
        });
        answer["data"]["revision"].as_u64().expect("a revision")
    }

    fn client(&self) -> Client {
        let path = self.home.path("config.sock");
        let stream = eventually("the socket listens", || UnixStream::connect(&path).ok());
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut client = Client(BufReader::new(stream));
        client.say(&json!({"id": 1, "op": "subscribe", "service": "search"}));
        client.until(|line| line["id"] == 1);
        client
    }

    /// What the log says of an event.
    fn told(&self, event: &str) -> Vec<String> {
        let log = self.home.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let told = lines.filter(|line| line["event"] == event);
        told.filter_map(|line| line["message"].as_str().map(str::to_owned)).collect()
    }

    fn output(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let status = self.sidecar.wait_until(what, |status| holds(&status["outputs"][name]));
        status["outputs"][name].clone()
    }
}

struct Client(BufReader<UnixStream>);

impl Client {
    fn say(&mut self, message: &Value) {
        self.0.get_mut().write_all(format!("{message}\n").as_bytes()).expect("it listens");
    }

    fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("it answers");
            let line = serde_json::from_str(&line).expect("JSON");
            if fits(&line) {
                return line;
            }
        }
    }

    fn ack(&mut self, event: &Value) {
        let (generation, seq) = (&event["gen"], &event["seq"]);
        self.say(&json!({"op": "ack", "service": "search", "gen": generation, "seq": seq}));
    }
}

/// A process that is killed with the test.
struct Killed(Child);

impl Killed {
    fn sleeper(home: &Home) -> Self {
        let child =
            Command::new("sleep").arg("120").stdin(Stdio::null()).spawn().expect("it starts");
        fs::write(home.path("server.pid"), child.id().to_string()).expect("a writable folder");
        Self(child)
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_client_that_acknowledges_proves_the_switch() {
    let stage = Stage::with_socket("roll_back");
    let mut client = stage.client();
    let revision = stage.switch("backup");
    let event = client.until(|line| line["event"] == "switch");
    client.ack(&event);
    let output = stage.output("socket", "the switch is in use", |output| {
        output["effective"] == revision && output["awaited_seconds"].is_null()
    });
    assert_eq!(output["proof"], "acknowledged");
    assert_eq!(stage.told("ineffective"), [""; 0]);
}

#[test]
fn a_client_that_never_acknowledges_is_told_of_and_the_service_stays() {
    let stage = Stage::with_socket("alert");
    let _client = stage.client();
    stage.switch("backup");
    eventually("people are told", || (stage.told("ineffective").len() == 1).then_some(()));
    let told = stage.told("ineffective").remove(0);
    assert!(told.starts_with("socket does not follow search to revision "), "{told}");
    assert_eq!(stage.home.active().as_deref(), Some("backup"));
    stage.output("socket", "the wait shows", |output| output["awaited_seconds"].is_number());
}

#[test]
fn a_switch_that_is_acknowledged_late_is_told_to_be_in_use_after_all() {
    let stage = Stage::with_socket("alert");
    let mut client = stage.client();
    stage.switch("backup");
    let event = client.until(|line| line["event"] == "switch");
    eventually("people are told", || (stage.told("ineffective").len() == 1).then_some(()));
    client.ack(&event);
    eventually("and again", || (stage.told("effective").len() == 1).then_some(()));
}

#[test]
fn a_switch_that_nobody_acknowledges_is_rolled_back_where_the_policy_asks_for_it() {
    let stage = Stage::with_socket("roll_back");
    let mut client = stage.client();
    let revision = stage.switch("backup");
    let back = client.until(|line| line["kind"] == "rollback");
    assert_eq!((&back["from"], &back["endpoint"]["id"]), (&json!("backup"), &json!("primary")));
    client.ack(&back);
    stage.home.wait_for_active("primary");
    assert!(stage.home.revision() > revision, "revisions only rise");
    stage.output("socket", "it is in use", |output| output["effective"] == stage.home.revision());
    let history = stage.sidecar.history();
    assert_eq!(history[0]["kind"], "rollback");
    assert_eq!(history[0]["cause"], format!("socket does not use revision {revision}"));
}

#[test]
fn a_process_that_started_after_the_file_was_written_proves_it() {
    let upstreams = [Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy)];
    let home = Home::new();
    let policy = home.quick_policy(&upstreams[0], &upstreams[1]).replace("\"auto\"", "\"never\"");
    let reader = format!(
        "name = \"file\"\nreader = {{ pid_file = \"{}\" }}\neffective_timeout = \"300ms\"\n",
        home.path("server.pid").display()
    );
    home.write_policy(&(policy + &reader));
    let sidecar = home.start();
    home.wait_for_active("primary");
    // A start within a tick of the kernel's clock from the write proves nothing.
    eventually("a tick", || {
        let written = fs::metadata(home.path("failover.env")).ok()?.modified().ok()?;
        written.elapsed().ok().filter(|age| *age > Duration::from_millis(30))
    });
    let stage = Stage { home, sidecar, _upstreams: upstreams };
    let first = Killed::sleeper(&stage.home);
    stage.output("file", "its start proves the file", |output| output["proof"] == "started");
    let revision = stage.switch("backup");
    eventually("people are told", || (stage.told("ineffective").len() == 1).then_some(()));
    drop(first);
    let _second = Killed::sleeper(&stage.home);
    stage.output("file", "the restart proves it", |output| output["effective"] == revision);
    eventually("and they are told", || (stage.told("effective").len() == 1).then_some(()));
}

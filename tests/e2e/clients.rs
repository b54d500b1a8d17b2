//! The clients in `examples/` follow a real sidecar, from before it knows anything.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use super::sidecar::{Home, PATIENCE, eventually};
use crate::common;
use crate::common::upstream::{Behaviour, Upstream};

/// A client that is killed with the test.
struct Client {
    process: Child,
    lines: mpsc::Receiver<String>,
}

impl Client {
    fn start(command: &mut Command) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = quiet.spawn().expect("the client starts");
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(process.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Self { process, lines }
    }

    /// Waits until it says that it uses this endpoint.
    fn uses(&self, endpoint: &str) {
        while !self.lines.recv_timeout(PATIENCE).expect("it follows").contains(endpoint) {}
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Starts the client first, then a sidecar, and fails the primary.
fn follows(command: &mut Command) {
    let (primary, backup) =
        (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy));
    let home = Home::new();
    let socket = home.path("config.sock");
    let output = format!(
        "[[outputs]]\ntype = \"socket\"\nname = \"socket\"\npath = \"{}\"\n",
        socket.display()
    );
    home.write_policy(&(home.quick_policy(&primary, &backup) + &output));
    let client = Client::start(command.arg(&socket).arg("search"));
    let sidecar = home.start();
    client.uses("primary");
    primary.set(Behaviour::Refuse);
    client.uses("backup");
    eventually("the switch is known to be in use", || {
        let status = sidecar.status()?;
        let output = status.get("outputs")?.get("socket")?.clone();
        (output.get("proof")? == "acknowledged"
            && output.get("awaited_seconds") == Some(&Value::Null))
        .then_some(())
    });
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/socket").join(name)
}

#[test]
fn the_python_client_follows() {
    follows(Command::new("python3").arg(example("client.py")));
}

#[test]
fn the_node_client_follows() {
    if Command::new("node").arg("--version").output().is_err() {
        common::skip("node is not installed");
        return;
    }
    follows(Command::new("node").arg(example("client.mjs")));
}

#[test]
fn the_rust_client_follows() {
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test.parent().and_then(Path::parent).expect("deps of a profile");
    let client = folder.join("examples/socket_client");
    if !client.exists() {
        common::skip("the examples are not built");
        return;
    }
    follows(&mut Command::new(client));
}

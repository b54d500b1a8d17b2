//! The example servers, which read the env file anew: a switch reaches them without a restart.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::sidecar::{Home, eventually};
use crate::common::upstream::{Behaviour, Upstream};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools")
}

fn follows(mut command: Command, home: &Home) {
    let (primary, backup) =
        (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy));
    let pid_file = home.path("server.pid");
    let hook =
        format!("on_change = {{ signal = \"SIGHUP\", pid_file = \"{}\" }}\n", pid_file.display());
    home.write_policy(&format!("{}{hook}", home.quick_policy(&primary, &backup)));
    let out = fs::File::create(home.path("server.out")).expect("a writable folder");
    let _server = Server(
        command
            .arg(home.path("failover.env"))
            .arg(&pid_file)
            .stdin(Stdio::null())
            .stdout(out)
            .spawn()
            .expect("the server starts"),
    );
    eventually("the server's pid file", || pid_file.exists().then_some(()));
    let sidecar = home.start();
    let said = |endpoint: &str| {
        let text = fs::read_to_string(home.path("server.out")).unwrap_or_default();
        text.lines().last().is_some_and(|line| line.contains(endpoint)).then_some(())
    };
    eventually("the server on the primary", || said("primary"));
    primary.set(Behaviour::Refuse);
    eventually("the server on the backup", || said("backup"));
    primary.set(Behaviour::Healthy);
    eventually("the server on the primary again", || said("primary"));
    drop(sidecar);
}

#[test]
fn the_python_server_follows_a_switch() {
    let python = tools().join("venv/bin/python");
    if !python.exists() {
        return crate::common::skip("no python-dotenv: run tests/run");
    }
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/python/server.py"));
    follows(command, &Home::new());
}

#[test]
fn the_node_server_follows_a_switch() {
    let modules = tools().join("node_modules");
    if !modules.join("dotenv").exists() {
        return crate::common::skip("no dotenv for Node: run tests/run");
    }
    // Node looks for packages beside the script.
    let home = Home::new();
    let script = home.path("server.mjs");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/node/server.mjs"), &script)
        .expect("a writable folder");
    std::os::unix::fs::symlink(&modules, home.path("node_modules")).expect("a writable folder");
    let mut command = Command::new("node");
    command.arg(script);
    follows(command, &home);
}

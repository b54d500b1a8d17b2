//! A sidecar with proxies, and orders to it.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

pub(super) use crate::common::binary::{PATIENCE, eventually};
use crate::common::binary::{ask, command};

/// A loopback address that nobody uses.
pub(super) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

/// The policy of one service `search` behind one proxy.
pub(super) struct Plan {
    /// Names and addresses, one a tier, unless they are peers.
    pub(super) endpoints: Vec<(&'static str, String)>,
    pub(super) peers: bool,
    /// Keys of the service's own table.
    pub(super) service: &'static str,
    /// Its probe.
    pub(super) probe: String,
    /// Keys of the output beyond type, name, address and service.
    pub(super) output: String,
}

impl Plan {
    /// Two endpoints, probed by HTTP, behind a proxy with these keys.
    pub(super) fn new(primary: &str, backup: &str, output: &str) -> Self {
        let endpoints = vec![("primary", primary.to_owned()), ("backup", backup.to_owned())];
        let probe = "type = \"http\"\npath = \"/\"".to_owned();
        Self { endpoints, peers: false, service: "", probe, output: output.to_owned() }
    }

    fn text(&self, rig: &Rig) -> String {
        let folder = rig.dir.path().display();
        let mut text = format!(
            r#"version = 1
[sidecar]
name = "proxy"
state_dir = "{folder}/state"
[admin]
listen = "off"
[control]
socket = "{folder}/control.sock"
[defaults.probe]
interval = "300ms"
fast_interval = "100ms"
down_interval = "200ms"
standby_interval = "300ms"
timeout = "1s"
rise = 1
fall = 2
[defaults.breaker]
failure_threshold = 5
reset_timeout = "300ms"
[defaults.failover]
failback = {{ mode = "manual" }}
budget = 100
[services.search]
{}
[services.search.probe]
{}
"#,
            self.service, self.probe
        );
        for (place, (name, url)) in self.endpoints.iter().enumerate() {
            let tier = if self.peers { 0 } else { place };
            write!(
                text,
                "[[services.search.endpoints]]\nname = \"{name}\"\nurl = \"{url}\"\npriority = {tier}\n\
                 env = {{ KEY = \"${{SECRET_{}}}\" }}\n",
                name.to_uppercase()
            )
            .expect("text");
        }
        write!(
            text,
            "[[outputs]]\ntype = \"proxy\"\nname = \"door\"\nlisten = \"{}\"\nservice = \"search\"\n{}\n",
            rig.address, self.output
        )
        .expect("text");
        text
    }
}

/// A running sidecar; ended by its process id when dropped.
pub(super) struct Rig {
    dir: TempDir,
    /// Where its proxy listens.
    pub(super) address: SocketAddr,
    /// A folder of a test's own.
    pub(super) folder: Option<PathBuf>,
    child: Option<Child>,
}

impl Rig {
    /// Starts it, and waits until it knows the first endpoint to be good.
    pub(super) fn start(plan: &Plan) -> Self {
        let mut rig = Self::prepare(plan);
        rig.run();
        rig.wait_for(plan.endpoints[0].0);
        rig
    }

    /// Writes the policy only.
    pub(super) fn prepare(plan: &Plan) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let rig = Self { dir, address: free_address(), folder: None, child: None };
        rig.write(plan);
        rig
    }

    /// Replaces the policy as an editor does.
    pub(super) fn write(&self, plan: &Plan) {
        let fresh = self.path("failover.toml.new");
        fs::write(&fresh, plan.text(self)).expect("a writable folder");
        fs::rename(&fresh, self.path("failover.toml")).expect("a writable folder");
    }

    pub(super) fn run(&mut self) {
        let child = command(&self.path("log"))
            .args(["run", "--policy"])
            .arg(self.path("failover.toml"))
            .envs([("SECRET_PRIMARY", "canary-one"), ("SECRET_BACKUP", "canary-two")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary starts");
        self.child = Some(child);
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A connection to the proxy.
    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the proxy listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        stream
    }

    /// One request on the control socket; `None` while nobody answers.
    pub(super) fn ask(&self, request: &Value) -> Option<Value> {
        ask(&self.path("control.sock"), request)
    }

    /// The status of the service.
    pub(super) fn status(&self) -> Option<Value> {
        let answer = self.ask(&json!({"request": "status"}))?;
        Some(answer["data"]["services"]["search"].clone())
    }

    /// Waits until calls go to this endpoint, and it is healthy; to any, without a name.
    pub(super) fn wait_for(&self, endpoint: &str) {
        let good = |status: &Value| {
            let healthy = status["endpoints"][endpoint]["health"] == "healthy";
            status["active"] == endpoint && healthy
        };
        eventually(&format!("{endpoint} in use: {}", self.log()), || {
            self.status().filter(good).map(drop)
        });
        eventually("the proxy listens", || TcpStream::connect(self.address).ok().map(drop));
    }

    /// A switch that a person orders.
    pub(super) fn switch(&self, endpoint: &str) {
        let order = json!({"request": "command", "command": {"order": {
            "order": "switch", "service": "search", "endpoint": endpoint, "force": true}}});
        let answer = self.ask(&order).expect("an answer");
        assert_eq!(answer["ok"], true, "{answer}");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself already.
            child.kill().ok();
            child.wait().ok();
        }
        if let Some(folder) = self.folder.take() {
            // It is in the folder for temporary files.
            fs::remove_dir_all(folder).ok();
        }
    }
}

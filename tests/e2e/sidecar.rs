//! Runs the real binary on a policy of a test's own, and asks it what it sees.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

pub(super) use crate::common::binary::{PATIENCE, eventually, two_endpoints};
use crate::common::binary::{ask, command};
use crate::common::upstream::Upstream;

/// A folder with a policy, and everything else a sidecar writes.
pub(super) struct Home {
    dir: TempDir,
}

impl Home {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A policy for one service with a primary and a backup, quick enough for a test.
    pub(super) fn quick_policy(&self, primary: &Upstream, backup: &Upstream) -> String {
        self.policy(&two_endpoints(&primary.url(), &backup.url()))
    }

    /// The parts that every policy here shares, around the given services.
    pub(super) fn policy(&self, services: &str) -> String {
        format!(
            r#"version = 1
[sidecar]
name = "e2e"
state_dir = "{state}"
[admin]
listen = "off"
[control]
socket = "{control}"
[defaults.probe]
interval = "300ms"
fast_interval = "50ms"
down_interval = "100ms"
standby_interval = "300ms"
timeout = "1s"
rise = 2
fall = 2
[defaults.breaker]
failure_threshold = 5
reset_timeout = "300ms"
[defaults.failover]
failback = {{ mode = "auto", hold = "500ms" }}
budget = 100
{services}
[[outputs]]
type = "env_file"
path = "{env}"
"#,
            state = self.path("state").display(),
            control = self.path("control.sock").display(),
            env = self.path("failover.env").display(),
        )
    }

    pub(super) fn write_policy(&self, text: &str) {
        // As an editor does it: a new file beside the old one, renamed over it.
        let fresh = self.path("failover.toml.new");
        fs::write(&fresh, text).expect("a writable folder");
        fs::rename(&fresh, self.path("failover.toml")).expect("a writable folder");
    }

    /// The variables in the env file, as a naive reader sees them.
    pub(super) fn env(&self) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.path("failover.env")).unwrap_or_default();
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
            .collect()
    }

    pub(super) fn active(&self) -> Option<String> {
        self.env().remove("MCP_FAILOVER_SEARCH_ENDPOINT")
    }

    pub(super) fn revision(&self) -> u64 {
        self.env().get("MCP_FAILOVER_REVISION").and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    pub(super) fn wait_for_active(&self, endpoint: &str) {
        eventually(&format!("{endpoint} in the env file"), || {
            (self.active().as_deref() == Some(endpoint)).then_some(())
        });
    }

    pub(super) fn start(&self) -> Sidecar {
        self.start_with(&[])
    }

    pub(super) fn start_with(&self, variables: &[(&str, &str)]) -> Sidecar {
        let child = command(&self.path("log"))
            .arg("run")
            .arg("--policy")
            .arg(self.path("failover.toml"))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary starts");
        Sidecar { child: Some(child), control: self.path("control.sock") }
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

/// A running sidecar; ended by its process id when dropped.
pub(super) struct Sidecar {
    child: Option<Child>,
    control: PathBuf,
}

impl Sidecar {
    /// One request on the control socket; `None` while nobody answers.
    pub(super) fn ask(&self, request: &Value) -> Option<Value> {
        ask(&self.control, request)
    }

    pub(super) fn status(&self) -> Option<Value> {
        let answer = self.ask(&json!({"request": "status"}))?;
        Some(answer.get("data")?.clone())
    }

    /// Waits until the status says so.
    pub(super) fn wait_until(&self, what: &str, mut says: impl FnMut(&Value) -> bool) -> Value {
        eventually(what, || self.status().filter(|status| says(status)))
    }

    pub(super) fn history(&self) -> Vec<Value> {
        let answer = self.ask(&json!({"request": "history", "n": 100}));
        let records = answer.and_then(|answer| answer.get("data").cloned());
        records.and_then(|records| records.as_array().cloned()).unwrap_or_default()
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// SIGTERM, and the exit status.
    pub(super) fn terminate(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.child.take().expect("it runs").wait().expect("it ends")
    }

    /// SIGKILL: no drain, no farewell.
    pub(super) fn kill(mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }

    /// Waits until it ends by itself.
    pub(super) fn wait(mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        eventually("the end of the process", || child.try_wait().expect("a child of ours"))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself already.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Runs a command of the binary to its end.
pub(super) fn cli(arguments: &[&str], home: &Path) -> (i32, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_mcp-failover"))
        .args(arguments)
        .env("MCP_FAILOVER_POLICY", home.join("failover.toml"))
        .env_remove("MCP_FAILOVER_CONTROL")
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code().unwrap_or(-1), text(&done.stdout), text(&done.stderr))
}

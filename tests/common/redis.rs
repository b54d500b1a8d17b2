//! The real Redis, with its own client to look at what is in it.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use super::binary::eventually;
use crate::probe::peer::{Running, address, program};

/// A server at an address of its own, ended when dropped.
#[derive(Debug)]
pub(crate) struct Redis {
    address: SocketAddr,
    server: Option<Running>,
    program: PathBuf,
    files: tempfile::TempDir,
    /// What `redis-cli` needs to get in.
    login: Vec<String>,
}

impl Redis {
    /// Starts it with these settings; skips the test where it is not installed.
    pub(crate) fn start(settings: &str) -> Option<Self> {
        Self::start_at(address(), tempfile::tempdir().expect("a folder"), settings)
    }

    /// As [`Self::start`], at this address and with files that are there already.
    pub(crate) fn start_at(
        address: SocketAddr,
        files: tempfile::TempDir,
        settings: &str,
    ) -> Option<Self> {
        let (program, _cli) = (program("redis-server")?, program("redis-cli")?);
        let (ip, port) = (address.ip(), address.port());
        let port = if settings.contains("tls-port") { 0 } else { port };
        let common = format!("bind {ip}\nport {port}\ndir {}\n", files.path().display());
        fs::write(files.path().join("redis.conf"), common + settings).expect("a file");
        let mut redis = Self { address, server: None, program, files, login: Vec::new() };
        redis.up();
        Some(redis)
    }

    /// What `redis-cli` says to get in.
    pub(crate) fn with_login(mut self, arguments: &[&str]) -> Self {
        self.login = arguments.iter().map(|&one| one.to_owned()).collect();
        self
    }

    /// Starts the process, and waits until it listens.
    pub(crate) fn up(&mut self) {
        let config = self.files.path().join("redis.conf");
        self.server = Some(Running::start(Command::new(&self.program).arg(config)));
        eventually("redis listens", || TcpStream::connect(self.address).ok());
    }

    /// Ends the process at once.
    pub(crate) fn kill(&mut self) {
        self.server = None;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.server.as_ref().expect("it runs").signal(signal);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.files.path()
    }

    /// What `redis-cli` answers, as JSON.
    pub(crate) fn cli(&self, words: &[&str]) -> Value {
        let (ip, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let done = Command::new("redis-cli")
            .args(["-h", &ip, "-p", &port, "--no-auth-warning", "--json"])
            .args(&self.login)
            .args(words)
            .output()
            .expect("redis-cli starts");
        let out = String::from_utf8_lossy(&done.stdout).into_owned();
        serde_json::from_str(&out).unwrap_or(Value::String(out))
    }

    /// The revisions of the decisions in the stream of the sidecar of this name, and their JSON.
    pub(crate) fn decisions(&self, sidecar: &str) -> Vec<(String, Value)> {
        let log = self.cli(&["XRANGE", &format!("{{mcpf:{sidecar}}}:log"), "-", "+"]);
        let entry = |entry: &Value| {
            let fields = entry[1].as_array().expect("fields");
            let at = fields.iter().position(|field| field == "record").expect("a record");
            let record = fields[at + 1].as_str().expect("text");
            let record = serde_json::from_str(record).expect("JSON");
            (entry[0].as_str().expect("an id").to_owned(), record)
        };
        log.as_array().map(|all| all.iter().map(entry).collect()).unwrap_or_default()
    }
}

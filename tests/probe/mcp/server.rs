//! Real MCP servers, started on free ports and killed when dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::HttpCheck;
use mcp_failover::policy::secret::Secret;

use crate::common;
use crate::common::upstream::{Behaviour, Upstream};
use crate::probe::{PATIENT, get, outcome, pointer, target};

/// How long a server may take to come up: interpreters are slow on a busy machine.
const START: Duration = Duration::from_secs(120);

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    port: u16,
    said: tempfile::NamedTempFile,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools")
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe/mcp")
}

/// A command that runs a server of `server.py`; `None` where its packages are not installed.
pub(super) fn python(kind: &str) -> Option<Vec<String>> {
    let interpreter = tools().join("venv/bin/python");
    let libraries = tools().join("venv/lib");
    let installed = std::fs::read_dir(libraries).into_iter().flatten().flatten().any(|version| {
        let packages = version.path().join("site-packages");
        packages.join("fastmcp").is_dir() && packages.join("mcp").is_dir()
    });
    if !installed {
        common::skip("FastMCP and the Python SDK of MCP are not installed");
        return None;
    }
    let script = here().join("server.py");
    Some(vec![text(&interpreter), text(&script), kind.to_owned()])
}

/// A command that runs `@modelcontextprotocol/server-everything`.
pub(super) fn everything(transport: &str) -> Option<Vec<String>> {
    let script = tools().join("node_modules/@modelcontextprotocol/server-everything/dist/index.js");
    if !script.is_file() {
        common::skip("@modelcontextprotocol/server-everything is not installed");
        return None;
    }
    Some(vec!["node".to_owned(), text(&script), transport.to_owned()])
}

fn text(path: &Path) -> String {
    path.to_str().expect("a plain path").to_owned()
}

impl Server {
    /// A server of `server.py` over HTTP.
    pub(super) async fn python(kind: &str) -> Option<Self> {
        let argv = python(kind)?;
        Some(
            Self::start(|port| {
                let mut command = Command::new(&argv[0]);
                command.args(&argv[1..]).arg(port.to_string());
                command
            })
            .await,
        )
    }

    /// The reference server of all features.
    pub(super) async fn everything() -> Option<Self> {
        let argv = everything("streamableHttp")?;
        Some(
            Self::start(|port| {
                let mut command = Command::new(&argv[0]);
                command.args(&argv[1..]).env("PORT", port.to_string());
                command
            })
            .await,
        )
    }

    /// One made with the TypeScript SDK that answers with plain JSON.
    pub(super) async fn typescript() -> Option<Self> {
        let modules = tools().join("node_modules");
        if !modules.join("@modelcontextprotocol/sdk").is_dir() {
            common::skip("the TypeScript SDK of MCP is not installed");
            return None;
        }
        Some(
            Self::start(|port| {
                let mut command = Command::new("node");
                let script = here().join("server.cjs");
                command.arg(script).arg(port.to_string()).env("NODE_PATH", &modules);
                command
            })
            .await,
        )
    }

    async fn start(command: impl Fn(u16) -> Command) -> Self {
        // Free just now; taken by somebody else before the server does, it would not come up.
        let port = Upstream::start(Behaviour::Refuse).port();
        let said = tempfile::NamedTempFile::new().expect("a file");
        let child = command(port)
            .stdin(Stdio::null())
            .stdout(said.reopen().expect("the same file"))
            .stderr(said.reopen().expect("the same file"))
            .spawn()
            .expect("the server starts");
        let mut server = Self { child, port, said };
        Box::pin(server.until_it_listens()).await;
        server
    }

    async fn until_it_listens(&mut self) {
        let listening = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                let ended = self.child.try_wait().expect("a child to ask for");
                assert!(ended.is_none(), "the server ended: {}", self.said());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(START, listening).await.expect("the server comes up");
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// The memory that it holds, in kilobytes.
    pub(super) fn weight(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.expect("the kernel says it")
    }

    /// What it printed so far.
    pub(super) fn said(&self) -> String {
        std::fs::read_to_string(self.said.path()).expect("its words are UTF-8")
    }

    /// Waits until it holds exactly this many sessions, by its own count.
    pub(super) async fn holds(&self, sessions: usize) {
        let mut check = HttpCheck::new(target(self.port));
        check.path = Secret::from("/sessions");
        check.expect.json = pointer("", &sessions.to_string());
        let asking = async {
            let mut report = get(&check, PATIENT).await;
            while outcome(&report) != Outcome::Ok {
                tokio::time::sleep(Duration::from_millis(20)).await;
                report = get(&check, PATIENT).await;
            }
        };
        let held = tokio::time::timeout(PATIENT, Box::pin(asking)).await;
        held.unwrap_or_else(|_| panic!("the server does not hold {sessions} sessions"));
    }

    /// Waits until the reference server has ended all the sessions that it began; returns how many.
    pub(super) async fn ended_all(&self) -> usize {
        let asking = async {
            loop {
                let said = self.said();
                let begun = said.matches("Session initialized with ID").count();
                let ended = said.matches("Transport closed for session").count();
                if begun == ended {
                    return begun;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENT, asking).await.expect("every session ends")
    }
}

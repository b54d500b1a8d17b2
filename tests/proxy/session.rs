//! MCP sessions over a switch: a real client and real servers of the era with sessions.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::caller::get;
use super::rig::{Plan, Rig, eventually, free_address};
use crate::common::skip;

fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/node_modules")
}

/// A process that ends with its guard.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The reference server, which keeps its sessions in memory.
fn server(name: &str, address: SocketAddr) -> Process {
    let script = modules().join("@modelcontextprotocol/server-everything/dist/index.js");
    let child = Command::new("node")
        .arg(script)
        .arg("streamableHttp")
        .envs([("PORT", address.port().to_string().as_str()), ("SERVER_NAME", name)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("node runs");
    let process = Process(child);
    eventually("the server listens", || TcpStream::connect(address).ok());
    process
}

/// A client with one session.
struct Client {
    _process: Process,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Client {
    fn start(url: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proxy/mcp_client.cjs");
        let mut child = Command::new("node")
            .arg(script)
            .arg(url)
            .env("NODE_PATH", modules())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs");
        let orders = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Self { _process: Process(child), orders, answers }
    }

    /// Lists the tools and calls one; says who answered.
    fn ask(&mut self) -> String {
        self.orders.write_all(b"\n").expect("the client lives");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the client lives");
        line.trim_end().to_owned()
    }
}

fn plan(primary: SocketAddr, backup: SocketAddr) -> Plan {
    let url = |address| format!("http://{address}/mcp");
    let mut plan = Plan::new(&url(primary), &url(backup), "drain = \"300ms\"");
    plan.probe = "type = \"tcp\"".to_owned();
    plan
}

#[test]
fn a_session_outlives_the_server_that_opened_it() {
    if !modules().join("@modelcontextprotocol/server-everything").is_dir() {
        return skip("the Node package @modelcontextprotocol/server-everything is not installed");
    }
    let (primary, backup) = (free_address(), free_address());
    let first = server("primary", primary);
    let _second = server("backup", backup);
    let rig = Rig::start(&plan(primary, backup));
    let mut client = Client::start(&format!("http://{}/mcp", rig.address));
    assert_eq!(client.ask(), "said primary");
    // A person moves it.
    rig.switch("backup");
    eventually("the new one answers", || (client.ask() == "said backup").then_some(()));
    rig.switch("primary");
    eventually("the old one answers", || (client.ask() == "said primary").then_some(()));
    // Its server forgets: started anew, at the same address.
    drop(first);
    let again = server("primary", primary);
    eventually("calls go on", || client.ask().starts_with("said").then_some(()));
    // And its server dies.
    drop(again);
    for _ in 0..20 {
        assert_eq!(client.ask(), "said backup");
    }
}

#[test]
fn a_session_that_is_no_more_is_said_to_be_so() {
    let calm = crate::common::upstream::Behaviour::Healthy;
    let (primary, backup) = (
        crate::common::upstream::Upstream::start(calm.clone()),
        crate::common::upstream::Upstream::start(calm),
    );
    let rig = Rig::start(&plan(primary.address(), backup.address()));
    let answer = get(rig.address, "/mcp", "Mcp-Session-Id: mf-0\r\n").expect("an answer");
    assert_eq!(answer.status, 404, "so that the client opens another");
    assert_eq!(primary.requests(), 0);
}

//! A scripted MCP host: starts the binary, writes lines, reads lines.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::sidecar::Sidecar;
pub(super) use crate::common::binary::{PATIENCE, eventually};

pub(super) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/child").join(name)
}

pub(super) const MODERN: &str = "2026-07-28";

/// A folder with a socket, and a sidecar at it.
pub(super) struct Place {
    pub(super) dir: TempDir,
    pub(super) sidecar: Sidecar,
}

impl Place {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let sidecar = Sidecar::start(&dir.path().join("sock"));
        Self { dir, sidecar }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The words that run a server behind this sidecar.
    pub(super) fn words(&self, options: &[&str], server: &[&str]) -> Vec<String> {
        let socket = self.path("sock").display().to_string();
        let exec = [env!("CARGO_BIN_EXE_mcp-failover"), "exec", "--socket", &socket];
        let words = exec.iter().chain(options).chain(&["--"]).chain(server);
        words.map(|word| (*word).to_owned()).collect()
    }

    fn command(&self, options: &[&str], server: &[&str]) -> Command {
        let words = self.words(options, server);
        let mut command = Command::new(&words[0]);
        let log = fs::File::options().create(true).append(true).open(self.path("log"));
        command.args(&words[1..]).stderr(log.expect("a writable folder"));
        command.env_remove("MCP_FAILOVER_SEARCH_ENDPOINT");
        command
    }

    /// The scripted server between us and the binary.
    pub(super) fn host(&self, options: &[&str], variables: &[(&str, &str)]) -> Host {
        let server = script("server.py");
        let server = ["python3", "-u", server.to_str().expect("a plain path")];
        let mut command = self.command(options, &server);
        Host::start(command.envs(variables.iter().copied()))
    }

    /// Any command that does not speak MCP.
    pub(super) fn plain(&self, options: &[&str], server: &[&str]) -> Host {
        let options: Vec<&str> = options.iter().copied().chain(["--stdio", "inherit"]).collect();
        Host::start(&mut self.command(&options, server))
    }
}

/// The running binary, with its streams in our hands.
pub(super) struct Host {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    pending: VecDeque<Value>,
    ids: i64,
    modern: bool,
}

impl Host {
    pub(super) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let output = child.stdout.take().expect("a pipe");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        Self { child, input, lines, pending: VecDeque::new(), ids: 0, modern: false }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn say(&mut self, message: &Value) {
        let input = self.input.as_mut().expect("still open");
        input.write_all(format!("{message}\n").as_bytes()).expect("it reads");
    }

    pub(super) fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line")
    }

    /// The next message; everything on standard output must be one.
    pub(super) fn next(&mut self) -> Value {
        if let Some(message) = self.pending.pop_front() {
            return message;
        }
        serde_json::from_str(&self.line()).expect("nothing but messages on standard output")
    }

    /// Asks, without waiting for the answer.
    pub(super) fn ask(&mut self, method: &str, mut params: Value) -> i64 {
        self.ids += 1;
        if self.modern {
            params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(MODERN);
            let info = json!({ "name": "test", "version": "1" });
            params["_meta"]["io.modelcontextprotocol/clientInfo"] = info;
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
        }
        let message =
            json!({ "jsonrpc": "2.0", "id": self.ids, "method": method, "params": params });
        self.say(&message);
        self.ids
    }

    /// Waits for the answer to a request; what else comes is kept.
    pub(super) fn answer(&mut self, id: i64) -> Value {
        let mut others = Vec::new();
        loop {
            let message = self.next();
            if message["id"] == id && message.get("method").is_none() {
                self.pending.extend(others);
                return message;
            }
            others.push(message);
        }
    }

    pub(super) fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, params);
        self.answer(id)
    }

    pub(super) fn open(&mut self) {
        let params = json!({
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": "test", "version": "1" },
        });
        let opened = self.request("initialize", params);
        assert_eq!(opened["result"]["serverInfo"]["name"], "scripted", "{opened}");
        self.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        assert_eq!(self.tools(), 3);
    }

    pub(super) fn open_modern(&mut self) {
        self.modern = true;
        let opened = self.request("server/discover", json!({}));
        assert_eq!(opened["result"]["supportedVersions"][0], MODERN, "{opened}");
        assert_eq!(self.tools(), 3);
    }

    pub(super) fn tools(&mut self) -> usize {
        let listed = self.request("tools/list", json!({}));
        listed["result"]["tools"].as_array().map_or(0, Vec::len)
    }

    pub(super) fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        self.request("tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    /// Which endpoint the server has, and its process.
    pub(super) fn whereabouts(&mut self) -> (String, i32) {
        let answer = self.call("where", &json!({}));
        let text = answer["result"]["content"][0]["text"].as_str();
        let text = text.unwrap_or_else(|| panic!("an error: {answer}"));
        let (endpoint, pid) = text.split_once(' ').expect("two words");
        (endpoint.to_owned(), pid.parse().expect("a process id"))
    }

    pub(super) fn close_input(&mut self) {
        self.input = None;
    }

    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    pub(super) fn wait(&mut self) -> ExitStatus {
        eventually("the end of the binary", || self.child.try_wait().expect("a child of ours"))
    }

    pub(super) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Whether a process is there and not only its remains.
pub(super) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// Every living process of a group.
pub(super) fn members(group: i32) -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let of_group = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        fields.split(' ').nth(2).and_then(|one| one.parse::<i32>().ok()) == Some(group)
    };
    pids.filter(|pid| is_alive(*pid)).filter(of_group).collect()
}

//! An MCP server whose every answer the test decides, and which notes all that it is sent.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::probe::PATIENT;

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) raw: String,
    /// `POST`, `DELETE`, ...
    pub(super) verb: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Value,
}

impl Seen {
    /// The JSON-RPC method, or else the HTTP one.
    pub(super) fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or(&self.verb)
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// A JSON answer with this result.
    pub(super) fn result(&self, result: &Value) -> Reply {
        Reply::json(200, &json!({ "jsonrpc": "2.0", "id": self.body["id"], "result": result }))
    }

    /// An answer with this error.
    pub(super) fn error(&self, status: u16, code: i64) -> Reply {
        let error = json!({ "code": code, "message": "no" });
        Reply::json(status, &json!({ "jsonrpc": "2.0", "id": self.body["id"], "error": error }))
    }
}

/// What to send, and what to do then.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    bytes: Vec<u8>,
    delay: Duration,
    close: bool,
}

impl Reply {
    pub(super) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), delay: Duration::ZERO, close: false }
    }

    pub(super) fn new(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let mut text = format!("HTTP/1.1 {status} Answer\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.extend(["\r\n", body]);
        Self::raw(text)
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, &[("Content-Type", "application/json")], &body.to_string())
    }

    /// An event stream, which ends when `complete`.
    pub(super) fn stream(text: &str, complete: bool) -> Self {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        let end = if complete { "0\r\n\r\n" } else { "" };
        Self::raw(format!("{head}{:x}\r\n{text}\r\n{end}", text.len()))
    }

    /// Nothing at all, for ever.
    pub(super) fn never() -> Self {
        Self::raw("")
    }

    /// With one more header.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        let text = String::from_utf8(self.bytes).expect("text");
        let (status, rest) = text.split_once("\r\n").expect("a status line");
        self.bytes = format!("{status}\r\n{name}: {value}\r\n{rest}").into_bytes();
        self
    }

    pub(super) const fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Closes the connection, without having said so.
    pub(super) const fn then_close(mut self) -> Self {
        self.close = true;
        self
    }
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A running server; stops when dropped.
#[derive(Debug)]
pub(super) struct Fake {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// Starts one on a free port, as a task of the test's runtime.
    pub(super) async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (seen, script): (_, Arc<Script>) = (Arc::default(), Arc::new(script));
        let task = tokio::spawn(accept(listener, Arc::clone(&seen), script));
        Self { address, seen, task }
    }

    /// A server with sessions that serves as it should; `change` may answer otherwise.
    pub(super) async fn legacy(
        change: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |seen| change(seen).unwrap_or_else(|| as_a_legacy_server(seen))).await
    }

    /// One without sessions.
    pub(super) async fn modern(
        change: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |seen| change(seen).unwrap_or_else(|| as_a_modern_server(seen))).await
    }

    pub(super) const fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic while noting").clone()
    }

    /// The methods asked for so far, in order.
    pub(super) fn methods(&self) -> Vec<String> {
        self.seen().iter().map(|seen| seen.method().to_owned()).collect()
    }

    /// Waits until this method is asked for.
    pub(super) async fn asked_for(&self, method: &str) -> Seen {
        let asking = async {
            loop {
                if let Some(seen) = self.seen().into_iter().find(|seen| seen.method() == method) {
                    return seen;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENT, asking).await.expect(method)
    }
}

async fn accept(listener: TcpListener, seen: Arc<Mutex<Vec<Seen>>>, script: Arc<Script>) {
    let mut talks = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        talks.spawn(talk(stream, Arc::clone(&seen), Arc::clone(&script)));
    }
}

async fn talk(mut stream: TcpStream, seen: Arc<Mutex<Vec<Seen>>>, script: Arc<Script>) {
    let mut text = Vec::new();
    while let Some(request) = read(&mut stream, &mut text).await {
        let reply = script(&request);
        seen.lock().expect("no panic while noting").push(request);
        tokio::time::sleep(reply.delay).await;
        if stream.write_all(&reply.bytes).await.is_err() || reply.close {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream, text: &mut Vec<u8>) -> Option<Seen> {
    let head = loop {
        if let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        (stream.read_buf(text).await.ok()? > 0).then_some(())?;
    };
    let lines = String::from_utf8_lossy(&text[..head]).into_owned();
    let headers: BTreeMap<_, _> = lines
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    while text.len() < head + length {
        (stream.read_buf(text).await.ok()? > 0).then_some(())?;
    }
    let rest = text.split_off(head + length);
    let raw = String::from_utf8_lossy(&std::mem::replace(text, rest)).into_owned();
    let verb = raw.split(' ').next().unwrap_or_default().to_owned();
    let body = serde_json::from_slice(&raw.as_bytes()[head..]).unwrap_or_default();
    Some(Seen { raw, verb, headers, body })
}

fn as_a_legacy_server(seen: &Seen) -> Reply {
    match seen.method() {
        "initialize" => {
            let info = json!({ "name": "fake", "version": "1" });
            let result = json!({
                "protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": info,
            });
            seen.result(&result).with("Mcp-Session-Id", "session-1")
        }
        "notifications/initialized" => Reply::new(202, &[], ""),
        "ping" => seen.result(&json!({})),
        "tools/list" => seen.result(&json!({ "tools": [{ "name": "greet" }] })),
        "DELETE" => Reply::new(200, &[], ""),
        _ => seen.error(400, -32000),
    }
}

fn as_a_modern_server(seen: &Seen) -> Reply {
    match seen.method() {
        "server/discover" => seen.result(&json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {},
            "_meta": { "io.modelcontextprotocol/serverInfo": { "name": "fake" } },
        })),
        "tools/list" => seen.result(&json!({
            "resultType": "complete", "tools": [{ "name": "greet" }],
        })),
        "initialize" => seen.error(400, -32022),
        _ => seen.error(404, -32601),
    }
}

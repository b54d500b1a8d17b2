//! A client, some processes, and a keeper between them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::core::time::Instant;
use crate::output::child::session::{Effect, Generation, Input, Keeper, SessionRules, Unfit};

pub(super) const fn generation(number: u64) -> Generation {
    Generation::new(number)
}

pub(super) const MODERN: &str = "2026-07-28";

/// What a scripted server is like.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) version: &'static str,
    pub(super) capabilities: Value,
    pub(super) lists: Value,
    /// What of a subscription it grants.
    pub(super) grants: Option<Value>,
    pub(super) silent: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            version: "2025-11-25",
            capabilities: json!({
                "tools": {}, "logging": {}, "resources": { "subscribe": true },
                "prompts": { "listChanged": true },
            }),
            lists: json!({
                "tools": [
                    { "name": "read", "annotations": { "readOnlyHint": true } },
                    { "name": "write" },
                ],
                "prompts": [{ "name": "hello" }],
                "resources": [],
                "resourceTemplates": [],
            }),
            grants: None,
            silent: false,
        }
    }
}

impl Server {
    /// What it writes when it reads this.
    pub(super) fn answer(&self, message: &Value) -> Vec<Value> {
        let (Some(id), Some(method)) = (message.get("id"), message["method"].as_str()) else {
            return Vec::new();
        };
        if self.silent {
            return Vec::new();
        }
        let list = |name: &str| json!({ name: self.lists[name] });
        let result = match method {
            "initialize" => json!({
                "protocolVersion": self.version, "capabilities": self.capabilities,
                "serverInfo": { "name": "scripted", "version": "1" },
            }),
            "server/discover" if self.version != MODERN => {
                let error = json!({ "code": -32601, "message": "Method not found" });
                return vec![json!({ "jsonrpc": "2.0", "id": id, "error": error })];
            }
            "server/discover" => json!({
                "resultType": "complete", "supportedVersions": [self.version],
                "capabilities": self.capabilities, "ttlMs": 3_600_000, "cacheScope": "public",
            }),
            "subscriptions/listen" => {
                let wanted = message["params"]["notifications"].clone();
                return vec![json!({
                    "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                    "params": {
                        "_meta": { "io.modelcontextprotocol/subscriptionId": id },
                        "notifications": self.grants.clone().unwrap_or(wanted),
                    },
                })];
            }
            "tools/list" => list("tools"),
            "prompts/list" => list("prompts"),
            "resources/list" => list("resources"),
            "resources/templates/list" => list("resourceTemplates"),
            _ => json!({}),
        };
        vec![json!({ "jsonrpc": "2.0", "id": id, "result": result })]
    }
}

pub(super) struct World {
    pub(super) keeper: Keeper,
    pub(super) now: Instant,
    client: Vec<Value>,
    servers: BTreeMap<Generation, Vec<Value>>,
    pub(super) serves: Vec<Generation>,
    pub(super) unfit: Vec<(Generation, Unfit)>,
    pub(super) released: Vec<Generation>,
    pub(super) stray: Vec<Bytes>,
    pub(super) substituted: usize,
}

impl World {
    pub(super) fn new(rules: SessionRules) -> Self {
        Self {
            keeper: Keeper::new(rules, Instant::START),
            now: Instant::START,
            client: Vec::new(),
            servers: BTreeMap::new(),
            serves: Vec::new(),
            unfit: Vec::new(),
            released: Vec::new(),
            stray: Vec::new(),
            substituted: 0,
        }
    }

    /// A legacy session that is open, with process 1 serving, the lists seen and nothing unread.
    pub(super) fn legacy(rules: SessionRules, server: &Server) -> Self {
        let mut world = Self::new(rules);
        world.step(Input::Started(generation(1)));
        world.client(&json!({
            "jsonrpc": "2.0", "id": 0, "method": "initialize",
            "params": {
                "protocolVersion": server.version, "capabilities": { "roots": {} },
                "clientInfo": { "name": "test", "version": "1" },
            },
        }));
        world.serve(1, server);
        world.client(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        for (id, method) in [(1, "tools/list"), (2, "prompts/list")] {
            world.client(&json!({ "jsonrpc": "2.0", "id": id, "method": method }));
        }
        world.serve(1, server);
        world.heard();
        world
    }

    /// A modern session with process 1 serving, the tools seen and nothing unread.
    pub(super) fn modern(rules: SessionRules, server: &Server) -> Self {
        let mut world = Self::new(rules);
        world.step(Input::Started(generation(1)));
        for (id, method) in [(0, "server/discover"), (1, "tools/list")] {
            world.client(&modern(id, method, &json!({})));
        }
        world.serve(1, server);
        world.heard();
        world
    }

    pub(super) fn step(&mut self, input: Input) {
        for effect in self.keeper.step(self.now, input) {
            match effect {
                Effect::ToClient(line) => self.client.push(parse(&line)),
                Effect::ToServer(generation, line) => {
                    self.servers.entry(generation).or_default().push(parse(&line));
                }
                Effect::Serves(generation) => self.serves.push(generation),
                Effect::Unfit(generation, why) => self.unfit.push((generation, why)),
                Effect::Released(generation) => self.released.push(generation),
                Effect::Stray(_, line) => self.stray.push(line),
                Effect::Substituted { requests, .. } => self.substituted += requests,
            }
        }
    }

    pub(super) fn client(&mut self, message: &Value) {
        self.step(Input::Client(message.to_string().into()));
    }

    pub(super) fn server(&mut self, number: u64, message: &Value) {
        self.step(Input::Server(generation(number), message.to_string().into()));
    }

    pub(super) fn start(&mut self, number: u64) {
        self.step(Input::Started(generation(number)));
    }

    pub(super) fn end(&mut self, number: u64) {
        self.step(Input::Ended(generation(number)));
    }

    pub(super) fn wait(&mut self, span: Duration) {
        self.now = self.now + span;
        self.step(Input::Tick);
    }

    /// What the client has read since the last look.
    pub(super) fn heard(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.client)
    }

    /// What a process has read since the last look.
    pub(super) fn told(&mut self, number: u64) -> Vec<Value> {
        self.servers.remove(&generation(number)).unwrap_or_default()
    }

    /// Lets a process answer everything it has read, and says what that was.
    pub(super) fn serve(&mut self, number: u64, server: &Server) -> Vec<Value> {
        let mut read = Vec::new();
        loop {
            let told = self.told(number);
            if told.is_empty() {
                return read;
            }
            for message in told {
                for answer in server.answer(&message) {
                    self.server(number, &answer);
                }
                read.push(message);
            }
        }
    }

    /// A planned switch to another process; says what that one read.
    pub(super) fn swap(&mut self, number: u64, server: &Server) -> Vec<Value> {
        self.start(number);
        self.serve(number, server)
    }
}

pub(super) fn parse(line: &Bytes) -> Value {
    assert!(!line.contains(&b'\n'), "a line is one line");
    serde_json::from_slice(line).expect("what is written is JSON")
}

/// A request of the modern era.
pub(super) fn modern(id: i64, method: &str, params: &Value) -> Value {
    let mut params = params.clone();
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

pub(super) fn request(id: i64, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

pub(super) fn call(id: i64, tool: &str) -> Value {
    request(id, "tools/call", &json!({ "name": tool, "arguments": {} }))
}

pub(super) fn answer(id: &Value, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

pub(super) fn note(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

pub(super) fn methods(messages: &[Value]) -> Vec<&str> {
    messages.iter().filter_map(|message| message["method"].as_str()).collect()
}

pub(super) fn find<'a>(messages: &'a [Value], method: &str) -> &'a Value {
    let found = messages.iter().find(|message| message["method"] == method);
    found.unwrap_or_else(|| panic!("no {method} in {messages:?}"))
}

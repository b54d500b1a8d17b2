//! A scripted sidecar: the config socket, as its protocol says, with a service `search`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use super::host::eventually;

#[derive(Debug, Default)]
struct State {
    boot: u64,
    seq: u64,
    endpoint: String,
    acknowledged: Vec<u64>,
    peers: Vec<UnixStream>,
    closed: bool,
}

impl State {
    fn snapshot(&self) -> Value {
        json!({
            "service": "search", "gen": format!("boot-{}", self.boot), "seq": self.seq,
            "state": "healthy", "ttl_ms": 60_000,
            "endpoint": {
                "id": self.endpoint, "url": "http://127.0.0.1:9",
                "env": { "SEARCH_URL": format!("http://{}.example.com", self.endpoint) },
            },
        })
    }
}

pub(super) struct Sidecar {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Sidecar {
    pub(super) fn start(path: &Path) -> Self {
        let state = State { boot: 1, seq: 1, endpoint: "primary".into(), ..State::default() };
        let sidecar = Self { path: path.to_owned(), state: Arc::new(Mutex::new(state)) };
        sidecar.listen();
        sidecar
    }

    fn listen(&self) {
        let listener = UnixListener::bind(&self.path).expect("a socket");
        let state = Arc::clone(&self.state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if state.lock().expect("no panic").closed {
                    return;
                }
                let state = Arc::clone(&state);
                thread::spawn(move || serve(stream, &state));
            }
        });
    }

    /// Publishes another endpoint, and says under which number.
    pub(super) fn switch(&self, endpoint: &str) -> u64 {
        let mut state = self.state.lock().expect("no panic");
        state.seq += 1;
        endpoint.clone_into(&mut state.endpoint);
        let mut event = state.snapshot();
        event["event"] = json!("switch");
        for peer in &mut state.peers {
            // One that is gone needs no news.
            peer.write_all(format!("{event}\n").as_bytes()).ok();
        }
        state.seq
    }

    pub(super) fn acknowledged(&self) -> Vec<u64> {
        self.state.lock().expect("no panic").acknowledged.clone()
    }

    /// Switches, and waits until the server is said to use it.
    pub(super) fn switch_and_wait(&self, endpoint: &str) {
        let seq = self.switch(endpoint);
        eventually("the acknowledgement", || self.acknowledged().contains(&seq).then_some(()));
    }

    /// As if the sidecar had died.
    pub(super) fn vanish(&self) {
        let mut state = self.state.lock().expect("no panic");
        state.closed = true;
        for peer in state.peers.drain(..) {
            peer.shutdown(std::net::Shutdown::Both).ok();
        }
        drop(state);
        std::fs::remove_file(&self.path).expect("it was there");
    }

    /// Another one in its place, whose numbers begin anew.
    pub(super) fn come_back(&self, endpoint: &str) {
        let mut state = self.state.lock().expect("no panic");
        let boot = state.boot + 1;
        *state = State { boot, seq: 1, endpoint: endpoint.to_owned(), ..State::default() };
        drop(state);
        self.listen();
    }
}

fn serve(mut stream: UnixStream, state: &Mutex<State>) {
    let boot = state.lock().expect("no panic").boot;
    let hello = json!({
        "event": "hello", "v": 1, "server": "mcp-failover", "gen": format!("boot-{boot}"),
        "services": ["search"],
    });
    stream.write_all(format!("{hello}\n").as_bytes()).ok();
    let reader = BufReader::new(stream.try_clone().expect("a socket"));
    for line in reader.lines().map_while(Result::ok) {
        let message: Value = serde_json::from_str(&line).expect("JSON");
        let mut state = state.lock().expect("no panic");
        let mut reply = match message["op"].as_str() {
            Some("subscribe") => {
                assert_eq!(message["service"], "search");
                state.peers.push(stream.try_clone().expect("a socket"));
                state.snapshot()
            }
            Some("ack") => {
                assert_eq!(message["gen"], format!("boot-{}", state.boot));
                state.acknowledged.push(message["seq"].as_u64().expect("a number"));
                continue;
            }
            Some("ping") => json!({}),
            other => panic!("an operation that nobody knows: {other:?}"),
        };
        reply["id"] = message["id"].clone();
        reply["ok"] = json!(true);
        stream.write_all(format!("{reply}\n").as_bytes()).ok();
    }
}

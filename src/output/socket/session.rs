//! One client that speaks in lines.
//!
//! Invariants
//! 1. A client that does not read holds one line of ours at most; when it reads again it gets the
//!    latest state, not what it missed.
//! 2. Its leases end with its connection.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout};

use crate::core::id::ServiceName;
use crate::output::socket::desk::{Desk, Held};
use crate::output::socket::protocol::{Asked, Failure, LINE_MAX, Op, VERSION, parse};
use crate::output::socket::view::line;
use crate::unix::{Line, LineReader};

/// How long a client without a subscription may be silent.
const SILENCE: Duration = Duration::from_secs(90);
/// How long a client may take to read a line.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves a client until it goes.
pub(super) async fn serve(stream: UnixStream, desk: Desk) {
    let (reader, writer) = stream.into_split();
    let mut session = Session {
        desk,
        writer,
        held: Held::new(),
        seen: BTreeMap::new(),
        everything: false,
        silent_until: Instant::now() + SILENCE,
    };
    let mut lines = LineReader::new(reader, LINE_MAX);
    // How it ended matters to nobody but the client itself.
    drop(session.converse(&mut lines).await);
    session.desk.farewell(&mut session.held);
}

struct Session {
    desk: Desk,
    writer: OwnedWriteHalf,
    held: Held,
    /// The services subscribed to, with the latest change that was sent.
    seen: BTreeMap<ServiceName, u64>,
    /// Whether services that appear later are subscribed to as well.
    everything: bool,
    silent_until: Instant,
}

impl Session {
    async fn converse(&mut self, lines: &mut LineReader<OwnedReadHalf>) -> io::Result<()> {
        let proxies = self.desk.proxies();
        self.send(&json!({
            "event": "hello", "v": VERSION, "server": "mcp-failover",
            "gen": self.desk.painter.generation, "services": self.desk.services(),
            "proxies": proxies,
        }))
        .await?;
        loop {
            let follows = self.everything || !self.seen.is_empty();
            tokio::select! {
                biased;
                changed = self.desk.views.changed(), if follows => {
                    changed.map_err(|_ended| io::ErrorKind::UnexpectedEof)?;
                    self.push().await?;
                }
                changed = self.desk.offers.changed(), if self.held.any() => {
                    changed.map_err(|_ended| io::ErrorKind::UnexpectedEof)?;
                    self.held.sweep(Instant::now());
                    for event in self.desk.revoked(&mut self.held) {
                        self.send(&event).await?;
                    }
                }
                changed = self.desk.doors.changed(), if follows => {
                    changed.map_err(|_ended| io::ErrorKind::UnexpectedEof)?;
                    let event = json!({ "event": "proxies", "proxies": self.desk.proxies() });
                    self.send(&event).await?;
                }
                read = lines.next() => match read? {
                    Line::Text(text) => {
                        self.silent_until = Instant::now() + SILENCE;
                        self.answer(&text).await?;
                    }
                    Line::TooLong => {
                        self.reply(None, Err(Failure::TOO_LARGE)).await?;
                        return Ok(());
                    }
                    Line::End => return Ok(()),
                },
                () = tokio::time::sleep_until(self.silent_until), if !follows => return Ok(()),
            }
        }
    }

    /// Sends every subscribed change that was not sent yet, the latest of each service only.
    async fn push(&mut self) -> io::Result<()> {
        let views = Arc::clone(&self.desk.views.borrow_and_update());
        for (name, view) in &views.services {
            let subscribed = self.everything || self.seen.contains_key(name);
            if !subscribed || self.seen.get(name) == Some(&view.seq) {
                continue;
            }
            self.seen.insert(name.clone(), view.seq);
            self.write(view.event.as_bytes()).await?;
        }
        let desk = &self.desk;
        self.seen.retain(|name, _| desk.known(name.as_str()).is_ok());
        Ok(())
    }

    async fn answer(&mut self, text: &[u8]) -> io::Result<()> {
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        let Asked { id, op } = parse(text);
        let result = match op {
            Err(failure) => Err(failure),
            Ok(Op::Ack { service, generation, seq }) => {
                self.desk.ack(&service, &generation, seq);
                return Ok(());
            }
            Ok(Op::Subscribe { service: None }) => return self.subscribe_all(id).await,
            Ok(op) => self.done(op).await,
        };
        self.reply(id, result).await
    }

    async fn done(&mut self, op: Op) -> Result<Map<String, Value>, Failure> {
        let Self { desk, held, .. } = self;
        match op {
            Op::Get { service } => desk.get(&service),
            Op::Subscribe { service } => self.subscribe(&service.unwrap_or_default()),
            Op::Unsubscribe { service } => self.unsubscribe(service.as_deref()),
            Op::Lease { service, ttl } => desk.lease(&service, ttl, held).await,
            Op::Renew { lease } => desk.renew(lease, held),
            Op::Release { lease, observation } => desk.release(lease, observation, held),
            Op::Report { service, endpoint, observation } => {
                desk.report(&service, &endpoint, observation, held)
            }
            Op::Ping | Op::Ack { .. } => Ok(Map::new()),
        }
    }

    /// The snapshot is the answer; changes follow as events.
    fn subscribe(&mut self, service: &str) -> Result<Map<String, Value>, Failure> {
        let name = self.desk.known(service)?;
        let snapshot = self.desk.get(service)?;
        let seq = snapshot.get("seq").and_then(Value::as_u64).unwrap_or(0);
        self.seen.insert(name, seq);
        Ok(snapshot)
    }

    async fn subscribe_all(&mut self, id: Option<Value>) -> io::Result<()> {
        self.everything = true;
        self.seen.clear();
        let names = self.desk.services();
        self.reply(id, Ok(Map::from_iter([("services".to_owned(), json!(names))]))).await?;
        self.push().await
    }

    fn unsubscribe(&mut self, service: Option<&str>) -> Result<Map<String, Value>, Failure> {
        if let Some(service) = service {
            self.seen.remove(self.desk.known(service)?.as_str());
        } else {
            self.everything = false;
            self.seen.clear();
        }
        self.silent_until = Instant::now() + SILENCE;
        Ok(Map::new())
    }

    async fn reply(
        &mut self,
        id: Option<Value>,
        result: Result<Map<String, Value>, Failure>,
    ) -> io::Result<()> {
        self.send(&answer(id, result)).await
    }

    async fn send(&mut self, message: &Value) -> io::Result<()> {
        self.write(line(message).as_bytes()).await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(WRITE_TIMEOUT, self.writer.write_all(bytes)).await?
    }
}

/// An answer: its members, or why there are none.
pub(super) fn answer(id: Option<Value>, result: Result<Map<String, Value>, Failure>) -> Value {
    let mut message = Map::new();
    if let Some(id) = id {
        message.insert("id".to_owned(), id);
    }
    message.insert("ok".to_owned(), json!(result.is_ok()));
    match result {
        Ok(members) => message.extend(members),
        Err(failure) => {
            message.insert("error".to_owned(), failure.json());
        }
    }
    Value::Object(message)
}

/// Tells a client that may not ask, and hangs up.
pub(super) async fn turn_away(mut stream: UnixStream, failure: Failure) {
    let text = line(&answer(None, Err(failure)));
    drop(timeout(WRITE_TIMEOUT, stream.write_all(text.as_bytes())).await);
}

//! A Bolt server that says what it is told.
//!
//! The official driver connects to it, logs in and runs a query at every version used here (see
//! `driver`), so where it behaves, it behaves as a server does.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mcp_failover::probe::codec::chunk::{self, Assembler};
use mcp_failover::probe::codec::packstream::{self, Packer, Value};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::probe::PATIENT;

pub(super) const HELLO: u8 = 0x01;
pub(super) const GOODBYE: u8 = 0x02;
pub(super) const RUN: u8 = 0x10;
pub(super) const PULL: u8 = 0x3F;
pub(super) const ROUTE: u8 = 0x66;
pub(super) const LOGON: u8 = 0x6A;
const RESET: u8 = 0x0F;

/// What a server does.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// The answer to the greeting.
    pub(super) opening: Opening,
    /// How it calls itself.
    pub(super) agent: &'static str,
    /// Who may log in; anybody when absent.
    pub(super) login: Option<(&'static str, &'static str)>,
    /// What it does instead of what it should, by the tag of the message.
    pub(super) instead: BTreeMap<u8, Instead>,
    /// The one record of each query that it knows.
    pub(super) records: BTreeMap<&'static str, Vec<Value>>,
    /// The routing table: roles and addresses. `{self}` stands for its own address.
    pub(super) table: Vec<(&'static str, Vec<&'static str>)>,
    /// Keepalives before each answer.
    pub(super) keepalives: usize,
}

/// The answer to the greeting.
#[derive(Clone, Debug)]
pub(super) enum Opening {
    /// Picks this version.
    Pick(u8, u8),
    /// Sends a manifest of these ranges and takes what is chosen.
    Manifest(Vec<[u8; 4]>),
    /// Does something else.
    Other(Instead),
}

/// Something that a server should not do.
#[derive(Clone, Debug)]
pub(super) enum Instead {
    /// Fails with this code.
    Fail(&'static str),
    /// Sends a message.
    Say(Value),
    /// Sends bytes, then nothing more.
    Send(Vec<u8>),
    /// Sends bytes again and again, as fast as they are taken.
    Flood(Vec<u8>),
    /// Sends bytes one at a time, at this interval, from the first again after the last.
    Drip(Vec<u8>, Duration),
    /// Sends bytes and closes.
    Close(Vec<u8>),
}

impl Script {
    /// A server of this version that serves anybody.
    pub(super) fn of(opening: Opening) -> Self {
        Self {
            opening,
            agent: "Neo4j/5.26.0",
            login: None,
            instead: BTreeMap::new(),
            records: BTreeMap::from([("RETURN 1", vec![Value::Int(1)])]),
            table: vec![("WRITE", vec!["{self}"]), ("READ", vec!["{self}"])],
            keepalives: 0,
        }
    }

    /// One that speaks 5.4.
    pub(super) fn serving() -> Self {
        Self::of(Opening::Pick(5, 4))
    }

    /// One that does this instead of answering the message.
    pub(super) fn instead(tag: u8, instead: Instead) -> Self {
        Self { instead: BTreeMap::from([(tag, instead)]), ..Self::serving() }
    }
}

/// A running one; stops when dropped. Lives in the runtime of the test.
#[derive(Debug)]
pub(super) struct Stub {
    address: SocketAddr,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    raw: Mutex<Vec<u8>>,
    messages: Mutex<Vec<Vec<u8>>>,
    sent: AtomicU64,
}

impl Stub {
    pub(super) async fn start(script: Script) -> Self {
        Self::launch(script, None).await
    }

    pub(super) async fn start_tls(script: Script, tls: Arc<ServerConfig>) -> Self {
        Self::launch(script, Some(TlsAcceptor::from(tls))).await
    }

    async fn launch(script: Script, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("the port");
        let seen = Arc::new(Seen::default());
        let task = tokio::spawn(accept(listener, script, tls, Arc::clone(&seen)));
        Self { address, seen, task }
    }

    pub(super) const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Everything heard so far, over all connections.
    pub(super) fn heard(&self) -> Vec<u8> {
        self.seen.raw.lock().expect("no panic while noting").clone()
    }

    /// The first message of this tag, as it came.
    pub(super) fn message(&self, tag: u8) -> Option<Vec<u8>> {
        self.messages(tag).into_iter().next()
    }

    /// Every message of this tag.
    pub(super) fn messages(&self, tag: u8) -> Vec<Vec<u8>> {
        let messages = self.seen.messages.lock().expect("no panic while noting");
        messages.iter().filter(|message| message.get(1) == Some(&tag)).cloned().collect()
    }

    /// Waits until a peer has said goodbye, which it does not wait for.
    pub(super) async fn farewell(&self) {
        let heard = async {
            while self.message(GOODBYE).is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENT, heard).await.expect("a farewell");
    }

    /// How many bytes the kernel took from it.
    pub(super) fn bytes_sent(&self) -> u64 {
        self.seen.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, script: Script, tls: Option<TlsAcceptor>, seen: Arc<Seen>) {
    let mut open = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let own = listener.local_addr().expect("the port").to_string();
        let (script, tls, seen) = (script.clone(), tls.clone(), Arc::clone(&seen));
        open.spawn(async move {
            let stream: Box<dyn Duplex> = match tls {
                None => Box::new(stream),
                Some(tls) => Box::new(tls.accept(stream).await?),
            };
            Peer { stream, script, seen, own, version: (0, 0), failed: false, record: None }
                .serve()
                .await
        });
        while open.try_join_next().is_some() {}
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// One connection.
struct Peer {
    stream: Box<dyn Duplex>,
    script: Script,
    seen: Arc<Seen>,
    own: String,
    version: (u8, u8),
    failed: bool,
    record: Option<Vec<Value>>,
}

impl Peer {
    async fn serve(mut self) -> io::Result<()> {
        let mut greeting = [0; 20];
        self.read(&mut greeting).await?;
        match self.script.opening.clone() {
            Opening::Pick(major, minor) => {
                self.version = (major, minor);
                self.send(&[0, 0, minor, major]).await?;
            }
            Opening::Manifest(ranges) => {
                let count = u8::try_from(ranges.len()).expect("a few");
                let answer = [&[0, 0, 1, 0xFF, count], ranges.as_flattened(), &[0]].concat();
                self.send(&answer).await?;
                let mut choice = [0; 5];
                self.read(&mut choice).await?;
                self.version = (choice[3], choice[2]);
            }
            Opening::Other(instead) => return self.do_instead(instead).await,
        }
        self.converse().await
    }

    async fn converse(&mut self) -> io::Result<()> {
        let mut chunks = Assembler::default();
        let mut piece = [0; 1024];
        loop {
            let count = self.stream.read(&mut piece).await?;
            if count == 0 {
                return Ok(());
            }
            self.seen.raw.lock().expect("no panic").extend(&piece[..count]);
            let mut rest = &piece[..count];
            while let Some(message) = chunks.take(&mut rest).expect("a short message") {
                self.seen.messages.lock().expect("no panic").push(message.clone());
                let Ok(Value::Structure { tag, fields }) = packstream::decode(&message) else {
                    return Ok(());
                };
                if tag == GOODBYE {
                    return Ok(());
                }
                self.answer(tag, &fields).await?;
            }
        }
    }

    async fn answer(&mut self, tag: u8, fields: &[Value]) -> io::Result<()> {
        if tag == RESET {
            self.failed = false;
        }
        if self.failed {
            return self.say(&Value::Structure { tag: 0x7E, fields: Vec::new() }).await;
        }
        if let Some(instead) = self.script.instead.get(&tag).cloned() {
            return self.do_instead(instead).await;
        }
        match tag {
            HELLO if self.version >= (5, 1) => self.greet().await,
            HELLO | LOGON if !self.knows(&fields[0]) => {
                self.fail("Neo.ClientError.Security.Unauthorized").await
            }
            HELLO => self.greet().await,
            RUN => self.run(&fields[0]).await,
            PULL => self.pull().await,
            ROUTE => self.route().await,
            _ => self.success(&[]).await,
        }
    }

    fn knows(&self, credential: &Value) -> bool {
        let given = |name| credential.get(name).and_then(Value::text);
        self.script.login.is_none_or(|(user, password)| {
            given("scheme") == Some("basic")
                && given("principal") == Some(user)
                && given("credentials") == Some(password)
        })
    }

    async fn greet(&mut self) -> io::Result<()> {
        let hints =
            Value::Map(vec![("connection.recv_timeout_seconds".to_owned(), Value::Int(120))]);
        let agent = text(self.script.agent);
        self.success(&[("server", agent), ("connection_id", text("bolt-1")), ("hints", hints)])
            .await
    }

    async fn run(&mut self, query: &Value) -> io::Result<()> {
        let Some(record) = self.script.records.get(query.text().unwrap_or_default()) else {
            return self.fail("Neo.ClientError.Statement.SyntaxError").await;
        };
        self.record = Some(record.clone());
        self.success(&[("fields", Value::List(vec![text("1")]))]).await
    }

    async fn pull(&mut self) -> io::Result<()> {
        if let Some(record) = self.record.take() {
            self.say(&Value::Structure { tag: 0x71, fields: vec![Value::List(record)] }).await?;
        }
        self.success(&[("type", text("r")), ("db", text("neo4j"))]).await
    }

    async fn route(&mut self) -> io::Result<()> {
        let address = |address: &&str| Value::Text(address.replace("{self}", &self.own));
        let server = |(role, addresses): &(&str, Vec<&str>)| {
            let addresses = Value::List(addresses.iter().map(address).collect());
            map(&[("addresses", addresses), ("role", text(role))])
        };
        let routers = server(&("ROUTE", vec!["{self}"]));
        let servers = self.script.table.iter().map(server);
        let servers = match self.script.table.is_empty() {
            true => Vec::new(),
            false if self.script.table.iter().any(|(role, _)| *role == "ROUTE") => {
                servers.collect()
            }
            false => servers.chain([routers]).collect(),
        };
        let table = [("ttl", Value::Int(300)), ("db", text("neo4j"))];
        let table = [table.as_slice(), &[("servers", Value::List(servers))]].concat();
        self.success(&[("rt", map(&table))]).await
    }

    async fn do_instead(&mut self, instead: Instead) -> io::Result<()> {
        match instead {
            Instead::Fail(code) => return self.fail(code).await,
            Instead::Say(value) => return self.say(&value).await,
            Instead::Send(bytes) => self.send(&bytes).await?,
            Instead::Flood(bytes) => loop {
                self.send(&bytes).await?;
            },
            Instead::Drip(bytes, every) => {
                for byte in bytes.into_iter().cycle() {
                    self.send(&[byte]).await?;
                    tokio::time::sleep(every).await;
                }
            }
            Instead::Close(bytes) => {
                self.send(&bytes).await?;
                return self.stream.shutdown().await;
            }
        }
        // Silence, until the peer leaves.
        tokio::io::copy(&mut self.stream, &mut tokio::io::sink()).await.map(|_| ())
    }

    async fn success(&mut self, known: &[(&str, Value)]) -> io::Result<()> {
        self.say(&Value::Structure { tag: 0x70, fields: vec![map(known)] }).await
    }

    async fn fail(&mut self, code: &str) -> io::Result<()> {
        self.failed = true;
        let known = if self.version >= (5, 7) {
            let record = [("OPERATION", ""), ("OPERATION_CODE", "0"), ("CURRENT_SCHEMA", "/")];
            map(&[
                ("gql_status", text("50N42")),
                ("message", text("what went wrong")),
                ("description", text("error: general processing exception")),
                ("diagnostic_record", map(&record.map(|(name, value)| (name, text(value))))),
                ("neo4j_code", text(code)),
            ])
        } else {
            map(&[("code", text(code)), ("message", text("what went wrong"))])
        };
        self.say(&Value::Structure { tag: 0x7F, fields: vec![known] }).await
    }

    async fn say(&mut self, message: &Value) -> io::Result<()> {
        let mut out = vec![0; 2 * self.script.keepalives];
        let mut framed = zeroize::Zeroizing::default();
        let mut packer = Packer::new();
        packer.value(message);
        chunk::frame(&packer.into_bytes(), &mut framed);
        out.extend_from_slice(&framed);
        self.send(&out).await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        let count = u64::try_from(bytes.len()).expect("a length fits");
        self.seen.sent.fetch_add(count, Ordering::SeqCst);
        Ok(())
    }

    async fn read(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.stream.read_exact(bytes).await?;
        self.seen.raw.lock().expect("no panic while noting").extend_from_slice(bytes);
        Ok(())
    }
}

pub(super) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

pub(super) fn map(entries: &[(&str, Value)]) -> Value {
    let entry = |(key, value): &(&str, Value)| ((*key).to_owned(), value.clone());
    Value::Map(entries.iter().map(entry).collect())
}

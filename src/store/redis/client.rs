//! One connection.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::policy::model::{Redis, RedisTls, Target};
use crate::resp::{self, Limits, Reply};
use crate::store::backup;
use crate::store::redis::commit::{self, Answer, Commit, SCRIPT, Writer};
use crate::store::redis::error::{Reason, RedisError};
use crate::tls::{self, Roots};

/// Longest string in a reply: the largest state.
const BULK_MAX: usize = backup::LIMIT + 4096;

/// Values in one reply.
const VALUES_MAX: usize = 4096;

/// Bytes of all that is read before a reply is whole.
const REPLY_MAX: usize = BULK_MAX + 8 * 1024 * 1024;

/// Commands sent at a time whose answers do not matter.
const PIPELINE: usize = 64;

/// Bytes read at a time.
const READ: usize = 64 * 1024;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to a Redis server, logged in. One exchange at a time; after a failed one it is to
/// be dropped, unless the server only [refused](Client::usable).
pub struct Client {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    place: Arc<str>,
    timeout: Duration,
    script: Option<String>,
    usable: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("place", &self.place).finish_non_exhaustive()
    }
}

/// What a server says of itself; what it does not say is absent.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// Its version.
    pub version: Option<String>,
    /// `master`, `slave` and the like.
    pub role: Option<String>,
    /// Whether memory has a bound.
    pub bounded: Option<bool>,
    /// What it does at that bound.
    pub eviction: Option<String>,
    /// Whether writes are logged.
    pub aof: Option<bool>,
    /// Whether snapshots are made.
    pub snapshots: Option<bool>,
}

impl Client {
    /// Connects and logs in, within the time of one exchange.
    ///
    /// # Errors
    /// When that does not work.
    pub async fn connect(policy: &Redis) -> Result<Self, RedisError> {
        let place: Arc<str> = Arc::from(policy.to_string());
        let until = Instant::now() + policy.timeout;
        let failed = |reason| RedisError::new(Arc::clone(&place), reason);
        let stream = timeout_at(until, Box::pin(dial(policy)));
        let stream = stream.await.map_err(|_late| failed(Reason::Timeout))?.map_err(failed)?;
        let mut client = Self {
            stream,
            buffer: Vec::new(),
            place,
            timeout: policy.timeout,
            script: None,
            usable: true,
        };
        if let Some(login) = &policy.login {
            let (user, password) = (login.username.expose(), login.password.expose());
            let words: &[&[u8]] = match user {
                "" => &[b"AUTH", password.as_bytes()],
                user => &[b"AUTH", user.as_bytes(), password.as_bytes()],
            };
            client.ask(words, until, ok).await?;
        }
        if policy.database > 0 {
            client.ask(&[b"SELECT", policy.database.to_string().as_bytes()], until, ok).await?;
        }
        Ok(client)
    }

    /// Whether the connection can go on to be used: it is in step.
    #[must_use]
    pub const fn usable(&self) -> bool {
        self.usable
    }

    /// Writes, all or nothing. `oldest_ms` is the time before which decisions are forgotten.
    ///
    /// # Errors
    /// When it is not known to be written.
    pub async fn commit(
        &mut self,
        writer: &Writer,
        commit: &Commit,
        oldest_ms: u64,
    ) -> Result<Answer, RedisError> {
        let until = Instant::now() + self.timeout;
        let words = writer.words(commit, oldest_ms);
        let of = |command: &'static [u8], script: &str| {
            let mut all = vec![command.to_vec(), script.as_bytes().to_vec()];
            all.extend(words.iter().cloned());
            all
        };
        if let Some(digest) = self.script.clone() {
            let words = of(b"EVALSHA", &digest);
            match self.ask_all(&words, until, lacks_or_answers).await? {
                Some(answer) => return Ok(answer),
                None => self.script = None,
            }
        }
        let words = of(b"EVAL", SCRIPT);
        let answer = self.ask_all(&words, until, commit::answer).await?;
        self.script = Some(script_name());
        Ok(answer)
    }

    /// Sends commands whose answers do not matter, and returns how many were refused.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn tell(&mut self, commands: &[Vec<Vec<u8>>]) -> Result<usize, RedisError> {
        let mut refused = 0;
        for some in commands.chunks(PIPELINE) {
            let until = Instant::now() + self.timeout;
            let mut out = Vec::new();
            for words in some {
                let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                resp::command(&words, &mut out);
            }
            for _ in some {
                let used = self.exchange(&out, until).await?;
                match self.take(used, |_| Some(())) {
                    Ok(()) => {}
                    Err(_) if self.usable => refused += 1,
                    Err(error) => return Err(error),
                }
                out.clear();
            }
        }
        Ok(refused)
    }

    /// What the server says of itself.
    ///
    /// # Errors
    /// When it does not answer; that it refuses to tell is none.
    pub async fn facts(&mut self) -> Result<Facts, RedisError> {
        let mut facts = Facts::default();
        for part in ["server", "replication", "memory", "persistence"] {
            let until = Instant::now() + self.timeout;
            let words: &[&[u8]] = &[b"INFO", part.as_bytes()];
            let told = self.ask(words, until, |reply| {
                Some(String::from_utf8_lossy(reply.text()?).into_owned())
            });
            match told.await {
                Ok(text) => facts.read(&text),
                Err(_) if self.usable => {}
                Err(error) => return Err(error),
            }
        }
        let until = Instant::now() + self.timeout;
        let save = self.ask(&[b"CONFIG", b"GET", b"save"], until, |reply| {
            let Reply::Array(Some(parts)) = reply else { return None };
            Some(!parts.get(1)?.text()?.is_empty())
        });
        match save.await {
            Ok(snapshots) => facts.snapshots = Some(snapshots),
            Err(_) if self.usable => {}
            Err(error) => return Err(error),
        }
        Ok(facts)
    }

    /// One exchange by this time of the clock.
    pub(super) async fn ask<T>(
        &mut self,
        words: &[&[u8]],
        until: Instant,
        read: impl FnOnce(&Reply<'_>) -> Option<T>,
    ) -> Result<T, RedisError> {
        let used = self.send(words, until).await?;
        self.take(used, read)
    }

    /// Says it, and waits for the reply: how many bytes of the buffer that is.
    async fn send(&mut self, words: &[&[u8]], until: Instant) -> Result<usize, RedisError> {
        if !self.buffer.is_empty() {
            self.usable = false;
            return Err(RedisError::new(Arc::clone(&self.place), Reason::Protocol));
        }
        let mut out = Zeroizing::new(Vec::new());
        let length: usize = words.iter().map(|word| word.len() + 16).sum();
        // Grown only once, so that no copy of a password stays behind.
        out.reserve(length + 16);
        resp::command(words, &mut out);
        self.exchange(&out, until).await
    }

    async fn ask_all<T>(
        &mut self,
        words: &[Vec<u8>],
        until: Instant,
        read: impl FnOnce(&Reply<'_>) -> Option<T>,
    ) -> Result<T, RedisError> {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        self.ask(&words, until, read).await
    }

    /// How long one exchange may take.
    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    async fn exchange(&mut self, out: &[u8], until: Instant) -> Result<usize, RedisError> {
        // Until it ends well: whoever gives up in between leaves half an exchange behind.
        self.usable = false;
        let Self { stream, buffer, .. } = self;
        let failed = |reason| RedisError::new(Arc::clone(&self.place), reason);
        match timeout_at(until, talk(stream, buffer, out)).await {
            Err(_late) => Err(failed(Reason::Timeout)),
            Ok(ended) => ended.map_err(failed),
        }
    }

    /// Takes the reply from the buffer.
    fn take<T>(
        &mut self,
        used: usize,
        read: impl FnOnce(&Reply<'_>) -> Option<T>,
    ) -> Result<T, RedisError> {
        let limits = Limits { bulk: BULK_MAX, values: VALUES_MAX };
        let failed = |reason| RedisError::new(Arc::clone(&self.place), reason);
        let answered = match resp::read_within(&self.buffer, limits) {
            Ok(Some((Reply::Error(error), _))) if !error.starts_with(b"NOSCRIPT") => {
                Err(RedisError::refusal(Arc::clone(&self.place), error))
            }
            Ok(Some((reply, _))) => Ok(read(&reply).ok_or_else(|| failed(Reason::Protocol))?),
            Ok(None) | Err(_) => return Err(failed(Reason::Protocol)),
        };
        self.buffer.drain(..used);
        if self.buffer.is_empty() && self.buffer.capacity() > READ {
            self.buffer = Vec::new();
        }
        self.usable = true;
        answered
    }
}

/// The answer of the script; a server that lacks it answers `None`.
#[expect(clippy::option_option, reason = "the outer one is whether it can be read")]
fn lacks_or_answers(reply: &Reply<'_>) -> Option<Option<Answer>> {
    match reply {
        Reply::Error(_) => Some(None),
        Reply::Text(_) | Reply::Integer(_) | Reply::Bulk(_) | Reply::Array(_) => {
            commit::answer(reply).map(Some)
        }
    }
}

/// What the script is called on every server: the digest of its text.
fn script_name() -> String {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, SCRIPT.as_bytes());
    let nibbles = digest.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.filter_map(|nibble| char::from_digit(nibble.into(), 16)).collect()
}

fn ok(reply: &Reply<'_>) -> Option<()> {
    (reply.text() == Some(b"OK")).then_some(())
}

/// Says it, and reads until the buffer begins with a whole reply; how many bytes that is.
async fn talk(
    stream: &mut Box<dyn Stream>,
    buffer: &mut Vec<u8>,
    out: &[u8],
) -> Result<usize, Reason> {
    let broken = |error: io::Error| {
        if error.kind() == io::ErrorKind::InvalidData { Reason::Tls } else { Reason::Closed }
    };
    let limits = Limits { bulk: BULK_MAX, values: VALUES_MAX };
    let written = async {
        stream.write_all(out).await?;
        stream.flush().await
    };
    // A server that refuses may say so and close before it has read all of it.
    let written = written.await;
    loop {
        match resp::read_within(buffer, limits) {
            Ok(Some((_, used))) => return Ok(used),
            Ok(None) if buffer.len() <= REPLY_MAX => {}
            Ok(None) | Err(_) => return Err(Reason::Protocol),
        }
        buffer.reserve(READ);
        match stream.read_buf(buffer).await {
            Ok(0) => return Err(written.err().map_or(Reason::Closed, broken)),
            Ok(_) => {}
            Err(error) => return Err(broken(error)),
        }
    }
}

async fn dial(policy: &Redis) -> Result<Box<dyn Stream>, Reason> {
    let Target { host, port } = &policy.target;
    let tcp = TcpStream::connect((host.as_str(), *port)).await;
    let tcp = tcp.map_err(|_refused| Reason::Unreachable)?;
    // It is about latency only.
    tcp.set_nodelay(true).ok();
    let Some(options) = &policy.tls else { return Ok(Box::new(tcp)) };
    let config = configuration(options).ok_or(Reason::Tls)?;
    let name = tls::server_name(host).ok_or(Reason::Tls)?;
    let shaken = Box::pin(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await;
    Ok(Box::new(shaken.map_err(|_failed| Reason::Tls)?))
}

fn configuration(options: &RedisTls) -> Option<ClientConfig> {
    let roots = options.ca.as_deref().map_or(Roots::Platform, Roots::Given);
    Some(tls::client(roots).ok()?.with_no_client_auth())
}

impl Facts {
    fn read(&mut self, text: &str) {
        let mut bounded = None;
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let word = || Some(value.chars().take(32).filter(|c| !c.is_control()).collect());
            match name {
                "redis_version" => self.version = word(),
                "role" => self.role = word(),
                "maxmemory" => bounded = Some(value != "0"),
                "maxmemory_policy" => self.eviction = word(),
                "aof_enabled" => self.aof = Some(value == "1"),
                _ => {}
            }
        }
        self.bounded = bounded.or(self.bounded);
    }
}

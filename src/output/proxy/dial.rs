//! Connections to one upstream: resolved, connected and secured within one deadline.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::core::outcome::Outcome;
use crate::output::proxy::resolve::Addresses;
use crate::output::proxy::tls::Secured;

/// `PostgreSQL`'s request for TLS, before which nothing else may be said.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Opens connections to one upstream.
#[derive(Debug)]
pub(super) struct Dialler {
    pub(super) addresses: Arc<Addresses>,
    pub(super) secured: Option<Secured>,
    /// Whether TLS begins with a word of `PostgreSQL`'s own.
    pub(super) postgres: bool,
}

/// Why there is no connection. Nothing was sent yet, so another endpoint may be tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unreached(pub(super) Outcome);

impl std::fmt::Display for Unreached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "connect to the upstream: {}", self.0)
    }
}

impl std::error::Error for Unreached {}

impl Dialler {
    /// The same, without offering HTTP/2.
    pub(super) fn http1(&self) -> Self {
        let secured = self.secured.clone().map(|mut secured| {
            let mut config = (*secured.config).clone();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            secured.config = Arc::new(config);
            secured
        });
        Self { addresses: Arc::clone(&self.addresses), secured, postgres: self.postgres }
    }

    /// A connection, ready for the first byte of the protocol.
    pub(super) async fn open(&self, within: Duration) -> Result<Stream, Unreached> {
        let deadline = Instant::now() + within;
        let opened = timeout_at(deadline, self.attempt(deadline)).await;
        let opened = opened.unwrap_or(Err(Unreached(Outcome::Timeout)));
        if opened.is_err() {
            self.addresses.doubt();
        }
        opened
    }

    async fn attempt(&self, deadline: Instant) -> Result<Stream, Unreached> {
        let addresses = self.addresses.get().await;
        let addresses = addresses.map_err(|_unresolved| Unreached(Outcome::Dns))?;
        let mut plain = connect(&addresses, deadline).await?;
        // Only latency is at stake, so a kernel that cannot is no reason to fail.
        plain.set_nodelay(true).ok();
        let Some(secured) = &self.secured else { return Ok(Stream::Plain(plain)) };
        if self.postgres {
            ask_for_tls(&mut plain).await.map_err(|_refused| Unreached(Outcome::Tls))?;
        }
        let connector = TlsConnector::from(Arc::clone(&secured.config));
        let stream = connector.connect(secured.name.clone(), plain).await;
        let stream = stream.map_err(|error| Unreached(handshake(&error)))?;
        Ok(Stream::Secure(Box::new(stream)))
    }
}

/// Tries one address after the other; each gets its part of what is left of the time.
async fn connect(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, Unreached> {
    let mut failure = Unreached(Outcome::Dns);
    for (tried, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        failure = match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => Unreached(sort(&error)),
            Err(_) => Unreached(Outcome::Timeout),
        };
    }
    Err(failure)
}

async fn ask_for_tls(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&SSL_REQUEST).await?;
    match stream.read_u8().await? {
        b'S' => Ok(()),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// What an error of the kernel says about the upstream.
pub(super) fn sort(error: &io::Error) -> Outcome {
    let ours = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NETUNREACH, Errno::NOBUFS];
    if Errno::from_io_error(error).is_some_and(|code| ours.contains(&code)) {
        return Outcome::Local;
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library may add kinds at any time")]
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Outcome::Refused,
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable => Outcome::Timeout,
        _ => Outcome::Reset,
    }
}

fn handshake(error: &io::Error) -> Outcome {
    if error.raw_os_error().is_some() { sort(error) } else { Outcome::Tls }
}

/// A connection to an upstream.
#[derive(Debug)]
pub(super) enum Stream {
    /// In plain text.
    Plain(TcpStream),
    /// Over TLS.
    Secure(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The connection below.
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Secure(stream) => stream.get_ref().0,
        }
    }

    /// Whether HTTP/2 was agreed upon.
    pub(super) fn is_h2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Secure(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Secure(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Secure(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Secure(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Secure(stream) => stream.is_write_vectored(),
        }
    }
}

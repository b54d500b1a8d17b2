//! Name or path to connection: resolves, connects and secures, each timed, one address an attempt.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use rustix::io::Errno;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use crate::core::outcome::Outcome;
use crate::policy::model::{HttpVersion, Target, TlsOptions};
use crate::probe::address::Turns;
use crate::probe::finding::{Finding, Step};
use crate::probe::kept::Kept;
use crate::probe::resolve::Resolver;
use crate::probe::tls::{Handshake, TlsClient};
use crate::probe::trace::{Stage, Trace};
use crate::probe::wire::Io;

/// Opens connections for every protocol.
#[derive(Debug)]
pub(super) struct Dialler {
    resolver: Resolver,
    turns: Turns,
    tls: TlsClient,
    kept: Kept,
}

/// Where HTTP is spoken, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route<'a> {
    pub(super) target: &'a Target,
    /// Connect to this local socket instead.
    pub(super) socket: Option<&'a Path>,
    pub(super) tls: Option<&'a TlsOptions>,
    pub(super) version: HttpVersion,
}

impl Dialler {
    pub(super) fn new() -> Result<Self, rustls::Error> {
        Ok(Self {
            resolver: Resolver::system(),
            turns: Turns::default(),
            tls: TlsClient::new()?,
            kept: Kept::default(),
        })
    }

    /// The connections that attempts leave for one another.
    pub(super) const fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Opens a connection for HTTP, secure if the route says so.
    pub(super) async fn open(&self, route: &Route<'_>, trace: &mut Trace) -> Step<Box<dyn Io>> {
        let protocol: &[u8] = match route.version {
            HttpVersion::Http1 => b"http/1.1",
            HttpVersion::Http2 => b"h2",
        };
        let prepare = |options| self.tls.prepare(&route.target.host, options, Some(protocol));
        let handshake = route.tls.map(prepare).transpose()?;
        if let Some(path) = route.socket {
            let stream = connect_local(path, trace).await?;
            return secure(stream, handshake, route.version, trace).await;
        }
        let stream = self.connect(route.target, trace).await?;
        secure(stream, handshake, route.version, trace).await
    }

    /// Opens a plain connection to one of the target's addresses.
    pub(super) async fn connect(&self, target: &Target, trace: &mut Trace) -> Step<TcpStream> {
        if let Ok(ip) = target.host.parse() {
            return connect(SocketAddr::new(ip, target.port), trace).await;
        }
        trace.enter(Stage::Resolve);
        let addresses = self.resolver.resolve(&target.host).await?;
        let turn = self.turns.take(&target.host, &addresses);
        let turn = turn.ok_or_else(|| Finding::new(Outcome::Dns, "name has no address"))?;
        let stream = connect(SocketAddr::new(turn.ip, target.port), trace).await?;
        self.turns.worked(&target.host, turn);
        Ok(stream)
    }

    /// Opens a connection and secures it; `protocol` is what ALPN offers, if anything.
    pub(super) async fn connect_tls(
        &self,
        target: &Target,
        options: &TlsOptions,
        protocol: Option<&[u8]>,
        trace: &mut Trace,
    ) -> Step<TlsStream<TcpStream>> {
        let handshake = self.tls.prepare(&target.host, options, protocol)?;
        let stream = self.connect(target, trace).await?;
        trace.enter(Stage::Tls);
        let stream = handshake.run(stream, trace).await?;
        trace.enter(Stage::Between);
        Ok(stream)
    }
}

async fn connect(address: SocketAddr, trace: &mut Trace) -> Step<TcpStream> {
    trace.enter(Stage::Connect);
    trace.address = Some(address);
    let stream = TcpStream::connect(address).await.map_err(|error| sort(address, &error))?;
    trace.enter(Stage::Between);
    // Only latency is at stake, so a kernel that cannot is no finding.
    stream.set_nodelay(true).ok();
    Ok(stream)
}

async fn secure(
    stream: impl Io + 'static,
    handshake: Option<Handshake>,
    version: HttpVersion,
    trace: &mut Trace,
) -> Step<Box<dyn Io>> {
    let Some(handshake) = handshake else { return Ok(Box::new(stream)) };
    trace.enter(Stage::Tls);
    let stream = handshake.run(stream, trace).await?;
    trace.enter(Stage::Between);
    if version == HttpVersion::Http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(Finding::protocol("server does not offer HTTP/2 over TLS"));
    }
    Ok(Box::new(stream))
}

/// Connects to a local socket.
async fn connect_local(path: &Path, trace: &mut Trace) -> Step<UnixStream> {
    trace.enter(Stage::Connect);
    let stream = UnixStream::connect(path).await.map_err(|error| sort_local(&error))?;
    trace.enter(Stage::Between);
    Ok(stream)
}

/// A local socket that is missing or of nobody is a listener that is gone; one that may not be
/// opened is our own fault.
fn sort_local(error: &io::Error) -> Finding {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => Finding::new(Outcome::Refused, "socket does not exist"),
        Some(Errno::CONNREFUSED) => Finding::new(Outcome::Refused, "nobody listens on the socket"),
        // A full queue is told at once here, where TCP would be silent.
        Some(Errno::AGAIN) => Finding::new(Outcome::Timeout, "socket's queue is full"),
        Some(Errno::ACCESS | Errno::PERM) => Finding::local("no permission for the socket"),
        Some(Errno::PROTOTYPE) => Finding::misconfigured("socket is not of the stream kind"),
        Some(Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => {
            Finding::misconfigured("path of the socket is not valid")
        }
        Some(_) => Finding::from_io(error),
        None => Finding::misconfigured("path of the socket is not valid"),
    }
}

/// Tells "there is no way out of this host" from "the way there is broken further on": the kernel
/// reports both as `EHOSTUNREACH`.
fn sort(address: SocketAddr, error: &io::Error) -> Finding {
    let unreachable = Errno::from_io_error(error) == Some(Errno::HOSTUNREACH);
    if unreachable && !has_route(address) {
        return Finding::local("no route to the host");
    }
    Finding::from_io(error)
}

/// Connecting a datagram socket looks the route up and sends nothing.
fn has_route(address: SocketAddr) -> bool {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(any).and_then(|socket| socket.connect(address)).is_ok()
}

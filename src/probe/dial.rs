//! Name to connection: resolves, connects and secures, each timed, one address an attempt.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::core::outcome::Outcome;
use crate::policy::model::{Target, TlsOptions};
use crate::probe::address::Turns;
use crate::probe::finding::{Finding, Step};
use crate::probe::resolve::Resolver;
use crate::probe::tls::TlsClient;
use crate::probe::trace::{Stage, Trace};

/// Opens connections for every protocol.
#[derive(Debug)]
pub(super) struct Dialler {
    resolver: Resolver,
    turns: Turns,
    tls: TlsClient,
}

impl Dialler {
    pub(super) fn new() -> Result<Self, rustls::Error> {
        Ok(Self { resolver: Resolver::system(), turns: Turns::default(), tls: TlsClient::new()? })
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

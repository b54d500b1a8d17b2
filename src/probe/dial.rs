//! Name or path to connection: resolves, connects and secures, each timed, one address an attempt.
//!
//! An attempt may use a second address in one case: the first was of an earlier answer, as the
//! resolver could not say more, it does not work, and the resolver has found its voice since.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use rustix::io::Errno;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use crate::core::outcome::Outcome;
use crate::policy::model::{HttpVersion, Target, TlsOptions};
use crate::probe::address::{Turn, Turns};
use crate::probe::finding::{Finding, Step};
use crate::probe::kept::Kept;
use crate::probe::resolve::{Found, Resolver};
use crate::probe::tls::{Handshake, TlsClient};
use crate::probe::trace::{Stage, Trace};
use crate::probe::wire::Io;

/// Where an attempt goes.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    turn: Option<Turn>,
    /// Why the address is of an earlier answer, if it is.
    doubt: Option<Finding>,
}

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
        let place = self.locate(target, trace).await?;
        let place = match connect(place.address, trace).await {
            Ok(stream) => {
                self.worked(target, &place);
                return Ok(stream);
            }
            Err(finding) => self.relocate(target, place, finding, trace).await?,
        };
        connect(place.address, trace).await
    }

    /// Where the target is, for this attempt.
    pub(super) async fn locate(&self, target: &Target, trace: &mut Trace) -> Step<Place> {
        let at = |ip| Place { address: SocketAddr::new(ip, target.port), turn: None, doubt: None };
        if let Ok(ip) = target.host.parse() {
            return Ok(at(ip));
        }
        if let Some((_, ip)) = trace.pinned.as_ref().filter(|(host, _)| *host == target.host) {
            return Ok(at(*ip));
        }
        let found = self.find(target, trace).await?;
        let turn = self.turns.take(&target.host, &found.addresses);
        let turn = turn.ok_or_else(|| Finding::new(Outcome::Dns, "name has no address"))?;
        Ok(Place { turn: Some(turn), doubt: found.doubt, ..at(turn.ip) })
    }

    /// All of the target's addresses.
    pub(super) async fn find(&self, target: &Target, trace: &mut Trace) -> Step<Found> {
        trace.enter(Stage::Resolve);
        let found = self.resolver.find(&target.host, trace.patience()).await;
        trace.enter(Stage::Between);
        found
    }

    /// The place works, so the next attempt uses it again.
    pub(super) fn worked(&self, target: &Target, place: &Place) {
        if let Some(turn) = place.turn {
            self.turns.worked(&target.host, turn);
        }
    }

    /// Looks again, once, for a target that failed where it was last known to be. When it is not
    /// found elsewhere either, a name that is denied is what failed, and else the connection.
    async fn relocate(
        &self,
        target: &Target,
        failed: Place,
        finding: Finding,
        trace: &mut Trace,
    ) -> Step<Place> {
        if failed.doubt.is_none() {
            return Err(finding);
        }
        let found = self.find(target, trace).await?;
        match found.doubt {
            Some(doubt) if doubt.outcome == Outcome::Dns => Err(doubt),
            Some(_) => Err(finding),
            None => {
                let moved = found.addresses.iter().find(|ip| **ip != failed.address.ip());
                let ip = *moved.ok_or(finding)?;
                let address = SocketAddr::new(ip, target.port);
                Ok(Place { address, turn: None, doubt: None })
            }
        }
    }

    /// A handshake for a connection to this target that is secured only later on.
    pub(super) fn prepare(
        &self,
        target: &Target,
        options: &TlsOptions,
        protocol: Option<&[u8]>,
    ) -> Step<Handshake> {
        self.tls.prepare(&target.host, options, protocol)
    }

    /// Opens a connection and secures it; `protocol` is what ALPN offers, if anything.
    pub(super) async fn connect_tls(
        &self,
        target: &Target,
        options: &TlsOptions,
        protocol: Option<&[u8]>,
        trace: &mut Trace,
    ) -> Step<TlsStream<TcpStream>> {
        let handshake = self.prepare(target, options, protocol)?;
        let stream = self.connect(target, trace).await?;
        trace.enter(Stage::Tls);
        let stream = handshake.run(stream, trace).await?;
        trace.enter(Stage::Between);
        Ok(stream)
    }
}

/// Opens a plain connection to this address.
pub(super) async fn connect(address: SocketAddr, trace: &mut Trace) -> Step<TcpStream> {
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
pub(super) fn sort(address: SocketAddr, error: &io::Error) -> Finding {
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::probe::trace::Limit;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    /// Loopback as well, but nobody listens there.
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 99));

    type Said = Result<Vec<IpAddr>, &'static str>;

    /// A dialler whose resolver says these things in turn, the last one for ever.
    fn dialler(said: &'static [fn() -> Said]) -> (Dialler, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let lookup = move |_: &str| {
            let turn = counter.fetch_add(1, Ordering::SeqCst).min(said.len() - 1);
            said[turn]().map_err(io::Error::other)
        };
        let resolver = Resolver::new(Arc::new(lookup), Duration::from_secs(30));
        (Dialler { resolver, ..Dialler::new().unwrap() }, asked)
    }

    async fn listener() -> (TcpListener, Target) {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, Target { host: "example.com".to_owned(), port })
    }

    async fn dial(dialler: &Dialler, target: &Target) -> Result<IpAddr, (Outcome, String)> {
        let mut trace = Trace::begin();
        trace.limit(Limit::of(Duration::from_secs(20)));
        let stream = dialler.connect(target, &mut trace).await;
        let stream = stream.map_err(|finding| (finding.outcome, finding.detail.into_owned()))?;
        Ok(stream.peer_addr().unwrap().ip())
    }

    const FAILS: &str = "Temporary failure in name resolution";
    const DENIES: &str = "Name or service not known";

    #[tokio::test]
    async fn an_outage_of_the_resolver_does_not_blind_us() {
        let (dialler, _) = dialler(&[|| Ok(vec![HERE]), || Err(FAILS), || Err(DENIES)]);
        let (listener, target) = listener().await;
        for _ in 0..4 {
            assert_eq!(dial(&dialler, &target).await, Ok(HERE));
        }
        drop(listener);
    }

    #[tokio::test]
    async fn an_endpoint_that_dies_meanwhile_is_still_seen_to_be_dead() {
        let (dialler, asked) = dialler(&[|| Ok(vec![THERE]), || Err(FAILS)]);
        let (_listener, target) = listener().await;
        let refused = Err((Outcome::Refused, "connection refused".to_owned()));
        assert_eq!(dial(&dialler, &target).await, refused);
        assert_eq!(asked.load(Ordering::SeqCst), 1, "a fresh answer is not asked for again");
        assert_eq!(dial(&dialler, &target).await, refused);
        assert_eq!(asked.load(Ordering::SeqCst), 3, "a held one is, once");
    }

    #[tokio::test]
    async fn a_name_that_is_denied_and_dead_where_it_was_is_a_matter_of_the_name() {
        let (dialler, _) = dialler(&[|| Ok(vec![THERE]), || Err(DENIES)]);
        let (_listener, target) = listener().await;
        assert_eq!(dial(&dialler, &target).await.unwrap_err().0, Outcome::Refused);
        let gone = Err((Outcome::Dns, "name does not resolve".to_owned()));
        assert_eq!(dial(&dialler, &target).await, gone);
    }

    #[tokio::test]
    async fn a_name_that_moved_while_the_resolver_was_out_is_followed() {
        let (dialler, _) = dialler(&[|| Ok(vec![THERE]), || Err(FAILS), || Ok(vec![THERE, HERE])]);
        let (_listener, target) = listener().await;
        assert_eq!(dial(&dialler, &target).await.unwrap_err().0, Outcome::Refused);
        assert_eq!(dial(&dialler, &target).await, Ok(HERE));
    }

    #[tokio::test]
    async fn a_pinned_address_is_used_for_its_name_only() {
        let (dialler, asked) = dialler(&[|| Ok(vec![HERE])]);
        let (_listener, target) = listener().await;
        let mut trace = Trace::begin();
        trace.pinned = Some(("example.com".to_owned(), THERE));
        assert_eq!(dialler.locate(&target, &mut trace).await.unwrap().address.ip(), THERE);
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        let other = Target { host: "other.example.com".to_owned(), ..target };
        assert_eq!(dialler.locate(&other, &mut trace).await.unwrap().address.ip(), HERE);
    }
}

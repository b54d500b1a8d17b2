//! The way to an upstream, with a fault on it.
//!
//! A proxy passes bytes between whoever connects and its upstream, and does to them what its fault
//! says. Its port stays its own while the fault refuses connections, since a socket that is bound
//! but does not listen refuses connections and keeps anybody else from taking the port.
//!
//! Invariants
//! 1. A fault is in force for connections that begin after [`Proxy::set`] has returned, and those
//!    that were open are treated as the fault says.
//! 2. Nothing outlives the proxy: dropping it closes every socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::chaos::fault::Fault;
use crate::core::rng::Rng;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 256;
/// The same where the kernel's queue is to be full.
const BACKLOG_FULL: u32 = 1;
/// How long a connection on loopback takes at most, if the queue has room.
const FILL_WAIT: Duration = Duration::from_millis(60);
/// Connections made to fill the queue; Linux has room for one more than asked for.
const FILLERS_MAX: usize = 6;
/// Time between two connections that an exhausted endpoint takes.
const EXHAUSTED_PACE: Duration = Duration::from_secs(1);
/// Time between two bytes of a dripping answer.
const DRIP_PACE: Duration = Duration::from_millis(100);
/// Longest head of a request that is answered here.
const HEAD_MAX: usize = 16 * 1024;
/// Bytes passed on at a time.
const CHUNK: usize = 16 * 1024;

/// A running proxy; stops when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    wanted: watch::Sender<Fault>,
    in_force: watch::Receiver<Fault>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts one before `upstream`, at a loopback address, on a free port and without a fault.
    /// Random delays come from the seed.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(host: Ipv4Addr, upstream: SocketAddr, seed: u64) -> io::Result<Self> {
        let keeper = bind(SocketAddr::from((host, 0)))?;
        let address = keeper.local_addr()?;
        let listener = bind(address)?.listen(BACKLOG)?;
        let (wanted, faults) = watch::channel(Fault::None);
        let (told, in_force) = watch::channel(Fault::None);
        let serving = Serving { address, upstream, faults, told, rng: Rng::new(seed) };
        let task = tokio::spawn(serving.run(keeper, listener));
        Ok(Self { address, wanted, in_force, task })
    }

    /// Where it listens, or would if it were not refusing.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The fault asked for last.
    #[must_use]
    pub fn fault(&self) -> Fault {
        *self.wanted.borrow()
    }

    /// Asks for a fault; [`Proxy::set`] waits until it is in force.
    pub fn ask(&self, fault: Fault) {
        self.wanted.send_replace(fault);
    }

    /// Puts a fault in force.
    pub async fn set(&self, fault: Fault) {
        self.ask(fault);
        let mut in_force = self.in_force.clone();
        // The task that tells lives as long as we do.
        drop(in_force.wait_for(|now| *now == fault).await);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A bound socket that does not listen.
fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Lets the socket that listens and the one that only keeps the port share it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

struct Serving {
    address: SocketAddr,
    upstream: SocketAddr,
    faults: watch::Receiver<Fault>,
    told: watch::Sender<Fault>,
    rng: Rng,
}

impl Serving {
    /// Serves by fault; `_keeper` holds the port all the while.
    async fn run(mut self, _keeper: TcpSocket, first: TcpListener) {
        let mut listener = Some(first);
        let mut connections = JoinSet::new();
        loop {
            let fault = *self.faults.borrow_and_update();
            let mut fillers = Vec::new();
            match fault {
                Fault::Killed => listener = None,
                Fault::Partitioned => {
                    listener = None;
                    listener = self.listen(BACKLOG_FULL, listener);
                    fillers = fill(self.address).await;
                }
                Fault::Exhausted => {
                    listener = None;
                    listener = self.listen(BACKLOG_FULL, listener);
                }
                Fault::None
                | Fault::Slow(_)
                | Fault::Jitter(_)
                | Fault::RateLimited(_)
                | Fault::Lying
                | Fault::Truncating
                | Fault::Dripping => listener = self.listen(BACKLOG, listener),
            }
            self.told.send_replace(fault);
            let changed = self.accept(fault, listener.as_ref(), &mut connections).await;
            drop(fillers);
            if changed.is_err() {
                return;
            }
            // One that was made for a full queue has no room for the time after it.
            if matches!(fault, Fault::Partitioned | Fault::Exhausted) {
                listener = None;
            }
        }
    }

    /// The listener there is, or a new one.
    fn listen(&self, backlog: u32, now: Option<TcpListener>) -> Option<TcpListener> {
        now.or_else(|| bind(self.address).and_then(|socket| socket.listen(backlog)).ok())
    }

    /// Accepts until the fault changes.
    async fn accept(
        &mut self,
        fault: Fault,
        listener: Option<&TcpListener>,
        connections: &mut JoinSet<()>,
    ) -> Result<(), watch::error::RecvError> {
        loop {
            tokio::select! {
                changed = self.faults.changed() => return changed,
                stream = next(fault, listener) => {
                    let faults = self.faults.clone();
                    let rng = Rng::new(self.rng.next_u64());
                    let carried = Carried { upstream: self.upstream, faults, rng };
                    connections.spawn(carried.run(stream));
                    while connections.try_join_next().is_some() {}
                }
            }
        }
    }
}

/// The next connection that the fault lets in.
async fn next(fault: Fault, listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener.filter(|_| fault != Fault::Partitioned) else {
        return std::future::pending().await;
    };
    if fault == Fault::Exhausted {
        sleep(EXHAUSTED_PACE).await;
    }
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Fills the queue of a listener that never accepts: from then on the kernel drops what asks for
/// a connection, as a cut network would.
async fn fill(address: SocketAddr) -> Vec<TcpStream> {
    let mut fillers = Vec::new();
    while fillers.len() < FILLERS_MAX {
        match timeout(FILL_WAIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => fillers.push(stream),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    fillers
}

/// One connection on its way to the upstream.
struct Carried {
    upstream: SocketAddr,
    faults: watch::Receiver<Fault>,
    rng: Rng,
}

impl Carried {
    async fn run(mut self, mut stream: TcpStream) {
        let fault = *self.faults.borrow_and_update();
        match fault {
            Fault::None | Fault::Slow(_) | Fault::Jitter(_) => self.pass(stream).await,
            Fault::Killed => reset(stream),
            Fault::Partitioned => {
                self.fall_silent(stream).await;
            }
            Fault::Exhausted
            | Fault::RateLimited(_)
            | Fault::Lying
            | Fault::Truncating
            | Fault::Dripping => {
                tokio::select! {
                    _ = self.faults.changed() => {}
                    () = answer(&mut stream, fault) => return,
                }
                reset(stream);
            }
        }
    }

    /// Passes bytes both ways until one side ends, or a fault ends it.
    async fn pass(&mut self, mut stream: TcpStream) {
        let Ok(mut upstream) = TcpStream::connect(self.upstream).await else {
            return reset(stream);
        };
        let faults = self.faults.clone();
        let (mut from_client, mut to_client) = stream.split();
        let (mut from_upstream, mut to_upstream) = upstream.split();
        let up = async {
            // Either end may leave: whoever is left sees it.
            drop(tokio::io::copy(&mut from_client, &mut to_upstream).await);
            drop(to_upstream.shutdown().await);
        };
        let rng = &mut self.rng;
        let down = async {
            let mut chunk = vec![0_u8; CHUNK];
            while let Ok(count @ 1..) = from_upstream.read(&mut chunk).await {
                let fault = *faults.borrow();
                sleep(delay(fault, rng)).await;
                let Some(bytes) = chunk.get(..count) else { return };
                if to_client.write_all(bytes).await.is_err() {
                    return;
                }
            }
            drop(to_client.shutdown().await);
        };
        let both = async {
            tokio::join!(up, down);
        };
        let broken = broken(&mut self.faults);
        let fault = tokio::select! {
            () = both => return,
            fault = broken => fault,
        };
        if fault == Fault::Partitioned { self.fall_silent(stream).await } else { reset(stream) }
    }

    /// Keeps a connection open and says nothing, until the fault is over.
    async fn fall_silent(&mut self, stream: TcpStream) {
        // Gone together with whoever asks for faults.
        drop(self.faults.changed().await);
        reset(stream);
    }
}

/// Waits for a fault that a connection cannot outlive.
async fn broken(faults: &mut watch::Receiver<Fault>) -> Fault {
    loop {
        if faults.changed().await.is_err() {
            return Fault::Killed;
        }
        let fault = *faults.borrow_and_update();
        if !matches!(fault, Fault::None | Fault::Slow(_) | Fault::Jitter(_)) {
            return fault;
        }
    }
}

/// How late the next bytes of an answer are.
fn delay(fault: Fault, rng: &mut Rng) -> Duration {
    match fault {
        Fault::Slow(delay) => delay,
        Fault::Jitter(most) => {
            let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
            Duration::from_micros(rng.below(most.saturating_add(1)))
        }
        Fault::None
        | Fault::Killed
        | Fault::Partitioned
        | Fault::Exhausted
        | Fault::RateLimited(_)
        | Fault::Lying
        | Fault::Truncating
        | Fault::Dripping => Duration::ZERO,
    }
}

/// Ends a connection so that the other side sees a reset, whatever was on its way.
fn reset(stream: TcpStream) {
    // Where the system refuses, the other side sees an orderly end: no success either.
    stream.set_zero_linger().ok();
    drop(stream);
}

/// Answers in the upstream's place.
async fn answer(stream: &mut TcpStream, fault: Fault) {
    if !head_read(stream).await {
        return;
    }
    let page = "<!doctype html><title>Sign in</title><form>Sign in to continue</form>";
    let text = match fault {
        Fault::Exhausted => whole("503 Service Unavailable", "", "out of resources"),
        Fault::RateLimited(stay) => {
            let header = format!("Retry-After: {}\r\n", stay.as_secs());
            whole("429 Too Many Requests", &header, "slow down")
        }
        Fault::Lying => whole("200 OK", "Content-Type: text/html\r\n", page),
        Fault::None
        | Fault::Killed
        | Fault::Partitioned
        | Fault::Slow(_)
        | Fault::Jitter(_)
        | Fault::Truncating
        | Fault::Dripping => {
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4096\r\n\r\n{\"st"
                .to_owned()
        }
    };
    // A client that has left is its own affair.
    if stream.write_all(text.as_bytes()).await.is_err() {
        return;
    }
    if fault == Fault::Dripping {
        while stream.write_all(b" ").await.is_ok() {
            sleep(DRIP_PACE).await;
        }
        return;
    }
    drop(stream.shutdown().await);
    // What is unread when a socket closes resets it, and the answer could be lost with that.
    let mut rest = [0_u8; 1024];
    while let Ok(Ok(1..)) = timeout(EXHAUSTED_PACE, stream.read(&mut rest)).await {}
}

/// A whole HTTP answer after which the connection ends.
fn whole(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Reads the head of a request; `false` when the client leaves or sends none.
async fn head_read(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut chunk = [0_u8; 2048];
    while head.len() < HEAD_MAX {
        let Ok(count @ 1..) = stream.read(&mut chunk).await else { return false };
        head.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if head.windows(4).any(|window| window == b"\r\n\r\n") {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::upstream::{CALL, Identity, KEY, Upstream};

    const SHORT: Duration = Duration::from_millis(400);
    const LONG: Duration = Duration::from_secs(30);

    async fn stand() -> (Upstream, Proxy) {
        let identity = Identity { name: "one".into(), key: "k".into(), ..Identity::default() };
        let upstream = Upstream::start(identity).await.expect("a port");
        let proxy = Proxy::start(Ipv4Addr::LOCALHOST, upstream.address(), 1).expect("a port");
        (upstream, proxy)
    }

    /// One call on a connection of its own: all bytes until the end.
    async fn call(address: SocketAddr) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        let text =
            format!("GET {CALL} HTTP/1.1\r\nHost: x\r\n{KEY}: k\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn each_fault_shows_as_what_it_is_and_heals() {
        let (_upstream, proxy) = stand().await;
        let address = proxy.address();
        for (fault, seen) in [
            (Fault::Lying, "Sign in"),
            (Fault::RateLimited(Duration::from_secs(7)), "Retry-After: 7"),
            (Fault::Truncating, "Content-Length: 4096"),
            (Fault::Jitter(Duration::from_millis(1)), "200 OK"),
        ] {
            proxy.set(fault).await;
            let answer = timeout(LONG, call(address)).await.expect("in time").expect("an answer");
            assert!(answer.contains(seen), "{fault:?}: {answer}");
            proxy.set(Fault::None).await;
            let answer = timeout(LONG, call(address)).await.expect("in time").expect("an answer");
            assert!(answer.ends_with("one"), "after {fault:?}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_killed_endpoint_refuses_and_resets_what_was_open() {
        let (_upstream, proxy) = stand().await;
        let mut open = TcpStream::connect(proxy.address()).await.expect("a connection");
        open.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        let mut first = [0_u8; 1];
        open.read_exact(&mut first).await.expect("it served");
        proxy.set(Fault::Killed).await;
        let refused = TcpStream::connect(proxy.address()).await.expect_err("refused");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let mut rest = Vec::new();
        let end = timeout(LONG, open.read_to_end(&mut rest)).await.expect("in time");
        assert_eq!(end.expect_err("reset").kind(), io::ErrorKind::ConnectionReset);
        proxy.set(Fault::None).await;
        assert!(call(proxy.address()).await.expect("healed").ends_with("one"));
    }

    #[tokio::test]
    async fn a_partition_swallows_new_connections_and_silences_old_ones() {
        let (_upstream, proxy) = stand().await;
        let mut open = TcpStream::connect(proxy.address()).await.expect("a connection");
        open.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        let mut first = [0_u8; 1];
        open.read_exact(&mut first).await.expect("it served");
        proxy.set(Fault::Partitioned).await;
        timeout(SHORT, TcpStream::connect(proxy.address())).await.expect_err("no answer");
        proxy.set(Fault::None).await;
        let answer = timeout(LONG, call(proxy.address())).await.expect("in time");
        assert!(answer.expect("healed").ends_with("one"));
    }

    #[tokio::test]
    async fn what_is_slow_exhausted_or_dripping_is_not_done_in_time() {
        let (_upstream, proxy) = stand().await;
        for fault in [Fault::Slow(LONG), Fault::Exhausted, Fault::Dripping] {
            proxy.set(fault).await;
            timeout(SHORT, call(proxy.address())).await.expect_err("not in time");
            proxy.set(Fault::None).await;
            let answer = timeout(LONG, call(proxy.address())).await.expect("in time");
            assert!(answer.expect("healed").ends_with("one"), "{fault:?}");
        }
    }
}

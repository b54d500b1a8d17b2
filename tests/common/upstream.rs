//! A server that behaves as told, and otherwise while it runs.
//!
//! Each has a thread and a runtime of its own, so it serves plain tests, tokio tests and child
//! processes alike, and a paused clock in a test does not stop it. It listens on loopback, on a
//! port that stays its own even while it refuses.
//!
//! ```ignore
//! let upstream = Upstream::start(Behaviour::Healthy);
//! probe(upstream.address());
//! upstream.set(Behaviour::Refuse); // in force when this returns
//! assert_eq!(upstream.requests(), 1);
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What an [`Upstream`] does with those who connect.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// Answers 200 with `{"status":"ok"}`.
    Healthy,
    /// Nobody listens, and every open connection is cut.
    Refuse,
    /// Accepts, reads, and never answers.
    Hang,
    /// Answers with this status and no body.
    Status(u16),
    /// Answers with this status, these headers and this body.
    Answer(u16, Vec<(String, String)>, String),
    /// Answers 200 with this JSON.
    Json(String),
    /// Answers as healthy after a while.
    Slow(Duration),
    /// Answers 200, then a byte of the body at this interval, without end.
    Drip(Duration),
    /// Answers 200 and a chunked body without end.
    Flood,
    /// Announces a body of this many bytes and sends them all, as fast as they are taken.
    Huge(u64),
    /// Sends header lines without end.
    HeaderFlood,
    /// Sends `100 Continue` without end.
    InterimFlood,
    /// Announces more body than it sends, then closes in good order.
    Truncate,
    /// Sends half an answer, then resets the connection.
    Reset,
    /// Sends these bytes without waiting for a request, then closes.
    Raw(Vec<u8>),
    /// Sends these bytes without waiting for a request, and keeps the connection open.
    Banner(Vec<u8>),
    /// Answers with these bytes, then closes.
    Reply(Vec<u8>),
    /// Answers with these bytes, and keeps the connection open.
    Stall(Vec<u8>),
    /// Closes at once.
    Close,
}

impl Behaviour {
    /// Sends bytes that are of no protocol.
    pub(crate) fn garbage() -> Self {
        Self::Raw((0_u8..=255).rev().cycle().take(1024).collect())
    }

    /// Answers 302 to another address.
    pub(crate) fn redirect(location: &str) -> Self {
        Self::Answer(302, vec![("Location".to_owned(), location.to_owned())], String::new())
    }

    /// Answers 429, asking to stay away as `Retry-After` says.
    pub(crate) fn throttle(retry_after: &str) -> Self {
        Self::Answer(429, vec![("Retry-After".to_owned(), retry_after.to_owned())], String::new())
    }
}

/// A running server; stops when dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    secure: bool,
    orders: Option<tokio::sync::mpsc::UnboundedSender<Order>>,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

type Order = (Behaviour, mpsc::Sender<()>);

/// What a server has seen so far.
#[derive(Debug, Default)]
struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    sent: AtomicU64,
    last: Mutex<String>,
}

impl Upstream {
    /// Starts a plain HTTP server on a free port.
    pub(crate) fn start(behaviour: Behaviour) -> Self {
        Self::launch(behaviour, None)
    }

    /// Starts one that speaks TLS; see [`super::tls::Authority`] for certificates.
    pub(crate) fn start_tls(behaviour: Behaviour, tls: Arc<ServerConfig>) -> Self {
        Self::launch(behaviour, Some(TlsAcceptor::from(tls)))
    }

    fn launch(behaviour: Behaviour, tls: Option<TlsAcceptor>) -> Self {
        let seen = Arc::new(Seen::default());
        let secure = tls.is_some();
        let (orders, inbox) = tokio::sync::mpsc::unbounded_channel();
        let (ready, started) = mpsc::channel();
        let server = Server { tls, seen: Arc::clone(&seen), place: None };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(server.run(behaviour, inbox, ready));
        });
        let address = started.recv().expect("the server starts");
        Self { address, secure, orders: Some(orders), seen, thread: Some(thread) }
    }

    /// Changes what it does; in force for every request that comes after this returned.
    pub(crate) fn set(&self, behaviour: Behaviour) {
        let (done, wait) = mpsc::channel();
        let orders = self.orders.as_ref().expect("the server runs");
        orders.send((behaviour, done)).expect("the server takes orders");
        wait.recv().expect("the server carries out orders");
    }

    /// Where it listens, or did before it was told to refuse.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port.
    pub(crate) const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its address as a URL without path; `localhost` is the name in it when it speaks TLS.
    pub(crate) fn url(&self) -> String {
        if self.secure {
            format!("https://localhost:{}", self.port())
        } else {
            format!("http://{}", self.address)
        }
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// How many requests were read, up to the end of their headers.
    pub(crate) fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// How many bytes the kernel took from it, over all connections.
    pub(crate) fn bytes_sent(&self) -> u64 {
        self.seen.sent.load(Ordering::SeqCst)
    }

    /// The last request as it came: head and body.
    pub(crate) fn last_request(&self) -> String {
        self.seen.last.lock().expect("no panic while noting").clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The server's own side.
struct Server {
    tls: Option<TlsAcceptor>,
    seen: Arc<Seen>,
    /// Bound to the port and never listening: keeps the port ours while we refuse.
    place: Option<TcpSocket>,
}

impl Server {
    async fn run(
        mut self,
        behaviour: Behaviour,
        mut inbox: tokio::sync::mpsc::UnboundedReceiver<Order>,
        ready: mpsc::Sender<SocketAddr>,
    ) {
        let place = bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let address = place.local_addr().expect("the port");
        self.place = Some(place);
        let mut listener = listen(address, &behaviour);
        let (publish, current) = watch::channel(behaviour);
        let mut open = JoinSet::new();
        ready.send(address).expect("the test waits");
        loop {
            tokio::select! {
                order = inbox.recv() => {
                    let Some((behaviour, done)) = order else { return };
                    if matches!(behaviour, Behaviour::Refuse) {
                        listener = None;
                        open.shutdown().await;
                    } else if listener.is_none() {
                        listener = listen(address, &behaviour);
                    }
                    publish.send_replace(behaviour);
                    done.send(()).ok();
                }
                Some(stream) = accept(listener.as_ref()) => {
                    self.seen.connections.fetch_add(1, Ordering::SeqCst);
                    let (tls, seen) = (self.tls.clone(), Arc::clone(&self.seen));
                    open.spawn(serve(stream, tls, seen, current.clone()));
                }
                Some(_) = open.join_next() => {}
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(address: SocketAddr, behaviour: &Behaviour) -> Option<TcpListener> {
    if matches!(behaviour, Behaviour::Refuse) {
        return None;
    }
    let socket = bind(address).expect("the port is ours");
    Some(socket.listen(1024).expect("the port is ours"))
}

async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// One connection; errors end it, as the peer may leave whenever it likes.
async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    seen: Arc<Seen>,
    current: watch::Receiver<Behaviour>,
) {
    let stream = match tls {
        None => Stream::Plain(stream),
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => Stream::Secure(Box::new(stream)),
            Err(_) => return,
        },
    };
    drop(Talk { stream, seen, current, unread: Vec::new() }.run().await);
}

enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Stream {
    fn io(&mut self) -> &mut dyn Duplex {
        match self {
            Self::Plain(stream) => stream,
            Self::Secure(stream) => stream.as_mut(),
        }
    }

    /// Makes the close to come a reset.
    fn cut(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.set_zero_linger(),
            Self::Secure(stream) => stream.get_ref().0.set_zero_linger(),
        }
    }
}

struct Talk {
    stream: Stream,
    seen: Arc<Seen>,
    current: watch::Receiver<Behaviour>,
    unread: Vec<u8>,
}

impl Talk {
    async fn run(mut self) -> io::Result<()> {
        let unasked = self.current.borrow().clone();
        if let Behaviour::Raw(bytes) = &unasked {
            self.send(bytes).await?;
            return self.leave().await;
        }
        if let Behaviour::Banner(bytes) = &unasked {
            self.send(bytes).await?;
            return self.discard().await;
        }
        if matches!(unasked, Behaviour::Close) {
            return Ok(());
        }
        while self.read_request().await? {
            let behaviour = self.current.borrow().clone();
            if !self.answer(behaviour).await? || self.asked_to_close() {
                break;
            }
        }
        self.leave().await
    }

    /// Closes in good order: unread bytes would turn the close into a reset.
    async fn leave(&mut self) -> io::Result<()> {
        self.stream.io().shutdown().await?;
        self.discard().await
    }

    fn asked_to_close(&self) -> bool {
        let last = self.seen.last.lock().expect("no panic while noting");
        header(&last, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Whether the connection may carry another request.
    async fn answer(&mut self, behaviour: Behaviour) -> io::Result<bool> {
        match behaviour {
            Behaviour::Healthy => self.json("{\"status\":\"ok\"}").await?,
            Behaviour::Json(body) => self.json(&body).await?,
            Behaviour::Status(status) => self.full(status, &[], "").await?,
            Behaviour::Answer(status, headers, body) => self.full(status, &headers, &body).await?,
            Behaviour::Slow(delay) => {
                tokio::time::sleep(delay).await;
                self.json("{\"status\":\"ok\"}").await?;
            }
            Behaviour::Drip(every) => return self.drip(every).await,
            Behaviour::Flood => {
                self.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
                let chunk = [b"1000\r\n".as_slice(), &[b'x'; 0x1000], b"\r\n"].concat();
                return self.repeat(&chunk, u64::MAX).await;
            }
            Behaviour::Huge(length) => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                self.send(head.as_bytes()).await?;
                return self.repeat(&[b'x'; 0x1000], length.div_ceil(0x1000)).await;
            }
            Behaviour::HeaderFlood => {
                self.send(b"HTTP/1.1 200 OK\r\n").await?;
                return self.repeat(b"X-Filler: aaaaaaaaaaaaaaaaaaaaaaaa\r\n", u64::MAX).await;
            }
            Behaviour::InterimFlood => {
                return self.repeat(b"HTTP/1.1 100 Continue\r\n\r\n", u64::MAX).await;
            }
            Behaviour::Truncate => {
                self.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await?;
                return Ok(false);
            }
            Behaviour::Reset => {
                self.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await?;
                self.stream.cut()?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Behaviour::Reply(bytes) => {
                self.send(&bytes).await?;
                return Ok(false);
            }
            Behaviour::Stall(bytes) => {
                self.send(&bytes).await?;
                self.discard().await?;
                return Ok(false);
            }
            Behaviour::Refuse | Behaviour::Hang => {
                self.discard().await?;
                return Ok(false);
            }
            Behaviour::Raw(_) | Behaviour::Banner(_) | Behaviour::Close => return Ok(false),
        }
        Ok(true)
    }

    async fn drip(&mut self, every: Duration) -> io::Result<bool> {
        self.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await?;
        loop {
            self.send(b"x").await?;
            tokio::time::sleep(every).await;
        }
    }

    async fn repeat(&mut self, bytes: &[u8], times: u64) -> io::Result<bool> {
        for _ in 0..times {
            self.send(bytes).await?;
        }
        Ok(false)
    }

    async fn json(&mut self, body: &str) -> io::Result<()> {
        let kind = ("Content-Type".to_owned(), "application/json".to_owned());
        self.full(200, &[kind], body).await
    }

    async fn full(
        &mut self,
        status: u16,
        headers: &[(String, String)],
        body: &str,
    ) -> io::Result<()> {
        let mut text = format!("HTTP/1.1 {status} Answer\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.extend(["\r\n", body]);
        self.send(text.as_bytes()).await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let io = self.stream.io();
        io.write_all(bytes).await?;
        io.flush().await?;
        let count = u64::try_from(bytes.len()).expect("a length fits");
        self.seen.sent.fetch_add(count, Ordering::SeqCst);
        Ok(())
    }

    /// Reads until the peer leaves.
    async fn discard(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1024];
        while self.stream.io().read(&mut buffer).await? > 0 {}
        Ok(())
    }

    /// Whether there was another request before the peer left.
    async fn read_request(&mut self) -> io::Result<bool> {
        let mut text = std::mem::take(&mut self.unread);
        let head = loop {
            if let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if self.stream.io().read_buf(&mut text).await? == 0 {
                return Ok(false);
            }
        };
        let whole = head + content_length(&String::from_utf8_lossy(&text[..head]));
        while text.len() < whole {
            if self.stream.io().read_buf(&mut text).await? == 0 {
                return Ok(false);
            }
        }
        self.unread = text.split_off(whole);
        *self.seen.last.lock().expect("no panic while noting") =
            String::from_utf8_lossy(&text).into_owned();
        self.seen.requests.fetch_add(1, Ordering::SeqCst);
        Ok(true)
    }
}

fn content_length(head: &str) -> usize {
    header(head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
        .map(|(_, value)| value.trim())
}

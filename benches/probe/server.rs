//! Servers that answer at once, each on a thread of its own that ends with the process, and the
//! bytes that went over all of their connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};

use hyper::Response;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::Failure;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}";
/// Stands for the number of a JSON-RPC request in a canned answer.
const ID: &str = "{request}";

/// Bytes that servers got, and that they sent.
static GOT: AtomicU64 = AtomicU64::new(0);
static SENT: AtomicU64 = AtomicU64::new(0);

/// What clients have sent and got so far.
pub(super) fn traffic() -> (u64, u64) {
    (GOT.load(Ordering::Relaxed), SENT.load(Ordering::Relaxed))
}

fn count(total: &AtomicU64, bytes: usize) {
    total.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
}

/// A connection whose bytes are counted.
struct Counted<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.0).poll_read(cx, buf);
        count(&GOT, buf.filled().len() - before);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.0).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = polled {
            count(&SENT, bytes);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Starts a server that treats each connection so.
fn listen<F, E>(
    treat: impl Fn(Counted<TcpStream>) -> F + Send + 'static,
) -> Result<SocketAddr, Failure>
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Send + 'static,
{
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            tell.send(listener.local_addr()?).ok();
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(treat(Counted(stream)));
            }
        })
    });
    Ok(told.recv()?)
}

/// Starts a server that gives these answers, one a request, to each connection anew.
pub(super) fn canned(answers: &[Vec<u8>]) -> Result<SocketAddr, Failure> {
    let answers: Arc<[Vec<u8>]> = answers.into();
    listen(move |stream| {
        let answers = Arc::clone(&answers);
        async move { repeat(stream, &answers).await }
    })
}

async fn repeat(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answers: &[Vec<u8>],
) -> io::Result<()> {
    let (mut request, mut left) = (vec![0; 4096], answers.iter());
    loop {
        let length = stream.read(&mut request).await?;
        if length == 0 {
            return Ok(());
        }
        let Some(answer) = left.next() else { continue };
        let asked = String::from_utf8_lossy(request.get(..length).unwrap_or_default());
        let id = asked.split_once("\"id\":").map_or("", |(_, rest)| rest);
        let id: String = id.chars().take_while(char::is_ascii_digit).collect();
        match std::str::from_utf8(answer) {
            Ok(text) => {
                let text = text.replace(ID, &format!("{id:>width$}", width = ID.len()));
                stream.write_all(text.as_bytes()).await?;
            }
            Err(_) => stream.write_all(answer).await?,
        }
    }
}

/// Starts a DNS server that knows one address for every name.
pub(super) fn canned_datagrams() -> Result<SocketAddr, Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    std::thread::spawn(move || -> io::Result<()> {
        let mut question = [0; 512];
        loop {
            let (length, peer) = socket.recv_from(&mut question)?;
            count(&GOT, length);
            let asked = question.get(..length).unwrap_or_default();
            // The header, and the question up to its class; what follows is not repeated.
            let name = asked.iter().skip(12).position(|&byte| byte == 0).unwrap_or(0);
            let mut answer = asked.get(..12 + name + 5).unwrap_or_default().to_vec();
            let flags = [0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
            answer.splice(2..12, flags);
            answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
            count(&SENT, socket.send_to(&answer, peer)?);
        }
    });
    Ok(address)
}

/// Starts a server that answers every request the same.
pub(super) fn serve(tls: Option<TlsAcceptor>) -> Result<SocketAddr, Failure> {
    listen(move |stream| {
        let tls = tls.clone();
        async move {
            match tls {
                None => answer(stream).await,
                Some(tls) => answer(tls.accept(stream).await?).await,
            }
        }
    })
}

/// Starts a server on a local socket.
pub(super) fn serve_local(path: &Path) -> Result<(), Failure> {
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    std::thread::spawn(move || -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = UnixListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(answer(Counted(stream)));
            }
        })
    });
    Ok(())
}

/// Starts a server of HTTP/2, which is healthy by gRPC too.
pub(super) fn serve_http2() -> Result<SocketAddr, Failure> {
    listen(answer_http2)
}

async fn answer_http2(stream: Counted<TcpStream>) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    let mut watched = Vec::new();
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request?;
        let path = request.uri().path().to_owned();
        let health = path.starts_with("/grpc");
        let mut head = Response::new(());
        if health {
            head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        }
        let mut body = respond.send_response(head, false)?;
        if !health {
            body.send_data(Bytes::from_static(b"{\"status\":\"ok\"}"), true)?;
            continue;
        }
        body.send_data(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]), false)?;
        if path.ends_with("Watch") {
            watched.push(body);
        } else {
            let status = ("grpc-status".parse().ok(), HeaderValue::from_static("0"));
            let end = status.0.map(|name| (name, status.1));
            body.send_trailers(end.into_iter().collect())?;
        }
    }
    Ok(())
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut request = [0; 1024];
    while stream.read(&mut request).await? > 0 {
        stream.write_all(ANSWER).await?;
    }
    Ok(())
}

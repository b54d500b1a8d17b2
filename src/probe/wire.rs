//! A connection that speaks first, counts what is read and stops at a limit.
//!
//! Nothing is read before the request is on its way: whether a server that talks unasked was
//! faster than us would else decide how its bytes are taken.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

/// Bytes read from one connection at most: a full body, a full head and the framing of both.
/// Nothing else bounds how many interim answers a server sends, or how finely it chops a body.
pub(super) const READ_MAX: usize = 128 * 1024;

/// What was read so far; stays readable while the connection is owned elsewhere.
#[derive(Debug, Default)]
pub(super) struct Meter {
    read: AtomicUsize,
    first: OnceLock<Instant>,
}

impl Meter {
    /// When the first byte came.
    pub(super) fn first_byte(&self) -> Option<Instant> {
        self.first.get().copied()
    }

    /// Whether the limit was reached.
    pub(super) fn exhausted(&self) -> bool {
        self.read.load(Ordering::Relaxed) >= READ_MAX
    }

    fn note(&self, count: usize) {
        if count > 0 {
            self.first.get_or_init(Instant::now);
            self.read.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// A connection, secure or not.
pub(super) struct Wire {
    stream: Stream,
    meter: Arc<Meter>,
    spoke: bool,
    reader: Option<Waker>,
}

enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

impl Wire {
    pub(super) fn plain(stream: TcpStream, meter: Arc<Meter>) -> Self {
        Self::new(Stream::Plain(stream), meter)
    }

    pub(super) fn secure(stream: TlsStream<TcpStream>, meter: Arc<Meter>) -> Self {
        Self::new(Stream::Secure(Box::new(stream)), meter)
    }

    const fn new(stream: Stream, meter: Arc<Meter>) -> Self {
        Self { stream, meter, spoke: false, reader: None }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.spoke {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if this.meter.exhausted() {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        let before = buf.filled().len();
        let read = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Secure(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        ready!(read)?;
        this.meter.note(buf.filled().len().saturating_sub(before));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Secure(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        if written.is_ready() {
            this.spoke = true;
            if let Some(reader) = this.reader.take() {
                reader.wake();
            }
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

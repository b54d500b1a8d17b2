//! A connection that speaks first, counts what is read and stops at a limit.
//!
//! Nothing is read before the request is on its way: whether a server that talks unasked was
//! faster than us would else decide how its bytes are taken.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What was read so far; stays readable while the connection is owned elsewhere.
///
/// Until [`Meter::allow`] is called nothing may be read.
#[derive(Debug, Default)]
pub(super) struct Meter {
    read: AtomicUsize,
    limit: AtomicUsize,
    first: Mutex<Option<Instant>>,
}

impl Meter {
    /// When the first byte since the last [`Meter::allow`] came.
    pub(super) fn first_byte(&self) -> Option<Instant> {
        *self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the limit was reached.
    pub(super) fn exhausted(&self) -> bool {
        self.read.load(Ordering::Relaxed) >= self.limit.load(Ordering::Relaxed)
    }

    /// A new answer begins, of this many bytes at most.
    pub(super) fn allow(&self, limit: usize) {
        self.read.store(0, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
        *self.first.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn note(&self, count: usize) {
        if count > 0 {
            let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(Instant::now);
            self.read.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// What a connection is made of: TCP or a local socket, secure or not.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A metered connection.
pub(super) struct Wire {
    stream: Box<dyn Io>,
    meter: Arc<Meter>,
    spoke: bool,
    reader: Option<Waker>,
}

impl Wire {
    pub(super) const fn new(stream: Box<dyn Io>, meter: Arc<Meter>) -> Self {
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
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
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
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        if written.is_ready() {
            this.spoke = true;
            if let Some(reader) = this.reader.take() {
                reader.wake();
            }
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const READ_MAX: usize = 128 * 1024;

    /// A wire to a peer that has said this already.
    async fn wire_with(unasked: &[u8]) -> (Wire, Arc<Meter>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        peer.write_all(unasked).await.unwrap();
        stream.readable().await.unwrap();
        let meter = Arc::new(Meter::default());
        meter.allow(READ_MAX);
        (Wire::new(Box::new(stream), Arc::clone(&meter)), meter, peer)
    }

    #[tokio::test]
    async fn nothing_is_read_before_something_is_said() {
        let (mut wire, meter, _peer) = wire_with(b"unasked").await;
        let mut buffer = [0; 16];
        tokio::select! {
            biased;
            read = wire.read(&mut buffer) => panic!("read {read:?} before speaking"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(meter.first_byte(), None);
        wire.write_all(b"hello").await.unwrap();
        assert_eq!(wire.read(&mut buffer).await.unwrap(), 7);
        assert!(meter.first_byte().is_some());
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_by_the_first_word() {
        let (wire, _meter, _peer) = wire_with(b"unasked").await;
        let (mut reader, mut writer) = tokio::io::split(wire);
        let reading = tokio::spawn(async move { reader.read(&mut [0; 16]).await });
        tokio::task::yield_now().await;
        writer.write_all(b"hello").await.unwrap();
        assert_eq!(reading.await.unwrap().unwrap(), 7);
    }

    #[tokio::test]
    async fn reading_stops_at_the_limit() {
        let (mut wire, meter, mut peer) = wire_with(b"x").await;
        wire.write_all(b"hello").await.unwrap();
        let flood = tokio::spawn(async move { while peer.write_all(&[0; 4096]).await.is_ok() {} });
        let mut buffer = vec![0; 4096];
        let mut total = 0;
        while let Ok(count) = wire.read(&mut buffer).await {
            total += count;
        }
        assert!(meter.exhausted());
        assert!((READ_MAX..READ_MAX + buffer.len()).contains(&total), "{total} bytes");
        drop(wire);
        flood.await.unwrap();
    }
}

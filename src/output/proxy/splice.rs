//! Bytes both ways between two connections, counted as they pass.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::output::proxy::tally::Tally;

/// Bytes under way in each direction of one connection.
const BUFFER: usize = 32 * 1024;

/// Passes bytes on until both sides have ended; one that has ended may go on listening.
pub(super) async fn splice<A, B>(
    near: &mut A,
    far: &mut B,
    flow: &Flow,
    tally: Option<&Tally>,
) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    pass(&mut Metered { inner: near, flow, tally }, far).await
}

/// The same, on a connection whose first bytes were passed on by other means.
pub(super) async fn pass<A, B>(near: &mut Metered<'_, A>, far: &mut B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    copy_bidirectional_with_sizes(near, far, BUFFER, BUFFER).await.map(|_passed| ())
}

/// What passes through one connection.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Rises with every byte, either way.
    moves: AtomicU64,
    pub(super) asked: Once,
    pub(super) answered: Once,
}

/// Something that happens once, and can be waited for.
#[derive(Debug, Default)]
pub(super) struct Once {
    done: AtomicBool,
    told: Notify,
}

impl Once {
    /// Waits for it; one waiter at a time.
    pub(super) async fn happened(&self) {
        self.told.notified().await;
    }

    fn happen(&self) {
        if !self.done.swap(true, Ordering::Relaxed) {
            self.told.notify_one();
        }
    }
}

impl Flow {
    /// Returns when nothing has passed for at least this long.
    pub(super) async fn silence(&self, idle: Duration) {
        let mut last = u64::MAX;
        loop {
            let moves = self.moves.load(Ordering::Relaxed);
            if moves == last {
                return;
            }
            last = moves;
            sleep(idle).await;
        }
    }
}

/// The caller's side, counting what passes.
#[derive(Debug)]
pub(super) struct Metered<'a, S> {
    pub(super) inner: &'a mut S,
    pub(super) flow: &'a Flow,
    pub(super) tally: Option<&'a Tally>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<'_, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut *this.inner).poll_read(cx, buf))?;
        let bytes = buf.filled().len() - before;
        if bytes > 0 {
            this.flow.asked.happen();
            add(&this.flow.moves, bytes);
            this.tally.iter().for_each(|tally| add(&tally.sent, bytes));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<'_, S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut *this.inner).poll_write(cx, buf))?;
        this.flow.answered.happen();
        add(&this.flow.moves, written);
        this.tally.iter().for_each(|tally| add(&tally.received, written));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().inner).poll_shutdown(cx)
    }
}

fn add(count: &AtomicU64, bytes: usize) {
    count.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
}

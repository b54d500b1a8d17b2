//! Lines in and out of a stream.
//!
//! Writing never makes anybody wait: lines queue up, and whoever produces them looks at how much
//! has queued up before it takes in more.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::output::child::session::Framer;

/// Queued bytes from which on nothing more is taken in that could add to them.
const QUEUE_FULL: usize = 4 * 1024 * 1024;
/// Lines written at a time.
const AT_ONCE: usize = 64;
/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

/// What was read.
#[derive(Debug)]
pub(super) enum Read {
    /// Whole lines.
    Lines(Vec<Bytes>),
    /// A line longer than any message may be; it is left out.
    TooLong,
}

/// Where lines go out.
#[derive(Debug)]
pub(super) struct Outlet {
    lines: mpsc::UnboundedSender<Bytes>,
    queued: Arc<AtomicUsize>,
}

impl Outlet {
    /// Writes to `writer` until dropped, and then what is queued; `drained` is told whenever
    /// something was written. The task ends early when the other side reads no more.
    pub(super) fn open<W: AsyncWrite + Send + Unpin + 'static>(
        writer: W,
        drained: Arc<Notify>,
    ) -> (Self, JoinHandle<io::Result<()>>) {
        let (lines, queue) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(pour(writer, queue, Arc::clone(&queued), drained));
        (Self { lines, queued }, task)
    }

    /// Queues a line.
    pub(super) fn send(&self, line: Bytes) {
        let size = line.len();
        if self.lines.send(line).is_ok() {
            self.queued.fetch_add(size, Ordering::Relaxed);
        }
    }

    /// Whether so much has queued up that nothing may be added for now.
    pub(super) fn is_full(&self) -> bool {
        !self.lines.is_closed() && self.queued.load(Ordering::Relaxed) >= QUEUE_FULL
    }
}

async fn pour<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: mpsc::UnboundedReceiver<Bytes>,
    queued: Arc<AtomicUsize>,
    drained: Arc<Notify>,
) -> io::Result<()> {
    let mut lines = Vec::new();
    let mut buffer = BytesMut::new();
    while queue.recv_many(&mut lines, AT_ONCE).await > 0 {
        let mut size = 0;
        for line in lines.drain(..) {
            size += line.len();
            buffer.extend_from_slice(&line);
            buffer.extend_from_slice(b"\n");
        }
        writer.write_all(&buffer).await?;
        writer.flush().await?;
        // A long message is no reason to keep its room for ever.
        buffer = BytesMut::new();
        queued.fetch_sub(size, Ordering::Relaxed);
        drained.notify_one();
    }
    Ok(())
}

/// Reads lines until the end, or until nobody wants them.
pub(super) async fn pump<R: AsyncRead + Unpin, T>(
    mut reader: R,
    longest: usize,
    sender: mpsc::Sender<T>,
    wrap: impl Fn(Read) -> T,
) {
    let mut framer = Framer::new(longest);
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = match reader.read(&mut chunk).await {
            Ok(read) if read > 0 => chunk.get(..read).unwrap_or_default(),
            Ok(_) | Err(_) => return,
        };
        framer.push(read);
        loop {
            let (lines, more) = whole_lines(&mut framer);
            if !lines.is_empty() && sender.send(wrap(Read::Lines(lines))).await.is_err() {
                return;
            }
            if !more {
                break;
            }
            if sender.send(wrap(Read::TooLong)).await.is_err() {
                return;
            }
        }
    }
}

/// The lines up to one that is too long, and whether there is such a one.
fn whole_lines(framer: &mut Framer) -> (Vec<Bytes>, bool) {
    let mut lines = Vec::new();
    loop {
        match framer.next_line() {
            Ok(Some(line)) => lines.push(line),
            Ok(None) => return (lines, false),
            Err(_) => return (lines, true),
        }
    }
}

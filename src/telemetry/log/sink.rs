//! Takes finished lines and writes them elsewhere, so that writing never holds up the sidecar.

use std::io::Write;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::telemetry::metric;

/// Enough for every transition of a thousand endpoints at once.
const LINES_MAX: usize = 8192;
/// How long the end of the process waits for a reader who stands still.
const FLUSH_MAX: Duration = Duration::from_secs(1);

enum Work {
    Line(Vec<u8>),
    Flush(mpsc::Sender<()>),
}

/// Hands out a writer for each line.
pub(super) struct Sink {
    lines: SyncSender<Work>,
}

/// Writes out what is still queued when dropped, waiting a second at most.
#[derive(Debug)]
#[must_use = "lines still queued are lost without it"]
pub struct LogGuard {
    lines: SyncSender<Work>,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Work")
    }
}

impl LogGuard {
    pub(super) fn flusher(&self) -> impl Fn() + Send + Sync + 'static {
        let lines = self.lines.clone();
        move || flush(&lines)
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        flush(&self.lines);
    }
}

fn flush(lines: &SyncSender<Work>) {
    let (done, written) = mpsc::channel();
    if lines.try_send(Work::Flush(done)).is_ok() {
        written.recv_timeout(FLUSH_MAX).ok();
    }
}

pub(super) fn spawn(mut out: impl Write + Send + 'static) -> (Sink, LogGuard) {
    let (lines, work) = mpsc::sync_channel(LINES_MAX);
    let guard = LogGuard { lines: lines.clone() };
    // A log that cannot be written is no reason to stop: there is nobody left to tell.
    let writer = move || {
        for item in work {
            match item {
                Work::Line(line) => out.write_all(&line).unwrap_or_default(),
                Work::Flush(done) => {
                    out.flush().unwrap_or_default();
                    done.send(()).unwrap_or_default();
                }
            }
        }
    };
    thread::Builder::new().name(String::from("log")).spawn(writer).ok();
    (Sink { lines }, guard)
}

/// Collects one line and queues it when the line is complete.
#[derive(Debug)]
pub(super) struct Line {
    text: Vec<u8>,
    lines: SyncSender<Work>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.text);
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Work::Line(line)) {
            metric::events_dropped("log", 1);
        }
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Line;

    fn make_writer(&'a self) -> Self::Writer {
        Line { text: Vec::new(), lines: self.lines.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log file that nobody reads: each write blocks until the test lets go.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.recv().ok();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_who_stands_still_delays_nobody() {
        let (let_go, gate) = mpsc::channel();
        let (sink, guard) = spawn(Stuck(gate));
        for _ in 0..2 * LINES_MAX {
            sink.make_writer().write_all(b"line\n").expect("a line is only queued");
        }
        drop(let_go);
        drop(guard);
    }

    #[test]
    fn what_is_queued_is_written_before_the_end() {
        let (seen, lines) = mpsc::channel();
        let (sink, guard) = spawn(Tap(seen));
        sink.make_writer().write_all(b"last words\n").expect("a line is only queued");
        drop(guard);
        assert_eq!(lines.try_recv().expect("written"), b"last words\n");
    }

    struct Tap(mpsc::Sender<Vec<u8>>);

    impl Write for Tap {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(bytes.to_vec()).ok();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}

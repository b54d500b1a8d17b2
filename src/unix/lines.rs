//! Lines of bounded length.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// What stood on a line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Line {
    /// Its bytes, line break included where there was one.
    Text(Vec<u8>),
    /// More than was allowed.
    TooLong,
    /// The stream has ended.
    End,
}

/// Reads lines from a stream. One that waits holds little more than what it was sent.
#[derive(Debug)]
pub struct LineReader<R> {
    reader: R,
    most: usize,
    read: Vec<u8>,
    /// Bytes at the start of `read` that hold no line break.
    searched: usize,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// Reads lines of at most `most` bytes, line breaks not counted.
    pub const fn new(reader: R, most: usize) -> Self {
        Self { reader, most, read: Vec::new(), searched: 0 }
    }

    /// Reads up to the next line break, or to the end of the stream, but not much more than is
    /// allowed. Nothing is lost when the future is dropped before it is ready.
    ///
    /// # Errors
    /// When the stream fails.
    pub async fn next(&mut self) -> io::Result<Line> {
        loop {
            let new = self.read.get(self.searched..).unwrap_or_default();
            if let Some(at) = new.iter().position(|byte| *byte == b'\n') {
                let end = self.searched + at + 1;
                let rest = self.read.split_off(end);
                let line = std::mem::replace(&mut self.read, rest);
                self.searched = 0;
                let long = line.len() > self.most + 1;
                return Ok(if long { Line::TooLong } else { Line::Text(line) });
            }
            self.searched = self.read.len();
            if self.searched > self.most {
                return Ok(Line::TooLong);
            }
            if self.reader.read_buf(&mut self.read).await? == 0 {
                self.searched = 0;
                let last = std::mem::take(&mut self.read);
                return Ok(if last.is_empty() { Line::End } else { Line::Text(last) });
            }
        }
    }

    /// Waits for the end of the stream and throws away what comes before.
    pub async fn ended(&mut self) {
        loop {
            self.read.clear();
            self.searched = 0;
            if matches!(self.reader.read_buf(&mut self.read).await, Ok(0) | Err(_)) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_line_longer_than_allowed_is_not_kept_to_its_end() {
        let endless = vec![b'x'; 1 << 20];
        let mut lines = LineReader::new(&*endless, 10);
        assert_eq!(lines.next().await.unwrap(), Line::TooLong);
        assert!(lines.read.len() < 1024);
    }

    #[tokio::test]
    async fn the_last_line_may_lack_its_break() {
        let mut lines = LineReader::new(&b"one\ntwo"[..], 10);
        assert_eq!(lines.next().await.unwrap(), Line::Text(b"one\n".to_vec()));
        assert_eq!(lines.next().await.unwrap(), Line::Text(b"two".to_vec()));
        assert_eq!(lines.next().await.unwrap(), Line::End);
    }

    #[tokio::test]
    async fn a_reader_that_is_dropped_while_it_waits_loses_nothing() {
        let (mut near, far) = tokio::io::duplex(64);
        let mut lines = LineReader::new(far, 64);
        near.write_all(b"ha").await.unwrap();
        let polled = pin!(lines.next()).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
        near.write_all(b"lf\n").await.unwrap();
        assert_eq!(lines.next().await.unwrap(), Line::Text(b"half\n".to_vec()));
    }
}

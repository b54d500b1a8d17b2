//! Bytes to lines.
//!
//! Owns the unfinished line, and the bound on it. A line that never ends costs no more than the
//! longest message allowed; what a process leaves unfinished when it ends is never seen.

use bytes::{Bytes, BytesMut};

/// A line that is longer than any message may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooLong;

/// Cuts what is read into lines.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    searched: usize,
    longest: usize,
    skipping: bool,
}

impl Framer {
    /// Lines of at most so many bytes.
    #[must_use]
    pub fn new(longest: usize) -> Self {
        Self { buffer: BytesMut::new(), searched: 0, longest, skipping: false }
    }

    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line without its end; empty lines are nothing.
    ///
    /// # Errors
    /// When a line is too long. It is left out, and the next call goes on behind it.
    pub fn next_line(&mut self) -> Result<Option<Bytes>, TooLong> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            let Some(found) = unsearched.iter().position(|&byte| byte == b'\n') else {
                self.searched = self.buffer.len();
                return self.without_end();
            };
            let mut line = self.buffer.split_to(self.searched + found + 1);
            self.searched = 0;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if line.len() > self.longest {
                return Err(TooLong);
            }
            while matches!(line.last(), Some(b'\n' | b'\r')) {
                line.truncate(line.len() - 1);
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line.freeze()));
            }
        }
    }

    fn without_end(&mut self) -> Result<Option<Bytes>, TooLong> {
        if self.buffer.len() <= self.longest && !self.skipping {
            return Ok(None);
        }
        self.buffer = BytesMut::new();
        self.searched = 0;
        if std::mem::replace(&mut self.skipping, true) { Ok(None) } else { Err(TooLong) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_too_long_is_told_once_and_left_out() {
        let mut framer = Framer::new(8);
        framer.push(b"12345678901");
        assert_eq!(framer.next_line(), Err(TooLong));
        framer.push(b"2345678901234567890");
        assert_eq!(framer.next_line(), Ok(None));
        framer.push(b"\nok\n");
        assert_eq!(framer.next_line(), Ok(Some(Bytes::from_static(b"ok"))));
        assert_eq!(framer.next_line(), Ok(None));
        framer.push(b"123456789012\r\nfine\r\n\r\n");
        assert_eq!(framer.next_line(), Err(TooLong));
        assert_eq!(framer.next_line(), Ok(Some(Bytes::from_static(b"fine"))));
        assert_eq!(framer.next_line(), Ok(None));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut framer = Framer::new(1024);
        for _ in 0..1000 {
            framer.push(&[b'x'; 512]);
            drop(framer.next_line());
            assert!(framer.buffer.len() <= 1024 + 512);
        }
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_are_cut(
            lines in proptest::collection::vec("[a-z]{1,9}", 0..8),
            cuts in proptest::collection::vec(1usize..7, 1..32),
        ) {
            let whole = lines.join("\n") + "\n";
            let mut text: &[u8] = if lines.is_empty() { b"" } else { whole.as_bytes() };
            let mut framer = Framer::new(64);
            let mut seen = Vec::new();
            for cut in cuts.iter().cycle() {
                if text.is_empty() { break }
                let (now, later) = text.split_at((*cut).min(text.len()));
                framer.push(now);
                text = later;
                while let Ok(Some(line)) = framer.next_line() {
                    seen.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            prop_assert_eq!(seen, lines);
        }
    }
}

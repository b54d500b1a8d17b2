//! Chunks: how Bolt frames its messages on a connection.
//!
//! A message is any number of chunks, each a length of two bytes and as many bytes, and ends with
//! a chunk of none. An end without a message before it is a keepalive, and is skipped.

use zeroize::Zeroizing;

/// Bytes of one message. What a probe asks for fits many times.
pub const MESSAGE_MAX: usize = 64 * 1024;

/// A message longer than [`MESSAGE_MAX`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("message is too long")]
pub struct TooLong;

/// Puts chunks together to messages, however the bytes come in pieces.
#[derive(Debug, Default)]
pub struct Assembler {
    message: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Before a length.
    #[default]
    Between,
    /// After the first byte of one.
    Half(u8),
    /// This many bytes of a chunk are to come.
    Within(usize),
}

impl Assembler {
    /// Takes from the front of `input` what belongs to the next message, which is returned once
    /// it is whole; `None` when all of the input was taken first.
    ///
    /// # Errors
    /// When a message is longer than the limit; nothing of it is kept beyond that.
    pub fn take(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, TooLong> {
        while let Some((&byte, rest)) = input.split_first() {
            match self.state {
                State::Between => {
                    self.state = State::Half(byte);
                    *input = rest;
                }
                State::Half(high) => {
                    *input = rest;
                    let length = usize::from(u16::from_be_bytes([high, byte]));
                    self.state = if length == 0 { State::Between } else { State::Within(length) };
                    if length == 0 && !self.message.is_empty() {
                        return Ok(Some(std::mem::take(&mut self.message)));
                    }
                    if self.message.len() + length > MESSAGE_MAX {
                        return Err(TooLong);
                    }
                }
                State::Within(left) => {
                    let (taken, rest) = input.split_at(left.min(input.len()));
                    self.message.extend_from_slice(taken);
                    *input = rest;
                    let left = left - taken.len();
                    self.state = if left == 0 { State::Between } else { State::Within(left) };
                }
            }
        }
        Ok(None)
    }
}

/// Appends a message in chunks, with its end.
pub fn frame(message: &[u8], out: &mut Zeroizing<Vec<u8>>) {
    for chunk in message.chunks(usize::from(u16::MAX)) {
        let length = u16::try_from(chunk.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(chunk);
    }
    out.extend_from_slice(&[0, 0]);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Zeroizing::default();
        for message in messages {
            frame(message, &mut out);
        }
        out.to_vec()
    }

    /// Everything in `bytes`, handed over in pieces of `size`.
    fn assemble(bytes: &[u8], size: usize) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut assembler = Assembler::default();
        let mut messages = Vec::new();
        for mut piece in bytes.chunks(size) {
            while let Some(message) = assembler.take(&mut piece)? {
                messages.push(message);
            }
            assert!(piece.is_empty(), "what makes no message is taken");
        }
        Ok(messages)
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            messages in vec(vec(any::<u8>(), 1..300), 0..6),
            size in 1usize..64,
        ) {
            prop_assert_eq!(assemble(&framed(&messages), size), Ok(messages));
        }

        #[test]
        fn pieces_make_no_difference(bytes in vec(0u8..8, 0..400), size in 1usize..20) {
            prop_assert_eq!(assemble(&bytes, size), assemble(&bytes, bytes.len().max(1)));
        }

        #[test]
        fn no_bytes_make_it_hold_more_than_a_message(bytes in vec(any::<u8>(), 0..4_000)) {
            let mut assembler = Assembler::default();
            let mut rest = bytes.as_slice();
            while let Ok(Some(_)) = assembler.take(&mut rest) {}
            prop_assert!(assembler.message.len() <= MESSAGE_MAX);
        }
    }

    #[test]
    fn keepalives_are_skipped_and_chunks_are_joined() {
        let bytes = b"\0\0\0\0\0\x02ab\0\x01c\0\0\0\0\0\x01d\0\0";
        assert_eq!(assemble(bytes, 3), Ok(vec![b"abc".to_vec(), b"d".to_vec()]));
    }

    #[test]
    fn a_message_ends_at_the_limit() {
        let one = framed(&[vec![1; MESSAGE_MAX]]);
        assert_eq!(assemble(&one, 4_096).unwrap()[0].len(), MESSAGE_MAX);
        let more = framed(&[vec![1; MESSAGE_MAX + 1]]);
        assert_eq!(assemble(&more, 4_096), Err(TooLong));
        let endless = b"\0\x01x".repeat(MESSAGE_MAX + 1);
        assert_eq!(assemble(&endless, 4_096), Err(TooLong));
    }
}

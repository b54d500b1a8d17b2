//! The two messages of `grpc.health.v1`, and the frames they travel in. Pure: no I/O, no clock.
//!
//! Protocol buffers by hand: one string out, one number in. Unknown fields are skipped, as the
//! format wants; whatever breaks it is an error and never a panic.

/// Bytes of one message at most; one number needs two.
const MESSAGE_MAX: u32 = 4 * 1024;
/// A flag and a length stand before each message.
const PREFIX: usize = 5;
/// Bytes of the longest number.
const VARINT_MAX: usize = 10;

/// What a server says of one of its services.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::probe) enum Health {
    /// It does not know.
    Unknown,
    /// It serves.
    Serving,
    /// It does not.
    NotServing,
    /// It has no such service.
    ServiceUnknown,
    /// Something that the protocol does not name.
    Other,
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(in crate::probe) enum Malformed {
    /// A compression that was not offered.
    #[error("message is compressed, though that was not offered")]
    Compressed,
    /// Too long to be a health status.
    #[error("message is too long for a health status")]
    TooLong,
    /// Not a health status.
    #[error("message is not a health status")]
    NotAMessage,
}

/// The request, framed: which service is asked about, the whole server when empty.
pub(in crate::probe) fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        varint(service.len(), &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend_from_slice(&length.to_be_bytes());
    framed.append(&mut message);
    framed
}

fn varint(mut number: usize, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or_default());
}

/// Puts messages together from the pieces of a body.
#[derive(Debug, Default)]
pub(in crate::probe) struct Frames {
    unread: Vec<u8>,
}

impl Frames {
    /// Takes the next piece of the body.
    pub(in crate::probe) fn push(&mut self, piece: &[u8]) {
        self.unread.extend_from_slice(piece);
    }

    /// The next status, when it is complete.
    pub(in crate::probe) fn next(&mut self) -> Result<Option<Health>, Malformed> {
        let Some((&[flag, a, b, c, d], rest)) = self.unread.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        if flag != 0 {
            return Err(if flag == 1 { Malformed::Compressed } else { Malformed::NotAMessage });
        }
        if length > MESSAGE_MAX {
            return Err(Malformed::TooLong);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some((message, _)) = rest.split_at_checked(length) else { return Ok(None) };
        let serving = response(message).ok_or(Malformed::NotAMessage)?;
        self.unread.drain(..PREFIX + length);
        Ok(Some(serving))
    }
}

/// Reads a response; `None` when it is none. Of a field given twice the last counts.
fn response(mut bytes: &[u8]) -> Option<Health> {
    let mut status = 0;
    while !bytes.is_empty() {
        let (tag, rest) = read_varint(bytes)?;
        bytes = match (tag >> 3, tag & 7) {
            (0, _) => return None,
            (1, 0) => {
                let (number, rest) = read_varint(rest)?;
                status = number;
                rest
            }
            (_, 0) => read_varint(rest)?.1,
            (_, 1) => rest.get(8..)?,
            (_, 2) => {
                let (length, rest) = read_varint(rest)?;
                rest.get(usize::try_from(length).ok()?..)?
            }
            (_, 5) => rest.get(4..)?,
            _ => return None,
        };
    }
    Some(match status {
        0 => Health::Unknown,
        1 => Health::Serving,
        2 => Health::NotServing,
        3 => Health::ServiceUnknown,
        _ => Health::Other,
    })
}

fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (index, byte) in bytes.iter().take(VARINT_MAX).enumerate() {
        // What does not fit is dropped, as the format wants.
        number |= u64::from(byte & 0x7f).checked_shl(u32::try_from(index * 7).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((number, bytes.get(index + 1..)?));
        }
    }
    None
}

/// Puts a body of any bytes, cut into any pieces, through the parser.
pub fn fuzz(bytes: &[u8], piece: usize) {
    let mut frames = Frames::default();
    for piece in bytes.chunks(piece.max(1)) {
        frames.push(piece);
        while let Ok(Some(_health)) = frames.next() {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Health>, Malformed> {
        let mut frames = Frames::default();
        frames.push(bytes);
        frames.next()
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap();
        [&[0], &length.to_be_bytes()[..], message].concat()
    }

    #[test]
    fn the_request_is_what_every_client_sends() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = request(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 5 + 3 + 300);
    }

    #[test]
    fn every_status_is_read() {
        let all = [
            (vec![], Health::Unknown),
            (vec![8, 0], Health::Unknown),
            (vec![8, 1], Health::Serving),
            (vec![8, 2], Health::NotServing),
            (vec![8, 3], Health::ServiceUnknown),
            (vec![8, 99], Health::Other),
            (vec![8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Health::Other),
        ];
        for (message, serving) in all {
            assert_eq!(read(&framed(&message)), Ok(Some(serving)), "{message:?}");
        }
    }

    #[test]
    fn unknown_fields_are_skipped_and_the_last_status_counts() {
        let number = [0x10, 0x96, 1];
        let fixed = [0x19, 1, 2, 3, 4, 5, 6, 7, 8];
        let text = [0x22, 2, b'o', b'k'];
        let short = [0x2d, 1, 2, 3, 4];
        let message = [&[8, 2][..], &number, &fixed, &text, &short, &[8, 1]].concat();
        assert_eq!(read(&framed(&message)), Ok(Some(Health::Serving)));
    }

    #[test]
    fn what_breaks_the_format_is_told() {
        assert_eq!(read(&[1, 0, 0, 0, 2, 8, 1]), Err(Malformed::Compressed));
        assert_eq!(read(&[2, 0, 0, 0, 2, 8, 1]), Err(Malformed::NotAMessage));
        assert_eq!(read(&[0, 0, 0, 0x10, 1]), Err(Malformed::TooLong));
        let broken: [&[u8]; 8] = [
            &[8],
            &[8, 0x80],
            &[0, 1],
            &[0x22, 9, 1],
            &[0x19, 1],
            &[0x2d, 1],
            &[0x0b],
            &[8, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1],
        ];
        for message in broken {
            assert_eq!(read(&framed(message)), Err(Malformed::NotAMessage), "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same_messages(
            statuses in proptest::collection::vec(0..4_u8, 0..8),
            size in 1..9_usize,
        ) {
            let bytes: Vec<u8> = statuses.iter().flat_map(|status| framed(&[8, *status])).collect();
            let mut frames = Frames::default();
            let mut found = 0;
            for piece in bytes.chunks(size) {
                frames.push(piece);
                while frames.next().unwrap().is_some() {
                    found += 1;
                }
            }
            prop_assert_eq!(found, statuses.len());
            prop_assert!(frames.unread.is_empty());
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            fuzz(&bytes, 7);
            response(&bytes);
        }
    }
}

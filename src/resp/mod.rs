//! RESP2, the protocol of Redis: for the probe, and for the store's copy of the state.
//!
//! A library would bring a client; what is needed is ten lines of grammar with limits, over bytes
//! that may come from anything that listens on the port. Pure, and public so that it can be fuzzed.

/// Longest line, without its end: all that is not a bulk string.
pub const LINE_MAX: usize = 1024;
/// Longest bulk string that [`read`] takes.
pub const BULK_MAX: usize = 32 * 1024;
/// Values in one reply that [`read`] takes, all levels together; one of a master lists its replicas.
pub const VALUES_MAX: usize = 4096;
/// Arrays within arrays.
const DEPTH_MAX: usize = 8;

/// One reply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply<'a> {
    /// A simple string.
    Text(&'a [u8]),
    /// An error: a code, then words.
    Error(&'a [u8]),
    /// A number.
    Integer(i64),
    /// A string of any bytes; may be absent.
    Bulk(Option<&'a [u8]>),
    /// Several replies; may be absent.
    Array(Option<Vec<Self>>),
}

impl Reply<'_> {
    /// The bytes of a string, simple or bulk.
    #[must_use]
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) | Self::Bulk(Some(text)) => Some(text),
            Self::Error(_) | Self::Integer(_) | Self::Bulk(None) | Self::Array(_) => None,
        }
    }
}

/// How much of a reply is taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Longest bulk string.
    pub bulk: usize,
    /// Values in one reply, all levels together.
    pub values: usize,
}

/// The bytes are not RESP2, or exceed its limits here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotResp;

/// Reads one reply from the start of what has come so far, and how many bytes it took. `None`
/// when it is not complete.
///
/// # Errors
/// When no further bytes could make it a reply.
pub fn read(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>, NotResp> {
    read_within(bytes, Limits { bulk: BULK_MAX, values: VALUES_MAX })
}

/// As [`read`], within other limits.
///
/// # Errors
/// When no further bytes could make it a reply.
pub fn read_within(bytes: &[u8], limits: Limits) -> Result<Option<(Reply<'_>, usize)>, NotResp> {
    let mut reader = Reader { rest: bytes, room: limits.values, bulk: limits.bulk };
    match reader.value(0) {
        Ok(reply) => Ok(Some((reply, bytes.len() - reader.rest.len()))),
        Err(Stop::Short) => Ok(None),
        Err(Stop::Wrong) => Err(NotResp),
    }
}

/// Appends a command: an array of bulk strings.
pub fn command(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        out.extend(format!("${}\r\n", word.len()).bytes());
        out.extend(*word);
        out.extend(b"\r\n");
    }
}

/// Why reading stopped.
enum Stop {
    Short,
    Wrong,
}

struct Reader<'a> {
    rest: &'a [u8],
    room: usize,
    bulk: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Reply<'a>, Stop> {
        self.room = self.room.checked_sub(1).ok_or(Stop::Wrong)?;
        let (kind, rest) = self.rest.split_first().ok_or(Stop::Short)?;
        self.rest = rest;
        match kind {
            b'+' => Ok(Reply::Text(self.line()?)),
            b'-' => Ok(Reply::Error(self.line()?)),
            b':' => Ok(Reply::Integer(self.number()?)),
            b'$' => self.bulk(),
            b'*' if depth < DEPTH_MAX => self.array(depth),
            _ => Err(Stop::Wrong),
        }
    }

    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let end = self.rest.iter().take(LINE_MAX + 2).position(|byte| *byte == b'\n');
        let Some(end) = end else {
            return Err(if self.rest.len() > LINE_MAX + 1 { Stop::Wrong } else { Stop::Short });
        };
        let (line, rest) = self.rest.split_at_checked(end + 1).ok_or(Stop::Short)?;
        self.rest = rest;
        line.strip_suffix(b"\r\n").ok_or(Stop::Wrong)
    }

    fn number(&mut self) -> Result<i64, Stop> {
        let digits = std::str::from_utf8(self.line()?).ok();
        digits.and_then(|digits| digits.parse().ok()).ok_or(Stop::Wrong)
    }

    /// A length; `None` stands for an absent value.
    fn length(&mut self, most: usize) -> Result<Option<usize>, Stop> {
        match self.number()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).ok().filter(|length| *length <= most);
                length.map(Some).ok_or(Stop::Wrong)
            }
        }
    }

    fn bulk(&mut self) -> Result<Reply<'a>, Stop> {
        let Some(length) = self.length(self.bulk)? else { return Ok(Reply::Bulk(None)) };
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Stop::Short)?;
        let (end, rest) = rest.split_at_checked(2).ok_or(Stop::Short)?;
        self.rest = rest;
        if end == b"\r\n" { Ok(Reply::Bulk(Some(text))) } else { Err(Stop::Wrong) }
    }

    fn array(&mut self, depth: usize) -> Result<Reply<'a>, Stop> {
        let Some(length) = self.length(self.room)? else { return Ok(Reply::Array(None)) };
        // Grows as values come: a length alone reserves nothing.
        let mut values = Vec::new();
        for _ in 0..length {
            values.push(self.value(depth + 1)?);
        }
        Ok(Reply::Array(Some(values)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(bytes: &[u8]) -> Reply<'_> {
        let (reply, used) = read(bytes).unwrap().unwrap();
        assert_eq!(used, bytes.len());
        reply
    }

    #[test]
    fn every_kind_of_reply_is_read() {
        assert_eq!(whole(b"+PONG\r\n"), Reply::Text(b"PONG"));
        assert_eq!(whole(b"-ERR no\r\n"), Reply::Error(b"ERR no"));
        assert_eq!(whole(b":-7\r\n"), Reply::Integer(-7));
        assert_eq!(whole(b"$4\r\na\r\nb\r\n"), Reply::Bulk(Some(b"a\r\nb")));
        assert_eq!(whole(b"$0\r\n\r\n"), Reply::Bulk(Some(b"")));
        assert_eq!(whole(b"$-1\r\n"), Reply::Bulk(None));
        assert_eq!(whole(b"*-1\r\n"), Reply::Array(None));
        let nested = vec![Reply::Integer(1), Reply::Array(Some(vec![Reply::Text(b"x")]))];
        assert_eq!(whole(b"*2\r\n:1\r\n*1\r\n+x\r\n"), Reply::Array(Some(nested)));
    }

    #[test]
    fn what_follows_a_reply_is_left() {
        assert_eq!(read(b"+a\r\n+b\r\n"), Ok(Some((Reply::Text(b"a"), 4))));
    }

    #[test]
    fn other_protocols_are_told_by_their_first_bytes() {
        let others: [&[u8]; 5] = [b"HTTP/1.1 400", b"\x15\x03\x01", b"SSH-2.0", b"E\0\0", b"\0"];
        for other in others {
            assert_eq!(read(other), Err(NotResp), "{other:?}");
        }
    }

    #[test]
    fn what_claims_too_much_is_refused_before_it_comes() {
        let wrong: [&[u8]; 8] = [
            b"$99999999\r\n",
            b"$-2\r\n",
            b"*99999\r\n",
            b"*-2\r\n",
            b":twelve\r\n",
            b"+a\n",
            b"$1\r\nabc",
            b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
        ];
        for bytes in wrong {
            assert_eq!(read(bytes), Err(NotResp), "{}", bytes.escape_ascii());
        }
        assert_eq!(read(&[b"+".as_slice(), &[b'x'; LINE_MAX + 2]].concat()), Err(NotResp));
        let longest = [b"+".as_slice(), &[b'x'; LINE_MAX], b"\r\n"].concat();
        assert_eq!(whole(&longest), Reply::Text(&[b'x'; LINE_MAX]));
    }

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = Vec::new();
        command(&[b"AUTH", b"", b"a\r\nb"], &mut out);
        assert_eq!(out, b"*3\r\n$4\r\nAUTH\r\n$0\r\n\r\n$4\r\na\r\nb\r\n");
        let words = [b"AUTH".as_slice(), b"", b"a\r\nb"].map(|word| Reply::Bulk(Some(word)));
        assert_eq!(whole(&out), Reply::Array(Some(words.to_vec())));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_read_past_them(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Some((_, used))) = read(&bytes) {
                prop_assert!(used <= bytes.len());
            }
        }

        #[test]
        fn bytes_that_look_like_it_are_survived_too(text in "([-+:$*]-?[0-9a-zA-Z]{0,6}(\r\n)?){0,40}") {
            let bytes = text.as_bytes();
            if let Ok(Some((_, used))) = read(bytes) {
                prop_assert!(used <= bytes.len());
                // A reply does not depend on what comes after it, and needs all of its bytes.
                let (reply, _) = read(&bytes[..used]).unwrap().unwrap();
                prop_assert_eq!(read(bytes), Ok(Some((reply, used))));
                prop_assert_eq!(read(&bytes[..used - 1]), Ok(None));
            }
        }
    }
}

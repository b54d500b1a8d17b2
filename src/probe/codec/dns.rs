//! DNS messages (RFC 1035): one question out, one answer in.
//!
//! Names may point backwards into the message; a reader follows only pointers that go further back
//! each time, so that none leads round in a circle.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest name, in its form on the wire.
const NAME_MAX: usize = 255;
/// Longest part of a name between two dots.
const LABEL_MAX: usize = 63;
/// Pointers within one name: each leads to at least one more part of it, or to its end.
const POINTERS_MAX: usize = 128;
/// Records of an answer that are looked at.
const RECORDS_MAX: u16 = 256;
/// Bytes before the question.
const HEAD: usize = 12;

const INTERNET: u16 = 1;

/// A question: an identifier, and what the answer has to repeat of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    id: u16,
    /// Name, type and class as on the wire.
    asked: Vec<u8>,
    kind: u16,
}

/// A kind of record by its number.
pub mod kind {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Alias.
    pub const CNAME: u16 = 5;
    /// Text.
    pub const TXT: u16 = 16;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// Service location.
    pub const SRV: u16 = 33;
}

impl Question {
    /// Asks for records of this kind under this name; `None` when it cannot be a name.
    #[must_use]
    pub fn new(id: u16, name: &str, kind: u16) -> Option<Self> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let mut asked = Vec::new();
        for label in name.split('.').filter(|_| !name.is_empty()) {
            let length = u8::try_from(label.len()).ok()?;
            let fits = (1..=LABEL_MAX).contains(&label.len()) && label.is_ascii();
            fits.then(|| asked.push(length))?;
            asked.extend(label.bytes());
        }
        asked.push(0);
        if asked.len() > NAME_MAX {
            return None;
        }
        asked.extend(kind.to_be_bytes());
        asked.extend(INTERNET.to_be_bytes());
        Some(Self { id, asked, kind })
    }

    /// The message: wants recursion, and nothing beyond the first standard.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let mut out = self.id.to_be_bytes().to_vec();
        out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        out.extend(&self.asked);
        out
    }

    /// Reads the answer to this question; `None` when it is the answer to another, or is none.
    ///
    /// # Errors
    /// When it answers this question and is not well formed.
    pub fn read(&self, message: &[u8]) -> Option<Result<Answer, NotDns>> {
        let (head, rest) = message.split_first_chunk::<HEAD>()?;
        let [a, b, flags, code, ..] = *head;
        let asked_this = u16::from_be_bytes([a, b]) == self.id && flags & 0xf8 == 0x80;
        let code = code & 0x0f;
        let count =
            |place: usize| head.get(place..place + 2)?.try_into().ok().map(u16::from_be_bytes);
        let (questions, answers) = (count(4)?, count(6)?);
        // A server that understood nothing may repeat nothing.
        let bare = questions == 0 && code != 0;
        let repeated = rest
            .get(..self.asked.len())
            .is_some_and(|asked| asked.eq_ignore_ascii_case(&self.asked));
        if !asked_this || !(bare || (questions == 1 && repeated)) {
            return None;
        }
        let truncated = flags & 2 != 0;
        let mut answer = Answer { code, truncated, records: Vec::new() };
        if !truncated && code == 0 {
            let start = HEAD + self.asked.len();
            let read = self.records(message, start, answers.min(RECORDS_MAX));
            answer.records = match read {
                Some(records) => records,
                None => return Some(Err(NotDns)),
            };
        }
        Some(Ok(answer))
    }

    /// The records of the kind asked for.
    fn records(&self, message: &[u8], start: usize, count: u16) -> Option<Vec<Record>> {
        let mut records = Vec::new();
        let mut place = start;
        for _ in 0..count {
            let (_, after) = name(message, place)?;
            let (fixed, _) = message.get(after..)?.split_first_chunk::<10>()?;
            let [k1, k2, c1, c2, _, _, _, _, l1, l2] = *fixed;
            let start = after + fixed.len();
            let end = start + usize::from(u16::from_be_bytes([l1, l2]));
            let data = message.get(start..end)?;
            let of_kind = u16::from_be_bytes([k1, k2]) == self.kind;
            if of_kind && u16::from_be_bytes([c1, c2]) == INTERNET {
                records.push(record(self.kind, message, start, data)?);
            }
            place = end;
        }
        Some(records)
    }
}

/// The bytes are not a DNS message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotDns;

/// What a server answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The response code; 0 is success.
    pub code: u8,
    /// There is more than fits, so it must be asked for otherwise.
    pub truncated: bool,
    /// The records of the kind asked for.
    pub records: Vec<Record>,
}

/// A record's content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Record {
    /// IPv4 address.
    A(Ipv4Addr),
    /// IPv6 address.
    Aaaa(Ipv6Addr),
    /// Another name.
    Name(String),
    /// Text, its pieces joined.
    Text(Vec<u8>),
    /// Priority, weight, port and name of a service.
    Service(u16, u16, u16, String),
}

fn record(kind: u16, message: &[u8], start: usize, data: &[u8]) -> Option<Record> {
    match kind {
        kind::A => Some(Record::A(<[u8; 4]>::try_from(data).ok()?.into())),
        kind::AAAA => Some(Record::Aaaa(<[u8; 16]>::try_from(data).ok()?.into())),
        kind::CNAME => named(message, start, data.len()).map(Record::Name),
        kind::SRV => {
            let (fixed, rest) = data.split_first_chunk::<6>()?;
            let [p1, p2, w1, w2, o1, o2] = *fixed;
            let target = named(message, start + fixed.len(), rest.len())?;
            let number = |high, low| u16::from_be_bytes([high, low]);
            Some(Record::Service(number(p1, p2), number(w1, w2), number(o1, o2), target))
        }
        _ => text(data).map(Record::Text),
    }
}

/// A name that fills the data of a record.
fn named(message: &[u8], start: usize, length: usize) -> Option<String> {
    name(message, start).filter(|(_, after)| *after == start + length).map(|(name, _)| name)
}

fn text(mut data: &[u8]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    while let Some((length, rest)) = data.split_first() {
        let (piece, rest) = rest.split_at_checked(usize::from(*length))?;
        all.extend(piece);
        data = rest;
    }
    Some(all)
}

/// The name at this place, in lower case without a dot at its end, and where what follows begins.
fn name(message: &[u8], start: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut place = start;
    let mut after = None;
    let mut back_to = start;
    let mut pointers = 0;
    loop {
        let length = *message.get(place)?;
        match length {
            0 => return Some((name, after.unwrap_or(place + 1))),
            1..=63 => {
                let label = message.get(place + 1..)?.get(..usize::from(length))?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
                place += 1 + usize::from(length);
            }
            192..=255 => {
                let low = *message.get(place + 1)?;
                let target = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                after = after.or(Some(place + 2));
                pointers += 1;
                if target >= back_to || pointers > POINTERS_MAX {
                    return None;
                }
                (place, back_to) = (target, target);
            }
            64..=191 => return None,
        }
        // A letter beyond ASCII takes two bytes here.
        if name.len() > 2 * NAME_MAX {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(kind: u16) -> Question {
        Question::new(0x1234, "www.example.com", kind).unwrap()
    }

    /// An answer to this question with these flags, and records as (name, kind, data).
    fn answer(question: &Question, flags: [u8; 2], records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut out = question.message();
        out[2..4].copy_from_slice(&flags);
        out[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
        for (name, kind, data) in records {
            out.extend(*name);
            out.extend(kind.to_be_bytes());
            out.extend([0, 1, 0, 0, 0, 60]);
            out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            out.extend(*data);
        }
        out
    }

    const OK: [u8; 2] = [0x81, 0x80];
    /// Points at the name of the question.
    const SAME: &[u8] = &[0xc0, 12];

    fn records(question: &Question, message: &[u8]) -> Option<Vec<Record>> {
        question.read(message)?.ok().map(|answer| answer.records)
    }

    #[test]
    fn a_question_is_as_documented() {
        let wanted = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01";
        assert_eq!(question(kind::A).message(), wanted);
        let dotted = Question::new(0x1234, "www.example.com.", kind::A).unwrap();
        assert_eq!(dotted.message(), wanted);
        assert_eq!(Question::new(1, ".", kind::A).unwrap().asked, b"\0\0\x01\0\x01");
    }

    #[test]
    fn what_cannot_be_a_name_is_not_asked() {
        let long = "x".repeat(64);
        let many = "abcdefg.".repeat(32);
        for name in ["a..b", ".a", "b\u{fc}cher.example", &long, &many] {
            assert_eq!(Question::new(1, name, kind::A), None, "{name}");
        }
        assert!(Question::new(1, &"x".repeat(63), kind::A).is_some());
    }

    #[test]
    fn every_kind_of_record_is_read() {
        let cases: [(u16, &[u8], Record); 6] = [
            (kind::A, &[127, 0, 0, 1], Record::A(Ipv4Addr::LOCALHOST)),
            (kind::AAAA, &[0; 16], Record::Aaaa(Ipv6Addr::UNSPECIFIED)),
            (kind::CNAME, b"\x01A\xc0\x10", Record::Name("a.example.com".to_owned())),
            (kind::TXT, b"\x02ab\0\x01c", Record::Text(b"abc".to_vec())),
            (kind::TXT, b"", Record::Text(Vec::new())),
            (kind::SRV, b"\0\x01\0\x02\0\x03\x01a\0", Record::Service(1, 2, 3, "a".to_owned())),
        ];
        for (kind, data, wanted) in cases {
            let question = question(kind);
            let other = (SAME, 99, b"skipped".as_slice());
            let message = answer(&question, OK, &[other, (SAME, kind, data), other]);
            assert_eq!(records(&question, &message), Some(vec![wanted]));
        }
    }

    #[test]
    fn only_the_answer_to_the_question_is_taken() {
        let question = question(kind::A);
        let good = answer(&question, OK, &[]);
        assert_eq!(records(&question, &good), Some(Vec::new()));
        let with = |place: usize, byte: u8| {
            let mut message = good.clone();
            message[place] = byte;
            question.read(&message)
        };
        assert_eq!(with(0, 0), None, "another identifier");
        assert_eq!(with(2, 1), None, "a question");
        assert_eq!(with(2, 0x90), None, "another operation");
        assert_eq!(with(5, 0), None, "no question");
        assert_eq!(with(13, b'x'), None, "another name");
        assert_eq!(with(30, 28), None, "another kind");
        assert!(with(13, b'W').is_some(), "case does not matter");
        assert_eq!(question.read(&good[..20]), None);
        assert_eq!(question.read(b""), None);
    }

    #[test]
    fn codes_and_truncation_are_seen() {
        let question = question(kind::A);
        let read = |flags| question.read(&answer(&question, flags, &[])).unwrap().unwrap();
        assert_eq!(read([0x81, 0x83]).code, 3);
        assert_eq!(read([0x81, 0x05]).code, 5);
        assert!(read([0x83, 0x80]).truncated && !read(OK).truncated);
        let mut bare = answer(&question, [0x80, 1], &[]);
        bare[5] = 0;
        bare.truncate(HEAD);
        assert_eq!(question.read(&bare).unwrap().unwrap().code, 1);
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        let question = question(kind::A);
        let refused = |message: &[u8]| question.read(message) == Some(Err(NotDns));
        assert!(refused(&answer(&question, OK, &[(SAME, kind::A, b"\x7f\0\0")])));
        assert!(refused(&answer(&question, OK, &[(b"\xc0\x21", kind::A, &[1; 4])])), "itself");
        assert!(refused(&answer(&question, OK, &[(b"\xc0\xff", kind::A, &[1; 4])])), "forward");
        assert!(refused(&answer(&question, OK, &[(b"\x80", kind::A, &[1; 4])])));
        let whole = answer(&question, OK, &[(SAME, kind::A, &[1; 4])]);
        for end in question.message().len()..whole.len() {
            assert!(refused(&whole[..end]), "cut at {end}");
        }
        let alias = self::question(kind::CNAME);
        let trailing = answer(&alias, OK, &[(SAME, kind::CNAME, b"\x01a\0x")]);
        assert_eq!(alias.read(&trailing), Some(Err(NotDns)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_spin(
            kind in proptest::sample::select(vec![1_u16, 5, 16, 28, 33]),
            count in 0_u16..400,
            rest in proptest::collection::vec(prop_oneof![Just(0xc0_u8), 0_u8..40, any::<u8>()], 0..400),
        ) {
            let question = question(kind);
            let mut message = answer(&question, OK, &[]);
            message[6..8].copy_from_slice(&count.to_be_bytes());
            message.extend(rest);
            if let Some(Ok(answer)) = question.read(&message) {
                prop_assert!(answer.records.len() <= usize::from(RECORDS_MAX));
            }
            drop(question.read(&message[12..]));
        }
    }
}

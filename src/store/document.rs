//! One self-describing piece of a file: a line that says what follows, then what follows.
//!
//! ```text
//! mcp-failover state 1 revision=12 at=1763900000000 bytes=3120 body=1a2b3c4d crc=5e6f7a8b
//! {"services":…}
//! ```
//! The line keeps this form in every later format, so that an older program can tell a newer file
//! from a damaged one and still read its revision.

use std::collections::BTreeMap;

use crate::core::ordered::Gather as _;
use crate::store::error::StoreError;

const PROGRAM: &str = "mcp-failover";

/// The format that this program writes.
const VERSION: u32 = 1;

/// Longest first line, in bytes.
const HEAD_LIMIT: usize = 1024;

/// The first line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Head {
    version: u32,
    fields: BTreeMap<String, String>,
}

/// What is wrong with a document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Damage {
    /// The first line does not verify.
    Head,
    /// A newer program wrote it.
    Newer(Head),
    /// The first line verifies, but what follows does not.
    Body(Head),
}

impl Head {
    /// A number it carries.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.fields.get(name)?.parse().ok()
    }

    /// A word it carries.
    pub(super) fn word(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

impl Damage {
    /// What still verifies.
    pub(super) const fn head(&self) -> Option<&Head> {
        match self {
            Self::Head => None,
            Self::Newer(head) | Self::Body(head) => Some(head),
        }
    }

    /// In words, after the name of the file.
    pub(super) fn why(&self) -> String {
        match self {
            Self::Head => "is damaged or not ours".to_owned(),
            Self::Newer(head) => {
                format!("has format {}, written by a newer mcp-failover", head.version)
            }
            Self::Body(_) => "is damaged after its first line".to_owned(),
        }
    }

    /// As an error for a reader, if it is no damage at all.
    pub(super) fn newer(&self, path: &std::path::Path) -> Option<StoreError> {
        match self {
            Self::Newer(head) => {
                Some(StoreError::Newer { path: path.to_owned(), version: head.version })
            }
            Self::Head | Self::Body(_) => None,
        }
    }
}

/// The first line of a file that goes on in its own way.
pub(super) fn head_line(kind: &str, fields: &[(&str, String)]) -> String {
    let begin = format!("{PROGRAM} {kind} {VERSION}");
    let line = fields.iter().fold(begin, |line, (name, value)| line + " " + name + "=" + value);
    let crc = crc32fast::hash(line.as_bytes());
    format!("{line} crc={crc:08x}\n")
}

/// A whole document.
pub(super) fn encode(kind: &str, fields: &[(&str, String)], body: &[u8]) -> Vec<u8> {
    let mut fields = fields.to_vec();
    fields.push(("bytes", body.len().to_string()));
    fields.push(("body", format!("{:08x}", crc32fast::hash(body))));
    let mut bytes = head_line(kind, &fields).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Reads a first line. Fails with [`Damage::Head`] or [`Damage::Newer`].
pub(super) fn decode_head(kind: &str, line: &[u8]) -> Result<Head, Damage> {
    let head = parse_head(kind, line).ok_or(Damage::Head)?;
    if VERSION < head.version { Err(Damage::Newer(head)) } else { Ok(head) }
}

/// Reads a document; bytes after its end are ignored.
pub(super) fn decode(kind: &str, bytes: &[u8]) -> Result<(Head, Vec<u8>), Damage> {
    let line = bytes.iter().take(HEAD_LIMIT).position(|byte| *byte == b'\n').ok_or(Damage::Head)?;
    let (line, rest) = bytes.split_at(line + 1);
    let head = decode_head(kind, line)?;
    match body_of(&head, rest) {
        Some(body) => Ok((head, body.to_vec())),
        None => Err(Damage::Body(head)),
    }
}

fn body_of<'a>(head: &Head, rest: &'a [u8]) -> Option<&'a [u8]> {
    let body = rest.get(..usize::try_from(head.number("bytes")?).ok()?)?;
    let crc = u32::from_str_radix(head.word("body")?, 16).ok()?;
    (crc32fast::hash(body) == crc).then_some(body)
}

fn parse_head(kind: &str, line: &[u8]) -> Option<Head> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (line, crc) = line.rsplit_once(" crc=")?;
    if format!("{:08x}", crc32fast::hash(line.as_bytes())) != crc {
        return None;
    }
    let mut words = line.split(' ');
    if words.next()? != PROGRAM || words.next()? != kind {
        return None;
    }
    let version = words.next()?.parse().ok()?;
    let field =
        |word: &str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some(Head { version, fields: words.filter_map(field).gather_map() })
}

//! What a server holds of a sidecar, for a start that has lost its state.

use tokio::time::Instant;

use crate::resp::Reply;
use crate::store::backup::Backup;
use crate::store::redis::client::Client;
use crate::store::redis::entry::{self, Id};
use crate::store::redis::error::RedisError;
use crate::store::redis::keys::Keys;

/// Entries read at a time: each may be a mebibyte.
const PAGE: &str = "32";

/// Entries read at most.
const ENTRIES_MAX: usize = 10_000;

/// Bytes of history read at most: as much as a backup takes.
const HISTORY_BYTES: usize = crate::store::backup::HISTORY_BYTES;

/// What a server holds under our name.
#[derive(Debug, Default)]
pub struct Held {
    /// The greatest revision that anything there speaks of.
    pub revision: Option<u64>,
    /// The state; its history is empty.
    pub backup: Option<Backup>,
    /// Bytes that are no state of ours, and why.
    pub broken: Option<(Vec<u8>, String)>,
}

impl Held {
    /// Reads all but the history.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn read(client: &mut Client, keys: &Keys) -> Result<Self, RedisError> {
        let (about, state) = (keys.about(), keys.state());
        let end = Instant::now() + client.timeout();
        let words: &[&[u8]] = &[b"HMGET", about.as_bytes(), b"revision"];
        let revision = client.ask(words, end, |reply| {
            let Reply::Array(Some(parts)) = reply else { return None };
            Some(parts.first()?.text().and_then(number))
        });
        let revision = revision.await?;
        let end = Instant::now() + client.timeout();
        let words: &[&[u8]] = &[b"GET", state.as_bytes()];
        let bytes = client.ask(words, end, |reply| match reply {
            Reply::Bulk(bytes) => Some(bytes.map(<[u8]>::to_vec)),
            Reply::Text(_) | Reply::Error(_) | Reply::Integer(_) | Reply::Array(_) => None,
        });
        let mut held = Self { revision, ..Self::default() };
        let Some(bytes) = bytes.await? else { return Ok(held) };
        match Backup::decode(&bytes) {
            Ok(backup) => {
                held.revision = held.revision.max(Some(backup.revision().get()));
                held.backup = Some(backup);
            }
            Err(why) => held.broken = Some((bytes, why)),
        }
        Ok(held)
    }

    /// The newest lines of the history, oldest first; entries that do not verify are left out.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn history(client: &mut Client, keys: &Keys) -> Result<Vec<u8>, RedisError> {
        let log = keys.log();
        let (mut lines, mut bytes, mut end) = (Vec::new(), 0, "+".to_owned());
        loop {
            let until = Instant::now() + client.timeout();
            let words: &[&[u8]] =
                &[b"XREVRANGE", log.as_bytes(), end.as_bytes(), b"-", b"COUNT", PAGE.as_bytes()];
            let page = client.ask(words, until, page).await?;
            let Some((last, _)) = page.last() else { break };
            let before = previous(*last);
            for line in page.into_iter().filter_map(|(_, line)| line) {
                bytes += line.len() + 1;
                lines.push(line);
            }
            match before {
                Some(id) if bytes < HISTORY_BYTES && lines.len() < ENTRIES_MAX => {
                    end = id.to_string();
                }
                _ => break,
            }
        }
        let lines = lines.into_iter().rev().flat_map(|mut line| {
            line.push(b'\n');
            line
        });
        Ok(lines.collect())
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The greatest id below this one.
fn previous(id: Id) -> Option<Id> {
    match (id.revision, id.place) {
        (0, 0) => None,
        (revision, 0) => Some(Id { revision: revision - 1, place: u64::MAX }),
        (revision, place) => Some(Id { revision, place: place - 1 }),
    }
}

/// Ids and lines; a line is absent where it does not verify.
fn page(reply: &Reply<'_>) -> Option<Vec<(Id, Option<Vec<u8>>)>> {
    let Reply::Array(Some(entries)) = reply else { return None };
    let read = |entry: &Reply<'_>| {
        let Reply::Array(Some(parts)) = entry else { return None };
        let id: Id = std::str::from_utf8(parts.first()?.text()?).ok()?.parse().ok()?;
        let fields = match parts.get(1)? {
            Reply::Array(Some(fields)) => fields.as_slice(),
            Reply::Text(_)
            | Reply::Error(_)
            | Reply::Integer(_)
            | Reply::Bulk(_)
            | Reply::Array(None) => &[],
        };
        let text = |reply: &'_ Reply<'_>| reply.text().map(<[u8]>::to_vec);
        let pairs: Vec<(Vec<u8>, Vec<u8>)> = fields
            .chunks_exact(2)
            .filter_map(|pair| Some((text(pair.first()?)?, text(pair.get(1)?)?)))
            .collect();
        let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|(a, b)| (&**a, &**b)).collect();
        Some((id, entry::line(id, &pairs)))
    };
    entries.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_go_back_without_a_gap_and_end() {
        let id = |revision, place| Id { revision, place };
        assert_eq!(previous(id(7, 2)), Some(id(7, 1)));
        assert_eq!(previous(id(7, 0)), Some(id(6, u64::MAX)));
        assert_eq!(previous(id(0, 0)), None);
    }

    #[test]
    fn what_is_no_entry_is_no_page() {
        assert_eq!(page(&Reply::Array(Some(Vec::new()))), Some(Vec::new()));
        assert_eq!(page(&Reply::Integer(1)), None);
        assert_eq!(page(&Reply::Array(Some(vec![Reply::Integer(1)]))), None);
        let entry = vec![Reply::Bulk(Some(b"7-0")), Reply::Array(None)];
        let entry = Reply::Array(Some(vec![Reply::Array(Some(entry))]));
        assert_eq!(page(&entry), Some(vec![(Id { revision: 7, place: 0 }, None)]));
    }
}

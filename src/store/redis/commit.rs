//! One write, and what the server makes of it.
//!
//! All of it goes through one script, so it is there whole or not at all, and so the server itself
//! refuses to go back: see `commit.lua`.

use bytes::Bytes;

use crate::resp::Reply;
use crate::store::redis::entry::{Entry, FIELDS, Id};
use crate::store::redis::keys::Keys;

/// The script.
pub(super) const SCRIPT: &str = include_str!("commit.lua");

/// What is to be written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Commit {
    /// Our revision.
    pub revision: u64,
    /// Whether the keys may be taken over from another run: once in a run, for a restart is one.
    pub takes: bool,
    /// The latest decision that was there when we last heard: with less, it has lost something.
    pub last: Id,
    /// The state in its checksummed form, and where each service is; `None` when they stand.
    pub state: Option<State>,
    /// Decisions, oldest first.
    pub entries: Vec<Entry>,
}

/// The state as it is written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct State {
    /// Checksum of what is worth a write: counts and ages change all the time and are not in it.
    pub facts: u32,
    /// Its checksummed form.
    pub bytes: Bytes,
    /// JSON for each service.
    pub services: Vec<(String, String)>,
}

/// What stays the same for a run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Writer {
    /// Where to.
    pub keys: Keys,
    /// The sidecar's name.
    pub sidecar: String,
    /// Tells this run from others.
    pub run: String,
    /// Decisions kept there.
    pub history: usize,
    /// After how many milliseconds of silence another run is taken for gone.
    pub patience_ms: u64,
}

/// What the server made of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It is there.
    Written {
        /// The latest decision that is there.
        last: Id,
    },
    /// The state is gone from there; nothing was written.
    Missing {
        /// The latest decision that is there.
        last: Id,
    },
    /// Somebody else writes under our name; nothing was written.
    Conflict {
        /// At this revision.
        revision: u64,
        /// Whether that is above ours; else it is another run that lives.
        ahead: bool,
    },
}

impl Writer {
    /// The words of the command after the script: number of keys, keys, arguments. `oldest_ms` is
    /// the time before which decisions are forgotten.
    pub(super) fn words(&self, commit: &Commit, oldest_ms: u64) -> Vec<Vec<u8>> {
        let keys = &self.keys;
        let services = commit.state.iter().flat_map(|state| &state.services);
        let count = commit.state.as_ref().map_or(0, |state| state.services.len());
        let mut words: Vec<Vec<u8>> = [
            "4".to_owned(),
            keys.state(),
            keys.about(),
            keys.services(),
            keys.log(),
            keys.channel(),
            self.run.clone(),
            u8::from(commit.takes).to_string(),
            self.patience_ms.to_string(),
            self.history.to_string(),
            oldest_ms.to_string(),
            self.sidecar.clone(),
            env!("CARGO_PKG_VERSION").to_owned(),
            commit.revision.to_string(),
            commit.last.to_string(),
        ]
        .map(String::into_bytes)
        .into();
        words.push(commit.state.as_ref().map_or_else(Vec::new, |state| state.bytes.to_vec()));
        words.push(count.to_string().into_bytes());
        for (name, json) in services {
            words.push(name.clone().into_bytes());
            words.push(json.clone().into_bytes());
        }
        for entry in &commit.entries {
            let Some(values) = entry.values() else { continue };
            words.push(entry.id.to_string().into_bytes());
            for (name, value) in FIELDS.iter().zip(values) {
                words.push(name.as_bytes().to_vec());
                words.push(value);
            }
        }
        words
    }
}

/// Reads what the script returned; `None` when it is nothing that it returns.
pub(super) fn answer(reply: &Reply<'_>) -> Option<Answer> {
    let Reply::Array(Some(parts)) = reply else { return None };
    let word = |at: usize| std::str::from_utf8(parts.get(at)?.text()?).ok();
    let (last, revision) = (word(1)?.parse().ok()?, word(2)?.parse().ok()?);
    Some(match word(0)? {
        "ok" => Answer::Written { last },
        "missing" => Answer::Missing { last },
        "ahead" => Answer::Conflict { revision, ahead: true },
        "shared" => Answer::Conflict { revision, ahead: false },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_script_says_is_understood() {
        let said = |kind: &'static [u8], last: &'static [u8], revision: &'static [u8]| {
            let parts = [kind, last, revision].map(|part| Reply::Bulk(Some(part))).to_vec();
            answer(&Reply::Array(Some(parts)))
        };
        let last = Id { revision: 7, place: 1 };
        assert_eq!(said(b"ok", b"7-1", b"9"), Some(Answer::Written { last }));
        assert_eq!(said(b"missing", b"7-1", b"0"), Some(Answer::Missing { last }));
        let ahead = Answer::Conflict { revision: 9, ahead: true };
        assert_eq!(said(b"ahead", b"0-0", b"9"), Some(ahead));
        assert_eq!(said(b"shared", b"0-0", b"x"), None);
        assert_eq!(said(b"else", b"0-0", b"1"), None);
        assert_eq!(answer(&Reply::Integer(1)), None);
        assert_eq!(answer(&Reply::Array(None)), None);
    }
}

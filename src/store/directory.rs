//! One state directory.

use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::core::record::HistoryRecord;
use crate::store::backup::HISTORY_BYTES;
use crate::store::document::encode;
use crate::store::error::{SetAside, StoreError};
use crate::store::files::{Dir, Found, find};
use crate::store::history::{self, BOUNDS, History, HistoryQuery, Index};
use crate::store::lock::Lock;
use crate::store::slots::{self, Slots, examine};

const POLICY: &str = "policy";

/// Largest policy, in bytes.
const POLICY_LIMIT: usize = 2 * 1024 * 1024;

/// A snapshot as it was saved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Saved {
    /// The snapshot.
    pub json: Vec<u8>,
    /// The revision it was saved with.
    pub revision: u64,
    /// When, in milliseconds since 1970.
    pub saved_at_ms: u64,
}

/// The last policy that was good.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LastGood {
    /// Its text, with references to variables and secret files unresolved.
    pub text: String,
    /// Its digest, as given to [`Store::save_policy`].
    pub digest: [u8; 32],
    /// When it was saved, in milliseconds since 1970.
    pub saved_at_ms: u64,
}

/// A directory that was opened, with what was found in it.
#[derive(Debug)]
pub struct Opened {
    /// The directory.
    pub store: Store,
    /// The newest snapshot, if one verifies.
    pub snapshot: Option<Saved>,
    /// No revision above this was given out before; begin with a greater one.
    pub revision_floor: u64,
    /// Files that were set aside.
    pub warnings: Vec<SetAside>,
}

/// What was found in a directory that somebody else may hold.
#[derive(Debug)]
pub struct Peeked {
    /// The newest snapshot that verifies.
    pub snapshot: Option<Saved>,
    /// The newest lines of the history, as a backup takes them.
    pub history: Vec<u8>,
}

/// A state directory, held against other sidecars. Every call blocks on the disk.
#[derive(Debug)]
pub struct Store {
    dir: Dir,
    slots: Slots,
    history: History,
    _lock: Lock,
}

impl Store {
    /// Opens a state directory, creates what is missing of it, and sets damaged files aside.
    ///
    /// `now_ms` is the time of day in milliseconds since 1970.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another sidecar holds it, otherwise what the operating system
    /// refused. Damage is no error.
    pub fn open(path: &Path, now_ms: u64) -> Result<Opened, StoreError> {
        let dir = Dir::create(path)?;
        let lock = Lock::take(&dir)?;
        dir.sweep();
        let mut warnings = Vec::new();
        let (slots, recovered) = Slots::open(&dir, now_ms, &mut warnings)?;
        let history = History::open(&dir, BOUNDS, now_ms, &mut warnings)?;
        check_policy(&dir, now_ms, &mut warnings)?;
        let revision_floor = recovered.floor.max(history.revision());
        let store = Self { dir, slots, history, _lock: lock };
        Ok(Opened { store, snapshot: recovered.newest, revision_floor, warnings })
    }

    /// Reads what a backup is made from, whoever holds the directory. Changes nothing: a damaged
    /// slot is passed over.
    ///
    /// # Errors
    /// As [`Store::read_only`].
    pub fn peek(path: &Path) -> Result<Peeked, StoreError> {
        let reader = Self::read_only(path)?;
        let history = match &reader.open {
            Some((file, index)) => index
                .lines(file, HISTORY_BYTES)
                .map_err(StoreError::io("read", &path.join(history::NAME)))?,
            None => Vec::new(),
        };
        Ok(Peeked { snapshot: slots::peek(path)?, history })
    }

    /// Opens a state directory to read its history, whoever holds it. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Newer`] when a newer program wrote the history, or what the operating system
    /// refused. A history that does not exist is an empty one.
    pub fn read_only(path: &Path) -> Result<Reader, StoreError> {
        let path = path.join(history::NAME);
        let file = match find(&path, OFlags::RDONLY)? {
            Found::Absent => return Ok(Reader { path, open: None }),
            Found::File(file) => file,
            Found::Strange(why) => {
                return Err(StoreError::io("read", &path)(std::io::Error::other(why)));
            }
        };
        let index = Index::build(&file).map_err(StoreError::io("read", &path))?;
        match index.newer(&path) {
            Some(error) => Err(error),
            None => Ok(Reader { path, open: Some((file, index)) }),
        }
    }

    /// Saves a snapshot; it is durable on return.
    ///
    /// # Errors
    /// What the operating system refused. The snapshot before is still there.
    pub fn save(&mut self, snapshot: &[u8], revision: u64, at_ms: u64) -> Result<(), StoreError> {
        let saved = Saved { json: snapshot.to_vec(), revision, saved_at_ms: at_ms };
        self.slots.save(&self.dir, &saved)
    }

    /// The newest snapshot.
    ///
    /// # Errors
    /// What the operating system refused.
    pub fn latest(&self) -> Result<Option<Saved>, StoreError> {
        slots::peek(self.dir.path())
    }

    /// Moves the snapshots out of the way, because their content makes no sense to the caller.
    ///
    /// # Errors
    /// What the operating system refused.
    pub fn set_snapshot_aside(
        &mut self,
        why: &str,
        now_ms: u64,
    ) -> Result<Vec<SetAside>, StoreError> {
        self.slots.set_aside(&self.dir, now_ms, why)
    }

    /// Appends to the history; durable on return. What is out of bounds is forgotten.
    ///
    /// # Errors
    /// What the operating system refused. The history before is still there.
    pub fn append(&mut self, record: &HistoryRecord, at_ms: u64) -> Result<(), StoreError> {
        self.history.append(&self.dir, record, at_ms)
    }

    /// The records that match, newest first.
    ///
    /// # Errors
    /// What the operating system refused.
    pub fn history(&self, query: &HistoryQuery) -> Result<Vec<HistoryRecord>, StoreError> {
        self.history.query(&self.dir, query)
    }

    /// The newest lines of the history as they lie on disk, oldest first; at most so many bytes.
    ///
    /// # Errors
    /// What the operating system refused.
    pub fn history_lines(&self, limit: usize) -> Result<Vec<u8>, StoreError> {
        self.history.lines(&self.dir, limit)
    }

    /// Takes in lines of another history that this one does not have; durable on return.
    ///
    /// # Errors
    /// What the operating system refused. The history before is still there.
    pub fn merge_history(&mut self, lines: &[u8], now_ms: u64) -> Result<(), StoreError> {
        self.history.merge(&self.dir, lines, now_ms)
    }

    /// Keeps bytes aside under a name of their own, for a person who may want them back.
    ///
    /// # Errors
    /// What the operating system refused.
    pub fn lay_aside(&self, name: &str, bytes: &[u8], now_ms: u64) -> Result<PathBuf, StoreError> {
        self.dir.lay_aside(name, bytes, now_ms)
    }

    /// Saves the text of a policy that is good, with its references unresolved.
    ///
    /// # Errors
    /// What the operating system refused. The policy before is still there.
    pub fn save_policy(
        &mut self,
        text: &str,
        digest: &[u8; 32],
        at_ms: u64,
    ) -> Result<(), StoreError> {
        let fields = [("digest", hex(digest)), ("at", at_ms.to_string())];
        let bytes = encode(POLICY, &fields, text.as_bytes());
        if POLICY_LIMIT < bytes.len() {
            let (path, bytes) = (self.dir.file(POLICY), bytes.len());
            return Err(StoreError::TooLarge { path, bytes, limit: POLICY_LIMIT });
        }
        self.dir.replace(POLICY, &bytes).map(drop)
    }

    /// The last policy that was saved, if there is one that verifies.
    pub fn last_good_policy(&self) -> Option<LastGood> {
        let Ok(Found::File(mut file)) = find(&self.dir.file(POLICY), OFlags::RDONLY) else {
            return None;
        };
        let (head, body) = examine(POLICY, &mut file, POLICY_LIMIT).ok()?;
        Some(LastGood {
            text: String::from_utf8(body).ok()?,
            digest: unhex(head.word("digest")?)?,
            saved_at_ms: head.number("at")?,
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// The history of a directory as it was when it was opened.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    open: Option<(std::fs::File, Index)>,
}

impl Reader {
    /// The records that match, newest first.
    ///
    /// # Errors
    /// What the operating system refused.
    pub fn history(&self, query: &HistoryQuery) -> Result<Vec<HistoryRecord>, StoreError> {
        let Some((file, index)) = &self.open else { return Ok(Vec::new()) };
        index.query(file, query).map_err(StoreError::io("read", &self.path))
    }
}

fn check_policy(dir: &Dir, now_ms: u64, warnings: &mut Vec<SetAside>) -> Result<(), StoreError> {
    let why = match find(&dir.file(POLICY), OFlags::RDONLY)? {
        Found::Absent => return Ok(()),
        Found::Strange(why) => why,
        Found::File(mut file) => match examine(POLICY, &mut file, POLICY_LIMIT) {
            Ok(_) => return Ok(()),
            Err((why, _)) => why,
        },
    };
    warnings.push(dir.set_aside(POLICY, now_ms, &format!("{why}; no last good policy is kept"))?);
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.filter_map(|nibble| char::from_digit(nibble.into(), 16)).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

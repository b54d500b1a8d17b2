//! The last two snapshots, written in turn over the older one.
//!
//! Writing over a block that is already there needs no metadata, which makes it four times as fast
//! as a replacement by rename; a crash in the middle can only hurt the older of the two.
//!
//! A revision must never be given out twice, even when the newest snapshot is lost. So a ceiling
//! above all revisions in use is kept in a file of its own and in each slot. It is raised before a
//! revision reaches it, rarely, because each time in steps of [`RESERVE`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::store::directory::Saved;
use crate::store::document::{Damage, Head, decode, encode};
use crate::store::error::{SetAside, StoreError};
use crate::store::files::{Dir, Found, find, is_linked, read};

/// Revisions that one write of the `revision` file covers: how far the revision leaps at most when
/// the newest snapshot is lost.
pub const RESERVE: u64 = 1000;

/// Largest snapshot, in bytes.
const LIMIT: usize = 64 * 1024 * 1024;

/// Files grow in steps of this, so that most writes leave their size as it is.
const BLOCK: usize = 4096;

const NAMES: [&str; 2] = ["state.0", "state.1"];

const CEILING: &str = "revision";

/// The slots of a directory, and where the next snapshot goes.
#[derive(Debug)]
pub(super) struct Slots {
    files: [Option<File>; 2],
    /// The slot that the next snapshot goes to: never that of the newest one.
    next: usize,
    /// Number of the newest snapshot.
    saves: u64,
    ceiling: u64,
}

/// What was found at the start.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// The newest snapshot that verifies.
    pub(super) newest: Option<Saved>,
    /// No revision above this was ever given out.
    pub(super) floor: u64,
}

/// One slot as found.
#[derive(Debug, Default)]
struct Slot {
    file: Option<File>,
    head: Option<Head>,
    json: Option<Vec<u8>>,
}

impl Slot {
    fn saved(&mut self) -> Option<Saved> {
        let number = |name| self.head.as_ref()?.number(name);
        let (revision, saved_at_ms) = (number("revision")?, number("at")?);
        Some(Saved { json: self.json.take()?, revision, saved_at_ms })
    }
}

impl Slots {
    pub(super) fn open(
        dir: &Dir,
        now_ms: u64,
        warnings: &mut Vec<SetAside>,
    ) -> Result<(Self, Recovered), StoreError> {
        let before = warnings.len();
        let [first, second] = NAMES;
        let found =
            [open_slot(dir, first, now_ms, warnings)?, open_slot(dir, second, now_ms, warnings)?];
        let reserved = open_ceiling(dir, now_ms, warnings)?;
        let heads = || found.iter().filter_map(|slot| slot.head.as_ref());
        let most = |name: &str| heads().filter_map(|head| head.number(name)).max();
        let ceiling = most("ceiling").max(reserved).unwrap_or(0);
        let revision = most("revision").unwrap_or(0);
        let (newest, saves) = newest(&found);
        let whole = found.iter().filter(|slot| slot.json.is_some()).count();
        // A slot that is lost may have held the newest revision; then only the ceiling is certain.
        let complete = warnings.len() == before
            && usize::try_from(saves.min(2)) == Ok(whole)
            && (whole != 0 || reserved.is_none());
        let floor = if complete { revision } else { revision.max(ceiling) };
        let next = usize::from(newest == Some(0));
        let mut snapshot = None;
        let mut files = [None, None];
        for (index, (mut slot, place)) in found.into_iter().zip(&mut files).enumerate() {
            if newest == Some(index) {
                snapshot = slot.saved();
            }
            *place = slot.file;
        }
        Ok((Self { files, next, saves, ceiling }, Recovered { newest: snapshot, floor }))
    }

    /// Saves durably.
    pub(super) fn save(&mut self, dir: &Dir, saved: &Saved) -> Result<(), StoreError> {
        self.reserve(dir, saved.revision)?;
        let bytes = self.encode(saved);
        let [zero, one] = &mut self.files;
        let (name, slot) = if self.next == 0 { ("state.0", zero) } else { ("state.1", one) };
        if LIMIT < bytes.len() {
            let (path, bytes) = (dir.file(name), bytes.len());
            return Err(StoreError::TooLarge { path, bytes, limit: LIMIT });
        }
        match slot {
            Some(file) if is_linked(file) => {
                overwrite(file, &bytes).map_err(StoreError::io("write", &dir.file(name)))?;
            }
            Some(_) | None => *slot = Some(dir.replace(name, &bytes)?),
        }
        self.saves += 1;
        self.next = 1 - self.next;
        Ok(())
    }

    /// Makes sure that the ceiling lies above a revision before it is used.
    fn reserve(&mut self, dir: &Dir, revision: u64) -> Result<(), StoreError> {
        if revision < self.ceiling {
            return Ok(());
        }
        let ceiling = revision.saturating_add(RESERVE);
        drop(dir.replace(CEILING, &encode(CEILING, &[("ceiling", ceiling.to_string())], b""))?);
        self.ceiling = ceiling;
        Ok(())
    }

    fn encode(&self, saved: &Saved) -> Vec<u8> {
        let fields = [
            ("revision", saved.revision.to_string()),
            ("ceiling", self.ceiling.to_string()),
            ("save", (self.saves + 1).to_string()),
            ("at", saved.saved_at_ms.to_string()),
        ];
        let mut bytes = encode("state", &fields, &saved.json);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), b'\n');
        bytes
    }

    /// Moves both snapshots out of the way, because nobody can make sense of them.
    pub(super) fn set_aside(
        &mut self,
        dir: &Dir,
        now_ms: u64,
        why: &str,
    ) -> Result<Vec<SetAside>, StoreError> {
        let mut aside = Vec::new();
        for (name, file) in NAMES.iter().zip(&mut self.files) {
            if file.take().is_some() {
                aside.push(dir.set_aside(name, now_ms, why)?);
            }
        }
        self.saves = 0;
        Ok(aside)
    }
}

fn overwrite(file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, 0)?;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if file.metadata()?.len() != length {
        file.set_len(length)?;
    }
    file.sync_data()
}

/// Index and number of the newest snapshot that verifies.
fn newest(found: &[Slot; 2]) -> (Option<usize>, u64) {
    let number = |slot: &Slot| slot.json.as_ref().and(slot.head.as_ref())?.number("save");
    let numbered = found.iter().enumerate().filter_map(|(at, slot)| Some((number(slot)?, at)));
    numbered.max().map_or((None, 0), |(save, at)| (Some(at), save))
}

/// The newest snapshot of a directory that somebody else may be writing to.
pub(super) fn peek(path: &Path) -> Result<Option<Saved>, StoreError> {
    let mut found = Vec::new();
    for name in NAMES {
        let Found::File(mut file) = find(&path.join(name), OFlags::RDONLY)? else { continue };
        let Ok((head, json)) = examine("state", &mut file, LIMIT) else { continue };
        let save = head.number("save");
        let mut slot = Slot { file: None, head: Some(head), json: Some(json) };
        found.extend(save.zip(slot.saved()));
    }
    Ok(found.into_iter().max_by_key(|(save, _)| *save).map(|(_, saved)| saved))
}

fn open_slot(
    dir: &Dir,
    name: &str,
    now_ms: u64,
    warnings: &mut Vec<SetAside>,
) -> Result<Slot, StoreError> {
    let (why, head) = match find(&dir.file(name), OFlags::RDWR)? {
        Found::Absent => return Ok(Slot::default()),
        Found::Strange(why) => (why, None),
        Found::File(mut file) => match examine("state", &mut file, LIMIT) {
            Ok((head, json)) => {
                return Ok(Slot { file: Some(file), head: Some(head), json: Some(json) });
            }
            Err((why, head)) => (why, head),
        },
    };
    let why = format!("{why}; the snapshot before it is used, if there is one");
    warnings.push(dir.set_aside(name, now_ms, &why)?);
    Ok(Slot { file: None, head, json: None })
}

fn open_ceiling(
    dir: &Dir,
    now_ms: u64,
    warnings: &mut Vec<SetAside>,
) -> Result<Option<u64>, StoreError> {
    let (why, head) = match find(&dir.file(CEILING), OFlags::RDONLY)? {
        Found::Absent => return Ok(None),
        Found::Strange(why) => (why, None),
        Found::File(mut file) => match examine(CEILING, &mut file, BLOCK) {
            Ok((head, _)) => return Ok(head.number("ceiling")),
            Err((why, head)) => (why, head),
        },
    };
    let why = format!("{why}; the snapshots tell the revision");
    warnings.push(dir.set_aside(CEILING, now_ms, &why)?);
    Ok(head.and_then(|head| head.number("ceiling")))
}

/// Reads a document whole; or says why not, with what still verifies of its first line.
pub(super) fn examine(
    kind: &str,
    file: &mut File,
    limit: usize,
) -> Result<(Head, Vec<u8>), (String, Option<Head>)> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let bytes = read(file, limit).map_err(|why| (why, None))?;
    decode(kind, &bytes).map_err(|damage: Damage| (damage.why(), damage.head().cloned()))
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;

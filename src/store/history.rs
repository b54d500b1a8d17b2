//! Decisions, one a line, oldest first.
//!
//! ```text
//! mcp-failover history 1 crc=0f1e2d3c
//! 1a2b3c4d 1763900000000 12 {"schema":1,"at":"2025-11-23T12:13:20.000Z",…}
//! ```
//! A line is its checksum, the time in milliseconds, the revision and the record. Lines make a
//! damaged part harmless: the next line break is where reading goes on. Only a history that was cut
//! exactly between two lines cannot be told from a shorter one. What is too old or too much is
//! forgotten at once, and removed from the file when it is more than the rest.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::core::action::MoveKind;
use crate::core::id::ServiceName;
use crate::core::ordered::Gather as _;
use crate::core::record::HistoryRecord;
use crate::store::document::{Damage, decode_head, head_line};
use crate::store::error::{SetAside, StoreError};
use crate::store::files::{Dir, Found, find, is_linked};

/// Records kept at most.
pub const HISTORY_RECORDS: usize = 10_000;

/// Days a record is kept at most, by the time of the newest one.
pub const HISTORY_DAYS: u64 = 7;

pub(super) const NAME: &str = "history";

/// Longest line, in bytes.
const LINE: usize = 1024 * 1024;

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) records: usize,
    pub(super) age_ms: u64,
    pub(super) bytes: u64,
    /// Forgotten bytes that are left in the file in any case.
    pub(super) slack: u64,
}

pub(super) const BOUNDS: Bounds = Bounds {
    records: HISTORY_RECORDS,
    age_ms: HISTORY_DAYS * 24 * 60 * 60 * 1000,
    bytes: 64 * 1024 * 1024,
    slack: 256 * 1024,
};

/// Which records to read.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// Only of this service.
    pub service: Option<ServiceName>,
    /// Only of this kind.
    pub kind: Option<MoveKind>,
    /// This many at most; `None` for all.
    pub limit: Option<usize>,
}

impl HistoryQuery {
    fn matches(&self, record: &HistoryRecord) -> bool {
        self.service.as_ref().is_none_or(|service| *service == record.decision.service)
            && self.kind.is_none_or(|kind| kind == record.decision.kind)
    }
}

/// Where a line lies.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at_ms: u64,
    start: u64,
    /// Without its line break.
    length: usize,
}

impl Entry {
    fn end(&self) -> u64 {
        self.start + size(self.length) + 1
    }
}

/// The lines that verify, and what else there was.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: VecDeque<Entry>,
    /// Greatest revision on any line.
    pub(super) revision: u64,
    end: u64,
    damaged: usize,
    head: Option<Damage>,
}

impl Index {
    /// Reads through a file without keeping it.
    pub(super) fn build(file: &File) -> io::Result<Self> {
        let mut reader = BufReader::new(file);
        reader.rewind()?;
        let (mut index, mut line) = (Self::default(), Vec::new());
        loop {
            line.clear();
            let read = reader.by_ref().take(size(LINE)).read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            index.add(&line);
            index.end += size(read);
        }
        if index.end == 0 {
            index.head = Some(Damage::Head);
        }
        Ok(index)
    }

    fn add(&mut self, line: &[u8]) {
        if self.end == 0 {
            self.head = decode_head(NAME, line).err();
            return;
        }
        let whole = line.strip_suffix(b"\n");
        let content = whole.unwrap_or(line);
        let Some((at_ms, revision, _)) = parse(content) else {
            self.damaged += 1;
            return;
        };
        self.damaged += usize::from(whole.is_none());
        self.revision = self.revision.max(revision);
        self.entries.push_back(Entry { at_ms, start: self.end, length: content.len() });
    }

    /// What is wrong with the file, if anything.
    fn complaint(&self) -> Option<String> {
        match (&self.head, self.damaged) {
            (None, 0) => None,
            (Some(damage @ Damage::Newer(_)), _) => Some(damage.why()),
            (_, damaged) => Some(format!(
                "is damaged in {} places; the {} records that verify are kept",
                damaged + usize::from(self.head.is_some()),
                self.entries.len()
            )),
        }
    }

    /// Whether a newer program wrote it; as an error for a reader.
    pub(super) fn newer(&self, path: &Path) -> Option<StoreError> {
        self.head.as_ref()?.newer(path)
    }

    /// Forgets what is out of bounds.
    fn trim(&mut self, bounds: &Bounds, now_ms: u64) {
        while let Some(oldest) = self.entries.front() {
            let expired = oldest.at_ms.saturating_add(bounds.age_ms) < now_ms;
            let many = bounds.records < self.entries.len();
            let large = bounds.bytes < self.end - oldest.start && 1 < self.entries.len();
            if !(expired || many || large) {
                break;
            }
            self.entries.pop_front();
        }
    }

    fn forgotten_bytes(&self) -> u64 {
        self.entries.front().map_or(self.end, |oldest| oldest.start)
    }

    /// The newest lines that verify, oldest first, each with its line break.
    pub(super) fn lines(&self, file: &File, limit: usize) -> io::Result<Vec<u8>> {
        let mut room = limit;
        let fits = |entry: &&Entry| match room.checked_sub(entry.length + 1) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        };
        let newest: Vec<&Entry> = self.entries.iter().rev().take_while(fits).collect();
        let mut lines = Vec::new();
        for entry in newest.into_iter().rev() {
            let line = read_line(file, entry)?;
            // A disk that went bad since is no reason to give up the lines that are good.
            if verifies(&line) {
                lines.extend_from_slice(&line);
                lines.push(b'\n');
            }
        }
        Ok(lines)
    }

    /// The newest records that match, newest first. One that no longer verifies, or that a newer
    /// program wrote in words unknown to this one, is passed over.
    pub(super) fn query(
        &self,
        file: &File,
        query: &HistoryQuery,
    ) -> io::Result<Vec<HistoryRecord>> {
        let mut found = Vec::new();
        for entry in self.entries.iter().rev() {
            if query.limit.is_some_and(|limit| limit <= found.len()) {
                break;
            }
            let line = read_line(file, entry)?;
            let record = parse(&line).and_then(|(_, _, json)| serde_json::from_slice(json).ok());
            found.extend(record.filter(|record| query.matches(record)));
        }
        Ok(found)
    }
}

/// The history of a directory, open to be appended to.
#[derive(Debug)]
pub(super) struct History {
    file: Option<File>,
    index: Index,
    bounds: Bounds,
    /// Whether the file holds the lines of the index and nothing else but forgotten ones.
    sound: bool,
    /// Bytes after the end may be the rest of a line that could not be written.
    torn: bool,
}

impl History {
    /// Damage is no error here, and neither is a disk too full to repair it: the first append
    /// tries again.
    pub(super) fn open(
        dir: &Dir,
        bounds: Bounds,
        now_ms: u64,
        warnings: &mut Vec<SetAside>,
    ) -> Result<Self, StoreError> {
        let mut history =
            Self { file: None, index: Index::default(), bounds, sound: false, torn: false };
        match find(&dir.file(NAME), OFlags::RDWR)? {
            Found::Absent => {}
            Found::Strange(why) => warnings.push(dir.set_aside(NAME, now_ms, &why)?),
            Found::File(file) => match Index::build(&file) {
                Ok(index) => {
                    let complaint = index.complaint();
                    history.sound = complaint.is_none();
                    warnings.extend(complaint.map(|why| dir.keep_aside(NAME, now_ms, &why)));
                    (history.file, history.index) = (Some(file), index);
                }
                Err(error) => {
                    let why = format!("cannot be read: {error}");
                    warnings.push(dir.set_aside(NAME, now_ms, &why)?);
                }
            },
        }
        if !history.sound {
            drop(history.rewrite(dir));
        }
        history.index.trim(&history.bounds, now_ms);
        Ok(history)
    }

    /// Greatest revision on any line there is.
    pub(super) const fn revision(&self) -> u64 {
        self.index.revision
    }

    /// Appends durably, and forgets what is out of bounds.
    pub(super) fn append(
        &mut self,
        dir: &Dir,
        record: &HistoryRecord,
        at_ms: u64,
    ) -> Result<(), StoreError> {
        let path = dir.file(NAME);
        let revision = record.decision.revision.get();
        let line = line(record, at_ms)?;
        if LINE < line.len() {
            return Err(StoreError::TooLarge { path, bytes: line.len(), limit: LINE });
        }
        if !(self.sound && self.file.as_ref().is_some_and(is_linked)) {
            self.rewrite(dir)?;
        }
        self.write(line.as_bytes()).map_err(StoreError::io("append to", &path))?;
        let entry = Entry { at_ms, start: self.index.end, length: line.len() - 1 };
        self.index.end = entry.end();
        self.index.revision = self.index.revision.max(revision);
        self.index.entries.push_back(entry);
        self.index.trim(&self.bounds, at_ms);
        self.compact(dir);
        Ok(())
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let end = self.index.end;
        if self.torn {
            file.set_len(end)?;
        }
        self.torn = true;
        let written = file.write_all_at(line, end).and_then(|()| file.sync_data());
        // Half a line left behind would look like damage after a restart.
        self.torn = written.is_err() && file.set_len(end).is_err();
        written
    }

    /// Removes forgotten lines from the file once they are most of it. The record is safe by now,
    /// so a failure costs only space, and the next append tries again.
    fn compact(&mut self, dir: &Dir) {
        let forgotten = self.index.forgotten_bytes();
        let live = self.index.end - forgotten;
        if self.bounds.slack.max(live) < forgotten {
            drop(self.rewrite(dir));
        }
    }

    /// Puts a file with exactly the lines of the index in place.
    fn rewrite(&mut self, dir: &Dir) -> Result<(), StoreError> {
        let head = head_line(NAME, &[]);
        let mut end = size(head.len());
        let mut entries = VecDeque::with_capacity(self.index.entries.len());
        let (old, lines) = (self.file.as_ref(), &self.index.entries);
        let file = dir.replace_with(NAME, |file| {
            let mut writer = BufWriter::new(file);
            writer.write_all(head.as_bytes())?;
            for entry in lines {
                let old = old.ok_or(io::ErrorKind::NotFound)?;
                writer.write_all(&read_line(old, entry)?)?;
                writer.write_all(b"\n")?;
                let moved = Entry { start: end, ..*entry };
                end = moved.end();
                entries.push_back(moved);
            }
            writer.flush()
        })?;
        self.file = Some(file);
        self.index = Index { entries, revision: self.index.revision, end, ..Index::default() };
        (self.sound, self.torn) = (true, false);
        Ok(())
    }

    /// The newest lines as they lie in the file, oldest first; at most so many bytes of them.
    pub(super) fn lines(&self, dir: &Dir, limit: usize) -> Result<Vec<u8>, StoreError> {
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        self.index.lines(file, limit).map_err(StoreError::io("read", &dir.file(NAME)))
    }

    /// Takes in lines of another history that this one does not have; what is there stays.
    pub(super) fn merge(&mut self, dir: &Dir, lines: &[u8], now_ms: u64) -> Result<(), StoreError> {
        let own = self.lines(dir, usize::MAX)?;
        let all = own.split(|byte| *byte == b'\n').chain(lines.split(|byte| *byte == b'\n'));
        let timed = |line| parse(line).map(|(at_ms, revision, _)| (at_ms, revision, line));
        let all: BTreeSet<(u64, u64, &[u8])> = all.filter_map(timed).gather_set();
        let file = dir.replace_with(NAME, |file| {
            let mut writer = BufWriter::new(file);
            writer.write_all(head_line(NAME, &[]).as_bytes())?;
            for (_, _, line) in &all {
                writer.write_all(line)?;
                writer.write_all(b"\n")?;
            }
            writer.flush()
        })?;
        self.index = Index::build(&file).map_err(StoreError::io("read", &dir.file(NAME)))?;
        self.index.trim(&self.bounds, now_ms);
        (self.file, self.sound, self.torn) = (Some(file), true, false);
        Ok(())
    }

    pub(super) fn query(
        &self,
        dir: &Dir,
        query: &HistoryQuery,
    ) -> Result<Vec<HistoryRecord>, StoreError> {
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        let read = self.index.query(file, query);
        read.map_err(StoreError::io("read", &dir.file(NAME)))
    }
}

fn read_line(file: &File, entry: &Entry) -> io::Result<Vec<u8>> {
    let mut line = vec![0; entry.length];
    file.read_exact_at(&mut line, entry.start)?;
    Ok(line)
}

/// A record as it lies in the file, with its line break.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn line(record: &HistoryRecord, at_ms: u64) -> Result<String, StoreError> {
    let json = serde_json::to_string(record).map_err(StoreError::Encode)?;
    Ok(format(at_ms, record.decision.revision.get(), &json))
}

fn format(at_ms: u64, revision: u64, json: &str) -> String {
    let content = format!("{at_ms} {revision} {json}");
    format!("{:08x} {content}\n", crc32fast::hash(content.as_bytes()))
}

/// Whether a line is whole; its line break is not part of it.
pub(super) fn verifies(line: &[u8]) -> bool {
    parse(line).is_some()
}

/// Time, revision and record of a line that verifies.
pub(super) fn parse(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let (crc, content) = split(line)?;
    if crc != format!("{:08x}", crc32fast::hash(content)).as_bytes() {
        return None;
    }
    let (at_ms, rest) = split(content)?;
    let (revision, json) = split(rest)?;
    Some((number(at_ms)?, number(revision)?, json))
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    Some((bytes.get(..space)?, bytes.get(space + 1..)?))
}

fn number(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;

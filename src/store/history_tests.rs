//! What is kept, what is forgotten, and when the file shrinks.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::core::action::Decision;
use crate::core::id::Revision;
use crate::core::record::SCHEMA;

const SMALL: Bounds = Bounds { records: 5, age_ms: 100, bytes: 100_000, slack: 1_000 };

fn record(revision: u64) -> HistoryRecord {
    HistoryRecord {
        schema: SCHEMA,
        at: String::new(),
        decision: Decision {
            revision: Revision::new(revision),
            service: ServiceName::new("pinecone"),
            from: None,
            to: None,
            kind: MoveKind::Failover,
            cause: "x".repeat(50),
            evidence: Vec::new(),
        },
    }
}

struct Kept {
    _root: TempDir,
    dir: Dir,
    history: History,
}

impl Kept {
    fn new(bounds: Bounds) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let dir = Dir::create(root.path()).expect("a directory");
        let history = open(&dir, bounds, 0);
        Self { _root: root, dir, history }
    }

    fn append(&mut self, revision: u64, at_ms: u64) {
        self.history.append(&self.dir, &record(revision), at_ms).expect("appended");
    }

    fn told(&self) -> Vec<u64> {
        told(&self.dir, &self.history)
    }

    fn told_after_restart(&self, bounds: Bounds, now_ms: u64) -> Vec<u64> {
        told(&self.dir, &open(&self.dir, bounds, now_ms))
    }

    fn size(&self) -> u64 {
        fs::metadata(self.dir.file(NAME)).expect("there").len()
    }
}

fn open(dir: &Dir, bounds: Bounds, now_ms: u64) -> History {
    let mut warnings = Vec::new();
    let history = History::open(dir, bounds, now_ms, &mut warnings).expect("opened");
    assert_eq!(warnings, []);
    history
}

fn told(dir: &Dir, history: &History) -> Vec<u64> {
    let records = history.query(dir, &HistoryQuery::default()).expect("read");
    records.iter().map(|record| record.decision.revision.get()).collect()
}

#[test]
fn the_oldest_go_when_there_are_too_many() {
    let mut kept = Kept::new(SMALL);
    for revision in 1..=8 {
        kept.append(revision, 0);
        assert!(kept.told().len() <= SMALL.records);
    }
    assert_eq!(kept.told(), [8, 7, 6, 5, 4]);
    assert_eq!(kept.told_after_restart(SMALL, 0), [8, 7, 6, 5, 4]);
}

#[test]
fn the_old_go_when_their_time_is_over() {
    let mut kept = Kept::new(SMALL);
    kept.append(1, 0);
    kept.append(2, 50);
    kept.append(3, 100);
    assert_eq!(kept.told(), [3, 2, 1], "a record of exactly that age is kept");
    kept.append(4, 101);
    assert_eq!(kept.told(), [4, 3, 2]);
    assert_eq!(kept.told_after_restart(SMALL, 151), [4, 3]);
    assert!(kept.told_after_restart(SMALL, 1_000).is_empty());
}

#[test]
fn a_clock_that_goes_back_forgets_nothing() {
    let mut kept = Kept::new(SMALL);
    kept.append(1, 1_000);
    kept.append(2, 10);
    kept.append(3, 20);
    assert_eq!(kept.told(), [3, 2, 1]);
}

#[test]
fn the_oldest_go_when_they_take_too_much_space() {
    let mut kept = Kept::new(Bounds { bytes: 700, records: 1_000, ..SMALL });
    for revision in 1..=50 {
        kept.append(revision, 0);
    }
    let told = kept.told();
    assert!(told.len() < 10 && told.first() == Some(&50), "{told:?}");
    assert!(told.is_sorted_by(|newer, older| older + 1 == *newer), "{told:?}");
}

#[test]
fn the_file_shrinks_and_nothing_that_is_kept_is_lost() {
    let mut kept = Kept::new(SMALL);
    let mut largest = 0;
    for revision in 1..=200 {
        kept.append(revision, 0);
        largest = largest.max(kept.size());
        let newest = revision.saturating_sub(4).max(1);
        let expected: Vec<u64> = (newest..=revision).rev().collect();
        assert_eq!(kept.told(), expected);
    }
    assert!(largest < 4_000, "{largest} bytes for five records");
    assert_eq!(kept.told_after_restart(SMALL, 0), [200, 199, 198, 197, 196]);
}

#[test]
fn a_revision_is_remembered_longer_than_its_record() {
    let mut kept = Kept::new(SMALL);
    kept.append(9, 0);
    kept.append(3, 1_000);
    assert_eq!(kept.told(), [3]);
    assert_eq!(kept.history.revision(), 9);
}

#[test]
fn a_history_that_was_deleted_meanwhile_is_written_anew_in_full() {
    let mut kept = Kept::new(SMALL);
    kept.append(1, 0);
    kept.append(2, 0);
    fs::remove_file(kept.dir.file(NAME)).expect("deleted");
    kept.append(3, 0);
    assert_eq!(kept.told_after_restart(SMALL, 0), [3, 2, 1]);
}

#[test]
fn a_record_in_unknown_words_is_passed_over_but_kept() {
    let mut kept = Kept::new(SMALL);
    kept.append(1, 0);
    let line = format(0, 2, "{\"schema\":1,\"kind\":\"unheard_of\"}");
    let mut text = fs::read_to_string(kept.dir.file(NAME)).expect("read");
    text += &line;
    fs::write(kept.dir.file(NAME), &text).expect("written");
    let mut history = open(&kept.dir, SMALL, 0);
    assert_eq!(told(&kept.dir, &history), [1]);
    history.append(&kept.dir, &record(3), 0).expect("appended");
    assert_eq!(told(&kept.dir, &history), [3, 1]);
    assert!(fs::read_to_string(kept.dir.file(NAME)).expect("read").contains("unheard_of"));
}

#[test]
fn a_line_too_long_to_be_read_again_is_refused() {
    let mut kept = Kept::new(SMALL);
    let mut large = record(1);
    large.decision.cause = "x".repeat(LINE);
    let error = kept.history.append(&kept.dir, &large, 0).expect_err("refused");
    assert!(matches!(error, StoreError::TooLarge { .. }));
    kept.append(2, 0);
    assert_eq!(kept.told_after_restart(SMALL, 0), [2]);
}

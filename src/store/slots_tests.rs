//! Which slot comes next, and how far the revision leaps when one is lost.

use std::fs;

use tempfile::TempDir;

use super::*;

struct Kept {
    _root: TempDir,
    dir: Dir,
    slots: Slots,
}

impl Kept {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let dir = Dir::create(root.path()).expect("a directory");
        let (slots, _) = Slots::open(&dir, 0, &mut Vec::new()).expect("opened");
        Self { _root: root, dir, slots }
    }

    fn save(&mut self, revision: u64) {
        let json = revision.to_string().into_bytes();
        let saved = Saved { json, revision, saved_at_ms: 0 };
        self.slots.save(&self.dir, &saved).expect("saved");
    }

    /// Newest revision, floor, and files set aside.
    fn restart(&mut self) -> (Option<u64>, u64, usize) {
        let mut warnings = Vec::new();
        let (slots, recovered) = Slots::open(&self.dir, 0, &mut warnings).expect("opened");
        self.slots = slots;
        (recovered.newest.map(|saved| saved.revision), recovered.floor, warnings.len())
    }

    fn spoil(&self, name: &str) {
        fs::write(self.dir.file(name), "spoilt").expect("written");
    }

    fn ceiling(&self) -> u64 {
        let mut file = File::open(self.dir.file(CEILING)).expect("there");
        let (head, _) = examine(CEILING, &mut file, BLOCK).expect("whole");
        head.number("ceiling").expect("a number")
    }
}

#[test]
fn a_healthy_restart_leaps_over_no_revision() {
    let mut kept = Kept::new();
    assert_eq!(kept.restart(), (None, 0, 0));
    for revision in 1..=5 {
        kept.save(revision);
        assert_eq!(kept.restart(), (Some(revision), revision, 0));
    }
}

#[test]
fn the_slot_of_the_newest_snapshot_is_never_the_next() {
    let mut kept = Kept::new();
    kept.save(1);
    kept.save(2);
    kept.spoil("state.1");
    assert_eq!(kept.restart().0, Some(1));
    kept.save(3);
    kept.spoil("state.1");
    assert_eq!(kept.restart().0, Some(1), "the save after a loss went to the lost slot");
}

#[test]
fn a_lost_slot_makes_the_revision_leap_to_the_ceiling() {
    for lost in ["state.0", "state.1"] {
        let mut kept = Kept::new();
        (1..=4).for_each(|revision| kept.save(revision));
        fs::remove_file(kept.dir.file(lost)).expect("removed");
        let (_, floor, aside) = kept.restart();
        assert_eq!((floor, aside), (1 + RESERVE, 0), "{lost}");
    }
}

#[test]
fn the_ceiling_is_raised_before_a_revision_reaches_it() {
    let mut kept = Kept::new();
    kept.save(1);
    assert_eq!(kept.ceiling(), 1 + RESERVE);
    kept.save(RESERVE);
    assert_eq!(kept.ceiling(), 1 + RESERVE, "once in that many revisions is enough");
    kept.save(1 + RESERVE);
    assert_eq!(kept.ceiling(), 1 + 2 * RESERVE);
    for name in ["state.0", "state.1"] {
        kept.spoil(name);
    }
    assert_eq!(kept.restart(), (None, 1 + 2 * RESERVE, 2));
}

#[test]
fn each_slot_knows_the_ceiling_too() {
    let mut kept = Kept::new();
    kept.save(1);
    kept.save(2);
    kept.spoil("state.1");
    kept.spoil(CEILING);
    assert_eq!(kept.restart(), (Some(1), 1 + RESERVE, 2));
}

#[test]
fn a_deleted_slot_is_made_anew() {
    let mut kept = Kept::new();
    kept.save(1);
    kept.save(2);
    for name in ["state.0", "state.1"] {
        fs::remove_file(kept.dir.file(name)).expect("removed");
    }
    kept.save(3);
    assert_eq!(kept.restart().0, Some(3));
}

#[test]
fn a_shorter_snapshot_leaves_nothing_of_a_longer_one() {
    let mut kept = Kept::new();
    let long = Saved { json: vec![b'x'; 3 * BLOCK], revision: 1, saved_at_ms: 0 };
    kept.slots.save(&kept.dir, &long).expect("saved");
    kept.save(2);
    kept.save(3);
    let bytes = fs::read(kept.dir.file("state.0")).expect("read");
    assert_eq!(bytes.len(), BLOCK);
    assert!(!bytes.contains(&b'x'));
}

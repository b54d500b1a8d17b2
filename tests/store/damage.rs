//! Whatever is done to the files: no panic, no value that was never saved, no revision twice.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use mcp_failover::store::{Opened, RESERVE, Store, StoreError};
use tempfile::TempDir;

use super::{ALL, NOW, record, revisions};

/// The revision of the newest snapshot, its content, and the one before.
const NEWEST: u64 = 42;
const NEWEST_JSON: &[u8] = br#"{"pinecone":"secondary"}"#;
const BEFORE_JSON: &[u8] = br#"{"pinecone":"primary"}"#;
const POLICY: &str = "version = 1\n";
const FILES: [&str; 5] = ["state.0", "state.1", "revision", "history", "policy"];

type Files = BTreeMap<&'static str, Vec<u8>>;

/// A directory as a sidecar leaves it.
fn healthy() -> Files {
    let dir = tempfile::tempdir().expect("a folder");
    let mut store = Store::open(dir.path(), NOW).expect("opened").store;
    store.save(BEFORE_JSON, NEWEST - 1, NOW).expect("saved");
    store.save(NEWEST_JSON, NEWEST, NOW).expect("saved");
    for revision in NEWEST - 3..=NEWEST {
        store.append(&record(revision), NOW).expect("appended");
    }
    store.save_policy(POLICY, &[7; 32], NOW).expect("saved");
    FILES.into_iter().map(|name| (name, fs::read(dir.path().join(name)).expect("read"))).collect()
}

fn lay(files: &Files) -> TempDir {
    // Thousands of directories are opened: in memory, if there is such a place.
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let dir = dir.expect("a folder");
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).expect("written");
    }
    dir
}

/// Opens a directory with one damaged file and holds it against what was there before.
fn survive(files: &Files, damaged: &str, how: &str) -> usize {
    let dir = lay(files);
    let opened = Store::open(dir.path(), NOW).unwrap_or_else(|error| panic!("{how}: {error}"));
    let Opened { mut store, snapshot, revision_floor, warnings } = opened;
    assert!((NEWEST..=NEWEST + RESERVE).contains(&revision_floor), "{how}: {revision_floor}");

    let snapshot = snapshot.unwrap_or_else(|| panic!("{how}: no snapshot"));
    let is_newest = snapshot.json == NEWEST_JSON && snapshot.revision == NEWEST;
    let is_before = snapshot.json == BEFORE_JSON && snapshot.revision == NEWEST - 1;
    assert!(is_newest || (is_before && damaged == "state.1"), "{how}: {snapshot:?}");

    let history = revisions(&store.history(&ALL).expect("history"));
    let lost = 4 - history.len();
    assert!(lost == 0 || damaged == "history", "{how}: {history:?}");
    assert!(history.is_sorted_by(|newer, older| older < newer), "{how}: {history:?}");

    let policy = store.last_good_policy();
    assert!(policy.is_some() || damaged == "policy", "{how}");
    assert!(policy.as_ref().is_none_or(|policy| policy.text == POLICY), "{how}: {policy:?}");

    let whole = is_newest && lost == 0 && policy.is_some();
    assert!(whole || !warnings.is_empty(), "{how}: a loss must be said");
    for aside in &warnings {
        assert!(aside.path.exists() && aside.why.starts_with(damaged), "{how}: {aside:?}");
    }
    store.save(b"next", revision_floor + 1, NOW).expect("saved");
    store.append(&record(revision_floor + 1), NOW).expect("appended");
    drop(store);
    let again = Store::open(dir.path(), NOW).expect("opened again");
    assert_eq!(again.warnings, [], "{how}: what was set aside is out of the way");
    assert_eq!(again.snapshot.expect("a snapshot").json, b"next", "{how}");
    assert!(revision_floor < again.revision_floor, "{how}");
    lost
}

/// The part of a file that means something: snapshots are padded to whole blocks.
fn meaningful(bytes: &[u8]) -> usize {
    bytes.len() - bytes.iter().rev().take_while(|byte| **byte == b'\n').count() + 1
}

#[test]
fn a_healthy_directory_loses_nothing() {
    assert_eq!(survive(&healthy(), "nothing", "healthy"), 0);
}

#[test]
fn a_flipped_bit_anywhere_costs_at_most_what_it_hit() {
    let files = healthy();
    for (name, bytes) in &files {
        for at in 0..meaningful(bytes).min(bytes.len()) {
            let mut damaged = files.clone();
            damaged.get_mut(name).expect("there")[at] ^= 1 << (at % 8);
            let lost = survive(&damaged, name, &format!("{name}, bit {} of byte {at}", at % 8));
            // A flipped line break makes one line of two.
            assert!(lost <= 2, "{name} byte {at}: {lost} records");
        }
    }
}

#[test]
fn a_file_cut_short_at_any_length_costs_at_most_what_was_cut() {
    let files = healthy();
    for (name, bytes) in &files {
        for length in 0..meaningful(bytes).min(bytes.len()) {
            // A history that ends with a line is a whole one, only shorter.
            if *name == "history" && bytes[..length].ends_with(b"\n") {
                continue;
            }
            let mut damaged = files.clone();
            damaged.get_mut(name).expect("there").truncate(length);
            survive(&damaged, name, &format!("{name} cut to {length} bytes"));
        }
    }
}

#[test]
fn zeroed_and_overwritten_stretches_cost_at_most_what_they_hit() {
    let files = healthy();
    for (name, bytes) in &files {
        for at in (0..meaningful(bytes)).step_by(16) {
            for fill in [0x00, 0xff, b'\n', b' ', b'0'] {
                let mut damaged = files.clone();
                let file = damaged.get_mut(name).expect("there");
                let end = file.len().min(at + 64);
                file[at.min(end)..end].fill(fill);
                survive(&damaged, name, &format!("{name} filled with {fill} at {at}"));
            }
        }
    }
}

#[test]
fn a_file_that_is_gone_costs_no_revision() {
    let files = healthy();
    for name in FILES {
        let mut damaged = files.clone();
        damaged.remove(name);
        let opened = Store::open(lay(&damaged).path(), NOW).expect("opened");
        assert!(NEWEST <= opened.revision_floor, "{name}: {}", opened.revision_floor);
    }
    let last = BTreeMap::from([("revision", files["revision"].clone())]);
    let opened = Store::open(lay(&last).path(), NOW).expect("opened");
    assert!(NEWEST <= opened.revision_floor, "the ceiling alone is enough");
}

#[test]
fn a_directory_of_garbage_is_set_aside_file_by_file() {
    let long = vec![0xff; 70_000];
    for garbage in [&b""[..], b"\0\0\0\0", b"\n\n\n", &long, b"mcp-failover state 1\n"] {
        let files = FILES.into_iter().map(|name| (name, garbage.to_vec())).collect();
        let dir = lay(&files);
        let opened = Store::open(dir.path(), NOW).expect("opened");
        assert_eq!(opened.warnings.len(), FILES.len(), "{:?}", opened.warnings);
        assert_eq!((opened.snapshot, opened.revision_floor), (None, 0));
        assert_eq!(opened.store.history(&ALL).expect("history"), []);
    }
}

#[test]
fn a_newer_format_is_set_aside_but_its_revision_is_believed() {
    let newer = |kind: &str, fields: &str| {
        let line = format!("mcp-failover {kind} 2 {fields}");
        format!("{line} crc={:08x}\nunknown\n", crc32fast::hash(line.as_bytes())).into_bytes()
    };
    let files = BTreeMap::from([
        ("state.0", newer("state", "revision=70 save=9")),
        ("state.1", newer("state", "revision=71 save=10 encoding=brand-new")),
        ("history", newer("history", "")),
    ]);
    let dir = lay(&files);
    let reader = Store::read_only(dir.path());
    assert!(matches!(reader, Err(StoreError::Newer { version: 2, .. })), "{reader:?}");
    let opened = Store::open(dir.path(), NOW).expect("opened");
    assert_eq!((opened.snapshot, opened.revision_floor), (None, 71));
    assert_eq!(opened.warnings.len(), 3);
    assert!(opened.warnings.iter().all(|aside| aside.why.contains("newer")));
}

#[test]
fn what_is_no_file_is_set_aside_without_waiting() {
    let files = healthy();
    for name in FILES {
        for kind in ["directory", "pipe", "link"] {
            let mut rest = files.clone();
            rest.remove(name);
            let dir = lay(&rest);
            let path = dir.path().join(name);
            match kind {
                "directory" => fs::create_dir_all(path.join("within")).expect("a directory"),
                "pipe" => {
                    assert!(Command::new("mkfifo").arg(&path).status().expect("run").success());
                }
                _ => symlink("/etc/passwd", &path).expect("a link"),
            }
            let opened = Store::open(dir.path(), NOW).expect("opened");
            assert_eq!(opened.warnings.len(), 1, "{name} as a {kind}: {:?}", opened.warnings);
            assert!(NEWEST <= opened.revision_floor, "{name} as a {kind}");
        }
    }
}

#[test]
fn only_the_newest_files_set_aside_are_kept() {
    let files = healthy();
    let dir = lay(&files);
    for round in 0..30 {
        fs::write(dir.path().join("policy"), "garbage").expect("written");
        let opened = Store::open(dir.path(), NOW + round).expect("opened");
        assert_eq!(opened.warnings.len(), 1);
    }
    let aside = fs::read_dir(dir.path()).expect("listed").filter(|entry| {
        let name = entry.as_ref().expect("an entry").file_name();
        name.to_string_lossy().contains("set-aside")
    });
    assert_eq!(aside.count(), 8);
}

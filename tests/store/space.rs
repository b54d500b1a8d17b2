//! Disks that are full, read-only or gone.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use mcp_failover::store::{Store, StoreError};

use super::{ALL, NOW, record, revisions};
use crate::common::again::in_mount_namespace;

fn tmpfs(dir: &Path, size: &str) {
    let size = format!("size={size}");
    let args = ["-t", "tmpfs", "-o", size.as_str(), "tmpfs"];
    assert!(Command::new("mount").args(args).arg(dir).status().expect("mount").success());
}

/// Takes all the space there is.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).expect("a filler");
    while file.write_all(&[0; 4096]).is_ok() {}
}

fn kind_of(error: &StoreError) -> Option<io::ErrorKind> {
    match error {
        StoreError::Io { source, .. } => Some(source.kind()),
        _ => None,
    }
}

#[test]
fn a_full_disk_is_an_error_that_loses_nothing_and_passes() {
    if !in_mount_namespace("store::space::a_full_disk_is_an_error_that_loses_nothing_and_passes") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    tmpfs(dir.path(), "256k");
    let (state, filler) = (dir.path().join("state"), dir.path().join("filler"));
    let mut store = Store::open(&state, NOW).expect("opened").store;
    store.save(b"one", 1, NOW).expect("saved");
    store.save(b"two", 2, NOW).expect("saved");
    store.append(&record(2), NOW).expect("appended");
    fill(&filler);
    store.save(b"three", 3, NOW).expect("a snapshot that fits needs no space");

    let large = vec![b'x'; 100_000];
    let error = store.save(&large, 4, NOW).expect_err("no space");
    assert_eq!(kind_of(&error), Some(io::ErrorKind::StorageFull), "{error:?}");
    assert!(error.help().contains("free some space"));
    let mut appended = 2;
    let error = loop {
        match store.append(&record(appended + 1), NOW) {
            Ok(()) => appended += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(kind_of(&error), Some(io::ErrorKind::StorageFull), "{error:?}");
    let error = store.save_policy(&"#".repeat(9_000), &[0; 32], NOW).expect_err("no space");
    assert_eq!(kind_of(&error), Some(io::ErrorKind::StorageFull), "{error:?}");
    drop(store);

    let opened = Store::open(&state, NOW).expect("a full disk can be read");
    assert_eq!(opened.snapshot.expect("a snapshot").json, b"three");
    fs::remove_file(&filler).expect("freed");
    let mut store = opened.store;
    store.save(&large, 4, NOW).expect("space again");
    store.append(&record(appended + 1), NOW).expect("space again");
    let expected: Vec<u64> = (2..=appended + 1).rev().collect();
    assert_eq!(revisions(&store.history(&ALL).expect("history")), expected);
    drop(store);
    let opened = Store::open(&state, NOW).expect("opened");
    assert_eq!(opened.snapshot.expect("a snapshot").json, large);
    assert_eq!(revisions(&opened.store.history(&ALL).expect("history")), expected);
}

#[test]
fn a_read_only_disk_is_a_typed_error_and_its_history_can_be_read() {
    if !in_mount_namespace(
        "store::space::a_read_only_disk_is_a_typed_error_and_its_history_can_be_read",
    ) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    tmpfs(dir.path(), "1m");
    let state = dir.path().join("state");
    let mut store = Store::open(&state, NOW).expect("opened").store;
    store.append(&record(1), NOW).expect("appended");
    drop(store);
    let remount = ["-o", "remount,ro"];
    assert!(Command::new("mount").args(remount).arg(dir.path()).status().expect("run").success());
    for path in [state.as_path(), &dir.path().join("another")] {
        let error = Store::open(path, NOW).expect_err("read-only");
        assert_eq!(kind_of(&error), Some(io::ErrorKind::ReadOnlyFilesystem), "{error:?}");
        assert!(error.help().contains("state_dir"), "{}", error.help());
    }
    let reader = Store::read_only(&state).expect("readable");
    assert_eq!(revisions(&reader.history(&ALL).expect("history")), [1]);
}

#[test]
fn a_directory_that_is_removed_is_a_typed_error() {
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("state");
    let mut store = Store::open(&dir, NOW).expect("opened").store;
    store.save(b"one", 1, NOW).expect("saved");
    store.append(&record(1), NOW).expect("appended");
    fs::remove_dir_all(&dir).expect("removed");
    for error in [
        store.save(b"two", 2, NOW).and_then(|()| store.save(b"three", 3, NOW)).expect_err("gone"),
        store.append(&record(2), NOW).expect_err("gone"),
    ] {
        assert_eq!(kind_of(&error), Some(io::ErrorKind::NotFound), "{error:?}");
    }
}

#[test]
fn a_file_in_the_place_of_the_directory_is_a_typed_error() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("state");
    fs::write(&path, "in the way").expect("written");
    let error = Store::open(&path, NOW).expect_err("no directory");
    assert!(kind_of(&error).is_some(), "{error:?}");
}

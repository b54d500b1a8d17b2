//! What is kept, and for whom.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use mcp_failover::core::action::MoveKind;
use mcp_failover::core::id::ServiceName;
use mcp_failover::store::{HistoryQuery, LastGood, Opened, Saved, Store, StoreError};

use super::{ALL, NOW, of, record, revisions};

fn open(dir: &std::path::Path) -> Opened {
    let opened = Store::open(dir, NOW).expect("opened");
    assert_eq!(opened.warnings, []);
    opened
}

#[test]
fn a_new_directory_is_empty_and_private() {
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("var/lib/state");
    let mut opened = open(&dir);
    assert_eq!((opened.snapshot, opened.revision_floor), (None, 0));
    assert_eq!(opened.store.history(&ALL).expect("history"), []);
    assert_eq!(opened.store.last_good_policy(), None);
    opened.store.save(b"{}", 1, NOW).expect("saved");
    opened.store.save_policy("version = 1\n", &[7; 32], NOW).expect("saved");
    opened.store.append(&record(1), NOW).expect("appended");
    let mode =
        |path: &std::path::Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in fs::read_dir(&dir).expect("listed") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn the_newest_snapshot_comes_back() {
    let dir = tempfile::tempdir().expect("a folder");
    for revision in 1..=7 {
        let mut opened = open(dir.path());
        assert_eq!(opened.revision_floor, revision - 1);
        let json = format!("{{\"revision\":{revision}}}")
            .repeat(1 + usize::try_from(revision).expect("small") * 100);
        opened.store.save(json.as_bytes(), revision, NOW + revision).expect("saved");
        drop(opened);
        let saved = Saved { json: json.into_bytes(), revision, saved_at_ms: NOW + revision };
        assert_eq!(open(dir.path()).snapshot, Some(saved));
    }
}

#[test]
fn a_snapshot_of_the_same_revision_replaces_the_one_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut opened = open(dir.path());
    for json in ["1", "22", "333", "4444", "55555"] {
        opened.store.save(json.as_bytes(), 3, NOW).expect("saved");
    }
    drop(opened);
    let opened = open(dir.path());
    assert_eq!(opened.snapshot.expect("a snapshot").json, b"55555");
    assert_eq!(opened.revision_floor, 3);
}

#[test]
fn a_snapshot_nobody_understands_is_set_aside_on_request() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut opened = open(dir.path());
    opened.store.save(b"one", 5, NOW).expect("saved");
    opened.store.save(b"two", 6, NOW).expect("saved");
    let aside = opened.store.set_snapshot_aside("is of another make", NOW).expect("set aside");
    assert_eq!(aside.len(), 2);
    assert!(aside.iter().all(|aside| aside.path.exists()));
    opened.store.save(b"three", 7, NOW).expect("saved");
    drop(opened);
    let opened = open(dir.path());
    assert_eq!(opened.snapshot.expect("a snapshot").json, b"three");
    assert_eq!(opened.revision_floor, 7);
}

#[test]
fn the_history_is_told_newest_first_and_by_choice() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut opened = open(dir.path());
    for revision in 1..=6 {
        let service = if revision % 2 == 0 { "neo4j" } else { "pinecone" };
        let kind = if revision % 3 == 0 { MoveKind::Failback } else { MoveKind::Failover };
        opened.store.append(&of(service, kind, revision), NOW).expect("appended");
    }
    let told = |query: HistoryQuery| revisions(&opened.store.history(&query).expect("history"));
    assert_eq!(told(ALL), [6, 5, 4, 3, 2, 1]);
    assert_eq!(told(HistoryQuery { limit: Some(2), ..ALL }), [6, 5]);
    let service = Some(ServiceName::new("neo4j"));
    assert_eq!(told(HistoryQuery { service: service.clone(), ..ALL }), [6, 4, 2]);
    assert_eq!(told(HistoryQuery { kind: Some(MoveKind::Failback), ..ALL }), [6, 3]);
    assert_eq!(told(HistoryQuery { service, limit: Some(1), kind: Some(MoveKind::Failover) }), [4]);
    let all = opened.store.history(&ALL).expect("history");
    drop(opened);
    let opened = open(dir.path());
    assert_eq!(opened.store.history(&ALL).expect("history"), all);
    assert_eq!(opened.revision_floor, 6, "the history knows the revision too");
}

#[test]
fn the_history_can_be_read_whoever_holds_the_directory() {
    let dir = tempfile::tempdir().expect("a folder");
    let read = || Store::read_only(dir.path()).and_then(|reader| reader.history(&ALL));
    assert_eq!(read().expect("no history is an empty one"), []);
    let mut opened = open(dir.path());
    opened.store.append(&record(1), NOW).expect("appended");
    assert_eq!(revisions(&read().expect("read")), [1]);
    drop(opened);
    assert_eq!(revisions(&read().expect("read")), [1]);
}

#[test]
fn the_last_good_policy_comes_back_as_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let text = "url = \"${PINECONE_HOST}\"\n# ä\n";
    let mut opened = open(dir.path());
    opened.store.save_policy("older", &[1; 32], NOW).expect("saved");
    opened.store.save_policy(text, &[0xab; 32], NOW + 1).expect("saved");
    drop(opened);
    let good = LastGood { text: text.to_owned(), digest: [0xab; 32], saved_at_ms: NOW + 1 };
    assert_eq!(open(dir.path()).store.last_good_policy(), Some(good));
}

#[test]
fn a_second_sidecar_is_refused_and_told_by_whom() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = open(dir.path());
    let error = Store::open(dir.path(), NOW).expect_err("refused");
    assert!(
        matches!(error, StoreError::Locked { by: Some(pid), .. } if pid == std::process::id()),
        "{error:?}"
    );
    assert!(error.to_string().contains("another sidecar holds it"), "{error}");
    drop(first);
    open(dir.path());
}

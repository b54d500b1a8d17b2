//! Backups in a directory: whole or not there, found again, and never too many.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mcp_failover::core::id::{EndpointName, Revision, ServiceName};
use mcp_failover::core::rules::Rules;
use mcp_failover::core::snapshot::{PinSnapshot, Snapshot};
use mcp_failover::policy::model::{self, BackupPlace};
use mcp_failover::store::backup::{
    Backup, BackupError, Made, Name, Now, Parts, Round, Vault, make, newest_good, plan, read,
    restore,
};
use mcp_failover::store::{RESERVE, Saved, Store, history_line};

use super::{ALL, NOW, record, revisions};
use crate::common::again::{command, is_inside};
use crate::common::skip;

/// A place in a policy.
pub(super) fn policy(to: BackupPlace) -> model::Backup {
    let second = Duration::from_secs(1);
    model::Backup {
        to,
        interval: second,
        after_switch: second,
        keep: 3,
        recover: true,
        recover_timeout: second,
    }
}

/// The time of day.
pub(super) fn now() -> Now {
    let clock = mcp_failover::daemon::Clock::start();
    Arc::new(move || clock.wall_ms())
}

fn vault(dir: &Path) -> Vault {
    Vault::new(&policy(BackupPlace::Directory(dir.to_owned())), now()).expect("a directory")
}

pub(super) fn snapshot(revision: u64, active: &str) -> Snapshot {
    let mut snapshot = Snapshot::empty();
    snapshot.revision = Revision::new(revision);
    let service = snapshot.services.entry(ServiceName::new("search")).or_default();
    let endpoint = EndpointName::new(active);
    service.published = true;
    service.active = Some(endpoint.clone());
    service.active_for = Some(Duration::from_millis(revision * 7));
    service.pin = Some(PinSnapshot { endpoint: endpoint.clone(), left: None });
    let kept = service.endpoints.entry(endpoint).or_default();
    (kept.identity, kept.breaker.trips) = (0x00c0_ffee_0000_1234, 2);
    snapshot
}

pub(super) fn backup(revision: u64, active: &str) -> Backup {
    let lines = (1..=3).map(|n| history_line(&record(n), NOW + n).expect("a record"));
    Backup::new(Parts {
        snapshot: serde_json::to_vec(&snapshot(revision, active)).expect("a snapshot"),
        at_ms: NOW,
        history: lines.collect::<String>().into_bytes(),
        sidecar: "web 1/\u{fc}".to_owned(),
        policy: "9f".repeat(32),
    })
    .expect("a backup")
}

pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime").block_on(future)
}

fn store(vault: &Vault, backup: Backup, keep: usize, now_ms: u64) -> Round {
    block_on(make(vault, backup, keep, now_ms)).expect("stored")
}

fn names(vault: &Vault) -> Vec<Name> {
    block_on(vault.list()).expect("a list").into_iter().map(|one| one.name).collect()
}

fn found(vault: &Vault) -> (Option<Name>, Vec<String>) {
    let mut passed = Vec::new();
    let mut note = |_, error: &BackupError| passed.push(error.to_string());
    let found = block_on(newest_good(vault, &mut note)).expect("a readable directory");
    (found.map(|found| found.name), passed)
}

#[test]
fn what_was_backed_up_is_read_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let vault = vault(&dir.path().join("new/and/deep"));
    assert!(names(&vault).is_empty(), "a directory that is not there has none");
    let made = backup(42, "secondary");
    let round = store(&vault, made.clone(), 3, NOW);
    assert_eq!((round.made, round.kept, round.name.revision), (Made::Stored, 1, 42));
    let back = block_on(read(&vault, round.name)).expect("good");
    assert_eq!(back, made);
    assert_eq!((back.records(), back.sidecar()), (3, "web_1__"));
}

#[test]
fn no_damage_goes_unnoticed() {
    let whole = backup(42, "secondary").encode().expect("bytes");
    assert!(Backup::decode(&whole).is_ok());
    for at in 0..whole.len() {
        for bit in [0x01, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            assert!(Backup::decode(&bytes).is_err(), "bit {bit:x} of byte {at}");
        }
        assert!(Backup::decode(&whole[..at]).is_err(), "cut at {at}");
    }
    let longer = [whole.as_slice(), b"\n"].concat();
    assert!(Backup::decode(&longer).is_err(), "something behind it");
}

#[test]
fn the_same_state_is_not_stored_twice_but_after_any_change_it_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let vault = vault(dir.path());
    let first = store(&vault, backup(42, "secondary"), 9, NOW);
    // Time passes, a restart raises the revision: nothing happened.
    let same = store(&vault, backup(43, "secondary"), 9, NOW + 60_000);
    assert_eq!((same.made, same.name), (Made::Unchanged, first.name));
    let moved = store(&vault, backup(44, "primary"), 9, NOW + 60_000);
    assert_eq!((moved.made, moved.kept), (Made::Stored, 2));
    // The newest one no longer verifies: it does not count.
    std::fs::write(dir.path().join(moved.name.to_string()), "rot").expect("written");
    let again = store(&vault, backup(44, "primary"), 9, NOW + 120_000);
    assert_eq!((again.made, again.kept), (Made::Stored, 3));
}

#[test]
fn only_the_oldest_of_ours_are_removed_and_the_newest_never() {
    let dir = tempfile::tempdir().expect("a folder");
    let foreign = ["latest", "mcp-failover-1.backup", "notes.txt"];
    for name in foreign {
        std::fs::write(dir.path().join(name), "somebody else's").expect("written");
    }
    let vault = vault(dir.path());
    let mut made = Vec::new();
    for n in 0..6 {
        let round = store(&vault, backup(n, &format!("endpoint-{n}")), 3, NOW + n);
        made.push(round.name);
        assert!(round.left.is_none());
    }
    made.reverse();
    assert_eq!(names(&vault), made[..3]);
    store(&vault, backup(9, "last"), 0, NOW + 9);
    assert_eq!(names(&vault).len(), 1, "one is kept whatever is asked for");
    assert_eq!(found(&vault).0.map(|name| name.revision), Some(9));
    for name in foreign {
        assert!(dir.path().join(name).exists(), "{name} is not ours");
    }
}

#[test]
fn names_rise_though_the_clock_goes_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let vault = vault(dir.path());
    let first = store(&vault, backup(1, "a"), 9, NOW);
    let second = store(&vault, backup(2, "b"), 9, NOW - 86_400_000);
    assert!(first.name < second.name);
    assert_eq!(found(&vault).0, Some(second.name));
}

#[test]
fn the_newest_that_is_good_is_found_whatever_lies_above_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let vault = vault(dir.path());
    let good = store(&vault, backup(5, "good"), 99, NOW).name;
    let whole = backup(6, "better").encode().expect("bytes");
    let newer = String::from_utf8(whole.clone()).expect("text");
    let newer = newer.replacen("mcp-failover backup 1 ", "mcp-failover backup 2 ", 1);
    let line = newer.lines().next().expect("a line").rsplit_once(" crc=").expect("a sum").0;
    let crc = crc32fast::hash(line.as_bytes());
    let rest = newer.split_once('\n').expect("a body").1;
    let newer = format!("{line} crc={crc:08x}\n{rest}");
    let bad: [(&str, &[u8]); 6] = [
        ("torn", &whole[..whole.len() / 2]),
        ("empty", b""),
        ("garbage", &[0xff; 5000]),
        ("of another program", b"PK\x03\x04"),
        ("of a newer program", newer.as_bytes()),
        ("under another's name", &whole),
    ];
    for (n, (_, bytes)) in (1..).zip(bad) {
        let name = Name { stamp_ms: NOW + n, revision: 700 + n, facts: 0 };
        std::fs::write(dir.path().join(name.to_string()), bytes).expect("written");
    }
    let folder = Name { stamp_ms: NOW + 90, revision: 1, facts: 0 };
    std::fs::create_dir_all(dir.path().join(folder.to_string())).expect("a folder");
    let (name, passed) = found(&vault);
    assert_eq!(name, Some(good));
    assert_eq!(passed.len(), bad.len() + 1, "{passed:#?}");
    assert!(passed.iter().any(|why| why.contains("written by a newer mcp-failover")));
}

#[test]
fn breakers_are_taken_up_only_where_all_endpoints_are_what_they_were() {
    let made = backup(42, "secondary");
    let bytes = made.encode().expect("bytes");
    let text = String::from_utf8_lossy(&bytes);
    let fingerprint = 0x00c0_ffee_0000_1234_u64.to_string();
    assert!(!text.contains(&fingerprint), "a fingerprint would let passwords be tried");
    let snapshot = made.snapshot(&Rules::default());
    let kept = &snapshot.services["search"];
    assert_eq!(kept.active.as_ref().map(EndpointName::as_str), Some("secondary"));
    assert!(kept.endpoints.values().all(|one| one.identity == 0), "not believed");
}

#[test]
fn a_restore_never_brings_a_revision_back() {
    let dir = tempfile::tempdir().expect("a folder");
    for floor in [0, 41, 42, 43, 5_000] {
        let mut opened = Store::open(&dir.path().join(floor.to_string()), NOW).expect("opened");
        if floor > 0 {
            let json = serde_json::to_vec(&snapshot(floor, "primary")).expect("a snapshot");
            opened.store.save(&json, floor, NOW).expect("saved");
            opened.snapshot = Some(Saved { json, revision: floor, saved_at_ms: NOW });
            opened.revision_floor = floor;
        }
        opened.store.append(&record(90), NOW + 90).expect("appended");
        let made = backup(42, "secondary");
        let newer = plan(opened.snapshot.as_ref(), floor, &made).newer;
        assert_eq!(newer, floor == 5_000, "{floor}");
        let snapshot = made.snapshot(&Rules::default());
        let kept = restore(&mut opened, &made, snapshot, NOW + 100).expect("restored");
        assert_eq!(kept.is_some(), floor > 0, "what was there is kept");
        let at = dir.path().join(floor.to_string());
        drop(opened);
        let opened = Store::open(&at, NOW + 200).expect("opened");
        assert_eq!(opened.revision_floor, floor.max(42 + RESERVE));
        let saved = opened.snapshot.expect("a snapshot");
        let back: Snapshot = serde_json::from_slice(&saved.json).expect("a snapshot");
        assert_eq!(back.revision.get(), opened.revision_floor);
        let active = back.services["search"].active.as_ref();
        assert_eq!(active.map(EndpointName::as_str), Some("secondary"));
        let history = opened.store.history(&ALL).expect("a history");
        assert_eq!(revisions(&history), [90, 3, 2, 1], "both histories, each move once");
    }
}

#[test]
fn the_state_before_a_restore_can_be_restored_in_turn() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut opened = Store::open(dir.path(), NOW).expect("opened");
    let json = serde_json::to_vec(&snapshot(7, "primary")).expect("a snapshot");
    opened.snapshot = Some(Saved { json, revision: 7, saved_at_ms: NOW });
    let made = backup(42, "secondary");
    let snapshot = made.snapshot(&Rules::default());
    let kept = restore(&mut opened, &made, snapshot, NOW).expect("restored").expect("kept");
    let before = mcp_failover::store::backup::read_path(&kept).expect("good");
    assert_eq!(before.revision().get(), 7);
}

const WRITER: &str =
    "store::backup::killed_or_failed_at_each_system_call_only_whole_backups_are_there";
const DIR: &str = "MCPF_TEST_BACKUPS";

/// In the child: three backups, of which two are to be kept.
fn write() {
    let dir = PathBuf::from(std::env::var_os(DIR).expect("a directory"));
    let vault = vault(&dir);
    for n in 1..=3 {
        let made = block_on(make(&vault, backup(n, &format!("endpoint-{n}")), 2, NOW + n));
        if made.is_ok() {
            println!("made {n}");
        }
    }
}

/// Runs the writer with strace tampering with it; true if there are fewer such calls.
fn tamper(call: &str, what: &str, nth: u32) -> bool {
    let dir = tempfile::tempdir().expect("a folder");
    let to = dir.path().join("backups");
    store(&vault(&to), backup(0, "before"), 2, NOW);
    let inject = format!("inject={call}:{what}:when={nth}");
    let log = dir.path().join("strace.log");
    let log_name = log.to_str().expect("text");
    let trace = format!("trace={call}");
    let wrapper = ["strace", "-f", "-qq", "-o", log_name, "-e", &trace, "-e", &inject];
    let output = command(WRITER, &wrapper).env(DIR, &to).output().expect("strace");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let promised = (1..=3).rev().find(|n| said.contains(&format!("made {n}"))).unwrap_or(0);
    let vault = vault(&to);
    for name in names(&vault) {
        block_on(read(&vault, name)).unwrap_or_else(|error| panic!("{inject}: {error}"));
    }
    let newest = found(&vault).0.expect("one is always there");
    assert!(promised <= newest.revision, "{inject}: {promised} was promised, {newest} is there");
    let log = std::fs::read_to_string(log).unwrap_or_default();
    !(log.contains("(INJECTED)") || log.contains("killed by SIGKILL"))
}

#[test]
fn killed_or_failed_at_each_system_call_only_whole_backups_are_there() {
    if is_inside(WRITER) {
        return write();
    }
    let strace = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    if !strace.is_ok_and(|status| status.success()) {
        return skip("strace is needed, and the right to use it");
    }
    for (call, what) in [
        ("write", "signal=KILL"),
        ("fsync", "signal=KILL"),
        ("rename", "signal=KILL"),
        ("unlink", "signal=KILL"),
        ("fsync", "error=EIO"),
        ("rename", "error=ENOSPC"),
        ("unlink", "error=EACCES"),
    ] {
        let nth = (1..200).find(|nth| tamper(call, what, *nth));
        assert!(nth.is_some_and(|nth| 1 < nth), "{call} is used");
    }
}

//! Killed at any moment: what was promised is there, and nothing else.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mcp_failover::store::{Opened, Store, StoreError};

use super::{ALL, NOW, record, revisions};
use crate::common::again::{command, is_inside};
use crate::common::skip;

const WRITER: &str = "store::crash::a_writer_that_is_killed_keeps_its_promises";
const SHORT_WRITER: &str =
    "store::crash::killed_or_failed_at_each_system_call_it_keeps_its_promises";
const DIR: &str = "MCPF_TEST_STORE";

/// Larger than a block, and different in every part.
fn snapshot(revision: u64) -> Vec<u8> {
    format!("{revision:08}").repeat(2_000).into_bytes()
}

/// In the child: saves and appends, and says what it was promised.
fn write(rounds: u64) {
    let dir = PathBuf::from(std::env::var_os(DIR).expect("a directory"));
    let Ok(opened) = Store::open(&dir, NOW) else { return };
    let Opened { mut store, revision_floor, .. } = opened;
    for revision in revision_floor + 1..=revision_floor + rounds {
        if store.save(&snapshot(revision), revision, NOW).is_ok() {
            println!("saved {revision}");
        }
        if store.append(&record(revision), NOW).is_ok() {
            println!("appended {revision}");
        }
        drop(store.save_policy(&format!("revision = {revision}"), &[1; 32], NOW));
    }
}

/// What the child was promised.
#[derive(Debug, Default)]
struct Promised {
    saved: u64,
    appended: Vec<u64>,
}

impl Promised {
    fn note(&mut self, line: &str) {
        // The harness may have begun a line of its own.
        if let Some((_, number)) = line.split_once("saved ") {
            self.saved = number.parse().expect("a number");
        }
        if let Some((_, number)) = line.split_once("appended ") {
            self.appended.push(number.parse().expect("a number"));
        }
    }
}

/// Opens what the child left and holds it against the promise.
fn hold(dir: &Path, promised: &Promised, how: &str) -> u64 {
    let opened = Store::open(dir, NOW).unwrap_or_else(|error| panic!("{how}: {error}"));
    let newest = opened.snapshot.as_ref().map_or(0, |saved| saved.revision);
    assert!(promised.saved <= newest, "{how}: {promised:?}, found {newest}");
    assert!(newest <= opened.revision_floor, "{how}");
    if let Some(saved) = &opened.snapshot {
        assert!(saved.json == snapshot(saved.revision), "{how}: a mixture");
    }
    let history = revisions(&opened.store.history(&ALL).expect("history"));
    for revision in &promised.appended {
        assert!(history.contains(revision), "{how}: {revision} is not in {history:?}");
    }
    if let Some(policy) = opened.store.last_good_policy() {
        assert!(policy.text.starts_with("revision = "), "{how}: {policy:?}");
    }
    opened.revision_floor
}

#[test]
fn a_writer_that_is_killed_keeps_its_promises() {
    if is_inside(WRITER) {
        return write(100_000);
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut floor = 0;
    for round in 0..20 {
        let mut child = command(WRITER, &[]);
        child.env(DIR, dir.path()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = child.spawn().expect("a writer");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut promised = Promised::default();
        for _ in 0..8 + 3 * round {
            promised.note(&lines.next().expect("the writer goes on").expect("text"));
        }
        if round == 0 {
            let error = Store::open(dir.path(), NOW).expect_err("held by the writer");
            assert!(matches!(error, StoreError::Locked { by: Some(pid), .. } if pid == child.id()));
        }
        child.kill().expect("killed");
        lines.for_each(|line| promised.note(&line.unwrap_or_default()));
        child.wait().expect("gone");
        let now = hold(dir.path(), &promised, &format!("round {round}"));
        assert!(floor < now, "revisions only rise");
        floor = now;
    }
}

/// Runs the short writer with strace tampering with it; true if it was not tampered with at all,
/// because there are fewer such calls.
fn tamper(call: &str, what: &str, nth: u32) -> bool {
    let dir = tempfile::tempdir().expect("a folder");
    let mut store = Store::open(dir.path(), NOW).expect("opened").store;
    store.save(&snapshot(5), 5, NOW).expect("saved");
    drop(store);
    let inject = format!("inject={call}:{what}:when={nth}");
    let log = dir.path().join("strace.log");
    let log_name = log.to_str().expect("text");
    let trace = format!("trace={call}");
    let wrapper = ["strace", "-f", "-qq", "-o", log_name, "-e", &trace, "-e", &inject];
    let output = command(SHORT_WRITER, &wrapper).env(DIR, dir.path()).output().expect("strace");
    let mut promised = Promised { saved: 5, ..Promised::default() };
    String::from_utf8_lossy(&output.stdout).lines().for_each(|line| promised.note(line));
    hold(dir.path(), &promised, &inject);
    let log = std::fs::read_to_string(log).unwrap_or_default();
    !(log.contains("(INJECTED)") || log.contains("killed by SIGKILL"))
}

#[test]
fn killed_or_failed_at_each_system_call_it_keeps_its_promises() {
    if is_inside(SHORT_WRITER) {
        return write(3);
    }
    let strace = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    if !strace.is_ok_and(|status| status.success()) {
        return skip("strace is needed, and the right to use it");
    }
    for call in ["pwrite64", "fdatasync", "fsync", "rename", "ftruncate", "openat"] {
        let kill = (1..100).find(|nth| tamper(call, "signal=KILL", *nth));
        assert!(kill.is_some_and(|nth| 1 < nth), "{call} is used");
    }
    for call in ["pwrite64", "fdatasync", "fsync", "rename", "ftruncate"] {
        for error in ["ENOSPC", "EIO"] {
            (1..100).find(|nth| tamper(call, &format!("error={error}"), *nth));
        }
    }
}

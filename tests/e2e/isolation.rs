//! What was seen before a gap in time, or while cut off, moves nothing.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use super::sidecar::{Home, Sidecar, eventually};
use crate::common;
use crate::common::upstream::{Behaviour, Upstream};

/// Lets this much time pass.
fn wait(span: Duration) {
    let since = tokio::time::Instant::now();
    eventually("time passes", || (since.elapsed() >= span).then_some(()));
}

fn healthy(sidecar: &Sidecar, endpoint: &str) {
    sidecar.wait_until(&format!("{endpoint} healthy"), |status| {
        status["services"]["search"]["endpoints"][endpoint]["health"] == "healthy"
    });
}

#[test]
fn attempts_that_ran_out_while_the_process_was_stopped_move_nothing() {
    let (primary, backup) =
        (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy));
    let home = Home::new();
    let policy = home.quick_policy(&primary, &backup);
    home.write_policy(&policy.replace("timeout = \"1s\"", "timeout = \"2s\""));
    let sidecar = home.start();
    home.wait_for_active("primary");
    healthy(&sidecar, "backup");

    let before = primary.requests();
    primary.set(Behaviour::Hang);
    eventually("two attempts out", || (primary.requests() >= before + 2).then_some(()));
    sidecar.signal(Signal::STOP);
    // Longer than the attempts may take: both have failed by the time it looks again.
    wait(Duration::from_millis(2_600));
    primary.set(Behaviour::Healthy);
    sidecar.signal(Signal::CONT);

    eventually("the gap in the log", || home.log().contains("\"reason\":\"late\"").then_some(()));
    let asked = primary.requests();
    eventually("fresh evidence", || (primary.requests() >= asked + 4).then_some(()));
    healthy(&sidecar, "primary");
    assert_eq!(home.active().as_deref(), Some("primary"));
    assert!(sidecar.history().iter().all(|record| record["kind"] != "failover"));
    assert!(sidecar.terminate().success());
}

/// A library that shows a process another time of day.
fn another_clock() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let library = |folder: PathBuf| folder.join("faketime/libfaketime.so.1");
    folders.map(library).find(|path| path.exists())
}

#[test]
fn a_clock_that_is_set_is_noticed_and_moves_nothing() {
    let Some(library) = another_clock() else {
        return common::skip("libfaketime is not installed");
    };
    let (primary, backup) =
        (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy));
    let home = Home::new();
    home.write_policy(&home.quick_policy(&primary, &backup));
    let (library, offset) = (library.display().to_string(), home.path("offset"));
    fs::write(&offset, "+0").expect("a writable folder");
    let shown = offset.display().to_string();
    let sidecar = home.start_with(&[
        ("LD_PRELOAD", &library),
        ("FAKETIME_TIMESTAMP_FILE", &shown),
        ("FAKETIME_NO_CACHE", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ]);
    home.wait_for_active("primary");
    healthy(&sidecar, "backup");

    let fresh = home.path("offset.new");
    fs::write(&fresh, "-3600").expect("a writable folder");
    fs::rename(&fresh, &offset).expect("a writable folder");
    eventually("the jump in the log", || home.log().contains("\"reason\":\"clock\"").then_some(()));
    healthy(&sidecar, "primary");
    assert_eq!(home.active().as_deref(), Some("primary"));

    // And a failover works as ever, by a clock that is an hour behind.
    primary.set(Behaviour::Refuse);
    home.wait_for_active("backup");
    assert!(sidecar.terminate().success());
}

//! Starting, being told, and ending.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use super::sidecar::{Home, PATIENCE, cli, eventually};
use crate::common::upstream::{Behaviour, Upstream};

fn healthy_pair() -> (Upstream, Upstream) {
    (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy))
}

#[test]
fn the_service_manager_hears_ready_watchdog_and_stopping() {
    let (primary, backup) = healthy_pair();
    let home = Home::new();
    home.write_policy(&home.quick_policy(&primary, &backup));
    let socket = UnixDatagram::bind(home.path("notify.sock")).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let path = home.path("notify.sock").display().to_string();
    let sidecar = home.start_with(&[("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", "400000")]);
    let hear = |what: &str| {
        let mut buffer = [0; 4096];
        eventually(what, || {
            let length = socket.recv(&mut buffer).ok()?;
            let text = String::from_utf8_lossy(buffer.get(..length)?).into_owned();
            text.contains(what).then_some(())
        });
    };
    hear("READY=1");
    assert!(home.path("failover.env").exists(), "ready means that the outputs are written");
    hear("WATCHDOG=1");
    assert!(sidecar.terminate().success());
    hear("STOPPING=1");
}

#[test]
fn sigterm_drains_and_leaves_the_file_in_place() {
    let (primary, backup) = healthy_pair();
    let home = Home::new();
    home.write_policy(&home.quick_policy(&primary, &backup));
    let sidecar = home.start();
    home.wait_for_active("primary");
    let before = fs::read(home.path("failover.env")).expect("the file");
    assert!(sidecar.terminate().success());
    assert_eq!(fs::read(home.path("failover.env")).expect("the file"), before);
    assert!(!home.path("control.sock").exists(), "the control socket is removed");
}

#[test]
fn a_second_sidecar_on_the_same_state_is_refused() {
    let (primary, backup) = healthy_pair();
    let home = Home::new();
    home.write_policy(&home.quick_policy(&primary, &backup));
    let _first = home.start();
    home.wait_for_active("primary");
    let second = home.start().wait();
    assert_eq!(second.code(), Some(1));
    assert!(home.log().contains("another sidecar holds it"), "{}", home.log());
}

#[test]
fn an_invalid_policy_at_the_first_start_is_refused_with_code_78() {
    let home = Home::new();
    home.write_policy("version = 1\n[services.search]\nintervall = 3\n");
    assert_eq!(home.start().wait().code(), Some(78));
    assert!(home.log().contains("intervall"), "{}", home.log());
}

#[test]
fn a_broken_policy_at_a_later_start_runs_on_the_last_good_one() {
    let (primary, backup) = healthy_pair();
    let home = Home::new();
    let good = home.quick_policy(&primary, &backup);
    home.write_policy(&good);
    let sidecar = home.start();
    home.wait_for_active("primary");
    assert!(sidecar.terminate().success());

    home.write_policy(&good.replace("fast_interval", "fast_intervall"));
    let sidecar = home.start();
    let status = sidecar.wait_until("an answer", |_| true);
    assert_eq!(status.pointer("/policy/valid"), Some(&false.into()));
    assert!(
        status.pointer("/policy/diagnostics/0").is_some_and(|line| {
            line.as_str().is_some_and(|line| line.contains("fast_intervall"))
        })
    );
    primary.set(Behaviour::Refuse);
    home.wait_for_active("backup");

    home.write_policy(&good);
    sidecar.wait_until("the mended policy", |status| {
        status.pointer("/policy/valid") == Some(&true.into())
    });
}

#[test]
fn files_that_may_hold_secrets_are_for_their_owner_alone() {
    let (primary, backup) = healthy_pair();
    let home = Home::new();
    home.write_policy(&home.quick_policy(&primary, &backup));
    let _sidecar = home.start();
    home.wait_for_active("primary");
    let mode = |name: &str| {
        fs::symlink_metadata(home.path(name)).expect("it exists").permissions().mode() & 0o777
    };
    assert_eq!(mode("failover.env"), 0o600);
    assert_eq!(mode("control.sock"), 0o600);
    assert_eq!(mode("state"), 0o700);
}

#[test]
fn without_a_writable_state_directory_it_still_fails_over() {
    let (primary, backup) = healthy_pair();
    let home = Home::new();
    fs::write(home.path("state"), "a file where the directory should be").expect("writable");
    home.write_policy(&home.quick_policy(&primary, &backup));
    let _sidecar = home.start();
    home.wait_for_active("primary");
    primary.set(Behaviour::Refuse);
    home.wait_for_active("backup");
    assert!(home.log().contains("running without memory"), "{}", home.log());
}

#[test]
fn healthcheck_tells_a_running_sidecar_from_a_missing_one() {
    let (primary, backup) = healthy_pair();
    let home = Home::new();
    home.write_policy(&home.quick_policy(&primary, &backup));
    let folder = home.path("");
    assert_eq!(cli(&["healthcheck"], &folder).0, 1);
    let _sidecar = home.start();
    home.wait_for_active("primary");
    eventually("a passing health check", || (cli(&["healthcheck"], &folder).0 == 0).then_some(()));
}

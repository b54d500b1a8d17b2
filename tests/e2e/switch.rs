//! A dead upstream leads to a rewritten file, and its return leads back.

use std::time::Duration;

use serde_json::Value;

use super::sidecar::{Home, eventually};
use crate::common::upstream::{Behaviour, Upstream};

/// Breaks the primary in one way and expects the whole cycle.
fn cycle(broken: Behaviour) {
    let (primary, backup) =
        (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy));
    let home = Home::new();
    home.write_policy(&home.quick_policy(&primary, &backup));
    let sidecar = home.start();
    home.wait_for_active("primary");
    assert_eq!(home.env().get("SEARCH_URL"), Some(&primary.url()));
    let first = home.revision();

    primary.set(broken);
    home.wait_for_active("backup");
    let second = home.revision();
    assert_eq!(home.env().get("SEARCH_URL"), Some(&backup.url()));
    assert!(second > first, "a revision only rises: {first}, {second}");

    primary.set(Behaviour::Healthy);
    home.wait_for_active("primary");
    assert!(home.revision() > second);
    let kinds = eventually("both moves in the history", || {
        let kinds: Vec<Value> =
            sidecar.history().iter().filter_map(|record| record.get("kind").cloned()).collect();
        (kinds.len() >= 2).then_some(kinds)
    });
    assert_eq!(kinds.first().and_then(Value::as_str), Some("failback"));
    assert_eq!(kinds.get(1).and_then(Value::as_str), Some("failover"));
    assert!(sidecar.terminate().success(), "SIGTERM drains and exits 0");
}

#[test]
fn a_primary_that_refuses_is_left_and_taken_back() {
    cycle(Behaviour::Refuse);
}

#[test]
fn a_primary_that_hangs_is_left_and_taken_back() {
    cycle(Behaviour::Hang);
}

#[test]
fn a_primary_that_answers_503_is_left_and_taken_back() {
    cycle(Behaviour::Status(503));
}

#[test]
fn a_primary_that_answers_garbage_is_left_and_taken_back() {
    cycle(Behaviour::garbage());
}

#[test]
fn a_primary_that_throttles_is_not_left_for_the_same_account() {
    let (primary, backup) =
        (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy));
    let home = Home::new();
    let account = r#"SEARCH_KEY = "one-and-the-same" }"#;
    let text = home.quick_policy(&primary, &backup);
    let text = text
        .replace(&format!("SEARCH_URL = \"{}\" }}", primary.url()), account)
        .replace(&format!("SEARCH_URL = \"{}\" }}", backup.url()), account);
    home.write_policy(&text);
    let sidecar = home.start();
    home.wait_for_active("primary");
    primary.set(Behaviour::throttle("30"));
    sidecar.wait_until("the primary is throttled", |status| {
        status.pointer("/services/search/endpoints/primary/health") == Some(&"throttled".into())
    });
    assert_eq!(home.active().as_deref(), Some("primary"));
}

#[test]
fn when_everything_is_down_the_file_stays_as_it_is() {
    let (primary, backup) =
        (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy));
    let home = Home::new();
    home.write_policy(&home.quick_policy(&primary, &backup));
    let sidecar = home.start();
    home.wait_for_active("primary");
    let before = home.revision();
    backup.set(Behaviour::Refuse);
    sidecar.wait_until("the backup is down", |status| {
        status.pointer("/services/search/endpoints/backup/health") == Some(&"unhealthy".into())
    });
    primary.set(Behaviour::Refuse);
    sidecar.wait_until("everything is down", |status| {
        status.pointer("/services/search/state") == Some(&"all_down".into())
    });
    assert_eq!((home.active().as_deref(), home.revision()), (Some("primary"), before));

    backup.set(Behaviour::Healthy);
    home.wait_for_active("backup");
}

#[test]
fn a_slow_upstream_is_not_a_dead_one() {
    let (primary, backup) =
        (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy));
    let home = Home::new();
    home.write_policy(&home.quick_policy(&primary, &backup));
    let sidecar = home.start();
    home.wait_for_active("primary");
    let before = primary.requests();
    primary.set(Behaviour::Slow(Duration::from_millis(200)));
    eventually("a dozen slow answers", || (primary.requests() > before + 12).then_some(()));
    sidecar.wait_until("still healthy", |status| {
        status.pointer("/services/search/state") == Some(&"healthy".into())
    });
    assert_eq!(home.active().as_deref(), Some("primary"));
}

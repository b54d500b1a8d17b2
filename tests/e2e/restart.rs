//! What a restart remembers, however the last run ended.

use std::fs;

use serde_json::{Value, json};

use super::sidecar::{Home, Sidecar, cli, eventually, two_endpoints};
use crate::common::upstream::{Behaviour, Upstream};

fn healthy_pair() -> (Upstream, Upstream) {
    (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy))
}

fn order(sidecar: &Sidecar, order: &Value) -> Value {
    let request = json!({"request": "command", "command": {"order": order}});
    sidecar.ask(&request).expect("an answer")
}

#[test]
fn a_pin_and_the_revision_survive_a_kill() {
    let (primary, backup) = healthy_pair();
    let home = Home::new();
    home.write_policy(&home.quick_policy(&primary, &backup));
    let sidecar = home.start();
    home.wait_for_active("primary");
    let pin = json!({"order": "pin", "service": "search", "endpoint": "backup", "duration": null});
    assert_eq!(order(&sidecar, &pin)["ok"], true);
    home.wait_for_active("backup");
    let before = home.revision();
    sidecar.kill();

    let sidecar = home.start();
    let status = sidecar.wait_until("a running sidecar", |status| {
        status.pointer("/services/search/active") == Some(&"backup".into())
    });
    assert_eq!(status.pointer("/services/search/pinned"), Some(&"backup".into()));
    eventually("a later revision", || (home.revision() > before).then_some(()));
    assert_eq!(home.active().as_deref(), Some("backup"));
}

#[test]
fn a_killed_sidecar_comes_back_to_the_endpoint_it_had_moved_to() {
    let (primary, backup) = healthy_pair();
    let home = Home::new();
    let text = home.quick_policy(&primary, &backup);
    home.write_policy(&text.replace("hold = \"500ms\"", "hold = \"1h\""));
    let sidecar = home.start();
    home.wait_for_active("primary");
    primary.set(Behaviour::Refuse);
    home.wait_for_active("backup");
    sidecar.kill();
    primary.set(Behaviour::Healthy);

    let sidecar = home.start();
    sidecar.wait_until("a primary known to be healthy again", |status| {
        status.pointer("/services/search/endpoints/primary/health") == Some(&"healthy".into())
    });
    assert_eq!(home.active().as_deref(), Some("backup"), "the hold is not over");
}

#[test]
fn a_lost_state_directory_never_takes_the_revision_back() {
    let (primary, backup) = healthy_pair();
    let home = Home::new();
    home.write_policy(&home.quick_policy(&primary, &backup));
    let sidecar = home.start();
    home.wait_for_active("primary");
    primary.set(Behaviour::Refuse);
    home.wait_for_active("backup");
    primary.set(Behaviour::Healthy);
    home.wait_for_active("primary");
    assert!(sidecar.terminate().success());
    let before = home.revision();
    fs::remove_dir_all(home.path("state")).expect("ours");

    let _sidecar = home.start();
    eventually("a later revision", || (home.revision() > before).then_some(()));
}

#[test]
fn a_damaged_state_is_set_aside_and_said() {
    let (primary, backup) = healthy_pair();
    let home = Home::new();
    home.write_policy(&home.quick_policy(&primary, &backup));
    let sidecar = home.start();
    home.wait_for_active("primary");
    assert!(sidecar.terminate().success());
    let before = home.revision();
    for entry in fs::read_dir(home.path("state")).expect("the state") {
        let path = entry.expect("the state").path();
        if path.file_name().is_some_and(|name| name != "lock") {
            fs::write(path, b"\xff\x00garbage").expect("ours");
        }
    }
    let _sidecar = home.start();
    eventually("a later revision", || (home.revision() > before).then_some(()));
    assert!(home.log().contains("set aside"), "{}", home.log());
}

#[test]
fn the_history_can_be_read_while_no_sidecar_runs() {
    let (primary, backup) = healthy_pair();
    let home = Home::new();
    home.write_policy(&home.quick_policy(&primary, &backup));
    let sidecar = home.start();
    home.wait_for_active("primary");
    primary.set(Behaviour::Refuse);
    home.wait_for_active("backup");
    eventually("the move in the history", || {
        sidecar.history().iter().any(|one| one["kind"] == "failover").then_some(())
    });
    assert!(sidecar.terminate().success());
    let (code, out, err) = cli(&["history", "--json"], &home.path(""));
    assert_eq!(code, 0, "{err}");
    let newest: Value = serde_json::from_str(out.lines().next().expect("a line")).expect("JSON");
    assert_eq!(
        (&newest["kind"], &newest["from"], &newest["to"]),
        (&"failover".into(), &"primary".into(), &"backup".into())
    );
}

#[test]
fn a_changed_endpoint_does_not_inherit_the_state_of_the_old_one() {
    let (primary, backup) = healthy_pair();
    let home = Home::new();
    home.write_policy(&home.quick_policy(&primary, &backup));
    let sidecar = home.start();
    home.wait_for_active("primary");
    assert!(sidecar.terminate().success());

    // The name stays, the address is another, and nobody is there.
    let gone = Upstream::start(Behaviour::Refuse);
    home.write_policy(&home.policy(&two_endpoints(&gone.url(), &backup.url())));
    let _sidecar = home.start();
    home.wait_for_active("backup");
}

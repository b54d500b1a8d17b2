//! Editing the policy while the sidecar runs.

use std::fmt::Write as _;

use serde_json::json;

use super::sidecar::{Home, eventually, two_endpoints};
use crate::common::upstream::{Behaviour, Upstream};

fn healthy_pair() -> (Upstream, Upstream) {
    (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy))
}

#[test]
fn an_edit_takes_effect_without_a_restart() {
    let (primary, backup) = healthy_pair();
    let other = Upstream::start(Behaviour::Healthy);
    let home = Home::new();
    home.write_policy(&home.quick_policy(&primary, &backup));
    let _sidecar = home.start();
    home.wait_for_active("primary");
    home.write_policy(&home.quick_policy(&other, &backup));
    eventually("the new address in the file", || {
        (home.env().get("SEARCH_URL") == Some(&other.url())).then_some(())
    });
}

#[test]
fn an_invalid_edit_changes_nothing_and_is_said() {
    let (primary, backup) = healthy_pair();
    let home = Home::new();
    let good = home.quick_policy(&primary, &backup);
    home.write_policy(&good);
    let sidecar = home.start();
    home.wait_for_active("primary");
    let revision = home.revision();
    home.write_policy(&good.replace("priority = 1", "priority = \"one\""));
    sidecar.wait_until("the complaint", |status| {
        status.pointer("/policy/valid") == Some(&false.into())
    });
    assert_eq!((home.active().as_deref(), home.revision()), (Some("primary"), revision));
    primary.set(Behaviour::Refuse);
    home.wait_for_active("backup");
}

#[test]
fn a_comment_alone_changes_nothing_at_all() {
    let (primary, backup) = healthy_pair();
    let home = Home::new();
    let text = home.quick_policy(&primary, &backup);
    home.write_policy(&text);
    let sidecar = home.start();
    home.wait_for_active("primary");
    let before = sidecar.wait_until("an answer", |_| true);
    home.write_policy(&format!("# a remark\n{text}"));
    let reloaded = sidecar.ask(&json!({"request": "reload"})).expect("an answer");
    assert_eq!(reloaded["ok"], true, "{reloaded}");
    let after = sidecar.wait_until("an answer", |_| true);
    assert_eq!(before["revision"], after["revision"]);
    assert_eq!(before["policy"]["digest"], after["policy"]["digest"]);
}

#[test]
fn sighup_reads_the_policy_anew() {
    let (primary, backup) = healthy_pair();
    let home = Home::new();
    home.write_policy(&home.quick_policy(&primary, &backup));
    let sidecar = home.start();
    home.wait_for_active("primary");
    home.write_policy(&home.policy(&two_endpoints(&backup.url(), &primary.url())));
    sidecar.signal(rustix::process::Signal::HUP);
    eventually("the new order", || {
        (home.env().get("SEARCH_URL") == Some(&backup.url())).then_some(())
    });
}

#[test]
fn removing_the_active_endpoint_is_exactly_one_move() {
    let (primary, backup) = healthy_pair();
    let home = Home::new();
    let text = home.quick_policy(&primary, &backup);
    home.write_policy(&text);
    let sidecar = home.start();
    home.wait_for_active("primary");
    sidecar.wait_until("a proven backup", |status| {
        status.pointer("/services/search/endpoints/backup/health") == Some(&"healthy".into())
    });
    let kept = text.replace("name = \"primary\"", "name = \"third\"").replace(
        &primary.url(),
        // Nobody listens there: the backup is the only one left alive.
        "http://127.0.0.1:9",
    );
    home.write_policy(&kept);
    home.wait_for_active("backup");
    let moves = eventually("the move in the history", || {
        let moves: Vec<_> =
            sidecar.history().into_iter().filter(|record| record["kind"] != "start").collect();
        (!moves.is_empty()).then_some(moves)
    });
    assert_eq!(moves.len(), 1, "{moves:?}");
    assert_eq!(moves.first().map(|one| one["kind"].clone()), Some("reload".into()));
}

#[test]
fn one_edit_among_a_thousand_endpoints_keeps_the_state_of_the_others() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let services = |edited: &str| {
        let mut text = String::new();
        for service in 0..50 {
            writeln!(
                text,
                "[services.s{service}.probe]\ntype = \"tcp\"\ninterval = \"60s\"\n\
                 standby_interval = \"60s\"\nfast_interval = \"5s\""
            )
            .expect("a string");
            for endpoint in 0..20 {
                let value = if (service, endpoint) == (7, 7) { edited } else { "same" };
                writeln!(
                    text,
                    "[[services.s{service}.endpoints]]\nname = \"e{endpoint}\"\nurl = \"{}\"\n\
                     priority = {endpoint}\nenv = {{ S{service} = \"{value}{endpoint}\" }}",
                    upstream.url()
                )
                .expect("a string");
            }
        }
        text
    };
    let home = Home::new();
    home.write_policy(&home.policy(&services("old")));
    let sidecar = home.start();
    let probed = |status: &serde_json::Value| {
        let mut times = std::collections::BTreeMap::new();
        for (service, known) in status["services"].as_object().expect("services") {
            for (name, endpoint) in known["endpoints"].as_object().expect("endpoints") {
                times.insert((service.clone(), name.clone()), endpoint["last_probe_at"].clone());
            }
        }
        times
    };
    let before = sidecar.wait_until("a probe of every endpoint", |status| {
        let times = probed(status);
        times.len() == 1_000 && times.values().all(serde_json::Value::is_string)
    });
    home.write_policy(&home.policy(&services("new")));
    let after = sidecar.wait_until("the new policy", |status| {
        status["policy"]["digest"] != before["policy"]["digest"]
    });
    let (before, after) = (probed(&before), probed(&after));
    let changed: Vec<_> = before
        .keys()
        .filter(|endpoint| after.get(*endpoint).is_none_or(serde_json::Value::is_null))
        .collect();
    assert!(
        changed.iter().all(|(service, name)| (service.as_str(), name.as_str()) == ("s7", "e7")),
        "lost their state: {changed:?}"
    );
}

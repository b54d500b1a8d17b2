//! What a person can order, through the real commands.

use serde_json::Value;

use super::sidecar::{Home, cli, eventually};
use crate::common::upstream::{Behaviour, Upstream};

struct Scene {
    primary: Upstream,
    backup: Upstream,
    home: Home,
    sidecar: super::sidecar::Sidecar,
}

impl Scene {
    fn new() -> Self {
        let primary = Upstream::start(Behaviour::Healthy);
        let backup = Upstream::start(Behaviour::Healthy);
        let home = Home::new();
        home.write_policy(&home.quick_policy(&primary, &backup));
        let sidecar = home.start();
        home.wait_for_active("primary");
        let scene = Self { primary, backup, home, sidecar };
        scene.wait_healthy("backup");
        scene
    }

    fn wait_healthy(&self, endpoint: &str) {
        let path = format!("/services/search/endpoints/{endpoint}/health");
        self.sidecar.wait_until("a healthy endpoint", |status| {
            status.pointer(&path) == Some(&"healthy".into())
        });
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        cli(arguments, &self.home.path(""))
    }

    fn must(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
        out
    }
}

#[test]
fn a_switch_by_hand_moves_and_is_not_undone() {
    let scene = Scene::new();
    scene.must(&["switch", "search", "backup", "--reason", "a drill"]);
    scene.home.wait_for_active("backup");
    let record = eventually("the move in the history", || {
        scene.sidecar.history().into_iter().find(|record| record["kind"] == "switchover")
    });
    assert!(record["cause"].as_str().is_some_and(|cause| cause.contains("a drill")), "{record}");
    // Well past the hold of half a second.
    let requests = scene.primary.requests();
    eventually("more probes of the primary", || {
        (scene.primary.requests() > requests + 5).then_some(())
    });
    assert_eq!(scene.home.active().as_deref(), Some("backup"));
}

#[test]
fn a_switch_to_a_dead_endpoint_needs_force() {
    let scene = Scene::new();
    scene.backup.set(Behaviour::Refuse);
    scene.sidecar.wait_until("a dead backup", |status| {
        status.pointer("/services/search/endpoints/backup/health") == Some(&"unhealthy".into())
    });
    let (code, _, err) = scene.run(&["switch", "search", "backup"]);
    assert_eq!(code, 1);
    assert!(err.contains("not usable") && err.contains("--force"), "{err}");
    assert_eq!(scene.home.active().as_deref(), Some("primary"));
}

#[test]
fn a_pin_holds_against_a_dead_endpoint_until_unpinned() {
    let scene = Scene::new();
    scene.must(&["pin", "search", "primary"]);
    scene.primary.set(Behaviour::Refuse);
    scene.sidecar.wait_until("a held service", |status| {
        status.pointer("/services/search/held") == Some(&"pinned".into())
    });
    assert_eq!(scene.home.active().as_deref(), Some("primary"));
    scene.must(&["unpin", "search"]);
    scene.home.wait_for_active("backup");
}

#[test]
fn a_drained_endpoint_is_left_and_not_taken_again_until_undrained() {
    let scene = Scene::new();
    scene.must(&["drain", "search", "primary"]);
    scene.home.wait_for_active("backup");
    scene.must(&["undrain", "search", "primary"]);
    scene.home.wait_for_active("primary");
}

#[test]
fn a_paused_service_is_only_observed() {
    let scene = Scene::new();
    scene.must(&["pause", "search"]);
    scene.primary.set(Behaviour::Refuse);
    scene.sidecar.wait_until("a held service", |status| {
        status.pointer("/services/search/held") == Some(&"paused".into())
    });
    assert_eq!(scene.home.active().as_deref(), Some("primary"));
    scene.must(&["resume"]);
    scene.home.wait_for_active("backup");
}

#[test]
fn the_status_says_what_is_left_of_a_quota_and_where_the_time_went() {
    let scene = Scene::new();
    let headers = [("X-RateLimit-Limit", "100"), ("X-RateLimit-Remaining", "7")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    scene.primary.set(Behaviour::Answer(200, headers, "{\"status\":\"ok\"}".to_owned()));
    let primary = |status: &Value| status["services"]["search"]["endpoints"]["primary"].clone();
    let told = |status: &Value| primary(status)["quota"]["remaining"] == 7;
    let status = scene.sidecar.wait_until("the quota in the status", told);
    let primary = primary(&status);
    assert_eq!(primary["quota"]["limit"], 100);
    assert!(primary["phases"]["total"].is_f64(), "{primary}");
    assert!(scene.must(&["status"]).contains("7 of 100 left"));
}

#[test]
fn status_and_explain_and_history_speak_to_programs_and_people() {
    let scene = Scene::new();
    let status: Value = serde_json::from_str(&scene.must(&["status", "--json"])).expect("JSON");
    assert_eq!(status["schema"], 1);
    for field in ["active", "critical", "strategy", "state", "breaker", "pinned", "endpoints"] {
        assert!(status["services"]["search"].get(field).is_some(), "no {field}");
    }
    let endpoint = &status["services"]["search"]["endpoints"]["primary"];
    for field in [
        "health",
        "admin",
        "score",
        "breaker",
        "tier",
        "last_outcome",
        "last_probe_at",
        "latency_seconds",
    ] {
        assert!(endpoint.get(field).is_some(), "no {field} in {endpoint}");
    }
    assert!(scene.must(&["status"]).contains("primary"));
    assert!(scene.must(&["explain", "search"]).contains("primary"));
    assert!(scene.must(&["history"]).contains("primary"));
    let (code, _, err) = scene.run(&["explain", "no-such-service"]);
    assert_eq!(code, 1);
    assert!(err.contains("no service named"), "{err}");
}

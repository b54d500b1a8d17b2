//! `probe`.

use super::{Place, policy};
use crate::common::upstream::{Behaviour, Upstream};

#[test]
fn every_endpoint_is_a_row_with_its_phases() {
    let (good, bad) = (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Refuse));
    let place = Place::new();
    let text = policy(&good.address().to_string(), &bad.address().to_string());
    place.file("failover.toml", &text);
    let ran = place.run(&["probe"]).code(0);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.len(), 3, "{}", ran.out);
    assert!(lines[0].starts_with("ENDPOINT"), "{}", ran.out);
    let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let primary = fields(lines[1]);
    assert_eq!(primary[..3], ["search/primary", "0", "ok"]);
    assert!(primary[3].ends_with('s'), "the total is a span: {primary:?}");
    let secondary = fields(lines[2]);
    assert_eq!(secondary[..3], ["search/secondary", "1", "refused"]);
    assert!(ran.err.is_empty(), "nobody watches, so no progress: {}", ran.err);
}

#[test]
fn a_critical_service_without_a_healthy_endpoint_exits_3() {
    let (one, two) = (Upstream::start(Behaviour::Refuse), Upstream::start(Behaviour::Status(503)));
    let place = Place::new();
    let text = policy(&one.address().to_string(), &two.address().to_string());
    place.file("failover.toml", &text);
    let ran = place.run(&["probe"]).code(3);
    assert!(ran.err.contains("critical service search has no healthy endpoint"), "{}", ran.err);
    place.file("failover.toml", &text.replace("critical = true", "critical = false"));
    place.run(&["probe"]).code(0);
}

#[test]
fn json_has_every_phase_of_every_endpoint() {
    let (good, bad) =
        (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Status(503)));
    let place = Place::new();
    let text = policy(&good.address().to_string(), &bad.address().to_string());
    place.file("failover.toml", &text);
    let document = place.run(&["probe", "--json"]).code(0).json();
    assert_eq!(document["schema"], 1);
    let service = &document["services"]["search"];
    assert_eq!(service["critical"], true);
    let primary = &service["endpoints"]["primary"]["probe"];
    assert_eq!(primary["outcome"], "ok");
    assert_eq!(primary["passed"], true);
    assert_eq!(primary["status"], 200);
    assert_eq!(primary["address"], good.address().to_string());
    for phase in ["connect", "first_byte", "total"] {
        assert!(primary["phases_seconds"][phase].as_f64().is_some_and(|s| s >= 0.0), "{primary}");
    }
    let secondary = &service["endpoints"]["secondary"]["probe"];
    assert_eq!(secondary["outcome"], "server_error");
    assert_eq!(secondary["passed"], false);
}

#[test]
fn json_says_when_what_went_wrong_and_what_is_left_of_a_quota() {
    let headers = [("X-RateLimit-Limit", "100"), ("X-RateLimit-Remaining", "7")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let good = Upstream::start(Behaviour::Answer(200, headers, String::new()));
    let bad = Upstream::start(Behaviour::Status(503));
    let place = Place::new();
    let text = policy(&good.address().to_string(), &bad.address().to_string());
    place.file("failover.toml", &text);
    let document = place.run(&["probe", "--json"]).code(0).json();
    assert!(document["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{document}");
    let endpoints = &document["services"]["search"]["endpoints"];
    let primary = &endpoints["primary"]["probe"];
    assert_eq!(primary["quota"]["limit"], 100);
    assert_eq!(primary["quota"]["remaining"], 7);
    assert!(primary["error"].is_null());
    let secondary = &endpoints["secondary"]["probe"];
    assert_eq!(secondary["error"], "HTTP 503");
    assert!(secondary["quota"].is_null());
    let table = place.run(&["probe"]).code(0).out;
    assert!(table.contains("7 of 100 left"), "{table}");
    assert!(!table.contains("RESOLVE") && !table.contains("TLS"), "nothing went through: {table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
}

#[test]
fn only_the_services_asked_for_are_probed() {
    let upstream = Upstream::start(Behaviour::Healthy);
    let address = upstream.address().to_string();
    let place = Place::new();
    place.file("failover.toml", &policy(&address, &address));
    place.run(&["probe", "search"]).code(0);
    let before = upstream.requests();
    let ran = place.run(&["probe", "other"]).code(2);
    assert!(ran.err.contains("failed to find service other in the policy"), "{}", ran.err);
    assert_eq!(upstream.requests(), before, "nothing is probed after a mistake");
}

#[test]
fn an_invalid_policy_probes_nothing_and_exits_78() {
    let place = Place::new();
    place.file("failover.toml", "version = 2");
    let ran = place.run(&["probe"]).code(78);
    assert!(ran.err.contains("error: failed to compile failover.toml"), "{}", ran.err);
}

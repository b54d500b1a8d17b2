//! `check`.

use super::{Place, quiet_policy};

#[test]
fn a_valid_policy_is_summed_up_and_exits_0() {
    let place = Place::new();
    place.file("good.toml", &quiet_policy());
    let ran = place.run(&["check", "good.toml"]).code(0);
    assert_eq!(ran.out, "good.toml: valid, 1 service, 2 endpoints, 1 output\n");
}

#[test]
fn an_invalid_policy_tells_everything_at_once_and_exits_78() {
    let place = Place::new();
    let text = quiet_policy()
        .replace("timeout = \"5s\"", "timeout = 5")
        .replace("path = \"/h", "pth = \"/h");
    place.file("bad.toml", &text);
    let ran = place.run(&["check", "bad.toml"]).code(78);
    assert!(ran.err.contains("error[MF0206]"), "{}", ran.err);
    assert!(ran.err.contains("error[MF0201]"), "{}", ran.err);
    assert!(ran.err.contains("bad.toml:11:11"), "{}", ran.err);
    assert!(ran.out.is_empty(), "{}", ran.out);
}

#[test]
fn json_diagnostics_carry_code_place_and_help() {
    let place = Place::new();
    place.file("bad.toml", &quiet_policy().replace("\"5s\"", "5"));
    let document = place.run(&["check", "bad.toml", "--format", "json"]).code(78).json();
    assert_eq!(document["schema"], 1);
    let found = &document["diagnostics"][0];
    assert_eq!(found["code"], "MF0206");
    assert_eq!(found["severity"], "error");
    assert_eq!((found["line"].as_u64(), found["column"].as_u64()), (Some(11), Some(11)));
    assert!(found["message"].is_string() && found["help"].is_string(), "{found}");
    assert_eq!(found["file"], "bad.toml");
}

#[test]
fn a_valid_policy_is_a_json_document_without_errors() {
    let place = Place::new();
    place.file("good.toml", &quiet_policy());
    let document = place.run(&["check", "good.toml", "--format", "json"]).code(0).json();
    let found = document["diagnostics"].as_array().expect("a list");
    assert!(found.iter().all(|one| one["severity"] == "warning"), "{document}");
}

#[test]
fn a_policy_that_cannot_be_read_is_an_invalid_one() {
    let place = Place::new();
    std::fs::create_dir_all(place.path().join("directory")).expect("a directory");
    for name in ["absent.toml", "directory"] {
        let ran = place.run(&["check", name]).code(78);
        assert!(ran.err.starts_with("error: failed to read"), "{}", ran.err);
        assert!(ran.err.contains("help: "), "{}", ran.err);
        let document = place.run(&["check", name, "--format", "json"]).code(78).json();
        assert_eq!(document["diagnostics"][0]["severity"], "error");
        assert_eq!(document["diagnostics"][0]["line"], serde_json::Value::Null);
    }
}

#[test]
fn without_a_file_the_usual_places_are_searched() {
    let place = Place::new();
    let ran = place.run(&["check"]).code(78);
    assert!(ran.err.contains("help: there is neither ./failover.toml"), "{}", ran.err);
    place.file("failover.toml", &quiet_policy());
    assert!(place.run(&["check"]).code(0).out.starts_with("failover.toml: valid"));
    place.file("other.toml", &quiet_policy());
    let place = place.with("MCP_FAILOVER_POLICY", "other.toml");
    assert!(place.run(&["check"]).code(0).out.starts_with("other.toml: valid"));
    assert!(place.run(&["check", "failover.toml"]).code(0).out.starts_with("failover.toml"));
}

#[test]
fn every_code_can_be_explained_in_either_case() {
    let place = Place::new();
    let ran = place.run(&["check", "--explain", "mf0206"]).code(0);
    assert!(ran.out.starts_with("error MF0206: a duration without a unit\n\n"), "{}", ran.out);
    let ran = place.run(&["check", "--explain", "MF9999"]).code(2);
    assert!(ran.err.contains("no such code"), "{}", ran.err);
}

#[test]
fn no_diagnostic_holds_the_value_of_a_variable() {
    let place = Place::new().with("KEY", "canary\nwith a line break");
    let header = "path = \"/health\"\nheaders = { X-Key = \"${KEY}\" }";
    place.file("failover.toml", &quiet_policy().replace("path = \"/health\"", header));
    let ran = place.run(&["check"]).code(78);
    assert!(!ran.err.contains("with a line break"), "{}", ran.err);
    assert!(ran.err.contains("MF0307"), "{}", ran.err);
}

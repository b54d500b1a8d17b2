//! A switch reaches the server, and its client does not notice.

use std::fs;

use serde_json::json;

use super::host::{Host, Place, eventually, is_alive};

fn opened(place: &Place, options: &[&str], variables: &[(&str, &str)]) -> Host {
    let mut host = place.host(options, variables);
    host.open();
    host
}

#[test]
fn the_server_is_replaced_under_its_client() {
    let place = Place::new();
    let mut host = opened(&place, &[], &[]);
    let (endpoint, old) = host.whereabouts();
    assert_eq!(endpoint, "primary");
    place.sidecar.switch_and_wait("backup");
    let (endpoint, new) = host.whereabouts();
    assert_eq!(endpoint, "backup");
    assert_ne!(old, new);
    eventually("the end of the old process", || (!is_alive(old)).then_some(()));
    assert_eq!(host.tools(), 3);
    assert!(place.log().contains("this is no message"), "it is to be seen where people look");
}

#[test]
fn the_server_is_replaced_in_the_modern_era_too() {
    let place = Place::new();
    let mut host = place.host(&[], &[]);
    host.open_modern();
    for endpoint in ["backup", "primary", "backup"] {
        place.sidecar.switch_and_wait(endpoint);
        assert_eq!(host.whereabouts().0, endpoint);
    }
}

#[test]
fn calls_never_fail_while_the_server_is_replaced_again_and_again() {
    let place = Place::new();
    let mut host = opened(&place, &[], &[]);
    let mut calls = 0;
    for round in 0..6 {
        let seq = place.sidecar.switch(if round % 2 == 0 { "backup" } else { "primary" });
        while !place.sidecar.acknowledged().contains(&seq) {
            host.whereabouts();
            calls += 1;
        }
    }
    assert!(calls > 100, "{calls}");
}

#[test]
fn a_long_call_ends_where_it_began_with_all_its_progress() {
    let place = Place::new();
    let mut host = opened(&place, &[], &[]);
    let params = json!({
        "name": "slow", "arguments": { "steps": 40 }, "_meta": { "progressToken": "p" },
    });
    let id = host.ask("tools/call", params);
    place.sidecar.switch_and_wait("backup");
    let mut last = 0;
    loop {
        let message = host.next();
        if message["id"] == id {
            assert_eq!(message["result"]["content"][0]["text"], "primary");
            break;
        }
        let step = message["params"]["progress"].as_i64().expect("progress and nothing else");
        assert_eq!(step, last + 1);
        last = step;
    }
    assert_eq!(last, 40);
    assert_eq!(host.whereabouts().0, "backup");
}

#[test]
fn a_new_process_that_never_answers_leaves_the_old_one_in_place() {
    let place = Place::new();
    let fault = [("SCRIPT", r#"{"backup": "silent"}"#)];
    let mut host = opened(&place, &["--start-timeout", "1s"], &fault);
    place.sidecar.switch("backup");
    let told = "did not answer in time";
    eventually("word of the failure", || place.log().contains(told).then_some(()));
    assert_eq!(host.whereabouts().0, "primary");
    // And tried again, until another configuration comes.
    let times = |text: &str| text.matches(told).count();
    eventually("another attempt", || (times(&place.log()) > 1).then_some(()));
    place.sidecar.switch_and_wait("third");
    assert_eq!(host.whereabouts().0, "third");
}

#[test]
fn a_new_process_that_ends_well_before_it_answers_leaves_the_old_one_in_place() {
    let place = Place::new();
    let mut host = opened(&place, &[], &[("SCRIPT", r#"{"backup": "exit"}"#)]);
    place.sidecar.switch("backup");
    let told = "it ended before it could take over";
    eventually("word of the failure", || place.log().contains(told).then_some(()));
    assert_eq!(host.whereabouts().0, "primary");
}

#[test]
fn a_new_process_without_the_known_tools_leaves_the_old_one_in_place() {
    let place = Place::new();
    let fault = [("SCRIPT", r#"{"backup": "fewer"}"#)];
    let mut host = opened(&place, &["--start-timeout", "1s"], &fault);
    place.sidecar.switch("backup");
    let told = "it lacks 2 of the tools";
    eventually("word of the failure", || place.log().contains(told).then_some(()));
    assert_eq!(host.whereabouts().0, "primary");
}

#[test]
fn a_cold_restart_keeps_the_session_and_loses_no_call() {
    let place = Place::new();
    let mut host = opened(&place, &["--on-switch", "restart"], &[]);
    let (_, old) = host.whereabouts();
    let params = json!({
        "name": "slow", "arguments": { "steps": 10 }, "_meta": { "progressToken": "p" },
    });
    let slow = host.ask("tools/call", params);
    assert_eq!(host.next()["method"], "notifications/progress", "it has begun");
    let seq = place.sidecar.switch("backup");
    let answer = host.answer(slow);
    assert_eq!(answer["result"]["content"][0]["text"], "primary");
    eventually("the acknowledgement", || place.sidecar.acknowledged().contains(&seq).then_some(()));
    assert!(!is_alive(old), "the old one goes first");
    assert_eq!(host.whereabouts().0, "backup");
}

#[test]
fn a_crash_in_the_middle_of_a_line_is_repeated_where_that_does_no_harm() {
    let place = Place::new();
    let mut host = opened(&place, &[], &[]);
    let once = |name: &str| json!({ "once": place.path(name), "half": true });
    let answer = host.call("where", &once("first"));
    assert!(answer["result"]["isError"].is_null(), "{answer}");
    let answer = host.call("write", &once("second"));
    assert_eq!(answer["result"]["isError"], true);
    let text = answer["result"]["content"][0]["text"].as_str().expect("a text");
    assert!(text.contains("Whether it took effect is not known"), "{text}");
    assert_eq!(host.whereabouts().0, "primary", "and it is there again");
}

#[test]
fn a_large_message_passes_both_ways() {
    let place = Place::new();
    let mut host = opened(&place, &[], &[]);
    let size = 3 * 1024 * 1024;
    let answer = host.call("write", &json!({ "blob": size, "padding": "y".repeat(size) }));
    let text = answer["result"]["content"][0]["text"].as_str().expect("a text");
    assert_eq!(text.len(), size);
}

#[test]
fn a_server_goes_on_without_the_sidecar_and_follows_the_next() {
    let place = Place::new();
    let mut host = opened(&place, &[], &[]);
    place.sidecar.vanish();
    assert_eq!(host.whereabouts().0, "primary");
    place.sidecar.come_back("backup");
    eventually("the backup", || (host.whereabouts().0 == "backup").then_some(()));
    eventually("the acknowledgement", || place.sidecar.acknowledged().contains(&1).then_some(()));
}

#[test]
fn a_server_starts_without_a_sidecar_after_a_while() {
    let place = Place::new();
    place.sidecar.vanish();
    let inherited = [("MCP_FAILOVER_SEARCH_ENDPOINT", "inherited")];
    let mut host = opened(&place, &["--wait", "300ms"], &inherited);
    assert_eq!(host.whereabouts().0, "inherited");
    place.sidecar.come_back("backup");
    eventually("the backup", || (host.whereabouts().0 == "backup").then_some(()));
}

#[test]
fn a_signal_reaches_a_server_that_asks_for_it() {
    let place = Place::new();
    let seen = place.path("seen");
    let script = format!(
        "trap 'echo got >> {}' USR1; echo up; while :; do sleep 0.05; done",
        seen.display()
    );
    let host =
        place.plain(&["--on-switch", "signal", "--signal", "SIGUSR1"], &["sh", "-c", &script]);
    assert_eq!(host.line(), "up");
    place.sidecar.switch_and_wait("backup");
    eventually("the signal", || {
        fs::read_to_string(&seen).is_ok_and(|text| text == "got\n").then_some(())
    });
}

//! Starts, waits and ends.

use std::time::Duration;

use serde_json::json;

use super::world::{Server, World, answer, call, generation, methods, note, request};
use crate::output::child::session::{Input, SessionRules, Unfit};

fn initialize() -> serde_json::Value {
    request(0, "initialize", &json!({ "protocolVersion": "2025-11-25" }))
}

#[test]
fn what_the_client_says_before_there_is_a_process_waits_in_order() {
    let mut world = World::new(SessionRules::default());
    world.client(&initialize());
    world.client(&request(-5, "ping", &json!({})));
    world.start(1);
    assert_eq!(methods(&world.told(1)), ["initialize", "ping"]);
}

#[test]
fn a_crash_before_the_handshake_is_over_is_not_seen() {
    let server = Server::default();
    let mut world = World::new(SessionRules::default());
    world.start(1);
    world.client(&initialize());
    world.end(1);
    assert!(world.heard().is_empty());
    world.start(2);
    world.serve(2, &server);
    assert_eq!(world.heard()[0]["id"], 0);
    assert_eq!(world.serves, [generation(1), generation(2)]);
}

#[test]
fn a_switch_in_the_middle_of_the_handshake_waits_for_its_end() {
    let server = Server::default();
    let mut world = World::new(SessionRules::default());
    world.start(1);
    world.client(&initialize());
    world.start(2);
    assert!(world.told(2).is_empty(), "there is nothing to replay yet");
    world.serve(1, &server);
    assert_eq!(methods(&world.serve(2, &server)), ["initialize"]);
    assert_eq!(world.serves, [generation(1), generation(2)]);
    assert_eq!(world.heard().len(), 1);
    // If the old one dies instead, the new one gets the opening itself.
    let mut world = World::new(SessionRules::default());
    world.start(1);
    world.client(&initialize());
    world.start(2);
    world.end(1);
    assert_eq!(world.told(2)[0]["id"], 0);
}

#[test]
fn a_switch_before_the_client_speaks_replaces_at_once() {
    let mut world = World::new(SessionRules::default());
    world.start(1);
    world.start(2);
    assert_eq!(world.released, [generation(1)]);
    world.client(&initialize());
    assert_eq!(methods(&world.told(2)), ["initialize"]);
}

#[test]
fn a_process_that_never_answers_does_not_take_over() {
    let server = Server::default();
    let mut world = World::legacy(SessionRules::default(), &server);
    world.start(2);
    let until = world.keeper.deadline().expect("a bound");
    world.wait(until - world.now);
    assert_eq!(world.unfit, [(generation(2), Unfit::Silent)]);
    world.server(2, &answer(&json!("mf-2-1"), &json!({})));
    world.client(&call(9, "read"));
    assert_eq!(methods(&world.told(1)), ["tools/call"]);
    assert!(world.heard().is_empty());
}

#[test]
fn a_process_that_ends_while_it_is_primed_does_not_take_over() {
    let server = Server::default();
    let mut world = World::legacy(SessionRules::default(), &server);
    world.start(2);
    world.end(2);
    assert_eq!(world.unfit, [(generation(2), Unfit::Ended)]);
    assert_eq!(world.keeper.serving(), Some(generation(1)));
}

#[test]
fn the_old_process_may_die_while_the_new_one_is_primed() {
    let server = Server::default();
    let mut world = World::legacy(SessionRules::default(), &server);
    world.client(&call(9, "read"));
    world.start(2);
    world.end(1);
    world.serve(2, &server);
    assert_eq!(world.heard()[0]["id"], 9);
}

#[test]
fn a_later_configuration_takes_the_place_of_one_on_its_way() {
    let server = Server::default();
    let mut world = World::legacy(SessionRules::default(), &server);
    world.start(2);
    world.start(3);
    assert_eq!(world.unfit, [(generation(2), Unfit::Superseded)]);
    world.serve(3, &server);
    assert_eq!(world.serves.last(), Some(&generation(3)));
}

#[test]
fn requests_do_not_wait_for_ever_for_a_process() {
    let server = Server::default();
    let mut world = World::legacy(SessionRules::default(), &server);
    world.end(1);
    world.client(&call(9, "write"));
    world.client(&request(10, "tools/list", &json!({})));
    let until = world.keeper.deadline().expect("a bound");
    world.wait(until - world.now);
    let heard = world.heard();
    assert_eq!(heard[0]["result"]["isError"], true);
    let text = heard[0]["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("Nothing was done"), "{text}");
    assert!(heard[1]["error"]["code"].is_i64());
    // It stays out of order until a process is there, and then is well again.
    world.client(&call(11, "write"));
    assert_eq!(world.heard().len(), 1);
    world.swap(2, &server);
    world.client(&call(12, "write"));
    assert_eq!(methods(&world.told(2)), ["tools/call"]);
}

#[test]
fn a_replaced_process_has_its_time_and_no_more() {
    let server = Server::default();
    let mut world = World::legacy(SessionRules::default(), &server);
    world.client(&call(9, "write"));
    world.client(&call(10, "read"));
    world.told(1);
    world.swap(2, &server);
    world.wait(SessionRules::default().drain_timeout);
    let heard = world.heard();
    assert_eq!(heard[0]["id"], 9);
    assert_eq!(heard[0]["result"]["isError"], true);
    assert_eq!(world.told(2)[0]["id"], 10, "what does no harm is asked again");
    assert_eq!(world.released, [generation(1)]);
}

#[test]
fn a_cold_restart_lets_requests_end_and_holds_the_others_back() {
    let server = Server::default();
    let mut world = World::legacy(SessionRules::default(), &server);
    world.client(&call(9, "write"));
    world.told(1);
    world.step(Input::Park);
    world.client(&call(10, "write"));
    assert!(world.told(1).is_empty());
    assert_eq!(world.released, []);
    world.server(1, &answer(&json!(9), &json!({})));
    assert_eq!(world.released, [generation(1)]);
    world.end(1);
    world.swap(2, &server);
    let ids: Vec<_> = world.heard().iter().map(|one| one["id"].clone()).collect();
    assert_eq!(ids, [9, 10]);
    assert_eq!(world.substituted, 0);
}

#[test]
fn alone_a_process_that_can_do_less_is_better_than_none() {
    let server = Server::default();
    let mut world = World::legacy(SessionRules::default(), &server);
    world.end(1);
    let mut lesser = server;
    lesser.lists["tools"] = json!([{ "name": "write" }]);
    lesser.capabilities = json!({ "tools": {} });
    world.swap(2, &lesser);
    for _ in 0..8 {
        world.wait(Duration::from_millis(250));
        world.serve(2, &lesser);
    }
    assert_eq!(world.serves.last(), Some(&generation(2)));
    assert_eq!(methods(&world.heard()), ["notifications/tools/list_changed"]);
}

#[test]
fn replaced_processes_do_not_pile_up() {
    let server = Server::default();
    let mut world = World::legacy(SessionRules::default(), &server);
    for number in 1..12 {
        let id = i64::try_from(number).unwrap();
        world.client(&call(100 + id, "write"));
        world.swap(number + 1, &server);
    }
    assert_eq!(world.released.len(), 11 - 4);
    assert_eq!(world.substituted, 7);
}

#[test]
fn what_a_process_says_after_it_was_let_go_is_not_heard() {
    let server = Server::default();
    let mut world = World::legacy(SessionRules::default(), &server);
    world.swap(2, &server);
    assert_eq!(world.released, [generation(1)]);
    world.server(1, &request(3, "sampling/createMessage", &json!({})));
    world.server(1, &note("notifications/message", &json!({})));
    assert!(world.heard().is_empty());
}

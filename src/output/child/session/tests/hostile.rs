//! Clients and servers that do not keep to the rules.

use bytes::Bytes;
use serde_json::json;

use super::world::{Server, World, answer, call, generation, methods, note, request};
use crate::output::child::session::{Input, SessionRules};

fn open() -> World {
    World::legacy(SessionRules::default(), &Server::default())
}

#[test]
fn an_answer_that_nobody_waits_for_is_dropped() {
    let mut world = open();
    world.client(&call(9, "read"));
    for id in [json!(99), json!("9"), json!(9.5), json!(true), json!(null), json!({})] {
        world.server(1, &answer(&id, &json!({})));
    }
    assert!(world.heard().is_empty());
    world.server(1, &answer(&json!(9), &json!({})));
    world.server(1, &answer(&json!(9), &json!({})));
    assert_eq!(world.heard().len(), 1, "and a second answer too");
}

#[test]
fn two_requests_of_one_name_are_one() {
    let mut world = open();
    world.client(&call(9, "read"));
    world.client(&call(9, "write"));
    assert_eq!(world.told(1).len(), 1);
}

#[test]
fn too_many_requests_are_answered_at_once() {
    let mut world = open();
    for id in 0..5_000 {
        world.client(&call(1_000 + id, "write"));
    }
    let heard = world.heard();
    assert_eq!(heard.len(), 5_000 - 4_096);
    assert_eq!(heard[0]["result"]["isError"], true);
    assert_eq!(world.keeper.in_flight(), 4_096);
}

#[test]
fn requests_too_large_to_be_kept_are_sent_once() {
    let mut world = open();
    let blob = "x".repeat(9 * 1024 * 1024);
    for id in 0..9 {
        let params = json!({ "name": "read", "arguments": { "blob": blob } });
        world.client(&request(10 + id, "tools/call", &params));
    }
    assert_eq!(world.told(1).len(), 9);
    world.end(1);
    let heard = world.heard();
    assert_eq!(heard.len(), 2, "what is over the bound cannot be sent again");
}

#[test]
fn too_many_questions_are_refused() {
    let mut world = open();
    for id in 0..1_030 {
        world.server(1, &request(id, "roots/list", &json!({})));
    }
    assert_eq!(world.heard().len(), 1_024);
    let told = world.told(1);
    assert_eq!(told.len(), 6);
    assert!(told.iter().all(|one| one["error"]["code"].is_i64()));
}

#[test]
fn a_line_that_is_no_json_is_answered() {
    let mut world = open();
    world.step(Input::Client(Bytes::from_static(b"{\"jsonrpc\":")));
    world.step(Input::ClientTooLong);
    let codes: Vec<_> = world.heard().iter().map(|one| one["error"]["code"].clone()).collect();
    assert_eq!(codes, [-32700, -32600]);
    world.step(Input::Client(Bytes::from_static(b"{\"id\":null,\"error\":{}}")));
    assert!(world.heard().is_empty(), "an error is never answered with one");
}

#[test]
fn a_batch_is_taken_apart_on_both_sides() {
    let mut world = open();
    let batch = json!([call(9, "read"), call(10, "read")]);
    world.client(&batch);
    assert_eq!(methods(&world.told(1)), ["tools/call", "tools/call"]);
    let batch = json!([answer(&json!(9), &json!({})), answer(&json!(10), &json!({}))]);
    world.server(1, &batch);
    assert_eq!(world.heard().len(), 2);
}

#[test]
fn parameters_of_odd_types_pass_or_are_ignored() {
    let mut world = open();
    for (id, params) in [
        json!({ "name": 5, "_meta": 7, "cursor": {}, "requestState": [], "taskId": 1 }),
        json!([1, 2, 3]),
        json!("text"),
        json!({ "cursor": "mf99:x", "name": null }),
    ]
    .iter()
    .enumerate()
    {
        let id = 20 + i64::try_from(id).unwrap();
        world.client(&request(id, "tools/call", params));
    }
    assert_eq!(world.told(1).len(), 3, "the last has a cursor of nobody");
    for params in [json!({}), json!([]), json!({ "requestId": {} }), json!({ "progressToken": [] })]
    {
        for method in ["cancelled", "progress", "tasks/status", "subscriptions/acknowledged"] {
            let message = note(&format!("notifications/{method}"), &params);
            world.client(&message);
            world.server(1, &message);
        }
    }
    world.heard();
    for result in [json!(null), json!([]), json!(3), json!({ "tools": 3, "nextCursor": 1 })] {
        world.client(&request(50, "tools/list", &json!({})));
        world.server(1, &answer(&json!(50), &result));
        assert_eq!(world.heard().len(), 1, "{result}");
    }
}

#[test]
fn a_process_unknown_or_gone_is_nobody() {
    let mut world = open();
    world.server(77, &request(1, "ping", &json!({})));
    world.end(77);
    world.end(1);
    world.end(1);
    world.server(1, &request(1, "ping", &json!({})));
    assert!(world.heard().is_empty());
    assert_eq!(world.serves, [generation(1)]);
}

#[test]
fn deep_nesting_does_no_harm() {
    let mut world = open();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let line = format!(
        r#"{{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{{"name":"read","arguments":{deep}}}}}"#
    );
    // Not read by the test's own parser, which has a limit.
    drop(world.keeper.step(world.now, Input::Client(line.into())));
    assert_eq!(world.keeper.in_flight(), 1);
    let line = format!(r#"{{"jsonrpc":"2.0","id":9,"result":{{"content":{deep}}}}}"#);
    drop(world.keeper.step(world.now, Input::Server(generation(1), line.into())));
    assert_eq!(world.keeper.in_flight(), 0);
}

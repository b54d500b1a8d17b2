//! The fifteen rows of the era with a handshake.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::world::{Server, World, answer, call, find, generation, methods, note, request};
use crate::output::child::session::{Input, SessionRules, Unfit};

fn open() -> (World, Server) {
    let server = Server::default();
    (World::legacy(SessionRules::default(), &server), server)
}

#[test]
fn row_01_initialize_is_replayed_and_its_answer_swallowed() {
    let (mut world, server) = open();
    let read = world.swap(2, &server);
    let replayed = find(&read, "initialize");
    assert!(replayed["id"].as_str().is_some_and(|id| id.starts_with("mf-2-")), "{replayed}");
    assert_eq!(replayed["params"]["clientInfo"]["name"], "test");
    assert_eq!(world.serves.last(), Some(&generation(2)));
    assert_eq!(world.heard(), Vec::<serde_json::Value>::new());
}

#[test]
fn row_01_the_version_that_was_agreed_on_is_asked_for() {
    let mut world = World::new(SessionRules::default());
    let old = Server { version: "2024-11-05", ..Server::default() };
    world.start(1);
    world.client(&request(0, "initialize", &json!({ "protocolVersion": "2025-11-25" })));
    world.serve(1, &old);
    let read = world.swap(2, &old);
    assert_eq!(find(&read, "initialize")["params"]["protocolVersion"], "2024-11-05");
    world.swap(3, &Server::default());
    assert_eq!(world.unfit, [(generation(3), Unfit::Version)]);
}

#[test]
fn row_01_a_process_that_can_do_less_does_not_take_over() {
    let (mut world, mut lesser) = open();
    lesser.capabilities = json!({ "tools": {}, "logging": {}, "resources": {}, "prompts": {} });
    world.swap(2, &lesser);
    assert_eq!(world.unfit, [(generation(2), Unfit::Capability)]);
    world.client(&call(9, "read"));
    assert_eq!(methods(&world.told(1)), ["tools/call"], "the old one goes on");
    assert_eq!(world.told(2), Vec::<serde_json::Value>::new());
}

#[test]
fn row_02_initialized_is_replayed_only_if_the_client_sent_it() {
    let server = Server::default();
    let mut world = World::new(SessionRules::default());
    world.start(1);
    world.client(&request(0, "initialize", &json!({ "protocolVersion": server.version })));
    world.serve(1, &server);
    let read = world.swap(2, &server);
    assert_eq!(methods(&read), ["initialize"], "the client has not confirmed it yet");
    world.client(&note("notifications/initialized", &json!({})));
    assert_eq!(methods(&world.told(2)), ["notifications/initialized"]);
    let read = world.swap(3, &server);
    assert_eq!(methods(&read)[..2], ["initialize", "notifications/initialized"]);
}

#[test]
fn row_03_the_last_level_is_replayed() {
    let (mut world, server) = open();
    for (id, level) in [(10, "debug"), (11, "error")] {
        world.client(&request(id, "logging/setLevel", &json!({ "level": level })));
    }
    world.serve(1, &server);
    let read = world.swap(2, &server);
    let levels: Vec<_> = read.iter().filter(|one| one["method"] == "logging/setLevel").collect();
    assert_eq!(levels.len(), 1);
    assert_eq!(levels[0]["params"]["level"], "error");
}

#[test]
fn row_04_subscriptions_are_replayed_and_their_resources_told_as_updated() {
    let (mut world, server) = open();
    for (id, method, uri) in [
        (10, "resources/subscribe", "x://a"),
        (11, "resources/subscribe", "x://b"),
        (12, "resources/unsubscribe", "x://a"),
    ] {
        world.client(&request(id, method, &json!({ "uri": uri })));
    }
    world.serve(1, &server);
    world.heard();
    let read = world.swap(2, &server);
    assert_eq!(find(&read, "resources/subscribe")["params"], json!({ "uri": "x://b" }));
    let heard = world.heard();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0]["method"], "notifications/resources/updated");
    assert_eq!(heard[0]["params"], json!({ "uri": "x://b" }));
}

#[test]
fn row_04_what_changes_while_a_process_is_primed_reaches_it_too() {
    let (mut world, server) = open();
    world.start(2);
    world.client(&request(10, "resources/subscribe", &json!({ "uri": "x://a" })));
    world.client(&request(11, "logging/setLevel", &json!({ "level": "debug" })));
    let read = world.serve(2, &server);
    assert!(!methods(&read).contains(&"resources/subscribe"), "not granted yet");
    world.serve(1, &server);
    let told = world.told(2);
    assert_eq!(find(&told, "resources/subscribe")["params"]["uri"], "x://a");
    assert_eq!(find(&told, "logging/setLevel")["params"]["level"], "debug");
}

#[test]
fn row_05_a_planned_switch_leaves_requests_with_the_old_process() {
    let (mut world, server) = open();
    world.client(&call(10, "write"));
    assert_eq!(methods(&world.told(1)), ["tools/call"]);
    world.swap(2, &server);
    world.client(&call(11, "write"));
    assert_eq!(methods(&world.told(2)), ["tools/call"]);
    assert_eq!(world.released, []);
    world.server(1, &answer(&json!(10), &json!({ "content": [] })));
    assert_eq!(world.heard()[0]["id"], 10);
    assert_eq!(world.released, [generation(1)], "it owes nothing any more");
}

#[test]
fn row_05_a_crash_repeats_what_does_no_harm_and_answers_the_rest() {
    let (mut world, server) = open();
    let safe = [call(10, "read"), request(11, "resources/read", &json!({ "uri": "x://a" }))];
    for message in safe.iter().chain([&call(12, "write"), &request(13, "odd/thing", &json!({}))]) {
        world.client(message);
    }
    world.told(1);
    world.end(1);
    let heard = world.heard();
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!(heard[0]["id"], 12);
    assert_eq!(heard[0]["result"]["isError"], true);
    let text = heard[0]["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("`write`") && text.contains("check the state"), "{text}");
    assert_eq!(heard[1]["id"], 13);
    let code = heard[1]["error"]["code"].as_i64().unwrap();
    assert!(!(-32_768..=-32_000).contains(&code), "{code}");
    let read = world.swap(2, &server);
    let again: Vec<_> = read.iter().filter(|one| one["id"].is_i64()).cloned().collect();
    assert_eq!(again, safe, "under the client's own ids");
    let heard = world.heard();
    assert_eq!(heard.iter().map(|one| &one["id"]).collect::<Vec<_>>(), [10, 11]);
}

#[test]
fn row_05_a_tool_on_the_list_of_the_policy_is_repeated() {
    let rules = SessionRules { safe_tools: ["write".to_owned()].into(), ..SessionRules::default() };
    let server = Server::default();
    let mut world = World::legacy(rules, &server);
    world.client(&call(10, "write"));
    world.end(1);
    assert!(methods(&world.swap(2, &server)).contains(&"tools/call"));
}

#[test]
fn row_05_a_request_that_ends_every_process_is_given_up() {
    let (mut world, server) = open();
    world.client(&call(10, "read"));
    let deaf = Server { silent: true, ..Server::default() };
    world.end(1);
    for number in 2..4 {
        world.start(number);
        for message in world.told(number) {
            for answer in server.answer(&message) {
                world.server(number, &answer);
            }
        }
        world.serve(number, &server);
        assert_eq!(world.keeper.in_flight(), 0, "answered by the server");
        world.client(&call(20 + i64::try_from(number).unwrap(), "read"));
        world.end(number);
    }
    // One that takes the process with it each time.
    world.heard();
    world.start(4);
    for number in 4..8 {
        loop {
            let told = world.told(number);
            if told.is_empty() {
                break;
            }
            for message in told {
                let server = if message["method"] == "tools/call" { &deaf } else { &server };
                for answer in server.answer(&message) {
                    world.server(number, &answer);
                }
            }
        }
        world.end(number);
        world.start(number + 1);
    }
    assert_eq!(world.keeper.in_flight(), 0);
    let heard = world.heard();
    assert_eq!(heard.last().unwrap()["result"]["isError"], true, "{heard:?}");
}

#[test]
fn row_06_progress_never_goes_back_after_a_repeat() {
    let (mut world, server) = open();
    let token = json!({ "name": "read", "_meta": { "progressToken": "p" } });
    world.client(&request(10, "tools/call", &token));
    let progress = |value: f64| {
        note("notifications/progress", &json!({ "progressToken": "p", "progress": value }))
    };
    for value in [1.0, 2.0, 3.0] {
        world.server(1, &progress(value));
    }
    assert_eq!(world.heard().len(), 3);
    world.end(1);
    let mute = Server { silent: true, ..Server::default() };
    world.start(2);
    loop {
        let told = world.told(2);
        if told.is_empty() {
            break;
        }
        for message in told {
            let server = if message["method"] == "tools/call" { &mute } else { &server };
            for answer in server.answer(&message) {
                world.server(2, &answer);
            }
        }
    }
    for value in [1.0, 2.0, 3.0, 4.0, 4.0, 5.0] {
        world.server(2, &progress(value));
    }
    let values: Vec<_> =
        world.heard().iter().map(|one| one["params"]["progress"].as_f64().unwrap()).collect();
    assert_eq!(values, [4.0, 5.0]);
    world.server(2, &note("notifications/progress", &json!({ "progressToken": 9, "progress": 1 })));
    assert!(world.heard().is_empty(), "nobody waits for it");
}

#[test]
fn row_07_questions_of_two_processes_do_not_meet() {
    let (mut world, server) = open();
    world.client(&call(10, "write"));
    world.told(1);
    let params = json!({ "messages": [], "_meta": { "progressToken": 0 } });
    world.server(1, &request(0, "sampling/createMessage", &params));
    world.swap(2, &server);
    world.server(2, &request(0, "sampling/createMessage", &params));
    let asked = world.heard();
    assert_ne!(asked[0]["id"], asked[1]["id"]);
    assert_ne!(
        asked[0]["params"]["_meta"]["progressToken"],
        asked[1]["params"]["_meta"]["progressToken"]
    );
    let token = &asked[1]["params"]["_meta"]["progressToken"];
    let progress = json!({ "progressToken": token, "progress": 1 });
    world.client(&note("notifications/progress", &progress));
    world.client(&answer(&asked[1]["id"], &json!({ "role": "b" })));
    world.client(&answer(&asked[0]["id"], &json!({ "role": "a" })));
    assert_eq!(world.told(1), [answer(&json!(0), &json!({ "role": "a" }))]);
    let told = world.told(2);
    assert_eq!(told[0]["params"], json!({ "progressToken": 0, "progress": 1 }));
    assert_eq!(told[1], answer(&json!(0), &json!({ "role": "b" })));
}

#[test]
fn row_07_what_a_dead_process_asked_is_cancelled_and_late_answers_dropped() {
    let (mut world, server) = open();
    world.server(1, &request(7, "roots/list", &json!({})));
    let face = world.heard()[0]["id"].clone();
    world.end(1);
    let heard = world.heard();
    assert_eq!(heard[0]["method"], "notifications/cancelled");
    assert_eq!(heard[0]["params"]["requestId"], face);
    world.swap(2, &server);
    world.client(&answer(&face, &json!({ "roots": [] })));
    assert!(world.told(2).is_empty());
}

#[test]
fn row_07_a_server_can_take_its_question_back() {
    let (mut world, _) = open();
    world.server(1, &request(7, "elicitation/create", &json!({})));
    let face = world.heard()[0]["id"].clone();
    world.server(1, &note("notifications/cancelled", &json!({ "requestId": 7 })));
    assert_eq!(world.heard()[0]["params"]["requestId"], face);
    world.client(&answer(&face, &json!({})));
    assert!(world.told(1).is_empty());
}

#[test]
fn row_08_a_cancellation_goes_to_the_process_that_has_the_request() {
    let (mut world, server) = open();
    world.client(&call(10, "write"));
    world.told(1);
    world.swap(2, &server);
    world.client(&note("notifications/cancelled", &json!({ "requestId": 10 })));
    assert_eq!(methods(&world.told(1)), ["notifications/cancelled"]);
    assert!(world.told(2).is_empty());
    assert_eq!(world.released, [generation(1)], "nothing is left to wait for");
    world.client(&note("notifications/cancelled", &json!({ "requestId": 999 })));
    assert!(world.told(2).is_empty(), "unknown");
}

#[test]
fn row_08_initialize_is_never_cancelled() {
    let mut world = World::new(SessionRules::default());
    world.start(1);
    world.client(&request(0, "initialize", &json!({ "protocolVersion": "2025-11-25" })));
    world.client(&note("notifications/cancelled", &json!({ "requestId": 0 })));
    assert_eq!(methods(&world.told(1)), ["initialize"]);
}

#[test]
fn row_09_the_client_is_told_of_a_list_only_if_it_differs() {
    let (mut world, server) = open();
    let mut shuffled = server.clone();
    shuffled.lists["tools"] = json!([
        { "name": "write" },
        { "annotations": { "readOnlyHint": true }, "name": "read" },
    ]);
    world.swap(2, &shuffled);
    assert!(world.heard().is_empty(), "the same tools in another order");
    let mut more = server;
    more.lists["tools"].as_array_mut().unwrap().push(json!({ "name": "new" }));
    world.swap(3, &more);
    assert_eq!(methods(&world.heard()), ["notifications/tools/list_changed"]);
    world.swap(4, &more);
    assert!(world.heard().is_empty());
    more.lists["prompts"] = json!([]);
    world.swap(5, &more);
    assert_eq!(methods(&world.heard()), ["notifications/prompts/list_changed"]);
}

#[test]
fn row_09_the_first_answer_says_that_changes_of_tools_will_be_told() {
    let mut world = World::new(SessionRules::default());
    world.start(1);
    world.client(&request(0, "initialize", &json!({ "protocolVersion": "2025-11-25" })));
    world.serve(1, &Server::default());
    let heard = world.heard();
    let capabilities = &heard[0]["result"]["capabilities"];
    assert_eq!(capabilities["tools"], json!({ "listChanged": true }));
    assert_eq!(capabilities["resources"], json!({ "subscribe": true }));
    assert_eq!(heard[0]["result"]["serverInfo"]["name"], "scripted");
}

#[test]
fn row_09_a_process_without_the_known_tools_does_not_take_over() {
    let (mut world, server) = open();
    let mut lesser = server.clone();
    lesser.lists["tools"] = json!([{ "name": "write" }]);
    world.swap(2, &lesser);
    assert_eq!(world.serves, [generation(1)]);
    for _ in 0..200 {
        world.wait(Duration::from_millis(250));
        world.serve(2, &lesser);
    }
    assert_eq!(world.unfit, [(generation(2), Unfit::Tools(1))]);
    // One that adds its tools only after it was opened is waited for.
    world.swap(3, &lesser);
    world.server(3, &note("notifications/tools/list_changed", &json!({})));
    world.serve(3, &server);
    assert_eq!(world.serves.last(), Some(&generation(3)));
    assert!(world.heard().is_empty());
}

#[test]
fn row_10_cursors_are_marked_with_their_process() {
    let (mut world, server) = open();
    world.client(&request(10, "tools/list", &json!({})));
    world.told(1);
    world.server(1, &answer(&json!(10), &json!({ "tools": [], "nextCursor": "c1" })));
    let cursor = world.heard()[0]["result"]["nextCursor"].clone();
    assert_ne!(cursor, "c1");
    world.client(&request(11, "tools/list", &json!({ "cursor": cursor })));
    assert_eq!(world.told(1)[0]["params"]["cursor"], "c1");
    world.server(1, &answer(&json!(11), &json!({ "tools": server.lists["tools"] })));
    world.heard();
    world.swap(2, &server);
    world.client(&request(12, "tools/list", &json!({ "cursor": cursor })));
    let heard = world.heard();
    assert_eq!(heard[0]["error"]["code"], -32602);
    assert!(world.told(2).is_empty());
}

#[test]
fn row_11_the_new_process_asks_for_roots_itself() {
    let (mut world, server) = open();
    world.start(2);
    world.server(2, &request(0, "roots/list", &json!({})));
    let asked = world.heard();
    assert_eq!(asked[0]["method"], "roots/list", "even before it serves");
    world.client(&answer(&asked[0]["id"], &json!({ "roots": [] })));
    world.serve(2, &server);
    world.client(&note("notifications/roots/list_changed", &json!({})));
    assert_eq!(methods(&world.told(2)), ["notifications/roots/list_changed"]);
}

#[test]
fn row_12_a_task_stays_with_its_process_until_its_result_is_fetched() {
    let (mut world, server) = open();
    let params = json!({ "name": "write", "task": {}, "_meta": { "progressToken": 5 } });
    world.client(&request(10, "tools/call", &params));
    world.told(1);
    let task = json!({ "task": { "taskId": "t1", "status": "working", "ttl": 60_000 } });
    world.server(1, &answer(&json!(10), &task));
    world.swap(2, &server);
    world.heard();
    assert_eq!(world.released, [], "the task is not done");
    let progress = json!({ "progressToken": 5, "progress": 1 });
    world.server(1, &note("notifications/progress", &progress));
    world.server(1, &note("notifications/tasks/status", &json!({ "taskId": "t1" })));
    assert_eq!(world.heard().len(), 2, "its news go on");
    world.client(&request(11, "tasks/get", &json!({ "taskId": "t1" })));
    world.client(&request(12, "tasks/result", &json!({ "taskId": "t1" })));
    assert_eq!(methods(&world.told(1)), ["tasks/get", "tasks/result"]);
    world.server(1, &answer(&json!(11), &json!({ "taskId": "t1", "status": "completed" })));
    assert_eq!(world.released, []);
    world.server(1, &answer(&json!(12), &json!({ "content": [] })));
    assert_eq!(world.released, [generation(1)]);
}

#[test]
fn row_12_a_task_keeps_its_process_no_longer_than_it_lives() {
    let (mut world, server) = open();
    world.client(&request(10, "tools/call", &json!({ "name": "write", "task": {} })));
    let task = json!({ "task": { "taskId": "t1", "status": "working", "ttl": 90_000 } });
    world.server(1, &answer(&json!(10), &task));
    world.swap(2, &server);
    world.wait(Duration::from_secs(61));
    assert_eq!(world.released, []);
    world.wait(Duration::from_secs(30));
    assert_eq!(world.released, [generation(1)]);
}

#[test]
fn row_13_an_elicitation_by_address_belongs_to_its_process() {
    let (mut world, server) = open();
    world.client(&call(9, "write"));
    let params = json!({ "mode": "url", "elicitationId": "e1", "url": "https://example.com" });
    world.server(1, &request(0, "elicitation/create", &params));
    world.client(&call(10, "write"));
    let asked = json!({ "elicitations": [{ "elicitationId": "e2" }] });
    let error = json!({ "code": -32042, "message": "open this", "data": asked });
    world.server(1, &json!({ "jsonrpc": "2.0", "id": 10, "error": error }));
    world.swap(2, &server);
    world.heard();
    let complete =
        |id: &str| note("notifications/elicitation/complete", &json!({ "elicitationId": id }));
    world.server(2, &complete("e1"));
    world.server(1, &complete("e3"));
    assert!(world.heard().is_empty(), "neither is theirs");
    world.server(1, &complete("e1"));
    world.server(1, &complete("e2"));
    world.server(1, &complete("e2"));
    assert_eq!(world.heard().len(), 2);
    world.end(1);
    assert_eq!(
        find(&world.heard(), "notifications/cancelled")["method"],
        "notifications/cancelled"
    );
}

#[test]
fn row_14_a_stateful_server_is_replaced_only_when_idle() {
    let rules = SessionRules { stateful: true, ..SessionRules::default() };
    let server = Server::default();
    let mut world = World::legacy(rules, &server);
    world.client(&call(10, "write"));
    world.swap(2, &server);
    assert_eq!(world.serves, [generation(1)]);
    world.client(&call(11, "write"));
    assert_eq!(world.told(1).len(), 2, "it still gets what comes");
    for id in [10, 11] {
        world.server(1, &answer(&json!(id), &json!({})));
    }
    assert_eq!(world.serves, [generation(1), generation(2)]);
    // But not for ever.
    world.client(&call(12, "write"));
    world.swap(3, &server);
    world.wait(SessionRules::default().drain_timeout);
    assert_eq!(world.serves.last(), Some(&generation(3)));
}

#[test]
fn row_15_what_is_no_message_does_not_reach_the_client() {
    let (mut world, _) = open();
    for line in ["hello", "{\"jsonrpc\"", "[1,2", "\u{1b}[31mred"] {
        world.step(Input::Server(generation(1), Bytes::from(line.to_owned())));
    }
    for line in ["{}", "3", "null"] {
        world.step(Input::Server(generation(1), Bytes::from(line.to_owned())));
    }
    assert_eq!(world.stray.len(), 4);
    assert!(world.heard().is_empty());
}

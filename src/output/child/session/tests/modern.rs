//! The nine rows of the era without a handshake.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::{MODERN, Server, World, answer, find, generation, methods, modern, note};
use crate::output::child::session::{SessionRules, Unfit};

fn server() -> Server {
    Server { version: MODERN, ..Server::default() }
}

fn open() -> (World, Server) {
    let server = server();
    (World::modern(SessionRules::default(), &server), server)
}

fn listen(id: i64, filter: &Value) -> Value {
    modern(id, "subscriptions/listen", &json!({ "notifications": filter }))
}

fn subscription(id: i64) -> Value {
    json!({ "io.modelcontextprotocol/subscriptionId": id })
}

#[test]
fn row_a_a_process_is_warmed_by_discovery_and_needs_no_handshake() {
    let (mut world, server) = open();
    let read = world.swap(2, &server);
    assert_eq!(methods(&read), ["server/discover", "tools/list"]);
    for message in &read {
        let meta = &message["params"]["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], MODERN, "{message}");
    }
    assert!(world.heard().is_empty());
    world.client(&modern(9, "tools/call", &json!({ "name": "read" })));
    assert_eq!(methods(&world.told(2)), ["tools/call"]);
}

#[test]
fn row_b_a_subscription_is_taken_over_without_a_second_acknowledgement() {
    let (mut world, server) = open();
    let filter = json!({ "toolsListChanged": true, "resourceSubscriptions": ["x://a"] });
    world.client(&listen(7, &filter));
    world.serve(1, &server);
    assert_eq!(methods(&world.heard()), ["notifications/subscriptions/acknowledged"]);
    let mut more = server;
    more.lists["tools"].as_array_mut().unwrap().push(json!({ "name": "new" }));
    let read = world.swap(2, &more);
    assert_eq!(find(&read, "subscriptions/listen")["id"], 7, "under the client's own id");
    let heard = world.heard();
    assert_eq!(
        methods(&heard),
        ["notifications/tools/list_changed", "notifications/resources/updated"]
    );
    for news in &heard {
        assert_eq!(news["params"]["_meta"], subscription(7));
    }
    assert_eq!(world.released, [generation(1)], "a subscription keeps nobody");
}

#[test]
fn row_b_the_end_of_the_old_subscription_is_swallowed_in_all_three_forms() {
    for end in [
        answer(&json!(7), &json!({ "resultType": "complete", "_meta": subscription(7) })),
        note("notifications/cancelled", &json!({ "requestId": 7 })),
        json!({ "jsonrpc": "2.0", "id": 7, "error": { "code": -32000, "message": "closed" } }),
    ] {
        let (mut world, server) = open();
        world.client(&listen(7, &json!({ "toolsListChanged": true })));
        // It holds the old process, so that its last words are still read.
        world.client(&modern(8, "tools/call", &json!({ "name": "write" })));
        let acknowledged = note(
            "notifications/subscriptions/acknowledged",
            &json!({ "_meta": subscription(7), "notifications": { "toolsListChanged": true } }),
        );
        world.server(1, &acknowledged);
        world.swap(2, &server);
        world.heard();
        world.server(1, &end);
        let news = json!({ "_meta": subscription(7) });
        world.server(1, &note("notifications/tools/list_changed", &news));
        assert!(world.heard().is_empty(), "{end}");
        world.server(2, &note("notifications/tools/list_changed", &news));
        assert_eq!(world.heard().len(), 1, "it goes on with the new process");
        world.server(2, &end);
        assert_eq!(world.heard().len(), 1, "whose end is the end");
        world.server(2, &note("notifications/tools/list_changed", &news));
        assert!(world.heard().is_empty(), "nobody listens any more");
    }
}

#[test]
fn row_b_a_subscription_may_not_shrink() {
    let (mut world, mut server) = open();
    world.client(&listen(7, &json!({ "toolsListChanged": true, "promptsListChanged": true })));
    world.serve(1, &server);
    server.grants = Some(json!({ "toolsListChanged": true }));
    world.swap(2, &server);
    assert_eq!(world.unfit, [(generation(2), Unfit::Subscription)]);
}

#[test]
fn row_b_a_crash_renews_subscriptions() {
    let (mut world, server) = open();
    world.client(&listen(7, &json!({ "toolsListChanged": true })));
    world.serve(1, &server);
    world.heard();
    world.end(1);
    let read = world.swap(2, &server);
    assert_eq!(methods(&read).iter().filter(|one| **one == "subscriptions/listen").count(), 1);
    assert!(world.heard().is_empty());
    world
        .server(2, &note("notifications/tools/list_changed", &json!({ "_meta": subscription(7) })));
    assert_eq!(world.heard().len(), 1);
}

#[test]
fn row_b_a_subscription_ended_or_begun_meanwhile_is_no_surprise() {
    let (mut world, server) = open();
    world.client(&listen(7, &json!({ "toolsListChanged": true })));
    world.serve(1, &server);
    world.heard();
    world.start(2);
    // It has read `server/discover` and answered; the listing is still to come.
    let told = world.told(2);
    for line in server.answer(&told[0]) {
        world.server(2, &line);
    }
    let told = world.told(2);
    world.client(&note("notifications/cancelled", &json!({ "requestId": 7 })));
    world.client(&listen(8, &json!({ "promptsListChanged": true })));
    world.serve(1, &server);
    world.heard();
    for message in told {
        for line in server.answer(&message) {
            world.server(2, &line);
        }
    }
    assert_eq!(world.serves.last(), Some(&generation(2)));
    let told = world.told(2);
    assert_eq!(find(&told, "notifications/cancelled")["params"]["requestId"], 7);
    assert_eq!(find(&told, "subscriptions/listen")["id"], 8);
}

#[test]
fn row_c_a_request_state_finds_its_way_back() {
    let (mut world, server) = open();
    world.client(&modern(7, "tools/call", &json!({ "name": "write" })));
    let asks = json!({ "resultType": "input_required", "requestState": "s1", "inputRequests": {} });
    world.server(1, &answer(&json!(7), &asks));
    let state = world.heard()[0]["result"]["requestState"].clone();
    assert_ne!(state, "s1");
    world.told(1);
    world.swap(2, &server);
    assert_eq!(world.released, [], "the old one waits for the client's input");
    let retry = json!({ "name": "write", "requestState": state, "inputResponses": {} });
    world.client(&modern(8, "tools/call", &retry));
    assert_eq!(world.told(1)[0]["params"]["requestState"], "s1");
    assert!(world.told(2).is_empty());
    world.server(1, &answer(&json!(8), &json!({ "resultType": "complete", "content": [] })));
    assert_eq!(world.released, [generation(1)]);
    // Its process gone, another may know it by a shared key.
    world.client(&modern(9, "tools/call", &retry));
    assert_eq!(world.told(2)[0]["params"]["requestState"], "s1");
}

#[test]
fn row_c_a_request_state_keeps_its_process_only_for_its_time() {
    let (mut world, server) = open();
    world.client(&modern(7, "tools/call", &json!({ "name": "write" })));
    let asks = json!({ "resultType": "input_required", "requestState": "s1" });
    world.server(1, &answer(&json!(7), &asks));
    world.swap(2, &server);
    world.wait(SessionRules::default().state_ttl.saturating_sub(Duration::from_secs(1)));
    assert_eq!(world.released, []);
    let until = world.keeper.deadline().expect("something to wait for");
    world.wait(until - world.now);
    assert_eq!(world.released, [generation(1)]);
}

#[test]
fn row_d_lost_requests_are_repeated_once_or_answered_for_the_model() {
    let (mut world, server) = open();
    world.client(&modern(7, "tools/call", &json!({ "name": "read" })));
    world.client(&modern(8, "tools/call", &json!({ "name": "write" })));
    world.end(1);
    let heard = world.heard();
    assert_eq!(heard[0]["id"], 8);
    assert_eq!(heard[0]["result"]["isError"], true);
    assert_eq!(heard[0]["result"]["resultType"], "complete");
    let read = world.swap(2, &server);
    let calls: Vec<_> = read.iter().filter(|one| one["method"] == "tools/call").collect();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["id"], 7);
}

#[test]
fn row_e_what_a_request_carries_itself_is_not_remembered_for_others() {
    let (mut world, server) = open();
    let mut loud = modern(7, "tools/call", &json!({ "name": "read" }));
    loud["params"]["_meta"]["progressToken"] = json!("p");
    loud["params"]["_meta"]["com.example/trace"] = json!("t");
    world.client(&loud);
    world.serve(1, &server);
    for message in world.swap(2, &server) {
        let meta = message["params"]["_meta"].as_object().expect("every request has it");
        assert!(meta.keys().all(|key| key.starts_with("io.modelcontextprotocol/")), "{meta:?}");
    }
}

#[test]
fn row_e_a_version_that_the_new_process_does_not_speak_stops_the_switch() {
    let (mut world, server) = open();
    world.swap(2, &Server { version: "2027-01-01", ..server });
    // A server that does not know discovery at all refuses it.
    assert_eq!(world.unfit, [(generation(2), Unfit::Refused)]);
}

#[test]
fn row_f_a_client_keeps_lists_only_for_a_short_time() {
    let (mut world, _) = open();
    for (id, ttl, seen) in [(10, json!(3_600_000), json!(5_000)), (11, json!(700), json!(700))] {
        world.client(&modern(id, "tools/list", &json!({})));
        world.server(1, &answer(&json!(id), &json!({ "tools": [], "ttlMs": ttl })));
        assert_eq!(world.heard()[0]["result"]["ttlMs"], seen);
    }
}

#[test]
fn row_g_a_task_of_the_extension_stays_with_its_process() {
    let (mut world, server) = open();
    world.client(&modern(7, "tools/call", &json!({ "name": "write" })));
    world.told(1);
    let task =
        json!({ "resultType": "task", "taskId": "t1", "status": "working", "ttlMs": 60_000 });
    world.server(1, &answer(&json!(7), &task));
    assert_eq!(world.heard()[0]["result"]["ttlMs"], 60_000, "a task's time is no cache's");
    world.swap(2, &server);
    assert_eq!(world.released, []);
    for (id, status) in [(8, "working"), (9, "completed")] {
        world.client(&modern(id, "tasks/get", &json!({ "taskId": "t1" })));
        assert_eq!(methods(&world.told(1)), ["tasks/get"]);
        world.server(1, &answer(&json!(id), &json!({ "taskId": "t1", "status": status })));
    }
    assert_eq!(world.released, [generation(1)]);
}

#[test]
fn row_h_a_process_is_opened_only_in_the_era_of_the_client() {
    let (mut world, server) = open();
    let read = world.swap(2, &server);
    assert!(!methods(&read).contains(&"initialize"));
    let legacy = Server::default();
    let mut world = World::legacy(SessionRules::default(), &legacy);
    let read = world.swap(2, &legacy);
    assert!(!methods(&read).contains(&"server/discover"));
}

#[test]
fn row_h_a_client_that_tries_the_new_era_on_an_old_server_is_of_the_old_one() {
    let server = Server::default();
    let mut world = World::new(SessionRules::default());
    world.start(1);
    world.client(&modern(0, "server/discover", &json!({})));
    world.serve(1, &server);
    assert_eq!(world.heard()[0]["error"]["code"], -32601);
    let params = json!({ "protocolVersion": server.version });
    world.client(&super::world::request(1, "initialize", &params));
    world.serve(1, &server);
    world.client(&note("notifications/initialized", &json!({})));
    let read = world.swap(2, &server);
    assert_eq!(methods(&read)[..2], ["initialize", "notifications/initialized"]);
    assert_eq!(world.serves.last(), Some(&generation(2)));
}

#[test]
fn row_i_any_process_takes_any_request() {
    // Nothing ties a request of this era to a process, which is what lets HTTP spread them.
    let (mut world, server) = open();
    for number in 2..6 {
        world.swap(number, &server);
        let id = i64::try_from(number).unwrap() * 10;
        world.client(&modern(id, "tools/call", &json!({ "name": "write" })));
        assert_eq!(methods(&world.serve(number, &server)), ["tools/call"]);
        assert_eq!(world.heard()[0]["id"], id);
    }
    assert_eq!(world.released.len(), 4);
}

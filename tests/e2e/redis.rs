//! The copy of the state in Redis: what is there, what becomes of it, and that nothing needs it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::sidecar::{Home, PATIENCE, Sidecar, cli, eventually};
use crate::common::redis::Redis;
use crate::common::tls::Authority;
use crate::common::upstream::{Behaviour, Upstream};

const PASSWORD: &str = "canary-of-redis-31c7";

/// A world with two upstreams, and a sidecar that writes to Redis.
struct World {
    home: Home,
    primary: Upstream,
    backup: Upstream,
}

impl World {
    fn new() -> Self {
        let (primary, backup) =
            (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy));
        Self { home: Home::new(), primary, backup }
    }

    fn write(&self, redis: &str) {
        let policy = self.home.quick_policy(&self.primary, &self.backup);
        self.home.write_policy(&format!("{policy}[redis]\ntimeout = \"1s\"\n{redis}\n"));
    }

    fn start(&self, redis: &str) -> Sidecar {
        self.write(redis);
        self.home.start_with(&[("REDIS_PASSWORD", PASSWORD)])
    }

    fn fail_over(&self) {
        self.primary.set(Behaviour::Refuse);
        self.home.wait_for_active("backup");
    }

    fn fail_back(&self) {
        self.primary.set(Behaviour::Healthy);
        self.home.wait_for_active("primary");
    }

    fn lose_all(&self) {
        fs::remove_dir_all(self.home.path("state")).expect("a folder");
        fs::remove_file(self.home.path("failover.env")).expect("a file");
    }
}

fn url(redis: &Redis) -> String {
    format!("url = \"{}\"", redis.url())
}

fn is(status: &Value, state: &str) -> bool {
    status.pointer("/redis/state") == Some(&state.into())
}

fn reason(status: &Value) -> Option<&str> {
    status.pointer("/redis/reason").and_then(Value::as_str)
}

/// Waits until Redis has every decision of the history, in order and once.
fn wait_for_all(redis: &Redis, sidecar: &Sidecar) -> Vec<Value> {
    eventually("all decisions in Redis", || {
        let mut history = sidecar.history();
        history.reverse();
        let there: Vec<Value> = redis.decisions("e2e").into_iter().map(|(_, one)| one).collect();
        (!history.is_empty() && there == history).then_some(history)
    })
}

fn active_in(redis: &Redis) -> Option<String> {
    let text = redis.cli(&["HGET", "{mcpf:e2e}:services", "search"]);
    let service: Value = serde_json::from_str(text.as_str()?).ok()?;
    service["active"].as_str().map(str::to_owned)
}

fn wait_for_active_in(redis: &Redis, endpoint: &str) {
    eventually("the service in Redis", || {
        (active_in(redis).as_deref() == Some(endpoint)).then_some(())
    });
}

fn order(sidecar: &Sidecar, order: &Value) {
    let request = json!({"request": "command", "command": {"order": order}});
    assert_eq!(sidecar.ask(&request).expect("an answer")["ok"], true);
}

#[test]
fn state_services_and_decisions_are_there_and_told() {
    let Some(redis) = Redis::start("save \"\"\n") else { return };
    let world = World::new();
    let mut listener = TcpStream::connect(redis.address()).expect("redis listens");
    listener.write_all(b"SUBSCRIBE {mcpf:e2e}:events\r\n").expect("redis reads");
    let sidecar = world.start(&url(&redis));
    world.home.wait_for_active("primary");
    wait_for_active_in(&redis, "primary");
    world.fail_over();
    wait_for_active_in(&redis, "backup");
    wait_for_all(&redis, &sidecar);
    let decisions = redis.decisions("e2e");
    let failover = decisions.last().expect("a decision");
    assert_eq!(failover.1["kind"], "failover");
    assert_eq!(failover.0, format!("{}-0", failover.1["revision"]));
    let state = redis.cli(&["GET", "{mcpf:e2e}:state"]);
    assert!(state.as_str().is_some_and(|s| s.starts_with("mcp-failover backup 1 revision=")));
    assert!(!state.to_string().contains("identity\":1"), "{state}");
    let about = redis.cli(&["HGETALL", "{mcpf:e2e}:about"]);
    assert_eq!(
        (&about["name"], &about["revision"]),
        (&"e2e".into(), &failover.1["revision"].to_string().into())
    );
    let service = redis.cli(&["HGET", "{mcpf:e2e}:services", "search"]);
    let service: Value = serde_json::from_str(service.as_str().expect("text")).expect("JSON");
    assert_eq!(service["revision"], failover.1["revision"]);
    assert!(service["since"].is_string() && service["paused"] == false, "{service}");
    // A script that was forgotten is sent again.
    assert_eq!(redis.cli(&["SCRIPT", "FLUSH"]), "OK");
    world.fail_back();
    wait_for_active_in(&redis, "primary");
    let mut told = BufReader::new(listener).lines().map_while(Result::ok);
    let told = told.find(|line| line.contains("\"failback\"")).expect("a message");
    assert_eq!(serde_json::from_str::<Value>(&told).expect("JSON")["service"], "search");
    let status = sidecar.wait_until("that it is up", |status| is(status, "up"));
    assert_eq!(status.pointer("/redis/keys"), Some(&"{mcpf:e2e}".into()));
    assert_eq!(status.pointer("/redis/outbox"), Some(&0.into()));
    let (_, out, _) = cli(&["status"], &world.home.path(""));
    assert!(out.contains("{mcpf:e2e}, up, revision"), "{out}");
    assert!(sidecar.terminate().success());
}

#[test]
fn what_is_thrown_away_while_it_runs_comes_back() {
    let Some(redis) = Redis::start("save \"\"\n") else { return };
    let world = World::new();
    let sidecar = world.start(&url(&redis));
    world.home.wait_for_active("primary");
    world.fail_over();
    let history = wait_for_all(&redis, &sidecar);
    assert_eq!(redis.cli(&["FLUSHALL"]), "OK");
    eventually("the state again", || {
        redis.cli(&["GET", "{mcpf:e2e}:state"]).as_str().filter(|s| !s.is_empty()).map(drop)
    });
    assert_eq!(wait_for_all(&redis, &sidecar), history);
    wait_for_active_in(&redis, "backup");
    // Found out by a decision: the older ones come before it.
    assert_eq!(redis.cli(&["FLUSHALL"]), "OK");
    world.fail_back();
    assert!(wait_for_all(&redis, &sidecar).len() > history.len());
    assert!(sidecar.terminate().success());
}

#[test]
fn a_lost_state_comes_back_at_a_later_revision() {
    let Some(redis) = Redis::start("save \"\"\n") else { return };
    let world = World::new();
    let sidecar = world.start(&url(&redis));
    world.home.wait_for_active("primary");
    world.fail_over();
    order(&sidecar, &json!({"order": "pin", "service": "search", "endpoint": "backup"}));
    eventually("the pin in Redis", || {
        let text = redis.cli(&["HGET", "{mcpf:e2e}:services", "search"]);
        let state = redis.cli(&["GET", "{mcpf:e2e}:state"]);
        let pinned = text.as_str()?.contains("\"pinned\":\"backup\"");
        (pinned && state.as_str()?.contains("\"pin\":{")).then_some(())
    });
    let history = wait_for_all(&redis, &sidecar);
    let revision = world.home.revision();
    sidecar.kill();
    world.primary.set(Behaviour::Healthy);
    world.lose_all();
    let sidecar = world.start(&url(&redis));
    let status = sidecar.wait_until("the state of before", |status| {
        status.pointer("/services/search/pinned") == Some(&"backup".into())
    });
    assert_eq!(status.pointer("/services/search/active"), Some(&"backup".into()), "{status}");
    let from = status.pointer("/redis/recovered_from").and_then(Value::as_str);
    assert!(from.is_some_and(|from| from.starts_with("revision ")), "{status}");
    world.home.wait_for_active("backup");
    eventually("a later revision", || (world.home.revision() > revision).then_some(()));
    assert!(world.home.log().contains("starting from the copy of it in Redis"));
    assert_eq!(wait_for_all(&redis, &sidecar), history, "the same moves, and none to get there");
    // It is a restart, not another one.
    sidecar.wait_until("that it is up", |status| is(status, "up"));
}

#[test]
fn a_copy_that_does_not_verify_is_laid_aside_and_the_revision_goes_on() {
    let Some(redis) = Redis::start("save \"\"\n") else { return };
    let world = World::new();
    let sidecar = world.start(&url(&redis));
    world.home.wait_for_active("primary");
    wait_for_active_in(&redis, "primary");
    sidecar.kill();
    world.lose_all();
    redis.cli(&["HSET", "{mcpf:e2e}:about", "revision", "700000"]);
    redis.cli(&["SET", "{mcpf:e2e}:state", "half of somethi"]);
    let sidecar = world.start(&url(&redis));
    world.home.wait_for_active("primary");
    assert!(world.home.log().contains("is not used: it is damaged or not ours"));
    let aside = fs::read_dir(world.home.path("state")).expect("a folder").any(|entry| {
        let path = entry.expect("an entry").path();
        fs::read(path).is_ok_and(|bytes| bytes == b"half of somethi")
    });
    assert!(aside, "the bytes are kept");
    eventually("a later revision", || (world.home.revision() > 700_000).then_some(()));
    sidecar.wait_until("that it is up", |status| is(status, "up"));
    sidecar.kill();
    // A directory that is there wins, above a later revision that Redis tells of.
    redis.cli(&["HSET", "{mcpf:e2e}:about", "revision", "9000000"]);
    let sidecar = world.start(&url(&redis));
    eventually("a later revision", || (world.home.revision() > 9_000_000).then_some(()));
    assert!(world.home.log().contains("Redis knows a later revision than the state directory"));
    sidecar.wait_until("that it is up", |status| is(status, "up"));
}

#[test]
fn two_sidecars_of_one_name_are_told_and_overwrite_nothing() {
    let Some(redis) = Redis::start("save \"\"\n") else { return };
    let (world, other) = (World::new(), World::new());
    let sidecar = world.start(&url(&redis));
    world.home.wait_for_active("primary");
    for _ in 0..2 {
        world.fail_over();
        world.fail_back();
    }
    let history = wait_for_all(&redis, &sidecar);
    let second = other.start(&format!("{}\nrecover = false", url(&redis)));
    let status = second.wait_until("a conflict", |status| is(status, "conflict"));
    assert_eq!(reason(&status), Some("conflict"));
    other.fail_over();
    let log = eventually("the event", || {
        Some(other.home.log()).filter(|log| log.contains("is not kept in redis://"))
    });
    assert_eq!(log.matches("nothing is overwritten").count(), 1, "told once");
    assert_eq!(wait_for_all(&redis, &sidecar), history);
    wait_for_active_in(&redis, "primary");
    let (_, out, _) = cli(&["status"], &other.home.path(""));
    assert!(out.contains("conflict") && out.contains("a name of its own"), "{out}");
    second.kill();
    // One that starts from what is there has it: then the first one is told.
    fs::remove_dir_all(other.home.path("state")).expect("a folder");
    let second = other.start(&url(&redis));
    second.wait_until("that it is up", |status| is(status, "up"));
    sidecar.wait_until("a conflict", |status| is(status, "conflict"));
    let before = redis.decisions("e2e");
    world.fail_over();
    world.fail_back();
    assert!(is(&sidecar.status().expect("a status"), "conflict"));
    assert_eq!(redis.decisions("e2e"), before);
}

#[test]
fn switches_go_on_without_it_and_all_is_there_after_its_return() {
    let Some(mut redis) = Redis::start("appendonly yes\nappendfsync always\n") else { return };
    let world = World::new();
    let sidecar = world.start(&url(&redis));
    world.home.wait_for_active("primary");
    wait_for_all(&redis, &sidecar);
    redis.kill();
    for _ in 0..3 {
        world.fail_over();
        world.fail_back();
    }
    let status = sidecar.wait_until("that decisions wait", |status| {
        status.pointer("/redis/outbox").and_then(Value::as_u64) == Some(6)
    });
    assert!(is(&status, "down"), "{status}");
    assert_eq!(reason(&status), Some("unreachable"));
    eventually("the event", || world.home.log().contains("is not kept in redis://").then_some(()));
    // It ended the connection, and then it could not be reached: each once.
    assert!(world.home.log().matches("the state is not kept in Redis").count() <= 2);
    redis.up();
    let history = wait_for_all(&redis, &sidecar);
    assert!(history.len() >= 7, "{history:?}");
    sidecar.wait_until("that it is up", |status| {
        is(status, "up") && status.pointer("/redis/outbox") == Some(&0.into())
    });
    eventually("the event", || world.home.log().contains("is kept in redis://").then_some(()));
    // Decided while it was down, and then the sidecar died: they come from the disk.
    redis.kill();
    world.fail_over();
    sidecar.wait_until("that it is known", |status| is(status, "down"));
    sidecar.kill();
    redis.up();
    let sidecar = world.start(&url(&redis));
    world.home.wait_for_active("backup");
    wait_for_all(&redis, &sidecar);
}

#[test]
fn a_server_that_hangs_delays_neither_a_switch_nor_the_end_nor_a_start() {
    let Some(redis) = Redis::start("save \"\"\n") else { return };
    let world = World::new();
    let sidecar = world.start(&url(&redis));
    world.home.wait_for_active("primary");
    wait_for_all(&redis, &sidecar);
    redis.signal(Signal::STOP);
    world.fail_over();
    let status = sidecar.wait_until("that it hangs", |status| reason(status) == Some("timeout"));
    assert!(is(&status, "down"), "{status}");
    assert!(sidecar.terminate().success());
    assert!(!world.home.log().contains("the drain took too long"));
    // Neither with a state nor without one.
    let sidecar = world.start(&url(&redis));
    sidecar.wait_until("a start", |status| {
        status.pointer("/services/search/active") == Some(&"backup".into())
    });
    assert!(sidecar.terminate().success());
    world.primary.set(Behaviour::Healthy);
    world.lose_all();
    let sidecar = world.start(&url(&redis));
    world.home.wait_for_active("primary");
    assert!(world.home.log().contains("Redis cannot be asked for it"));
    redis.signal(Signal::CONT);
    // What it held is of a later revision than a start from nothing: it is not overwritten.
    sidecar.wait_until("a conflict", |status| is(status, "conflict"));
    assert!(sidecar.terminate().success());
}

#[test]
fn every_refusal_is_told_by_its_kind_and_ends() {
    let Some(redis) = Redis::start("save \"\"\n") else { return };
    let world = World::new();
    let sidecar = world.start(&url(&redis));
    sidecar.wait_until("that it is up", |status| is(status, "up"));
    let full = ["CONFIG", "SET", "maxmemory", "1"];
    let (address, room) = (redis.address(), ["CONFIG", "SET", "maxmemory", "0"]);
    let (ip, log) = (address.ip().to_string(), "{mcpf:e2e}:log");
    let of_another = ["REPLICAOF", &ip, "1"];
    let cases: [(&[&str], &[&str], &str); 3] = [
        (&full, &room, "memory"),
        (&of_another, &["REPLICAOF", "NO", "ONE"], "readonly"),
        (&["RENAME", "{mcpf:e2e}:state", log], &["DEL", log], "foreign"),
    ];
    for (begin, end, expected) in cases {
        redis.cli(begin);
        world.fail_over();
        sidecar.wait_until(expected, |status| reason(status) == Some(expected));
        redis.cli(end);
        sidecar.wait_until("that it is up", |status| is(status, "up") && reason(status).is_none());
        world.fail_back();
        wait_for_all(&redis, &sidecar);
    }
}

#[test]
fn whatever_answers_in_its_place_is_told_and_another_url_is_taken_up_at_once() {
    let Some(redis) = Redis::start("save \"\"\n") else { return };
    let world = World::new();
    let peers = [
        (Upstream::start(Behaviour::Hang), "timeout"),
        (Upstream::start(Behaviour::garbage()), "protocol"),
        (Upstream::start(Behaviour::Banner(b"-LOADING Redis is loading\r\n".to_vec())), "loading"),
        (Upstream::start(Behaviour::Banner(b"-MOVED 1 h:1\r\n".to_vec())), "moved"),
        (Upstream::start(Behaviour::Banner(b"-MISCONF no\r\n".to_vec())), "misconf"),
        (Upstream::start(Behaviour::Banner(b"$99999999999\r\n".to_vec())), "protocol"),
        (Upstream::start(Behaviour::Close), "closed"),
    ];
    let at = |peer: &Upstream| format!("url = \"redis://{}\"", peer.address());
    let sidecar = world.start(&at(&peers[0].0));
    world.home.wait_for_active("primary");
    for (peer, expected) in &peers {
        world.write(&at(peer));
        sidecar.wait_until(expected, |status| {
            let there = format!("redis://{}/0", peer.address());
            status.pointer("/redis/url") == Some(&there.into()) && reason(status) == Some(expected)
        });
    }
    world.fail_over();
    world.write(&url(&redis));
    wait_for_all(&redis, &sidecar);
    // Another one, and none at all.
    let Some(second) = Redis::start("save \"\"\n") else { return };
    world.write(&format!("{}\nprefix = \"mcpf\"", url(&second)));
    wait_for_all(&second, &sidecar);
    let policy = world.home.quick_policy(&world.primary, &world.backup);
    world.home.write_policy(&policy);
    sidecar.wait_until("none", |status| status.get("redis").is_none());
}

#[test]
fn a_node_of_a_cluster_takes_all_keys_of_a_sidecar() {
    let Some(redis) = Redis::start("save \"\"\ncluster-enabled yes\n") else { return };
    let world = World::new();
    let sidecar = world.start(&url(&redis));
    sidecar.wait_until("no slots", |status| reason(status) == Some("moved"));
    assert_eq!(redis.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "OK");
    world.fail_over();
    wait_for_all(&redis, &sidecar);
    sidecar.wait_until("that it is up", |status| is(status, "up"));
}

/// The user that the documentation tells to make.
fn documented_user() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/redis.md");
    let page = fs::read_to_string(page).expect("the page");
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER sidecar")).expect("a line");
    let line = line.replace("PASSWORD", PASSWORD).replace("mcpf:web", "mcpf:e2e");
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn a_login_is_wanted_and_the_documented_user_is_enough_and_no_secret_leaves() {
    let settings = format!("requirepass {PASSWORD}\nsave 3600 1\n");
    let Some(redis) = Redis::start(&settings) else { return };
    let redis = redis.with_login(&["-a", PASSWORD]);
    let world = World::new();
    let sidecar = world.start(&url(&redis));
    sidecar.wait_until("no login", |status| reason(status) == Some("auth"));
    world.write(&format!("{}\npassword = \"${{REDIS_PASSWORD}}x\"", url(&redis)));
    sidecar.wait_until("a wrong one", |status| reason(status) == Some("auth"));
    world.write(&format!("{}\npassword = \"${{REDIS_PASSWORD}}\"", url(&redis)));
    sidecar.wait_until("that it is up", |status| is(status, "up"));
    let user = documented_user();
    let user: Vec<&str> = user.iter().map(String::as_str).collect();
    assert_eq!(redis.cli(&user), "OK");
    let with = |user: &str| {
        redis.url().replace("redis://", &format!("redis://{user}:${{REDIS_PASSWORD}}@"))
    };
    world.write(&format!("url = \"{}/0\"", with("sidecar")));
    world.fail_over();
    sidecar.wait_until("that it is up", |status| {
        is(status, "up") && status.pointer("/redis/revision") == status.get("revision")
    });
    wait_for_all(&redis, &sidecar);
    // A start reads with it too.
    sidecar.kill();
    world.primary.set(Behaviour::Healthy);
    world.lose_all();
    let sidecar = world.start(&format!("url = \"{}/0\"", with("sidecar")));
    world.home.wait_for_active("backup");
    sidecar.wait_until("that it is up", |status| is(status, "up"));
    assert_eq!(redis.cli(&["ACL", "SETUSER", "sidecar", "-xadd"]), "OK");
    world.fail_back();
    sidecar.wait_until("no permission", |status| reason(status) == Some("permission"));
    assert_eq!(redis.cli(&["SAVE"]), "OK");
    let status = sidecar.status().expect("a status").to_string();
    assert!(!status.contains(PASSWORD));
    for folder in
        [redis.folder().join("dump.rdb"), world.home.path("log"), world.home.path("state")]
    {
        scan(&folder);
    }
    let (_, out, err) = cli(&["status", "--json"], &world.home.path(""));
    assert!(!out.contains(PASSWORD) && !err.contains(PASSWORD));
}

fn scan(path: &Path) {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("a folder");
        entries.for_each(|entry| scan(&entry.expect("an entry").path()));
    } else {
        let bytes = fs::read(path).expect("a file");
        assert!(!String::from_utf8_lossy(&bytes).contains(PASSWORD), "{}", path.display());
    }
}

#[test]
fn a_server_with_tls_is_verified() {
    let files = tempfile::tempdir().expect("a folder");
    let (authority, stranger) = (Authority::new(), Authority::new());
    let certified = authority.issue("localhost");
    let path = |name: &str| files.path().join(name).display().to_string();
    let (ca, other) = (path("ca.pem"), path("other.pem"));
    fs::write(&ca, authority.pem()).expect("a file");
    fs::write(&other, stranger.pem()).expect("a file");
    fs::write(path("cert.pem"), certified.pem()).expect("a file");
    fs::write(path("key.pem"), certified.key_pem()).expect("a file");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("a port").port();
    drop(free);
    let settings = format!(
        "save \"\"\ntls-port {port}\nbind 127.0.0.1\ntls-cert-file {}\ntls-key-file {}\n\
         tls-ca-cert-file {ca}\ntls-auth-clients no\n",
        path("cert.pem"),
        path("key.pem"),
    );
    let Some(redis) = Redis::start_at(([127, 0, 0, 1], port).into(), files, &settings) else {
        return;
    };
    let redis = redis.with_login(&["--tls", "--cacert", &ca, "--sni", "localhost"]);
    let world = World::new();
    let at = |file: &str| format!("url = \"rediss://localhost:{port}\"\nca_file = \"{file}\"");
    let sidecar = world.start(&at(&other));
    sidecar.wait_until("a stranger's", |status| reason(status) == Some("tls"));
    world.write(&at(&ca));
    world.fail_over();
    wait_for_all(&redis, &sidecar);
}

#[test]
fn the_keys_of_the_prototype_are_written_beside() {
    let Some(redis) = Redis::start("save \"\"\n") else { return };
    let world = World::new();
    let sidecar = world.start(&format!("{}\ncompat = true", url(&redis)));
    world.home.wait_for_active("primary");
    world.fail_over();
    eventually("the current endpoint", || {
        (redis.cli(&["GET", "mcp:current:search"]) == "backup").then_some(())
    });
    let state = redis.cli(&["GET", "mcp:state:search"]);
    let state: Value = serde_json::from_str(state.as_str().expect("text")).expect("JSON");
    assert_eq!(state["active"], "backup");
    assert!(state["timestamp"].is_u64() && state["version"].is_string(), "{state}");
    let left = |key: &str| redis.cli(&["TTL", key]).as_i64().expect("a number");
    assert!((3000..=3600).contains(&left("mcp:state:search")));
    let keys = redis.cli(&["KEYS", "mcp:failover:search:*"]);
    let moves: Vec<Value> = keys
        .as_array()
        .expect("a list")
        .iter()
        .map(|key| {
            let key = key.as_str().expect("text");
            assert!((604_000..=604_800).contains(&left(key)), "{key}");
            let text = redis.cli(&["GET", key]);
            serde_json::from_str(text.as_str().expect("text")).expect("JSON")
        })
        .collect();
    assert!(moves.iter().any(|one| one["currentEndpoint"] == "backup"), "{moves:?}");
    assert!(sidecar.terminate().success());
}

#[test]
fn a_start_with_a_port_where_nobody_is_does_not_wait() {
    let world = World::new();
    let since = tokio::time::Instant::now();
    let sidecar = world.start("url = \"redis://127.0.0.1:9\"\nrecover = true");
    world.home.wait_for_active("primary");
    assert!(since.elapsed() < PATIENCE);
    sidecar.wait_until("that it is down", |status| reason(status) == Some("unreachable"));
    let since = tokio::time::Instant::now();
    assert!(sidecar.terminate().success());
    assert!(since.elapsed() < Duration::from_secs(15));
}

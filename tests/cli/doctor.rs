//! `doctor`: every server it knows, and everything it finds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Place, Ran};
use crate::common::again::in_mount_namespace;
use crate::common::redis::Redis;
use crate::common::skip;

/// A policy with one service of a preset, and these outputs.
fn policy(preset: &str, env: &str, more: &str) -> String {
    let url = match preset {
        "neo4j" => "bolt://192.0.2.1:7687",
        _ => "https://192.0.2.1",
    };
    format!(
        "version = 1\n[sidecar]\nstate_dir = \"state\"\n[control]\nsocket = \"control.sock\"\n\
         [services.{preset}]\npreset = \"{preset}\"\n[[services.{preset}.endpoints]]\nname = \"a\"\n\
         url = \"{url}\"\npriority = 0\nenv = {{ {env} }}\n[[services.{preset}.endpoints]]\n\
         name = \"b\"\nurl = \"{url}/b\"\npriority = 1\nenv = {{ {env} }}\n{more}"
    )
    .replace("bolt://192.0.2.1:7687/b", "bolt://192.0.2.2:7687")
}

const TAVILY: &str = "TAVILY_API_KEY = \"canary-key\"";
const NEO4J: &str =
    "NEO4J_URI = \"bolt://192.0.2.1\", NEO4J_USERNAME = \"u\", NEO4J_PASSWORD = \"canary-key\"";
const PINECONE: &str = "PINECONE_HOST = \"a.example.com\", PINECONE_API_KEY = \"canary-key\"";

fn examine(place: &Place, command: &str) -> (Ran, Value) {
    let words: Vec<&str> = command.split(' ').collect();
    let ran = place.run(&[&["doctor", "--json", "--"], &*words].concat());
    let shown = place.run(&[&["doctor", "--"], &*words].concat());
    for text in [&ran.out, &ran.err, &shown.out, &shown.err] {
        assert!(!text.contains("canary"), "a secret got out:\n{text}");
    }
    let document = ran.json();
    assert_eq!(document["schema"], 1);
    (ran, document)
}

fn works(document: &Value, mode: &str) -> String {
    let modes = document["modes"].as_array().expect("modes");
    let one = modes.iter().find(|one| one["mode"] == mode).expect("the mode");
    assert!(one["why"].as_str().is_some_and(|why| !why.is_empty()), "{one}");
    one["works"].as_str().expect("a word").to_owned()
}

/// What is said of a server, without any policy.
fn server(command: &str, name: &str, expected: [&str; 5], recommended: Option<&str>) {
    let place = Place::new();
    let (ran, document) = examine(&place, command);
    ran.code(0);
    assert_eq!(document["server"]["name"], name, "{document}");
    assert_eq!(document["server"]["known"], true);
    let modes = ["child", "proxy", "connect", "socket", "env_file"];
    for (mode, expected) in modes.into_iter().zip(expected) {
        assert_eq!(works(&document, mode), expected, "{mode} of {name}");
    }
    assert_eq!(document["recommended"].as_str(), recommended);
}

#[test]
fn mcp_neo4j_cypher_is_known() {
    let expected = ["yes", "yes", "no", "no", "conditional"];
    server("uvx mcp-neo4j-cypher@0.6.0", "mcp-neo4j-cypher", expected, Some("proxy"));
}

#[test]
fn neo4j_mcp_is_known() {
    let expected = ["yes", "yes", "no", "no", "conditional"];
    server("/usr/local/bin/neo4j-mcp", "neo4j/mcp", expected, Some("proxy"));
}

#[test]
fn tavily_mcp_is_known() {
    let expected = ["yes", "no", "yes", "no", "conditional"];
    server("npx -y tavily-mcp@0.2", "tavily-mcp", expected, Some("connect"));
}

#[test]
fn graphlit_mcp_server_is_known() {
    let expected = ["yes", "conditional", "no", "no", "conditional"];
    server("npx -y graphlit-mcp-server", "graphlit-mcp-server", expected, Some("proxy"));
}

#[test]
fn server_everything_has_nothing_to_switch() {
    let command = "npx -y @modelcontextprotocol/server-everything stdio";
    server(command, "server-everything", ["no"; 5], None);
}

/// A program called `node` that says it is of this version.
fn node(place: &Place, version: &str) -> String {
    let path = place.file("node", &format!("#!/bin/sh\necho {version}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    path.display().to_string()
}

const PINECONE_SCRIPT: &str = "/nowhere/node_modules/@pinecone-database/mcp/dist/index.js";

#[test]
fn pinecones_server_is_known_and_its_node_is_asked_for_its_version() {
    for (version, connect) in [("v20.20.2", "no"), ("v24.1.0", "conditional")] {
        let place = Place::new();
        let command = format!("{} {PINECONE_SCRIPT}", node(&place, version));
        let (ran, document) = examine(&place, &command);
        ran.code(0);
        assert_eq!(document["server"]["name"], "@pinecone-database/mcp");
        assert_eq!(works(&document, "connect"), connect, "{version}");
        assert_eq!(document["recommended"], "child");
    }
}

#[test]
fn a_real_package_is_known_by_its_files() {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/node_modules");
    let script = modules.join("tavily-mcp/build/index.js");
    if !script.exists() {
        return skip("the server for Tavily is not installed: run tests/run");
    }
    for command in [
        format!("node {}", script.display()),
        format!("{}", modules.join(".bin/tavily-mcp").display()),
    ] {
        let (_, document) = examine(&Place::new(), &command);
        assert_eq!(document["server"]["name"], "tavily-mcp", "{command}");
    }
}

#[test]
fn a_server_that_nobody_knows_is_told_on_what_each_mode_depends() {
    let (ran, document) = examine(&Place::new(), "my-server --port 1");
    ran.code(0);
    assert_eq!(document["server"]["known"], false);
    assert_eq!(works(&document, "socket"), "conditional");
}

/// What is found, with this policy and this command; exit code and severity agree.
fn found(place: &Place, text: &str, command: &str, finding: &str) -> Option<Value> {
    place.file("failover.toml", text);
    let (ran, document) = examine(place, command);
    let findings = document["findings"].as_array().cloned().unwrap_or_default();
    let ill = findings.iter().any(|one| one["severity"] == "error");
    let ran = ran.code(if ill { 3 } else { 0 });
    let one = findings.into_iter().find(|one| one["finding"] == finding);
    if let Some(one) = &one {
        assert!(one["help"].as_str().is_some_and(|help| !help.is_empty()), "{one}");
        let shown =
            place.run(&[&["doctor", "--"], &*command.split(' ').collect::<Vec<_>>()].concat());
        assert!(shown.out.contains(&format!("[{finding}]")), "{}", shown.out);
    }
    drop(ran);
    one
}

/// A server that we run: a switch replaces it.
const SUPERVISED: &str = "mcp-failover run -- npx -y tavily-mcp";

#[test]
fn a_sound_policy_has_no_finding() {
    let place = Place::new();
    place.file("failover.toml", &policy("tavily", TAVILY, ""));
    let (ran, document) = examine(&place, SUPERVISED);
    ran.code(0);
    assert_eq!(document["findings"], serde_json::json!([]), "{document}");
    assert!(place.run(&["doctor"]).code(0).out.contains("nothing is wrong"));
}

#[test]
fn unread_variables() {
    let env = "TAVILY_API_KEY = \"k\", TAVILY_URL = \"https://example.com\"";
    let text = policy("tavily", env, "");
    let one = found(&Place::new(), &text, SUPERVISED, "unread-variables").expect("found");
    assert_eq!(one["severity"], "warning");
    assert!(one["message"].as_str().is_some_and(|text| text.contains("TAVILY_URL")), "{one}");
}

#[test]
fn hangup_kills() {
    let output = "[[outputs]]\ntype = \"env_file\"\npath = \"out.env\"\n\
                  on_change = [{ signal = \"SIGHUP\", process = \"node\" }]\n";
    let text = policy("tavily", TAVILY, output);
    let one = found(&Place::new(), &text, SUPERVISED, "hangup-kills").expect("found");
    assert_eq!(one["severity"], "error");
    let text = policy("tavily", TAVILY, &output.replace("SIGHUP", "SIGUSR1"));
    assert_eq!(found(&Place::new(), &text, SUPERVISED, "hangup-kills"), None);
}

const DOOR: &str = "[[outputs]]\ntype = \"proxy\"\nname = \"door\"\nmode = \"tcp\"\n\
                    listen = \"127.0.0.1:7687\"\nservice = \"neo4j\"\n";

#[test]
fn routing_table() {
    let text = policy("neo4j", NEO4J, DOOR);
    let command = "env NEO4J_URI=neo4j://127.0.0.1:7687 mcp-neo4j-cypher";
    let one = found(&Place::new(), &text, command, "routing-table").expect("found");
    assert_eq!(one["severity"], "error");
    let command = "env NEO4J_URI=bolt://127.0.0.1:7687 mcp-neo4j-cypher";
    assert_eq!(found(&Place::new(), &text, command, "routing-table"), None);
    // The way in which a server would inherit it.
    let place = Place::new().with("NEO4J_URL", "neo4j+s://canary.example.com");
    assert!(found(&place, &text, "mcp-neo4j-cypher", "routing-table").is_some());
}

const FILE: &str = "[[outputs]]\ntype = \"env_file\"\npath = \"out.env\"\n";

#[test]
fn file_mount() {
    if !in_mount_namespace("cli::doctor::file_mount") {
        return;
    }
    let place = Place::new();
    let mounted = place.file("out.env", "");
    let text = policy("tavily", TAVILY, FILE);
    assert_eq!(found(&place, &text, SUPERVISED, "file-mount"), None);
    let source = place.file("on the host.env", "");
    let status = Command::new("mount").arg("--bind").arg(source).arg(mounted).status();
    assert!(status.expect("mount").success());
    let one = found(&place, &text, SUPERVISED, "file-mount").expect("found");
    assert_eq!(one["severity"], "error");
    assert!(one["help"].as_str().is_some_and(|help| help.contains("mount the folder")));
}

#[test]
fn cannot_write() {
    if !rustix::process::geteuid().is_root() {
        return skip("cli::doctor::cannot_write: needs root");
    }
    // Root may write anywhere but where the file system itself forbids it.
    if !in_mount_namespace("cli::doctor::cannot_write") {
        return;
    }
    let place = Place::new();
    let folder = place.path().join("frozen");
    fs::create_dir_all(&folder).expect("a folder");
    let text = policy("tavily", TAVILY, &FILE.replace("out.env", "frozen/out.env"));
    assert_eq!(found(&place, &text, SUPERVISED, "cannot-write"), None);
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "ro", "none"]).arg(&folder).status();
    assert!(mounted.expect("mount").success());
    let one = found(&place, &text, SUPERVISED, "cannot-write").expect("found");
    assert_eq!(one["severity"], "error");
    // A file where a folder should be.
    let place = Place::new();
    place.file("frozen", "");
    assert!(found(&place, &text, SUPERVISED, "cannot-write").is_some());
}

#[test]
fn open_mode() {
    let place = Place::new();
    let text = policy("tavily", TAVILY, &format!("{FILE}mode = \"0644\"\n"));
    let one = found(&place, &text, SUPERVISED, "open-mode").expect("found");
    assert_eq!(one["severity"], "warning");
    let text = policy("tavily", TAVILY, FILE);
    assert_eq!(found(&place, &text, SUPERVISED, "open-mode"), None);
    // Whatever the policy says, it is the file that others read.
    let path = place.file("out.env", "");
    fs::set_permissions(path, fs::Permissions::from_mode(0o604)).expect("our own file");
    assert!(found(&place, &text, SUPERVISED, "open-mode").is_some());
}

#[test]
fn stale_inode() {
    let place = Place::new();
    let text = policy("tavily", TAVILY, FILE);
    let path = place.file("out.env", "old");
    let held = fs::File::open(&path).expect("it is there");
    assert_eq!(found(&place, &text, SUPERVISED, "stale-inode"), None);
    let mut reader =
        Command::new("sleep").arg("1000").stdin(Stdio::from(held)).spawn().expect("sleep");
    fs::rename(place.file("fresh.env", "new"), &path).expect("our own folder");
    let one = found(&place, &text, SUPERVISED, "stale-inode");
    reader.kill().expect("it runs");
    reader.wait().expect("it ends");
    let message = one.expect("found")["message"].as_str().map(str::to_owned).expect("a text");
    assert!(message.contains(&format!("process {}", reader.id())), "{message}");
}

#[test]
fn socket_path() {
    // What the policy itself names is judged when it is compiled.
    let text = policy("tavily", TAVILY, "").replace("[control]\nsocket = \"control.sock\"\n", "");
    let long = format!("/run/{}", "x".repeat(120));
    let place = Place::new().with("MCP_FAILOVER_CONTROL", &long);
    let one = found(&place, &text, SUPERVISED, "socket-path").expect("found");
    assert_eq!(one["severity"], "error");
    let place = Place::new().with("MCP_FAILOVER_CONTROL", "/run/x.sock");
    assert_eq!(found(&place, &text, SUPERVISED, "socket-path"), None);
}

/// A CONNECT proxy with its certificate in this file.
fn connect(preset: &str, file: &Path) -> String {
    format!(
        "[[outputs]]\ntype = \"proxy\"\nmode = \"connect\"\nlisten = \"127.0.0.1:3128\"\n\
         service = \"{preset}\"\nintercept = {{ hosts = [\"api.example.com\"], ca_file = \"{}\" }}\n",
        file.display()
    )
}

#[test]
fn ca_missing() {
    let place = Place::new();
    let file = place.path().join("ca.pem");
    let text = policy("tavily", TAVILY, &connect("tavily", &file));
    let one = found(&place, &text, SUPERVISED, "ca-missing").expect("found");
    assert_eq!(one["severity"], "warning", "the sidecar would write it");
    let place = Place::new();
    let text = policy("tavily", TAVILY, &connect("tavily", &place.file("ca.pem", "")));
    assert_eq!(found(&place, &text, SUPERVISED, "ca-missing"), None);
    let text = policy("tavily", TAVILY, &connect("tavily", &place.path().join("ca.pem/ca.pem")));
    let one = found(&place, &text, SUPERVISED, "ca-missing").expect("found");
    assert_eq!(one["severity"], "error", "nobody could");
}

#[test]
fn node_too_old() {
    for (version, old) in [("v20.20.2", true), ("v24.0.0", false)] {
        let place = Place::new();
        let text = policy("pinecone", PINECONE, &connect("pinecone", &place.file("ca.pem", "")));
        let command = format!("{} {PINECONE_SCRIPT}", node(&place, version));
        assert_eq!(found(&place, &text, &command, "node-too-old").is_some(), old, "{version}");
    }
}

#[test]
fn a_node_that_hangs_is_not_waited_for() {
    let place = Place::new();
    let path = place.file("node", "#!/bin/sh\nexec sleep 1000\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    let command = format!("{} {PINECONE_SCRIPT}", path.display());
    let (ran, document) = examine(&place, &command);
    ran.code(0);
    assert_eq!(works(&document, "connect"), "conditional");
}

#[test]
fn no_effect() {
    let alone = "npx -y tavily-mcp";
    let text = policy("tavily", TAVILY, FILE);
    let one = found(&Place::new(), &text, alone, "no-effect").expect("found");
    assert_eq!(one["severity"], "error");
    assert_eq!(found(&Place::new(), &text, SUPERVISED, "no-effect"), None);
    let restart =
        format!("{FILE}on_change = [{{ command = [\"systemctl\", \"restart\", \"x\"] }}]\n");
    assert_eq!(found(&Place::new(), &policy("tavily", TAVILY, &restart), alone, "no-effect"), None);
    // A socket that the server does not ask is of no use.
    let socket = "[[outputs]]\ntype = \"socket\"\npath = \"config.sock\"\n";
    assert!(found(&Place::new(), &policy("tavily", TAVILY, socket), alone, "no-effect").is_some());
    let door = policy("neo4j", NEO4J, DOOR);
    assert_eq!(found(&Place::new(), &door, "mcp-neo4j-cypher", "no-effect"), None);
}

#[test]
fn nothing_is_changed_and_no_server_is_started() {
    let place = Place::new();
    let script = place.file("tavily-mcp", "#!/bin/sh\ntouch started\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("our own file");
    let ca = place.path().join("ca.pem");
    let outputs = format!("{FILE}{}", connect("tavily", &ca));
    place.file("failover.toml", &policy("tavily", TAVILY, &outputs));
    let names = || {
        let entries = fs::read_dir(place.path()).expect("a folder").flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    examine(&place, &format!("{}", script.display()));
    assert_eq!(names(), before);
}

#[test]
fn a_policy_that_is_not_valid_is_said_to_be_so() {
    let place = Place::new();
    place.file("failover.toml", "version = 1\n");
    place.run(&["doctor"]).code(78);
    place.run(&["doctor", "--nonsense"]).code(2);
    Place::new().run(&["doctor"]).code(78);
}

/// What is said of a Redis, by name.
fn of_redis(url: &str) -> Vec<String> {
    let place = Place::new();
    let policy = policy("tavily", TAVILY, &format!("[redis]\nurl = \"{url}\"\ntimeout = \"1s\"\n"));
    fs::write(place.path().join("failover.toml"), policy).expect("a writable folder");
    let ran = place.run(&["doctor", "--json"]);
    let document = ran.json();
    ran.code(0);
    let found = document["findings"].as_array().expect("findings").clone();
    let name = |one: &Value| one["finding"].as_str().expect("a name").to_owned();
    found.iter().map(name).filter(|name| name.starts_with("redis-")).collect()
}

#[test]
fn a_redis_that_may_forget_or_is_not_there_is_told() {
    let none: [&str; 0] = [];
    assert_eq!(of_redis("redis://127.0.0.1:9"), ["redis-unusable"]);
    let Some(good) = Redis::start("save \"\"\nappendonly yes\n") else { return };
    assert_eq!(of_redis(&good.url()), none);
    good.cli(&["CONFIG", "SET", "maxmemory", "100mb"]);
    assert_eq!(of_redis(&good.url()), none);
    good.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    assert_eq!(of_redis(&good.url()), ["redis-evicts"]);
    let Some(bad) = Redis::start("save \"\"\nreplicaof 127.0.0.1 9\n") else { return };
    assert_eq!(of_redis(&bad.url()), ["redis-replica", "redis-forgets"]);
}

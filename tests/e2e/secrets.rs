//! Not one byte of a secret leaves by any door but the outputs and the probes.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::sidecar::{Home, cli, eventually};
use crate::common::upstream::{Behaviour, Upstream};

const FROM_VARIABLE: &str = "canary-from-a-variable-8f1c";
const FROM_FILE: &str = "canary-from-a-file-77aa";

fn assert_clean(place: &str, text: &str) {
    for canary in [FROM_VARIABLE, FROM_FILE] {
        assert!(!text.contains(canary), "{place} holds {canary}");
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the admin surface");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the admin surface");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Events of the past and whatever comes within a moment; the stream itself never ends.
fn events(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the admin surface");
    let request = format!("GET /events?last=256 HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the admin surface");
    stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a socket");
    let mut heard = Vec::new();
    // The time-out is the end: what was read before it stays in the buffer.
    stream.read_to_end(&mut heard).err();
    String::from_utf8_lossy(&heard).into_owned()
}

fn scan(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a folder").path();
        if path.is_dir() {
            scan(&path);
        } else if path.is_file() && !path.ends_with("failover.env") && !path.ends_with("secret") {
            let bytes = fs::read(&path).expect("a file");
            assert_clean(&path.display().to_string(), &String::from_utf8_lossy(&bytes));
        }
    }
}

fn policy(home: &Home, primary: &Upstream, backup: &Upstream, admin: &str) -> String {
    let key = r#"SEARCH_KEY = "${CANARY}", SEARCH_TOKEN = "${file:SECRET}""#
        .replace("SECRET", &home.path("secret").display().to_string());
    home.quick_policy(primary, backup)
        .replace("SEARCH_URL =", &format!("{key}, SEARCH_URL ="))
        .replace(
            "path = \"/\"",
            "path = \"/?key=${endpoint.env.SEARCH_TOKEN}\"\n\
             headers = { Authorization = \"Bearer ${endpoint.env.SEARCH_KEY}\" }",
        )
        .replace("listen = \"off\"", &format!("listen = \"{admin}\""))
        + &format!("[backup]\nto = \"{}\"\n", home.path("backups").display())
}

#[test]
fn a_canary_in_the_policy_is_found_only_where_it_belongs() {
    let (primary, backup) =
        (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy));
    let home = Home::new();
    fs::write(home.path("secret"), format!("{FROM_FILE}\n")).expect("a writable folder");
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let admin = free.local_addr().expect("a port").to_string();
    drop(free);
    let text = policy(&home, &primary, &backup, &admin);
    home.write_policy(&text);
    let sidecar = home.start_with(&[("CANARY", FROM_VARIABLE), ("MCPF_LOG", "trace")]);
    home.wait_for_active("primary");
    assert_eq!(home.env().get("SEARCH_KEY").map(String::as_str), Some(FROM_VARIABLE));
    assert_eq!(home.env().get("SEARCH_TOKEN").map(String::as_str), Some(FROM_FILE));
    assert!(primary.last_request().contains(FROM_VARIABLE), "the probe does carry it");

    // Every sort of trouble, because errors are where secrets escape.
    for trouble in [
        Behaviour::Status(401),
        Behaviour::redirect("http://127.0.0.1:9/elsewhere"),
        Behaviour::garbage(),
        Behaviour::Reset,
        Behaviour::Refuse,
    ] {
        primary.set(trouble);
        let requests = backup.requests();
        eventually("a few more probes", || (backup.requests() > requests + 2).then_some(()));
    }
    let backed_up = sidecar.ask(&serde_json::json!({ "request": "backup" })).expect("an answer");
    assert_eq!(backed_up["ok"], true, "{backed_up}");
    home.write_policy(&text.replace("${CANARY}", "${CANARY}\u{7f}"));
    sidecar.wait_until("an invalid policy", |status| {
        status.pointer("/policy/valid") == Some(&false.into())
    });
    for path in ["/", "/status", "/history", "/metrics", "/healthz", "/readyz"] {
        assert_clean(path, &get(&admin, path));
    }
    let heard = events(&admin);
    assert!(heard.contains("status_change"), "{heard}");
    assert_clean("/events", &heard);
    let folder = home.path("");
    for arguments in [
        vec!["status"],
        vec!["status", "--json"],
        vec!["explain", "search"],
        vec!["history", "--json"],
        vec!["check"],
        vec!["check", "--format", "json"],
    ] {
        let (_, out, err) = cli(&arguments, &folder);
        assert_clean(&format!("{arguments:?}"), &format!("{out}{err}"));
    }
    assert!(sidecar.terminate().success());
    assert!(fs::read_dir(home.path("backups")).expect("backups").count() > 0);
    scan(&folder);
}

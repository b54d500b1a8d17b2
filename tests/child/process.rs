//! The server's processes: signals, exit codes, and no orphan ever.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use rustix::process::Signal;
use serde_json::json;

use super::host::{Place, eventually, is_alive, members};
use crate::common::{again, skip};

#[test]
fn a_server_that_is_no_mcp_server_has_the_streams_to_itself() {
    let place = Place::new();
    let script = "echo $MCP_FAILOVER_SEARCH_ENDPOINT $SEARCH_URL; cat";
    let mut host = place.plain(&[], &["sh", "-c", script]);
    assert_eq!(host.line(), "primary http://primary.example.com");
    host.say(&json!("anything"));
    assert_eq!(host.line(), "\"anything\"");
    host.close_input();
    assert_eq!(host.wait().code(), Some(0), "it is done");
}

#[test]
fn a_server_that_is_no_mcp_server_is_restarted() {
    let place = Place::new();
    let script = "echo $MCP_FAILOVER_SEARCH_ENDPOINT $$; exec sleep 600";
    let host = place.plain(&[], &["sh", "-c", script]);
    let first = host.line();
    place.sidecar.switch_and_wait("backup");
    let second = host.line();
    assert!(second.starts_with("backup "), "{second}");
    let old: i32 = first.split(' ').next_back().expect("two words").parse().expect("a number");
    assert!(!is_alive(old), "the old one went first");
}

#[test]
fn a_crash_is_followed_by_another_start() {
    let place = Place::new();
    let count = place.path("count");
    let script = format!("echo x >> {0}; wc -l < {0}; exit 3", count.display());
    let host = place.plain(&[], &["sh", "-c", &script]);
    for number in ["1", "2", "3"] {
        assert_eq!(host.line().trim(), number);
    }
}

#[test]
fn a_signal_to_end_is_passed_on_and_so_is_the_exit_code() {
    let place = Place::new();
    let script = "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done";
    let mut host = place.plain(&[], &["sh", "-c", script]);
    assert_eq!(host.line(), "up");
    host.signal(Signal::TERM);
    assert_eq!(host.wait().code(), Some(7));
}

#[test]
fn other_signals_are_passed_on() {
    let place = Place::new();
    let script =
        "trap 'echo hup' HUP; trap 'echo usr2' USR2; echo up; while :; do sleep 0.05; done";
    let host = place.plain(&[], &["sh", "-c", script]);
    assert_eq!(host.line(), "up");
    host.signal(Signal::HUP);
    assert_eq!(host.line(), "hup");
    host.signal(Signal::USR2);
    assert_eq!(host.line(), "usr2");
}

#[test]
fn a_command_that_cannot_be_run_ends_everything() {
    let place = Place::new();
    let mut host = place.plain(&[], &["/nonexistent/server"]);
    assert_eq!(host.wait().code(), Some(127));
    assert!(place.log().contains("cannot run /nonexistent/server"), "{}", place.log());
}

#[test]
fn nothing_is_left_when_the_client_closes() {
    for script in ["{}", r#"{"primary": "stubborn"}"#] {
        let place = Place::new();
        let mut host = place.host(&[], &[("SCRIPT", script), ("OFFSPRING", "1")]);
        host.open();
        let (_, server) = host.whereabouts();
        assert_eq!(members(server).len(), 2, "the server and what it started");
        host.close_input();
        let status = host.wait();
        assert!(members(server).is_empty(), "{status}");
    }
}

#[test]
fn nothing_is_left_when_the_supervisor_is_killed() {
    let place = Place::new();
    let mut host = place.host(&[], &[("OFFSPRING", "1")]);
    host.open();
    let (_, server) = host.whereabouts();
    assert_eq!(members(server).len(), 2);
    host.kill();
    eventually("the end of all", || members(server).is_empty().then_some(()));
}

#[test]
fn nothing_is_left_of_a_server_without_streams_when_the_supervisor_is_killed() {
    let place = Place::new();
    let script = "sleep 600 & echo $$; wait";
    let mut host = place.plain(&[], &["sh", "-c", script]);
    let server: i32 = host.line().parse().expect("a process id");
    eventually("both", || (members(server).len() == 2).then_some(()));
    host.kill();
    eventually("the end of all", || members(server).is_empty().then_some(()));
}

#[test]
fn a_server_ended_by_a_signal_is_told_as_shells_do() {
    let place = Place::new();
    let mut host = place.plain(&[], &["sh", "-c", "echo up; exec sleep 600"]);
    assert_eq!(host.line(), "up");
    host.signal(Signal::INT);
    let status = host.wait();
    assert_eq!(status.code(), Some(128 + 15), "{status:?} {:?}", status.signal());
}

#[test]
fn as_the_first_process_it_buries_the_dead() {
    const TEST: &str = "child::process::as_the_first_process_it_buries_the_dead";
    let wrapper = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    if !again::in_wrapper(TEST, &wrapper, "needs root") {
        return;
    }
    // We are the first process of a world of our own; a second such world has the binary as its.
    let place = Place::new();
    let dead = place.path("dead");
    let script = format!("sh -c 'sh -c \"echo \\$\\$ > {0}\" &' ; exec sleep 600", dead.display());
    let words = place.words(&["--stdio", "inherit"], &["sh", "-c", &script]);
    let mut command = std::process::Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).args(words);
    let spawned = command.stdin(std::process::Stdio::null()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return skip(&format!("no unshare: {error}")),
    };
    eventually("a dead process", || fs::read_to_string(&dead).ok().filter(|text| !text.is_empty()));
    let zombies = || {
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
        stats.filter(|stat| stat.contains(") Z ")).count()
    };
    eventually("the burial", || (zombies() == 0).then_some(()));
    child.kill().ok();
    child.wait().ok();
}

//! `demo --once`, as a stranger would run it first.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use super::Place;

#[test]
fn one_cycle_goes_right_unattended_and_leaves_nothing() {
    let place = Place::new();
    let temporary = place.path().join("tmp");
    std::fs::create_dir_all(&temporary).expect("a directory");
    let place = place.with("TMPDIR", &temporary.to_string_lossy());
    let ran = place.run(&["demo", "--once"]).code(0);
    for part in [
        "break the primary",
        "failover primary -> secondary",
        "+ MCP_FAILOVER_SEARCH_ENDPOINT=secondary",
        "heal the primary",
        "failback secondary -> primary",
        "+ MCP_FAILOVER_SEARCH_ENDPOINT=primary",
        "The demo went right.",
    ] {
        assert!(ran.out.contains(part), "`{part}` is missing in:\n{}", ran.out);
    }
    assert!(!ran.out.contains("not seen"), "{}", ran.out);
    assert!(!ran.out.contains('\x1b'), "{}", ran.out);
    let left = std::fs::read_dir(&temporary).expect("the directory").count();
    assert_eq!(left, 0, "something is left in {}", temporary.display());
}

#[test]
fn told_to_stop_it_stops_and_leaves_nothing() {
    let place = Place::new();
    let temporary = place.path().join("tmp");
    std::fs::create_dir_all(&temporary).expect("a directory");
    let place = place.with("TMPDIR", &temporary.to_string_lossy());
    let mut child = place.command(["demo"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let written = |line: &String| line.contains("MCP_FAILOVER_SEARCH_ENDPOINT=primary");
    assert!(lines.by_ref().map_while(Result::ok).any(|line| written(&line)), "it ended early");
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.expect("a process number");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
    // Read on, so that it never waits for us.
    for _line in lines.map_while(Result::ok) {}
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let left = std::fs::read_dir(&temporary).expect("the directory").count();
    assert_eq!(left, 0, "something is left in {}", temporary.display());
}

#[test]
fn somebody_elses_policy_is_not_overwritten() {
    let place = Place::new();
    place.file("failover.toml", "mine");
    let ran = place.run(&["demo", "--once", "--dir", "."]).code(1);
    assert!(ran.err.contains("is not a policy of the demo"), "{}", ran.err);
    let path = place.path().join("failover.toml");
    assert_eq!(std::fs::read_to_string(path).expect("the file"), "mine");
}

#[test]
fn a_directory_that_cannot_be_made_is_said() {
    let place = Place::new();
    let locked = place.path().join("locked");
    std::fs::write(&locked, "a file").expect("a file");
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    let ran = place.run(&["demo", "--once", "--dir", "locked/below"]).code(1);
    assert!(ran.err.starts_with("error: failed to set up the demo: "), "{}", ran.err);
}

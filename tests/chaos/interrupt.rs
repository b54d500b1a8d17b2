//! Drills that are cut short leave nothing behind.

use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{ALLOWANCE, Place, eventually, processes_of};

/// Starts a drill and waits until its sidecar has written its file.
fn under_way(place: &Place) -> Child {
    let args = ["run", "kill-service", "all-down", "--jobs", "2", "--allowance", ALLOWANCE];
    let mut command = place.command(&args);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    eventually("an env file in a lab", || {
        place.left().iter().any(|lab| lab.join("failover.env").exists()).then_some(())
    });
    child
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process number");
    kill_process(pid, signal).expect("a signal");
}

#[test]
fn interrupted_it_undoes_everything_and_says_so() {
    for how in [Signal::INT, Signal::TERM] {
        let place = Place::new();
        let mut child = under_way(&place);
        signal(&child, how);
        assert_eq!(child.wait().expect("it ends").code(), Some(1));
        assert!(place.left().is_empty(), "{:?}", place.left());
        assert_eq!(processes_of(&place.path("labs")), Vec::<String>::new());
    }
}

#[test]
fn killed_it_takes_its_sidecars_with_it() {
    let place = Place::new();
    let mut child = under_way(&place);
    assert!(!processes_of(&place.path("labs")).is_empty(), "there are sidecars");
    child.kill().expect("a signal");
    child.wait().expect("it ends");
    eventually("the end of the sidecars", || {
        processes_of(&place.path("labs")).is_empty().then_some(())
    });
}

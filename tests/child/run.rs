//! `run`: sidecar and server in one process.

use std::process::Command;

use rustix::process::Signal;

use super::host::{Host, Place, eventually, is_alive, script};
use crate::common::binary::{command, two_endpoints};
use crate::common::upstream::{Behaviour, Upstream};

fn policy(place: &Place, primary: &Upstream, backup: &Upstream) -> String {
    format!(
        r#"version = 1
[sidecar]
state_dir = "{state}"
[admin]
listen = "off"
[control]
socket = "{control}"
[child]
stop_timeout = "2s"
[defaults.probe]
interval = "300ms"
fast_interval = "50ms"
standby_interval = "300ms"
timeout = "1s"
fall = 2
{services}"#,
        state = place.path("state").display(),
        control = place.path("control").display(),
        services = two_endpoints(&primary.url(), &backup.url()),
    )
}

/// The binary with these words, its log in our place.
fn binary(place: &Place, words: &[&str]) -> Command {
    let mut command = command(&place.path("log"));
    command.args(words);
    command
}

fn start(place: &Place) -> Host {
    let server = script("server.py");
    let mut command = binary(place, &["run", "--policy"]);
    command.arg(place.path("failover.toml")).args(["--", "python3", "-u"]).arg(server);
    Host::start(&mut command)
}

#[test]
fn a_failover_reaches_the_server_and_its_client_does_not_notice() {
    let (primary, backup) =
        (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy));
    let place = Place::new();
    std::fs::write(place.path("failover.toml"), policy(&place, &primary, &backup))
        .expect("a writable folder");
    let mut host = start(&place);
    host.open();
    assert_eq!(host.whereabouts().0, "primary");
    primary.set(Behaviour::Refuse);
    eventually("the backup", || (host.whereabouts().0 == "backup").then_some(()));
    let (_, server) = host.whereabouts();
    host.close_input();
    assert_eq!(host.wait().code(), Some(0), "{}", place.log());
    assert!(!is_alive(server));
}

#[test]
fn a_sidecar_that_is_told_to_end_ends_its_server() {
    let (primary, backup) =
        (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy));
    let place = Place::new();
    std::fs::write(place.path("failover.toml"), policy(&place, &primary, &backup))
        .expect("a writable folder");
    let mut host = start(&place);
    host.open();
    let (_, server) = host.whereabouts();
    host.signal(Signal::TERM);
    assert_eq!(host.wait().code(), Some(128 + 15), "{}", place.log());
    assert!(!is_alive(server));
}

#[test]
fn a_server_in_another_container_follows_by_the_config_socket() {
    let (primary, backup) =
        (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy));
    let place = Place::new();
    let socket = place.path("config.sock");
    let output = format!("[[outputs]]\ntype = \"socket\"\npath = \"{}\"\n", socket.display());
    std::fs::write(place.path("failover.toml"), policy(&place, &primary, &backup) + &output)
        .expect("a writable folder");
    let mut sidecar = binary(&place, &["run", "--policy"]);
    let _sidecar = Host::start(sidecar.arg(place.path("failover.toml")));
    let mut exec = binary(&place, &["exec", "--socket"]);
    exec.arg(&socket).args(["--", "python3", "-u"]).arg(script("server.py"));
    let mut host = Host::start(&mut exec);
    host.open();
    assert_eq!(host.whereabouts().0, "primary");
    primary.set(Behaviour::Refuse);
    eventually("the backup", || (host.whereabouts().0 == "backup").then_some(()));
    let acknowledged = "proof=acknowledged";
    let said = || place.log().contains(acknowledged) || place.log().contains("\"acknowledged\"");
    eventually("the proof of effect", || said().then_some(()));
}

#[test]
fn an_edit_of_the_child_table_is_in_force_for_the_server_that_runs() {
    let (primary, backup) =
        (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy));
    let place = Place::new();
    let text = policy(&place, &primary, &backup);
    let edit = |child: &str| {
        let text = text.replace("[child]\n", &format!("[child]\n{child}\n"));
        let fresh = place.path("failover.toml.new");
        std::fs::write(&fresh, text).expect("a writable folder");
        std::fs::rename(&fresh, place.path("failover.toml")).expect("a writable folder");
    };
    edit("on_switch = \"none\"");
    let mut host = start(&place);
    host.open();
    let (_, server) = host.whereabouts();
    edit("on_switch = \"warm\"");
    eventually("the edit is taken up", || place.log().contains("[child] changed").then_some(()));
    primary.set(Behaviour::Refuse);
    eventually("the backup", || (host.whereabouts().0 == "backup").then_some(()));
    assert_ne!(host.whereabouts().1, server, "it was replaced");
    host.close_input();
    assert_eq!(host.wait().code(), Some(0), "{}", place.log());
}

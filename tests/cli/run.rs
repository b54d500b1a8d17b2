//! `run`, and the other commands against the real sidecar.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Place, Ran, policy};
use crate::common::upstream::{Behaviour, Upstream};

/// A sidecar that runs; ended by its number when dropped.
struct Sidecar<'a> {
    place: &'a Place,
    child: Child,
}

impl<'a> Sidecar<'a> {
    fn start(place: &'a Place) -> Self {
        let mut command = place.command(["run"]);
        let child = command.stderr(Stdio::null()).spawn().expect("the binary starts");
        Self { place, child }
    }

    fn wait_for(&self, what: &str, mut there: impl FnMut(&Place) -> bool) {
        #[expect(clippy::disallowed_methods, reason = "a test's deadline")]
        let start = Instant::now();
        while !there(self.place) {
            assert!(start.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(50)); // poll
        }
    }

    #[track_caller]
    fn terminate(mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a number"), Signal::TERM).expect("a signal");
        assert_eq!(self.child.wait().expect("it ends").code(), Some(0));
    }
}

impl Drop for Sidecar<'_> {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn active(place: &Place) -> Option<String> {
    let ran = place.run(&["status", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&ran.out).ok()?;
    document["services"]["search"]["active"].as_str().map(str::to_owned)
}

fn kinds(ran: &Ran) -> Vec<String> {
    let kind = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).expect("a record");
        record["kind"].as_str().expect("a kind").to_owned()
    };
    ran.out.lines().map(kind).collect()
}

#[test]
fn the_commands_work_on_a_running_sidecar_and_it_ends_well() {
    let (one, two) = (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy));
    let place = Place::new();
    let text = policy(&one.address().to_string(), &two.address().to_string())
        .replace("[control]", "[admin]\nlisten = \"off\"\n[control]");
    place.file("failover.toml", &text);
    let sidecar = Sidecar::start(&place);
    sidecar.wait_for("an answer", |place| place.run(&["healthcheck"]).code == Some(0));
    sidecar.wait_for("the primary", |place| active(place).as_deref() == Some("primary"));

    let explained = place.run(&["explain", "search"]).code(0).out;
    assert!(explained.contains("an outage is noticed within"), "{explained}");
    let document = place.run(&["explain", "search", "--json"]).code(0).json();
    assert_eq!((&document["schema"], &document["active"]), (&1.into(), &"primary".into()));

    sidecar.wait_for("a switch", |place| {
        place.run(&["switch", "search", "secondary", "--reason", "a test"]).code == Some(0)
    });
    assert_eq!(active(&place).as_deref(), Some("secondary"));
    let rendered = place.run(&["render"]).code(0).out;
    assert!(rendered.contains("MCP_FAILOVER_SEARCH_ENDPOINT=secondary"), "{rendered}");
    let written = || std::fs::read_to_string(place.path().join("out.env")).unwrap_or_default();
    sidecar.wait_for("the env file", |_| {
        written().contains("SEARCH_KEY=canary-of-the-secondary")
            && written().contains("MCP_FAILOVER_SEARCH_ENDPOINT=secondary")
    });

    place.run(&["pin", "search", "secondary", "--for", "1h"]).code(0);
    let refused = place.run(&["switch", "search", "primary"]).code(1);
    assert!(refused.err.contains("the service is pinned to `secondary`"), "{}", refused.err);
    let shown = place.run(&["status"]).code(0).out;
    assert!(shown.contains("pinned to secondary for"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
    place.run(&["unpin", "search"]).code(0);
    place.run(&["drain", "search", "nowhere"]).code(1);
    place.run(&["pause"]).code(0);
    place.run(&["resume"]).code(0);

    place.run(&["reload"]).code(0);
    place.file("failover.toml", &text.replace("\"5s\"", "5"));
    let refused = place.run(&["reload"]).code(78);
    assert!(refused.err.contains("MF0206"), "{}", refused.err);
    place.file("failover.toml", &text);

    let online = place.run(&["history", "--json"]).code(0);
    assert_eq!(kinds(&online).first().map(String::as_str), Some("switchover"));
    sidecar.terminate();
    let offline = place.run(&["history", "--json"]).code(0);
    assert_eq!(offline.out, online.out, "the history outlives the sidecar");
    place.run(&["healthcheck"]).code(1);
}

#[test]
fn a_policy_that_is_not_valid_does_not_start_and_exits_78() {
    let place = Place::new();
    place.run(&["run"]).code(78);
    place.file("failover.toml", "version = 1\n[servces.search]\n");
    let ran = place.run(&["run", "--log-format", "text"]).code(78);
    assert!(ran.err.contains("error[MF0201]"), "{}", ran.err);
    assert!(ran.err.contains("error: failed to compile the policy failover.toml"), "{}", ran.err);
}

#[test]
fn a_log_that_cannot_be_set_up_is_a_usage_error() {
    let place = Place::new();
    place.file("failover.toml", "version = 1");
    let ran = place.run(&["run", "--log-format", "xml"]).code(2);
    assert!(ran.err.contains("xml"), "{}", ran.err);
}

//! A file from a template, from the policy to its readers and back.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::sidecar::{Home, cli, eventually};
use crate::common::upstream::{Behaviour, Upstream};

const CANARY: &str = "canary-in-a-template-5d2e";

/// A sidecar's folder with a template beside the env file.
struct Scene {
    home: Home,
    primary: Upstream,
    _backup: Upstream,
    policy: String,
}

impl Scene {
    fn new(more: &str) -> Self {
        let primary = Upstream::start(Behaviour::Healthy);
        let backup = Upstream::start(Behaviour::Healthy);
        let home = Home::new();
        let output = format!(
            "[[outputs]]\ntype = \"template\"\npath = \"{}\"\nsource = \"{}\"\n{more}",
            home.path("server.json").display(),
            home.path("server.json.j2").display(),
        );
        let policy = home.quick_policy(&primary, &backup) + &output;
        let policy = policy.replace("SEARCH_URL =", "SEARCH_KEY = \"${CANARY}\", SEARCH_URL =");
        home.write_policy(&policy);
        Self { home, primary, _backup: backup, policy }
    }

    fn template(&self, text: &str) {
        let fresh = self.home.path("server.json.j2.new");
        fs::write(&fresh, text).expect("a writable folder");
        fs::rename(&fresh, self.home.path("server.json.j2")).expect("a writable folder");
    }

    fn json(&self) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.home.path("server.json")).ok()?).ok()
    }

    fn wait_for(&self, name: &str, value: &str) {
        eventually(&format!("{value} as {name}"), || {
            (self.json()?.get(name)? == value).then_some(())
        });
    }
}

/// Looks at everything that was written but the outputs.
fn assert_no_canary(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a folder").path();
        let output = path.ends_with("failover.env") || path.ends_with("server.json");
        if path.is_dir() {
            assert_no_canary(&path);
        } else if path.is_file() && !output {
            let text = String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned();
            assert!(!text.contains(CANARY), "{} holds the value", path.display());
        }
    }
}

const TEMPLATE: &str = "{\n  \"at\": {{ services.search.endpoint }},\n  \
                        \"url\": {{ services.search.env.SEARCH_URL }},\n  \
                        \"key\": {{ services.search.env.SEARCH_KEY }}\n}\n";

#[test]
fn an_edited_template_is_a_reload_and_a_broken_one_changes_nothing() {
    let scene = Scene::new("");
    scene.template(TEMPLATE);
    let sidecar = scene.home.start_with(&[("CANARY", CANARY)]);
    scene.wait_for("at", "primary");
    scene.wait_for("key", CANARY);
    scene.template(&TEMPLATE.replace("\"at\":", "\"where\":"));
    scene.wait_for("where", "primary");

    let before = fs::read(scene.home.path("server.json")).expect("the file");
    scene.template(&TEMPLATE.replace("SEARCH_KEY", "SEARCH_KEYS"));
    let status = sidecar.wait_until("the complaint", |status| {
        status.pointer("/policy/valid") == Some(&false.into())
    });
    let said = status.to_string();
    assert!(said.contains("server.json.j2:4:13: MF0708"), "{said}");
    assert_eq!(fs::read(scene.home.path("server.json")).expect("the file"), before);
    scene.primary.set(Behaviour::Refuse);
    scene.wait_for("where", "backup");

    scene.template(TEMPLATE);
    scene.wait_for("at", "backup");
    sidecar.wait_until("a valid policy", |status| {
        status.pointer("/policy/valid") == Some(&true.into())
    });
}

#[test]
fn a_switch_that_the_check_refuses_stays_undelivered_until_it_passes() {
    let script = "grep -q primary \"$1\" || test -e \"$0\" || { cat \"$1\"; exit 3; }";
    let scene = Scene::new("");
    let allowed = scene.home.path("allowed");
    let check = format!(
        "check = [\"sh\", \"-euc\", '''{script}''', \"{}\", \"{{staged}}\"]\n",
        allowed.display()
    );
    scene.home.write_policy(&(scene.policy.clone() + &check));
    scene.template(TEMPLATE);
    let sidecar = scene.home.start_with(&[("CANARY", CANARY), ("MCPF_LOG", "trace")]);
    scene.wait_for("at", "primary");
    scene.primary.set(Behaviour::Refuse);
    scene.home.wait_for_active("backup");
    let log = eventually("the refusal in the log", || {
        let log = scene.home.log();
        log.contains("its check failed to run sh: exit status: 3").then_some(log)
    });
    assert!(log.contains("the old file stays"), "{log}");
    let at = scene.json().and_then(|json| json.get("at").cloned());
    assert_eq!(at, Some("primary".into()), "its readers keep the old file");
    fs::write(&allowed, "").expect("a writable folder");
    scene.wait_for("at", "backup");
    for arguments in [vec!["status", "--json"], vec!["render"], vec!["check"]] {
        let (_, out, err) = cli(&arguments, &scene.home.path(""));
        assert!(!format!("{out}{err}").contains(CANARY), "{arguments:?}: {out}{err}");
    }
    assert!(sidecar.terminate().success());
    assert_no_canary(&scene.home.path(""));
}

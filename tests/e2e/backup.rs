//! Backups of a running sidecar, and starts from them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::sidecar::{Home, PATIENCE, Sidecar, cli, eventually};
use crate::common::s3::{ACCESS, BUCKET, S3Server, SECRET};
use crate::common::upstream::{Behaviour, Upstream};

/// A place of backups, as a policy names it.
enum Place {
    Folder(PathBuf),
    Bucket(String),
}

impl Place {
    fn table(&self, recover: bool) -> String {
        let place = match self {
            Self::Folder(path) => format!("to = \"{}\"", path.display()),
            Self::Bucket(url) => format!(
                "to = \"s3://{BUCKET}/e2e\"\nendpoint = \"{url}\"\n\
                 credentials = {{ access_key = \"{ACCESS}\", secret_key = \"${{S3_SECRET}}\" }}"
            ),
        };
        format!(
            "[backup]\n{place}\ninterval = \"1s\"\nafter_switch = \"0s\"\nrecover = {recover}\n"
        )
    }
}

/// A world with two upstreams, and a sidecar that backs up.
struct World {
    home: Home,
    primary: Upstream,
    backup: Upstream,
    place: Place,
}

impl World {
    fn new(place: impl FnOnce(&Home) -> Place) -> Self {
        let home = Home::new();
        let place = place(&home);
        let (primary, backup) =
            (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Healthy));
        Self { home, primary, backup, place }
    }

    fn start(&self, recover: bool) -> Sidecar {
        let policy = self.home.quick_policy(&self.primary, &self.backup);
        self.home.write_policy(&format!("{policy}{}", self.place.table(recover)));
        self.home.start_with(&[("S3_SECRET", SECRET)])
    }

    /// Everything that this machine knew is gone: a new one.
    fn lose_all(&self) {
        fs::remove_dir_all(self.home.path("state")).expect("a folder");
        fs::remove_file(self.home.path("failover.env")).expect("a file");
    }

    fn cli(&self, arguments: &[&str]) -> (i32, String, String) {
        // The variable is in the sidecar's environment only: most commands do without.
        cli(arguments, &self.home.path(""))
    }
}

fn order(sidecar: &Sidecar, order: &Value) {
    let request = json!({"request": "command", "command": {"order": order}});
    assert_eq!(sidecar.ask(&request).expect("an answer")["ok"], true);
}

/// A failover, then a pin to where it went; and a backup of both.
fn live_through_something(world: &World) -> (u64, Value) {
    let sidecar = world.start(true);
    world.home.wait_for_active("primary");
    world.primary.set(Behaviour::Refuse);
    world.home.wait_for_active("backup");
    order(&sidecar, &json!({"order": "pin", "service": "search", "endpoint": "backup"}));
    sidecar.wait_until("the pin", |status| {
        status.pointer("/services/search/pinned") == Some(&"backup".into())
    });
    let answer = sidecar.ask(&json!({"request": "backup"})).expect("an answer");
    assert_eq!(answer["ok"], true, "{answer}");
    let (revision, history) = (world.home.revision(), sidecar.history());
    assert!(history.iter().any(|record| record["kind"] == "failover"), "{history:?}");
    sidecar.kill();
    world.primary.set(Behaviour::Healthy);
    (revision, history.into())
}

/// What was lived through is known again, at a later revision.
fn assert_is_back(world: &World, sidecar: &Sidecar, (revision, history): &(u64, Value)) {
    let status = sidecar.wait_until("the state of before", |status| {
        status.pointer("/services/search/pinned") == Some(&"backup".into())
    });
    assert_eq!(status.pointer("/services/search/active"), Some(&"backup".into()), "{status}");
    world.home.wait_for_active("backup");
    eventually("a later revision", || (world.home.revision() > *revision).then_some(()));
    assert_eq!(&Value::from(sidecar.history()), history, "the same moves, and none to get there");
}

fn comes_back_by_itself(world: &World) {
    let before = live_through_something(world);
    world.lose_all();
    let sidecar = world.start(true);
    assert_is_back(world, &sidecar, &before);
    assert!(world.home.log().contains("the state is lost: starting from a backup of it"));
    let status = sidecar.status().expect("a status");
    let from = status.pointer("/backup/recovered_from").and_then(Value::as_str);
    assert!(from.is_some_and(|name| name.starts_with("mcp-failover-")), "{status}");
    assert!(sidecar.terminate().success());
}

fn comes_back_by_command(world: &World) {
    let before = live_through_something(world);
    world.lose_all();
    let sidecar = world.start(false);
    world.home.wait_for_active("primary");
    let (code, _, err) = world.cli(&["restore"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("another sidecar holds it") && err.contains("stop the sidecar"), "{err}");
    assert!(sidecar.terminate().success());
    // What it did meanwhile is newer than any of before.
    let name = newest_pinned(world);
    let (code, _, err) = world.cli(&["restore", &name]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("newer than the backup") && err.contains("--force"), "{err}");
    let (code, out, err) = world.cli(&["restore", &name, "--force", "--json"]);
    assert_eq!(code, 0, "{err}");
    let done: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(done["services"]["search"]["active"], "backup", "{done}");
    assert_eq!(done["services"]["search"]["active_before"], "primary", "{done}");
    assert!(Path::new(done["kept"].as_str().expect("a path")).exists());
    let sidecar = world.start(false);
    let status = sidecar.wait_until("the state of before", |status| {
        status.pointer("/services/search/pinned") == Some(&"backup".into())
    });
    assert!(status["revision"].as_u64() > Some(before.0), "{status}");
    let history = sidecar.history();
    for record in before.1.as_array().expect("records") {
        assert!(history.contains(record), "{record} is not in {history:?}");
    }
}

/// The newest backup in which the service is pinned.
fn newest_pinned(world: &World) -> String {
    let (code, out, err) = world.cli(&["backup", "list", "--json"]);
    assert_eq!(code, 0, "{err}");
    let listed: Value = serde_json::from_str(&out).expect("JSON");
    let names = listed["backups"].as_array().expect("a list").clone();
    let pinned = |name: &&str| {
        let (code, out, err) = world.cli(&["restore", name, "--dry-run", "--json"]);
        assert_eq!(code, 0, "{err}");
        let plan: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(plan["restored"], false);
        plan["services"]["search"]["pinned"] == "backup"
    };
    let name = names.iter().filter_map(|one| one["name"].as_str()).find(pinned);
    name.expect("one with the pin").to_owned()
}

fn in_a_folder(home: &Home) -> Place {
    Place::Folder(home.path("backups"))
}

#[test]
fn a_lost_state_comes_back_from_a_directory() {
    comes_back_by_itself(&World::new(in_a_folder));
}

#[test]
fn a_lost_state_is_restored_from_a_directory_by_command() {
    comes_back_by_command(&World::new(in_a_folder));
}

#[test]
fn a_lost_state_comes_back_from_a_bucket() {
    let Some(server) = S3Server::start() else { return };
    let world = World::new(|_| Place::Bucket(server.url()));
    comes_back_by_itself(&world);
    for folder in ["log", "state"] {
        scan(&world.home.path(folder));
    }
    scan(&server.objects());
}

/// The key of the bucket is nowhere.
fn scan(path: &Path) {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("a folder");
        entries.for_each(|entry| scan(&entry.expect("a folder").path()));
    } else {
        let bytes = fs::read(path).expect("a file");
        assert!(!String::from_utf8_lossy(&bytes).contains(SECRET), "{}", path.display());
    }
}

#[test]
fn a_sidecar_without_a_disk_of_its_own_is_backed_up_and_comes_back() {
    let world = World::new(in_a_folder);
    // Where the state would go, something is in the way.
    fs::write(world.home.path("state"), "in the way").expect("a file");
    let before = live_through_something(&world);
    fs::remove_file(world.home.path("failover.env")).expect("a file");
    let sidecar = world.start(true);
    sidecar.wait_until("the state of before", |status| {
        status.pointer("/services/search/pinned") == Some(&"backup".into())
    });
    world.home.wait_for_active("backup");
    eventually("a later revision", || (world.home.revision() > before.0).then_some(()));
}

#[test]
fn a_damaged_state_comes_back_too_and_its_history_stays() {
    let world = World::new(in_a_folder);
    let before = live_through_something(&world);
    for name in ["state.0", "state.1"] {
        fs::write(world.home.path("state").join(name), "rot").expect("a file");
    }
    fs::remove_file(world.home.path("failover.env")).expect("a file");
    let sidecar = world.start(true);
    assert_is_back(&world, &sidecar, &before);
    assert!(world.home.log().contains("starting from a backup of it"));
}

#[test]
fn two_who_share_a_place_are_told() {
    let world = World::new(in_a_folder);
    let sidecar = world.start(false);
    let ask = || sidecar.ask(&json!({"request": "backup"})).expect("an answer");
    world.home.wait_for_active("primary");
    let name = ask()["data"]["newest"].as_str().expect("a name").to_owned();
    assert_eq!(ask()["ok"], true);
    assert!(!world.home.log().contains("somebody else"), "it is alone");
    let folder = world.home.path("backups");
    let rest = name.get("mcp-failover-2026".len()..).expect("a year and more");
    let later = format!("mcp-failover-2099{rest}");
    fs::copy(folder.join(&name), folder.join(later)).expect("a copy");
    assert_eq!(ask()["ok"], true);
    eventually("a warning", || world.home.log().contains("somebody else backs up").then_some(()));
}

#[test]
fn a_broken_backup_is_said_and_the_one_before_it_taken() {
    let world = World::new(in_a_folder);
    let before = live_through_something(&world);
    let folder = world.home.path("backups");
    let junk = folder.join("mcp-failover-20991231T235959999Z-r9-00000000.backup");
    fs::write(junk, "half of somethi").expect("a file");
    world.lose_all();
    let sidecar = world.start(true);
    assert_is_back(&world, &sidecar, &before);
    let log = world.home.log();
    assert!(log.contains("a backup is passed over") && log.contains("r9-00000000"), "{log}");
    assert!(sidecar.terminate().success());
    let (code, out, _) = world.cli(&["backup", "verify"]);
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("broken") && out.contains("good"), "{out}");
}

#[test]
fn a_place_that_cannot_be_had_keeps_nobody_from_starting() {
    let silent = Upstream::start(Behaviour::Hang);
    let world = World::new(|_| Place::Bucket(silent.url()));
    let since = tokio::time::Instant::now();
    let sidecar = world.start(true);
    world.home.wait_for_active("primary");
    assert!(since.elapsed() < PATIENCE);
    let log = world.home.log();
    assert!(log.contains("its backups cannot be had: starting afresh"), "{log}");

    // It hangs on: decisions and the end do not wait for it.
    eventually("an attempt at a backup", || (silent.requests() > 1).then_some(()));
    world.primary.set(Behaviour::Refuse);
    world.home.wait_for_active("backup");
    let status = sidecar.status().expect("a status");
    assert_eq!(status.pointer("/backup/to"), Some(&"s3://backups/e2e/".into()), "{status}");
    let since = tokio::time::Instant::now();
    assert!(sidecar.terminate().success());
    // Far less than an attempt may take.
    assert!(since.elapsed() < std::time::Duration::from_secs(15), "{:?}", since.elapsed());
    scan(&world.home.path("log"));
}

#[test]
fn a_place_that_refuses_is_told_of_and_so_is_its_return() {
    let refusing = Upstream::start(Behaviour::Status(500));
    let world = World::new(|_| Place::Bucket(refusing.url()));
    let sidecar = world.start(false);
    let status = sidecar.wait_until("three failures", |status| {
        status.pointer("/backup/failures").and_then(Value::as_u64) >= Some(3)
    });
    let failure = status.pointer("/backup/failure").and_then(Value::as_str);
    assert!(failure.is_some_and(|why| why.contains("HTTP 500")), "{status}");
    eventually("the event", || world.home.log().contains("cannot be backed up to").then_some(()));
    let (_, out, _) = world.cli(&["status"]);
    assert!(out.contains("none yet") && out.contains("times in a row"), "{out}");

    // An edit names another place: it is taken at once, and the failure is over.
    let folder = Place::Folder(world.home.path("backups"));
    let policy = world.home.quick_policy(&world.primary, &world.backup);
    world.home.write_policy(&format!("{policy}{}", folder.table(false)));
    let status = sidecar.wait_until("a good backup", |status| {
        status.pointer("/backup/newest").is_some_and(Value::is_string)
    });
    assert_eq!(status.pointer("/backup/failure"), Some(&Value::Null), "{status}");
    // And another one none at all.
    world.home.write_policy(&policy);
    sidecar.wait_until("no backups", |status| status.get("backup").is_none());
    let (code, _, err) = world.cli(&["backup"]);
    assert_eq!(code, 1);
    assert!(err.contains("[backup]"), "{err}");
}

#[test]
fn an_order_and_a_move_are_backed_up_soon_and_an_unchanged_state_is_not() {
    let world = World::new(in_a_folder);
    let policy = world.home.quick_policy(&world.primary, &world.backup);
    let table = world.place.table(false).replace("\"1s\"", "\"1h\"");
    world.home.write_policy(&format!("{policy}{table}"));
    let sidecar = world.home.start();
    let kept = |status: &Value| status.pointer("/backup/kept").and_then(Value::as_u64);
    let first = sidecar.wait_until("a first backup", |status| kept(status).is_some());
    order(&sidecar, &json!({"order": "pin", "service": "search", "endpoint": "backup"}));
    let after = kept(&first).map(|count| count + 1);
    sidecar.wait_until("a backup of the pin", |status| kept(status) >= after);
    let count = || fs::read_dir(world.home.path("backups")).expect("a folder").count();
    let (code, out, err) = world.cli(&["backup"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("is good") && out.contains("by the running sidecar"), "{out}");
    let before = count();
    for _ in 0..3 {
        assert_eq!(sidecar.ask(&json!({"request": "backup"})).expect("an answer")["ok"], true);
    }
    assert_eq!(count(), before, "nothing happened, nothing is stored");
    assert!(sidecar.terminate().success());
    let (code, out, err) = world.cli(&["backup"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("from the state directory"), "{out}");
    let (code, out, _) = world.cli(&["backup", "list"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("NAME") && out.contains("mcp-failover-2"), "{out}");
    let (code, out, _) = world.cli(&["backup", "verify", "--json"]);
    let verified: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(code, 0);
    assert!(
        verified["backups"].as_array().is_some_and(|all| all.iter().all(|b| b["good"] == true))
    );
    let (code, _, err) = world.cli(&["restore", "mcp-failover-nothing"]);
    assert_eq!(code, 2);
    assert!(err.contains("backup list"), "{err}");
}

//! A hook that is due stays so whatever happens to the sidecar, and no longer than it is.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mcp_failover::output::publish;
use mcp_failover::policy::model::{File, Hook, HookRun};

use super::{DEADLINE, ReportKind, Running, config, config_of, env_file, leftovers};

const MARKER: &str = ".x.env.mcp-failover.due";

/// A hook of shell, run in the file's directory.
fn hook(script: &str) -> Hook {
    let script = format!("cd \"$(dirname \"$MCP_FAILOVER_FILE\")\"; {script}");
    let run = HookRun::Command { argv: ["sh", "-euc", &script].map(str::to_owned).into() };
    Hook { run, timeout: DEADLINE, debounce: Duration::ZERO }
}

fn file(dir: &Path, scripts: &[&str]) -> File {
    let on_change = scripts.iter().map(|script| hook(script)).collect();
    File { on_change, ..env_file(&dir.join("x.env")) }
}

fn marker(file: &File) -> PathBuf {
    file.path.with_file_name(MARKER)
}

async fn ran(running: &mut Running) {
    running.until(|kind| matches!(kind, ReportKind::HookRan { .. })).await;
}

/// Runs the output over what is there already; how often a hook ran.
async fn restart(file: &File) -> usize {
    let mut running = Running::start(file);
    running.switch(config(1, "primary")).await;
    let rest = running.stop().await;
    rest.iter().filter(|report| matches!(report.kind, ReportKind::HookRan { .. })).count()
}

#[tokio::test]
async fn a_hook_that_never_ran_for_what_is_on_disk_runs_once_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path(), &["true"]);
    publish(&file, &config(1, "primary")).unwrap();
    let before = std::fs::metadata(&file.path).unwrap();
    assert_eq!(restart(&file).await, 1);
    let after = std::fs::metadata(&file.path).unwrap();
    assert_eq!(before.ino(), after.ino(), "the file was right already");
    assert_eq!(leftovers(dir.path()), Vec::<String>::new());
    assert_eq!(restart(&file).await, 0);
}

#[tokio::test]
async fn a_hook_that_failed_until_the_end_is_due_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path(), &["test -e server", "true"]);
    assert_eq!(restart(&file).await, 1, "one of two works");
    assert!(marker(&file).exists(), "not every hook has worked");
    std::fs::write(dir.path().join("server"), "").unwrap();
    assert_eq!(restart(&file).await, 2);
    assert_eq!(leftovers(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn the_marker_stands_while_the_hook_runs_and_goes_when_it_has_worked() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path(), &[&format!("test -e {MARKER}; test ! -s {MARKER}")]);
    let mut running = Running::start(&file);
    for (revision, endpoint) in [(1, "primary"), (2, "backup"), (3, "primary")] {
        running.publish(config(revision, endpoint));
        ran(&mut running).await;
        let gone = async {
            while marker(&file).exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, gone).await.expect("it goes while the sidecar runs on");
    }
    running.switch(config(4, "primary")).await;
    assert!(!marker(&file).exists(), "no variable changed");
    running.stop().await;
}

#[test]
fn only_the_owner_may_touch_the_marker_and_a_strangers_link_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path(), &["true"]);
    publish(&file, &config(1, "primary")).unwrap();
    let made = std::fs::symlink_metadata(marker(&file)).unwrap();
    assert_eq!((made.len(), made.permissions().mode() & 0o777), (0, 0o600));
    std::fs::remove_file(marker(&file)).unwrap();
    let target = dir.path().join("target");
    std::os::unix::fs::symlink(&target, marker(&file)).unwrap();
    assert!(publish(&file, &config(2, "backup")).unwrap().due_kept);
    assert!(!target.exists());
}

#[tokio::test]
async fn a_hook_that_works_for_one_change_leaves_the_marker_of_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let script = "test \"$MCP_FAILOVER_REVISION\" = 1; until test -e open; do sleep 0.01; done";
    let file = file(dir.path(), &[script]);
    let mut running = Running::start(&file);
    running.switch(config(1, "primary")).await;
    running.switch(config(2, "backup")).await;
    std::fs::write(dir.path().join("open"), "").unwrap();
    ran(&mut running).await;
    running.stop().await;
    assert!(marker(&file).exists(), "the second has not been heard");
}

#[tokio::test]
async fn a_hook_that_works_while_a_write_is_in_doubt_leaves_the_marker() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path(), &["until test -e open; do sleep 0.01; done"]);
    let mut running = Running::start(&file);
    running.switch(config(1, "primary")).await;
    running.publish(config_of(2, "backup", &[("INDEX_KEY", "no\0variable")]));
    running.failed().await;
    std::fs::write(dir.path().join("open"), "").unwrap();
    ran(&mut running).await;
    running.stop().await;
    assert!(marker(&file).exists());
}

#[tokio::test]
async fn without_hooks_no_marker_is_made_and_an_old_one_goes() {
    let dir = tempfile::tempdir().unwrap();
    publish(&file(dir.path(), &["true"]), &config(1, "primary")).unwrap();
    let file = file(dir.path(), &[]);
    assert!(marker(&file).exists());
    assert_eq!(restart(&file).await, 0);
    assert!(!marker(&file).exists());
    publish(&file, &config(2, "backup")).unwrap();
    assert!(!marker(&file).exists());
}

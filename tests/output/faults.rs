//! Disks that are full, read-only, forbidden or failing: the old file stays, and the write is
//! tried again until it works.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mcp_failover::output::{publish, verify};
use mcp_failover::policy::model::{File, Hook, HookRun};

use super::{
    DEADLINE, ReportKind, Running, again, assert_passed, config, config_of, env_file, found, inner,
    inner_dir, is_root, leftovers, may_mount,
};
use crate::common;

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

/// Publishes `primary`, breaks something, sees `backup` fail without harm, mends it, and sees
/// `backup` arrive.
async fn old_stays_until_new_works(
    dir: &Path,
    break_it: impl FnOnce(),
    says: &str,
    mend_it: impl FnOnce(),
) {
    let file = env_file(&dir.join("x.env"));
    let mut running = Running::start(&file);
    running.switch(config(1, "primary")).await;
    let old = std::fs::read(&file.path).unwrap();
    break_it();
    running.publish(config(2, "backup"));
    let error = running.failed().await;
    assert!(error.contains(says), "{error}");
    assert!(!error.contains("key-of"), "{error}");
    assert_eq!(std::fs::read(&file.path).unwrap(), old);
    running.failed().await;
    mend_it();
    assert!(running.written(2).await);
    let seen = verify(&std::fs::read(&file.path).unwrap()).unwrap();
    assert_eq!((seen.revision.get(), seen.checksum_ok), (2, true));
    assert_eq!(leftovers(dir), Vec::<String>::new());
    running.stop().await;
}

#[test]
fn a_full_disk_keeps_the_old_file() {
    if inner() {
        let dir = inner_dir();
        let filler = dir.join("filler");
        return block_on(old_stays_until_new_works(
            &dir,
            || fill(&filler),
            "No space left on device",
            || std::fs::remove_file(&filler).unwrap(),
        ));
    }
    if may_mount() {
        let script = "mount -t tmpfs -o size=64k none \"$MCPF_INNER_DIR\" && exec \"$@\"";
        in_own_mounts(script, "output::faults::a_full_disk_keeps_the_old_file");
    }
}

fn in_own_mounts(script: &str, test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let wrapper = ["unshare", "-m", "sh", "-euc", script, "sh"];
    assert_passed(&again(&wrapper, test, dir.path()));
}

fn fill(filler: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(filler).unwrap();
    while file.write_all(&[0; 1024]).is_ok() {}
}

#[test]
fn a_read_only_disk_keeps_the_old_file() {
    if inner() {
        let dir = inner_dir();
        let remount = |how: &str| {
            let done = Command::new("mount").args(["-o", how]).arg(&dir).status().unwrap();
            assert!(done.success());
        };
        return block_on(old_stays_until_new_works(
            &dir,
            || remount("remount,ro"),
            "Read-only file system",
            || remount("remount,rw"),
        ));
    }
    if may_mount() {
        let script = "mount -t tmpfs none \"$MCPF_INNER_DIR\" && exec \"$@\"";
        in_own_mounts(script, "output::faults::a_read_only_disk_keeps_the_old_file");
    }
}

#[test]
fn a_forbidden_directory_keeps_the_old_file() {
    if inner() || !is_root() {
        let own = tempfile::tempdir();
        let dir = if inner() { inner_dir() } else { own.unwrap().path().to_owned() };
        let allow = |mode| {
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        return block_on(old_stays_until_new_works(
            &dir,
            || allow(0o555),
            "Permission denied",
            || allow(0o755),
        ));
    }
    if !found("setpriv") {
        return common::skip("root needs setpriv to be somebody else");
    }
    // Where the test binary lies may be closed to others.
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755)).unwrap();
    let exe = home.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let dir = home.path().join("dir");
    std::fs::create_dir_all(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(65_534), Some(65_534)).unwrap();
    let script = format!("shift; exec '{}' \"$@\"", exe.display());
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let nobody = [&nobody[..], &["sh", "-euc", &script, "sh"]].concat();
    let test = "output::faults::a_forbidden_directory_keeps_the_old_file";
    assert_passed(&again(&nobody, test, &dir));
}

#[test]
fn a_disk_that_cannot_flush_is_written_again() {
    if inner() {
        return block_on(flush_fails_once(&inner_dir()));
    }
    if !found("strace") {
        return common::skip("failing a flush needs strace");
    }
    // The first flush is the file's, the second the directory's: the file is replaced by then.
    for which in ["1", "2"] {
        let dir = tempfile::tempdir().unwrap();
        publish(&env_file(&dir.path().join("x.env")), &config(1, "primary")).unwrap();
        let inject = format!("inject=fsync:error=EIO:when={which}");
        let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", &inject];
        let test = "output::faults::a_disk_that_cannot_flush_is_written_again";
        assert_passed(&again(&strace, test, dir.path()));
    }
}

async fn flush_fails_once(dir: &Path) {
    let file = env_file(&dir.join("x.env"));
    let mut running = Running::start(&file);
    running.publish(config(2, "backup"));
    let error = running.failed().await;
    assert!(error.contains("Input/output error"), "{error}");
    let seen = verify(&std::fs::read(&file.path).unwrap()).unwrap();
    assert!(seen.checksum_ok);
    let directory = error.contains("flush the directory of");
    assert_eq!(seen.revision.get(), if directory { 2 } else { 1 });
    assert!(running.written(2).await, "the hooks must hear of it");
    let seen = verify(&std::fs::read(&file.path).unwrap()).unwrap();
    assert_eq!((seen.revision.get(), seen.checksum_ok), (2, true));
    assert_eq!(leftovers(dir), Vec::<String>::new());
    running.stop().await;
}

#[test]
fn a_bind_mounted_file_is_overwritten_in_place_with_one_warning() {
    if inner() {
        return block_on(in_place(&inner_dir()));
    }
    if may_mount() {
        let script = "cd \"$MCPF_INNER_DIR\"; mount -t tmpfs -o size=64k none .; cd \"$PWD\"; \
                      echo OLD=1 > x.env; mount --bind x.env x.env; exec \"$@\"";
        let test = "output::faults::a_bind_mounted_file_is_overwritten_in_place_with_one_warning";
        in_own_mounts(script, test);
    }
}

async fn in_place(dir: &Path) {
    let file = env_file(&dir.join("x.env"));
    let inode = std::fs::metadata(&file.path).unwrap().ino();
    let mut running = Running::start(&file);
    running.switch(config(1, "primary")).await;
    running.until(|kind| matches!(kind, ReportKind::Warning(_))).await;
    let long = "x".repeat(9_000);
    for (revision, key) in [(2, "short"), (3, &long), (4, "short again")] {
        running.publish(config_of(revision, "backup", &[("INDEX_KEY", key)]));
        let report = running.next().await;
        assert!(matches!(report.kind, ReportKind::Wrote { changed: true, .. }), "{report:?}");
        let text = std::fs::read(&file.path).unwrap();
        let seen = verify(&text).unwrap();
        assert_eq!((seen.revision.get(), seen.checksum_ok), (revision, true));
        assert!(text.ends_with(b"\n") && !text.ends_with(b"\n\n"), "padding is cut off");
    }
    let now = std::fs::metadata(&file.path).unwrap();
    assert_eq!((now.ino(), now.mode() & 0o777), (inode, 0o600));

    let before = std::fs::read(&file.path).unwrap();
    fill(&dir.join("filler"));
    running.publish(config_of(5, "primary", &[("INDEX_KEY", &long)]));
    assert!(running.failed().await.contains("No space left on device"));
    assert_eq!(std::fs::read(&file.path).unwrap(), before, "not even in place is it torn");
    std::fs::remove_file(dir.join("filler")).unwrap();
    running.written(5).await;
    running.stop().await;
}

#[test]
fn a_hook_that_cannot_be_marked_as_due_stops_no_write_and_is_said_once() {
    if inner() {
        return block_on(unmarked(&inner_dir()));
    }
    if may_mount() {
        let script = "cd \"$MCPF_INNER_DIR\"; mount -t tmpfs none .; cd \"$PWD\"; \
                      echo OLD=1 > x.env; mount --bind x.env x.env; \
                      mount -o remount,bind,ro .; exec \"$@\"";
        let test =
            "output::faults::a_hook_that_cannot_be_marked_as_due_stops_no_write_and_is_said_once";
        in_own_mounts(script, test);
    }
}

async fn unmarked(dir: &Path) {
    let run = HookRun::Command { argv: vec!["true".to_owned()] };
    let hook = Hook { run, timeout: DEADLINE, debounce: Duration::ZERO };
    let file = File { on_change: vec![hook], ..env_file(&dir.join("x.env")) };
    let mut running = Running::start(&file);
    let is_said = |kind: &ReportKind| matches!(kind, ReportKind::Warning(text) if text.contains("hooks are due"));
    running.switch(config(1, "primary")).await;
    running.until(is_said).await;
    running.publish(config(2, "backup"));
    let report = running.until(|kind| !matches!(kind, ReportKind::HookRan { .. })).await;
    assert!(matches!(report.kind, ReportKind::Wrote { changed: true, .. }), "{report:?}");
    let rest = running.stop().await;
    assert!(rest.iter().all(|report| !is_said(&report.kind)), "{rest:?}");
    assert!(verify(&std::fs::read(&file.path).unwrap()).unwrap().checksum_ok);
}

#[tokio::test(start_paused = true)]
async fn a_missing_directory_is_explained_and_waited_for_ever_longer() {
    let dir = tempfile::tempdir().unwrap();
    let file = env_file(&dir.path().join("later/x.env"));
    let mut running = Running::start(&file);
    running.publish(config(1, "primary"));
    let mut last = tokio::time::Instant::now();
    let mut waits = Vec::new();
    for _ in 0..10 {
        let error = running.failed().await;
        assert!(error.contains("create the directory"), "{error}");
        let now = tokio::time::Instant::now();
        waits.push((now - last).as_millis());
        last = now;
    }
    // The paused clock counts whole milliseconds, and may round each wait up by one.
    let near = |wait: u128, wanted: u128| (wanted..wanted + 3).contains(&wait);
    let wanted = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000];
    assert!(waits[1..].iter().zip(wanted).all(|(&wait, wanted)| near(wait, wanted)), "{waits:?}");
    running.publish(config(2, "backup"));
    running.failed().await;
    running.failed().await;
    assert!(last.elapsed() < Duration::from_secs(1), "a newer one starts over");
    std::fs::create_dir_all(dir.path().join("later")).unwrap();
    running.written(2).await;
    running.stop().await;
}

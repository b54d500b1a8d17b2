//! Servers are told, and told again until they hear.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mcp_failover::core::id::Revision;
use mcp_failover::output::OutputReport;
use mcp_failover::policy::model::{File, Hook, HookRun};

use super::{DEADLINE, ReportKind, Running, config, env_file};

const HUP: i32 = 1;

fn with_hook(dir: &Path, run: HookRun) -> File {
    let hook = Hook { run, timeout: DEADLINE, debounce: Duration::ZERO };
    File { on_change: vec![hook], ..env_file(&dir.join("x.env")) }
}

fn to_pid_file(pid_file: &Path) -> HookRun {
    HookRun::SignalPidFile { signal: HUP, pid_file: pid_file.to_owned() }
}

fn command(argv: &[&str]) -> HookRun {
    HookRun::Command { argv: argv.iter().map(|&arg| arg.to_owned()).collect() }
}

async fn ran(running: &mut Running) -> OutputReport {
    running.until(|kind| matches!(kind, ReportKind::HookRan { .. })).await
}

async fn hook_failed(running: &mut Running) -> String {
    loop {
        if let ReportKind::HookFailed { error, .. } = running.next().await.kind {
            return error.to_string();
        }
    }
}

/// Waits in real time, also where the clock of the test stands still.
pub(super) fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10)); // poll
    }
    panic!("waited in vain for {what}");
}

/// A process that writes a line for every signal that it gets.
struct Server {
    child: Child,
    heard: PathBuf,
}

impl Server {
    fn start(shell: &Path, dir: &Path) -> Self {
        let (heard, ready) = (dir.join("heard"), dir.join("ready"));
        let script = "trap 'echo hup >> \"$0\"' HUP; : > \"$1\"; while :; do sleep 0.02; done";
        let child = Command::new(shell)
            .args(["-c", script])
            .args([&heard, &ready])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the server", || ready.exists());
        Self { child, heard }
    }

    fn times(&self) -> usize {
        std::fs::read_to_string(&self.heard).unwrap_or_default().lines().count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

pub(super) fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test]
async fn a_signal_reaches_the_process_of_a_pid_file() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Path::new("/bin/sh"), dir.path());
    let pid_file = dir.path().join("pid");
    std::fs::write(&pid_file, format!(" {}\nmore about it\n", server.child.id())).unwrap();
    let mut running = Running::start(&with_hook(dir.path(), to_pid_file(&pid_file)));
    running.publish(config(1, "primary"));
    let report = ran(&mut running).await;
    assert_eq!(report.revision, Revision::new(1));
    eventually("the signal", || server.times() == 1);
    running.stop().await;
}

#[tokio::test]
async fn a_signal_reaches_every_process_of_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let name = format!("mcpf-{}", std::process::id());
    let shell = dir.path().join(&name);
    std::fs::copy("/bin/sh", &shell).unwrap();
    let process = HookRun::SignalProcess { signal: HUP, process: name };
    let mut running = Running::start(&with_hook(dir.path(), process));
    running.publish(config(1, "primary"));
    let error = hook_failed(&mut running).await;
    assert!(error.contains("find a process named"), "{error}");
    let homes = [dir.path().join("one"), dir.path().join("two")];
    for home in &homes {
        std::fs::create_dir_all(home).unwrap();
    }
    let servers = homes.each_ref().map(|home| Server::start(&shell, home));
    ran(&mut running).await;
    // A retry between the two starts reaches one; the next change reaches both.
    running.publish(config(2, "backup"));
    ran(&mut running).await;
    eventually("both signals", || servers.iter().all(|server| server.times() > 0));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pid_file_cannot_make_us_signal_what_is_no_server() {
    let own = std::process::id().to_string();
    let gone = {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id().to_string()
    };
    let cases = [
        ("0", "number above 1"),
        ("1", "number above 1"),
        ("-1", "number above 1"),
        ("-4321", "number above 1"),
        ("", "number above 1"),
        ("sesame", "number above 1"),
        ("99999999999999999999", "number above 1"),
        (own.as_str(), "sidecar itself"),
        (gone.as_str(), "there is none"),
    ];
    for (text, says) in cases {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        std::fs::write(&pid_file, text).unwrap();
        let mut running = Running::start(&with_hook(dir.path(), to_pid_file(&pid_file)));
        running.publish(config(1, "primary"));
        let error = hook_failed(&mut running).await;
        assert!(error.contains(says), "{text}: {error}");
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_process_that_nobody_buried_has_not_heard() {
    let dir = tempfile::tempdir().unwrap();
    let mut zombie = Command::new("true").spawn().unwrap();
    let pid = zombie.id().to_string();
    eventually("its end", || !is_alive(&pid));
    let pid_file = dir.path().join("pid");
    std::fs::write(&pid_file, pid).unwrap();
    let mut running = Running::start(&with_hook(dir.path(), to_pid_file(&pid_file)));
    running.publish(config(1, "primary"));
    assert!(hook_failed(&mut running).await.contains("there is none"));
    running.stop().await;
    zombie.wait().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failed_hook_is_tried_again_though_the_file_is_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let file = with_hook(dir.path(), to_pid_file(&pid_file));
    let mut running = Running::start(&file);
    running.publish(config(1, "primary"));
    for _ in 0..10 {
        hook_failed(&mut running).await;
    }
    let before = std::fs::metadata(&file.path).unwrap();
    let server = Server::start(Path::new("/bin/sh"), dir.path());
    std::fs::write(&pid_file, server.child.id().to_string()).unwrap();
    ran(&mut running).await;
    eventually("the signal", || server.times() == 1);
    let after = std::fs::metadata(&file.path).unwrap();
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_hook_gives_way_to_a_newer_change() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let mut running = Running::start(&with_hook(dir.path(), to_pid_file(&pid_file)));
    running.publish(config(1, "primary"));
    hook_failed(&mut running).await;
    let server = Server::start(Path::new("/bin/sh"), dir.path());
    running.switch(config(2, "backup")).await;
    std::fs::write(&pid_file, server.child.id().to_string()).unwrap();
    assert_eq!(ran(&mut running).await.revision, Revision::new(2));
    eventually("the signal", || server.times() == 1);
    let rest = running.stop().await;
    assert!(!rest.iter().any(|report| matches!(report.kind, ReportKind::HookRan { .. })));
}

#[tokio::test(start_paused = true)]
async fn no_hook_runs_when_no_variable_changed() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let server = Server::start(Path::new("/bin/sh"), dir.path());
    std::fs::write(&pid_file, server.child.id().to_string()).unwrap();
    let file = with_hook(dir.path(), to_pid_file(&pid_file));
    let mut running = Running::start(&file);
    running.publish(config(1, "primary"));
    ran(&mut running).await;
    assert!(!running.switch(config(2, "primary")).await, "the revision alone is no change");
    let rest = tokio::time::timeout(Duration::from_secs(60), running.reports.recv()).await;
    assert!(rest.is_err(), "{rest:?}");
    std::fs::remove_file(&file.path).unwrap();
    ran(&mut running).await;
    running.stop().await;
    let mut restarted = Running::start(&file);
    assert!(!restarted.switch(config(2, "primary")).await, "it was all there");
    let rest = restarted.stop().await;
    assert_eq!(rest, []);
}

#[tokio::test(start_paused = true)]
async fn changes_close_together_run_it_at_once_and_once_more() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let server = Server::start(Path::new("/bin/sh"), dir.path());
    std::fs::write(&pid_file, server.child.id().to_string()).unwrap();
    let mut file = with_hook(dir.path(), to_pid_file(&pid_file));
    file.on_change[0].debounce = Duration::from_secs(20);
    let mut running = Running::start(&file);
    let start = tokio::time::Instant::now();
    running.publish(config(1, "primary"));
    ran(&mut running).await;
    assert!(start.elapsed() < Duration::from_secs(1), "the first is not held back");
    for revision in 2..8 {
        let endpoint = if revision % 2 == 0 { "backup" } else { "primary" };
        running.switch(config(revision, endpoint)).await;
    }
    assert!(start.elapsed() < Duration::from_secs(1), "no write waits");
    let last = ran(&mut running).await;
    assert_eq!(last.revision, Revision::new(7));
    assert!(start.elapsed() >= Duration::from_secs(20));
    let rest = tokio::time::timeout(Duration::from_secs(60), running.reports.recv()).await;
    assert!(rest.is_err(), "{rest:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_command_gets_what_it_needs_and_nothing_secret() {
    let dir = tempfile::tempdir().unwrap();
    let seen = dir.path().join("seen");
    // Reading to the end shows that there is nobody at its standard input.
    let script = "cat; cp /proc/$$/environ \"$0.new\"; mv \"$0.new\" \"$0\"";
    let file = with_hook(dir.path(), command(&["sh", "-euc", script, seen.to_str().unwrap()]));
    let mut running = Running::start(&file);
    running.publish(config(7, "primary"));
    ran(&mut running).await;
    running.stop().await;
    let environ = std::fs::read_to_string(seen).unwrap();
    let mut names: Vec<_> =
        environ.split_terminator('\0').map(|line| line.split_once('=').unwrap().0).collect();
    names.sort_unstable();
    names.retain(|name| *name != "HOME");
    let ours = ["MCP_FAILOVER_FILE", "MCP_FAILOVER_OUTPUT", "MCP_FAILOVER_REVISION", "PATH"];
    assert_eq!(names, ours);
    assert!(environ.contains("MCP_FAILOVER_REVISION=7\0"));
    assert!(environ.contains(&format!("MCP_FAILOVER_FILE={}\0", file.path.display())));
}

#[tokio::test]
async fn a_command_runs_after_the_file_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let script =
        "grep -q \"^MCP_FAILOVER_REVISION=$MCP_FAILOVER_REVISION$\" \"$MCP_FAILOVER_FILE\"";
    let mut running = Running::start(&with_hook(dir.path(), command(&["sh", "-euc", script])));
    for revision in 1..20 {
        let endpoint = if revision % 2 == 0 { "backup" } else { "primary" };
        running.publish(config(revision, endpoint));
        let of_hook = |kind: &ReportKind| {
            matches!(kind, ReportKind::HookRan { .. } | ReportKind::HookFailed { .. })
        };
        let report = running.until(of_hook).await;
        assert!(matches!(report.kind, ReportKind::HookRan { .. }), "{report:?}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let script = "sleep 1000 & echo $! $$ > \"$0.new\"; mv \"$0.new\" \"$0\"; wait";
    let mut file = with_hook(dir.path(), command(&["sh", "-c", script, pids.to_str().unwrap()]));
    file.on_change[0].timeout = Duration::from_secs(1);
    let mut running = Running::start(&file);
    running.publish(config(1, "primary"));
    loop {
        let error = hook_failed(&mut running).await;
        assert!(error.contains("not done within 1s"), "{error}");
        if pids.exists() {
            break;
        }
    }
    running.cancel.cancel();
    let text = std::fs::read_to_string(&pids).unwrap();
    running.stop().await;
    let all_dead = || text.split_whitespace().all(|pid| !is_alive(pid));
    eventually("their end", all_dead);
}

#[tokio::test]
async fn a_hook_that_hangs_delays_no_write() {
    let dir = tempfile::tempdir().unwrap();
    let started = dir.path().join("started");
    let script = "echo $$ > \"$0.new\"; mv \"$0.new\" \"$0\"; exec sleep 1000";
    let file = with_hook(dir.path(), command(&["sh", "-c", script, started.to_str().unwrap()]));
    let mut running = Running::start(&file);
    running.switch(config(1, "primary")).await;
    while !started.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for revision in 2..6 {
        let endpoint = if revision % 2 == 0 { "backup" } else { "primary" };
        running.publish(config(revision, endpoint));
        let report = running.next().await;
        assert!(matches!(report.kind, ReportKind::Wrote { changed: true, .. }), "{report:?}");
    }
    let pid = std::fs::read_to_string(&started).unwrap();
    assert!(is_alive(&pid), "the hook still hangs");
    // Dropping an output kills what it runs.
    running.task.abort();
    assert!(running.task.await.unwrap_err().is_cancelled());
    eventually("its end", || !is_alive(&pid));
}

#[tokio::test]
async fn what_a_command_says_is_quoted_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo why it failed; cat \"$MCP_FAILOVER_FILE\" >&2; exit 3";
    let mut running = Running::start(&with_hook(dir.path(), command(&["sh", "-c", script])));
    running.publish(config(1, "primary"));
    let error = hook_failed(&mut running).await;
    assert!(error.contains("why it failed"), "{error}");
    assert!(error.contains("exit status: 3"), "{error}");
    assert!(error.contains("INDEX_KEY=***"), "{error}");
    assert!(!error.contains("key-of") && !error.contains("example.com"), "{error}");
    running.stop().await;
}

#[tokio::test]
async fn a_command_that_floods_or_leaves_something_running_is_no_trouble() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script =
        "head -c 3000000 /dev/zero; sleep 1000 & echo $! > \"$0.new\"; mv \"$0.new\" \"$0\"";
    let file = with_hook(dir.path(), command(&["sh", "-euc", script, pid.to_str().unwrap()]));
    let mut running = Running::start(&file);
    running.publish(config(1, "primary"));
    ran(&mut running).await;
    running.stop().await;
    let text = std::fs::read_to_string(&pid).unwrap();
    assert!(is_alive(&text), "what a reload starts may stay");
    let pid = rustix::process::Pid::from_raw(text.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_change_that_is_on_disk_at_shutdown_is_still_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = Running::start(&with_hook(dir.path(), command(&["sleep", "0.2"])));
    running.switch(config(1, "primary")).await;
    let rest = running.stop().await;
    assert!(
        rest.iter().any(|report| matches!(report.kind, ReportKind::HookRan { .. })),
        "{rest:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_program_that_is_not_there_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut running =
        Running::start(&with_hook(dir.path(), command(&["/no/such/program", "secret"])));
    running.publish(config(1, "primary"));
    let error = hook_failed(&mut running).await;
    assert!(error.contains("/no/such/program") && !error.contains("secret"), "{error}");
    running.stop().await;
}

//! The writer is killed before every single system call of a switch, and after the last, before
//! its hook. The file is whole, and the next start runs the hook.

use std::path::Path;
use std::process::{Command, Output as Finished};
use std::time::Duration;

use mcp_failover::output::{Published, publish, render, verify};
use mcp_failover::policy::model::{Content, File, FileCheck, Hook, HookRun, Quoting, Template};
use mcp_failover::policy::secret::Secret;

use super::{
    DEADLINE, Running, again, assert_passed, config, env_file, found, inner, inner_dir, leftovers,
    may_mount,
};
use crate::common;

/// What a switch asks the kernel for.
const CALLS: [&str; 12] = [
    "openat",
    "write",
    "pwrite64",
    "fallocate",
    "ftruncate",
    "fchmod",
    "fchown",
    "fsync",
    "rename",
    "renameat",
    "renameat2",
    "unlinkat",
];
/// strace counts by thread and kind of call. The thread that switches makes so many idle calls of
/// the kinds that others make, too, that none of theirs has the number of one of the switch.
const IDLE: usize = 300;
const SEEN_BY_HOOK: &str = "seen";
/// More calls than a switch makes; only a broken test gets there.
const TOO_MANY: usize = 100;

fn file(dir: &Path) -> File {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let owner = (Some(user.as_raw()), Some(group.as_raw()));
    let script = "cp \"$MCP_FAILOVER_FILE\" \"$0\"";
    let seen = dir.join(SEEN_BY_HOOK).into_os_string().into_string().unwrap();
    let run = HookRun::Command { argv: ["sh", "-euc", script, &seen].map(str::to_owned).into() };
    let on_change = vec![Hook { run, timeout: DEADLINE, debounce: Duration::ZERO }];
    File { owner, on_change, ..env_file(&dir.join("x.env")) }
}

/// The same with a text of another kind, and a check that it must pass before it is there.
fn templated(dir: &Path) -> File {
    let text =
        "{\n  \"key\": {{ services.index.env.INDEX_KEY }},\n  \"revision\": {{ revision }}\n}\n";
    let template = Template { text: Secret::from(text), quoting: Quoting::Json };
    let argv = ["test", "-s", FileCheck::STAGED].map(str::to_owned).into();
    let check = Some(FileCheck { argv, timeout: DEADLINE });
    File { content: Content::Template(template), check, ..file(dir) }
}

/// What the kills left, counted: a run that never hit a moment proves nothing about it.
#[derive(Debug, Default)]
struct Seen {
    absent: usize,
    old: usize,
    new: usize,
    leftovers: usize,
}

/// Kills at the first call of each kind, at the second, and so on, until the switch gets through.
fn kill_everywhere(file: fn(&Path) -> File, existing: bool, wrapper: &[&str], test: &str) -> Seen {
    let mut seen = Seen::default();
    for call in CALLS {
        let passed = (1..TOO_MANY).find(|&number| {
            let dir = tempfile::tempdir().unwrap();
            let file = file(dir.path());
            if existing {
                // All that is to be heard of it has been heard.
                let settled = File { on_change: Vec::new(), ..file.clone() };
                publish(&settled, &config(1, "primary")).unwrap();
            }
            let finished = killed_at(call, number, &|strace| {
                again(&[wrapper, strace].concat(), test, dir.path())
            });
            let passed = finished.status.success();
            if passed {
                assert_passed(&finished);
            } else {
                look(&file, &mut seen);
                let is_temporary = |name: &&String| *name != ".x.env.mcp-failover.due";
                seen.leftovers += leftovers(dir.path()).iter().filter(is_temporary).count();
            }
            recover(&file);
            passed
        });
        assert!(passed.is_some(), "{call} without end: {seen:?}");
    }
    eprintln!("{seen:?}");
    seen
}

/// Runs the switch with a kill at one call of it, if it makes so many.
fn killed_at(call: &str, number: usize, run: &dyn Fn(&[&str]) -> Finished) -> Finished {
    let when = if matches!(call, "openat" | "write") { IDLE + number } else { number };
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:signal=SIGKILL:when={when}");
    run(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject])
}

/// The switch that is killed.
fn switch(file: fn(&Path) -> File) -> Published {
    let dir = inner_dir();
    let null = std::fs::File::create("/dev/null").unwrap();
    let switch = || {
        for _ in 0..IDLE {
            assert!(std::fs::File::open(dir.join("nothing")).is_err());
            assert_eq!(rustix::io::write(&null, b"x"), Ok(1));
        }
        publish(&file(&dir), &config(2, "backup")).unwrap()
    };
    std::thread::scope(|scope| scope.spawn(switch).join().unwrap())
}

fn look(file: &File, seen: &mut Seen) {
    let wanted = |revision, endpoint| render(file, &config(revision, endpoint), None).unwrap();
    let Ok(mut text) = std::fs::read(&file.path) else {
        seen.absent += 1;
        return;
    };
    let sealed = matches!(file.content, Content::Env(_));
    let whole = !sealed || verify(&text).unwrap().checksum_ok;
    assert!(whole, "{}", String::from_utf8_lossy(&text));
    text.truncate(text.trim_ascii_end().len() + 1);
    if text == *wanted(1, "primary") {
        seen.old += 1;
    } else {
        assert_eq!(text, *wanted(2, "backup"));
        seen.new += 1;
    }
}

/// The next start finishes the work, the hook included, and clears up.
fn recover(file: &File) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut running = Running::start(file);
        running.switch(config(2, "backup")).await;
        running.stop().await;
    });
    let text = std::fs::read(&file.path).unwrap();
    assert_eq!(text, *render(file, &config(2, "backup"), None).unwrap());
    let dir = file.path.parent().unwrap();
    assert_eq!(std::fs::read(dir.join(SEEN_BY_HOOK)).ok(), Some(text), "the hook has run");
    assert_eq!(leftovers(dir), Vec::<String>::new());
}

fn may_trace() -> bool {
    let may = found("strace")
        && Command::new("strace")
            .args(["-qq", "-o", "/dev/null", "true"])
            .status()
            .is_ok_and(|status| status.success());
    if !may {
        common::skip("killing at a system call needs strace");
    }
    may
}

#[test]
fn a_kill_at_any_system_call_leaves_the_old_or_the_new_file() {
    if inner() {
        assert!(!switch(file).in_place);
        return;
    }
    if may_trace() {
        let test = "output::crash::a_kill_at_any_system_call_leaves_the_old_or_the_new_file";
        let seen = kill_everywhere(file, true, &[], test);
        assert!(seen.absent == 0 && seen.old > 6 && seen.new > 1 && seen.leftovers > 4, "{seen:?}");
    }
}

#[test]
fn a_kill_at_any_system_call_leaves_no_file_or_the_whole() {
    if inner() {
        assert!(!switch(file).in_place);
        return;
    }
    if may_trace() {
        let test = "output::crash::a_kill_at_any_system_call_leaves_no_file_or_the_whole";
        let seen = kill_everywhere(file, false, &[], test);
        assert!(seen.old == 0 && seen.absent > 6 && seen.new > 1 && seen.leftovers > 4, "{seen:?}");
    }
}

#[test]
fn a_kill_at_any_system_call_leaves_the_old_or_the_new_text_of_a_template() {
    if inner() {
        assert!(!switch(templated).in_place);
        return;
    }
    if may_trace() {
        let test =
            "output::crash::a_kill_at_any_system_call_leaves_the_old_or_the_new_text_of_a_template";
        let seen = kill_everywhere(templated, true, &[], test);
        assert!(seen.absent == 0 && seen.old > 6 && seen.new > 1 && seen.leftovers > 4, "{seen:?}");
    }
}

#[test]
fn a_kill_at_any_system_call_leaves_a_whole_file_even_in_place() {
    if inner() {
        assert!(switch(file).in_place);
        return;
    }
    if may_trace() && may_mount() {
        let test = "output::crash::a_kill_at_any_system_call_leaves_a_whole_file_even_in_place";
        let script = "f=$MCPF_INNER_DIR/x.env; mount --bind \"$f\" \"$f\"; exec \"$@\"";
        let seen =
            kill_everywhere(file, true, &["unshare", "-m", "sh", "-euc", script, "sh"], test);
        assert!(seen.absent == 0 && seen.old > 3 && seen.new > 1, "{seen:?}");
        assert_eq!(seen.leftovers, 0, "no secret is written beside it");
    }
}

//! Commands as probes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{Check, ExecCheck, Probe};
use mcp_failover::policy::secret::Secret;
use mcp_failover::probe::{Prober, Report};

use super::{PATIENT, SHORT, assert_end, attempt};

fn command(argv: &[&str], env: &[(&str, &str)]) -> Check {
    let pair = |&(name, value): &(&str, &str)| (name.to_owned(), Secret::from(value));
    Check::Exec(ExecCheck {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: env.iter().map(pair).collect::<BTreeMap<_, _>>(),
    })
}

async fn shell(script: &str, env: &[(&str, &str)]) -> Report {
    attempt(command(&["sh", "-c", script], env), PATIENT).await
}

/// Asks until there is an answer.
async fn eventually<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENT, asking).await.expect(what)
}

/// Waits until the process whose number stands in `file` is gone, or dead and not yet collected.
pub(super) async fn assert_gone(file: &Path) {
    let written = || std::fs::read_to_string(file).ok().filter(|text| text.ends_with('\n'));
    let number = eventually("the command writes its number", written).await;
    let file = format!("/proc/{}/stat", number.trim());
    let gone = || {
        let stat = std::fs::read_to_string(&file).unwrap_or_default();
        // The state follows the name, which is in parentheses and may hold any other character.
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        (state.is_empty() || state.starts_with('Z')).then_some(())
    };
    eventually("the process is killed", gone).await;
}

#[tokio::test]
async fn exit_codes_become_outcomes() {
    assert_end(&shell("exit 0", &[]).await, Outcome::Ok, "");
    assert_end(&shell("exit 1", &[]).await, Outcome::ServerError, "exit code 1");
    assert_end(&shell("exit 2", &[]).await, Outcome::ServerError, "exit code 2");
    let not_run = "command could not be run: exit code 127";
    assert_end(&shell("no-such-command-here", &[]).await, Outcome::ClientError, not_run);
    let signal = "command ended by signal 15";
    assert_end(&shell("kill -TERM $$", &[]).await, Outcome::ServerError, signal);
    assert_end(&shell("kill -KILL $$", &[]).await, Outcome::Local, "command was killed");
}

#[tokio::test]
async fn a_command_that_cannot_start_is_the_probes_fault() {
    let report = attempt(command(&["no-such-command-here"], &[]), PATIENT).await;
    assert_end(&report, Outcome::ClientError, "command not found");
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let report = attempt(command(&[path], &[]), PATIENT).await;
    assert_end(&report, Outcome::ClientError, "command is not executable");
    let report = attempt(command(&["/"], &[]), PATIENT).await;
    assert_end(&report, Outcome::ClientError, "command is not executable");
    let report = attempt(command(&["a\0b"], &[]), PATIENT).await;
    assert_end(&report, Outcome::ClientError, "command cannot be run as given");
    let report = attempt(command(&[], &[]), PATIENT).await;
    assert_end(&report, Outcome::ClientError, "no command given");
}

#[tokio::test]
async fn the_environment_is_the_path_and_what_is_given() {
    let script = "test \"$KEY\" = value && test -n \"$PATH\" && test -z \"${HOME+set}\"";
    assert_end(&shell(script, &[("KEY", "value")]).await, Outcome::Ok, "");
}

#[tokio::test]
async fn no_shell_reads_the_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("touched");
    let argument = format!("$(touch {})", file.display());
    let report = attempt(command(&["echo", &argument], &[]), PATIENT).await;
    assert_end(&report, Outcome::Ok, "");
    assert!(!file.exists());
}

#[tokio::test]
async fn a_command_gets_no_input_and_its_output_goes_nowhere() {
    assert_end(&shell("cat", &[]).await, Outcome::Ok, "");
    assert_end(&shell("head -c 100000000 /dev/zero", &[]).await, Outcome::Ok, "");
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_all_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let (child, grandchild) = (folder.path().join("child"), folder.path().join("grandchild"));
    // They ignore the polite signals, too.
    let script = format!(
        "trap '' TERM HUP INT; echo $$ > {}; sh -c 'echo $$ > {}; sleep 600; :' & sleep 600; :",
        child.display(),
        grandchild.display()
    );
    let prober = Prober::new().unwrap();
    let probe = Probe::new(PATIENT, command(&["sh", "-c", &script], &[]));
    // On a busy machine the shell may need a while until both have said who they are.
    for timeout in [SHORT, Duration::from_secs(2), Duration::from_secs(8)] {
        let report = prober.run(&probe, timeout).await;
        let wanted = format!("command did not end within {timeout:?}");
        assert_end(&report, Outcome::Timeout, &wanted);
        if grandchild.exists() {
            break;
        }
    }
    assert_gone(&child).await;
    assert_gone(&grandchild).await;
}

#[tokio::test]
async fn nothing_is_left_behind_by_a_command_that_ended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("left");
    let script = format!("sleep 600 & echo $! > {}", file.display());
    assert_end(&shell(&script, &[]).await, Outcome::Ok, "");
    assert_gone(&file).await;
}

#[tokio::test]
async fn an_abandoned_attempt_kills_its_command() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("child");
    let script = format!("echo $$ > {}; sleep 600; :", file.display());
    let prober = Prober::new().unwrap();
    let probe = Probe::new(PATIENT, command(&["sh", "-c", &script], &[]));
    let attempt = tokio::spawn(async move { prober.run(&probe, PATIENT).await });
    eventually("the command starts", || file.exists().then_some(())).await;
    attempt.abort();
    assert!(attempt.await.unwrap_err().is_cancelled());
    assert_gone(&file).await;
}

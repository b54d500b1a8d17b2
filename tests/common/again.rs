//! Runs a test of this binary again in a process of its own: in a namespace, or to be killed.

use std::process::{Command, Output};

use super::skip;

/// Names the test that the process was started for.
const VARIABLE: &str = "MCPF_TEST_AGAIN";

/// Whether this process was started to run just this test.
pub(crate) fn is_inside(test: &str) -> bool {
    std::env::var_os(VARIABLE).is_some_and(|name| name == test)
}

/// A command that runs one test, named by its path, alone; behind a wrapper such as `unshare`.
pub(crate) fn command(test: &str, wrapper: &[&str]) -> Command {
    let exe = std::env::current_exe().expect("our own path");
    let mut command = match wrapper.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(exe);
            command
        }
        None => Command::new(exe),
    };
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(VARIABLE, test);
    command
}

/// Whether to go on here, as root in a mount namespace where nothing done can be seen outside.
/// Elsewhere the test is run again in such a place, or skipped where there is none.
pub(crate) fn in_mount_namespace(test: &str) -> bool {
    in_wrapper(test, &["unshare", "--mount", "--propagation", "private"], "needs root")
}

/// As [`in_mount_namespace`], behind any wrapper that must be able to run `true`.
pub(crate) fn in_wrapper(test: &str, wrapper: &[&str], need: &str) -> bool {
    if is_inside(test) {
        return true;
    }
    let (first, rest) = wrapper.split_first().expect("a wrapper");
    let works = Command::new(first).args(rest).arg("true").output();
    if !works.is_ok_and(|output| output.status.success()) {
        skip(&format!("{test}: {need}"));
        return false;
    }
    let output = command(test, wrapper).output().expect("the test again");
    assert!(passed(&output), "{}", told(&output));
    false
}

fn passed(output: &Output) -> bool {
    output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed")
}

fn told(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}\n{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

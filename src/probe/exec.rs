//! A command: its exit code is the answer.
//!
//! | exit code | outcome |
//! |---|---|
//! | 0 | `ok` |
//! | 126, 127 (what shells say of a command that cannot be run) | `client_error` |
//! | any other, or ended by a signal | `server_error` |
//! | ended by `SIGKILL`, which is how a host short of memory ends a process | `local` |
//!
//! No code means `degraded`: which one would, differs between every tool there is, and a failure
//! taken for a pass is the dearer mistake. The output goes nowhere, as it may quote secrets.
//!
//! The command leads a process group of its own, which is killed when the attempt ends, however
//! it ends. A process that leaves the group on purpose (`setsid`) is out of reach.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use crate::core::outcome::Outcome;
use crate::policy::model::ExecCheck;
use crate::probe::finding::{Finding, Step};
use crate::probe::trace::{Stage, Trace};

/// Where commands are looked for when our own environment does not say.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

pub(super) async fn run(check: &ExecCheck, trace: &mut Trace) -> Step {
    trace.enter(Stage::Command);
    let mut child = start(check, Stdio::null(), Stdio::null())?;
    let _group = Group::of(&child);
    let status = child.wait().await.map_err(|error| Finding::from_io(&error))?;
    judge(status)
}

/// Starts a command in a process group of its own; see [`Group`] for how it is to end.
pub(super) fn start(check: &ExecCheck, input: Stdio, output: Stdio) -> Step<Child> {
    let Some((program, arguments)) = check.argv.split_first() else {
        return Err(Finding::misconfigured("no command given"));
    };
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(DEFAULT_PATH));
    let environment = check.env.iter().map(|(name, value)| (name, value.expose()));
    Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", path)
        .envs(environment)
        .stdin(input)
        .stdout(output)
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| unstartable(&error))
}

fn unstartable(error: &io::Error) -> Finding {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => Finding::misconfigured("command not found"),
        Some(Errno::ACCESS | Errno::PERM | Errno::NOEXEC | Errno::ISDIR) => {
            Finding::misconfigured("command is not executable")
        }
        Some(Errno::TOOBIG | Errno::INVAL | Errno::NAMETOOLONG) | None => {
            Finding::misconfigured("command cannot be run as given")
        }
        Some(_) => Finding::local("command could not be started"),
    }
}

/// What a command's end means.
pub(super) fn judge(status: ExitStatus) -> Step {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code @ (126 | 127)), _) => {
            Err(Finding::misconfigured(format!("command could not be run: exit code {code}")))
        }
        (Some(code), _) => Err(Finding::new(Outcome::ServerError, format!("exit code {code}"))),
        (None, Some(9)) => Err(Finding::local("command was killed")),
        (None, Some(signal)) => {
            Err(Finding::new(Outcome::ServerError, format!("command ended by signal {signal}")))
        }
        (None, None) => Err(Finding::new(Outcome::ServerError, "command ended without a code")),
    }
}

/// Kills the whole process group when dropped, the deadline's way of ending an attempt included.
///
/// When the leader is gone its number could in theory be another's by now; numbers are given out
/// in turn, so not within the moment between its end and this.
#[derive(Debug)]
pub(super) struct Group(Option<Pid>);

impl Group {
    pub(super) fn of(leader: &Child) -> Self {
        Self(leader.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Fails when nothing of the group is left, which is what is wanted.
            kill_process_group(leader, Signal::KILL).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(wait_status: i32) -> Outcome {
        judge(ExitStatus::from_raw(wait_status)).map_or_else(|end| end.outcome, |()| Outcome::Ok)
    }

    #[test]
    fn exit_codes_mean_what_the_table_says() {
        assert_eq!(outcome(0), Outcome::Ok);
        for code in [1, 2, 3, 75, 125, 128, 255] {
            assert_eq!(outcome(code << 8), Outcome::ServerError, "{code}");
        }
        assert_eq!(outcome(126 << 8), Outcome::ClientError);
        assert_eq!(outcome(127 << 8), Outcome::ClientError);
    }

    #[test]
    fn a_command_killed_by_the_host_says_nothing_about_the_endpoint() {
        assert_eq!(outcome(9), Outcome::Local);
        assert_eq!(outcome(11), Outcome::ServerError);
        assert_eq!(outcome(6), Outcome::ServerError);
    }
}

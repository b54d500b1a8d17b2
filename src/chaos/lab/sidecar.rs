//! The sidecar of a lab: the real one, as a child process.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::chaos::lab::{LOG, POLICY, Staged};

/// How long it may take to drain.
const DRAIN: Duration = Duration::from_secs(10);

/// A running sidecar; killed when dropped, or when we are.
#[derive(Debug)]
pub struct Sidecar {
    child: Child,
    pid: i32,
}

impl Sidecar {
    /// Starts `program` on the policy in `dir`.
    pub(in crate::chaos) fn start(program: &Path, dir: &Path, staged: &Staged) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(dir.join(LOG))?;
        let mut command = Command::new(program);
        // The wish to die with us can only be spoken by the process itself.
        command.arg("child-init").arg(format!("--parent={}", std::process::id())).arg("--");
        command.arg(program).arg("run").arg("--policy").arg(dir.join(POLICY)).arg("--strict");
        // Nothing of our environment that a policy could name: a lab has variables of its own.
        command.env_clear().envs(&staged.variables);
        for name in ["PATH", "TMPDIR"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // Ctrl-C at the terminal is for whoever runs the drill.
        command.process_group(0).kill_on_drop(true);
        let child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        Ok(Self { child, pid })
    }

    /// Its process.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it at once, as the kernel does when memory is short.
    pub async fn kill(mut self) {
        // One that has ended already is as dead.
        drop(self.child.kill().await);
    }

    /// Ends it as a supervisor would; `false` when it had to be killed or anything of it is left.
    pub async fn stop(mut self) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else { return false };
        // Gone already: the status tells.
        kill_process(pid, Signal::TERM).ok();
        let drained = matches!(timeout(DRAIN, self.child.wait()).await, Ok(Ok(_)));
        if !drained {
            drop(self.child.kill().await);
        }
        drained && test_kill_process_group(pid).is_err()
    }
}

/// What a process holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Holding {
    /// Resident memory in bytes.
    pub memory: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

impl Holding {
    /// What a process holds now; `None` when it is gone.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
        let descriptors = u64::try_from(descriptors).unwrap_or(u64::MAX);
        Some(Self { memory: kib.saturating_mul(1024), descriptors })
    }

    /// The lesser of both, each by itself: what is held for a moment does not count.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        Self {
            memory: self.memory.min(other.memory),
            descriptors: self.descriptors.min(other.descriptors),
        }
    }
}

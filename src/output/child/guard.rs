//! Ends what we leave behind when we are killed.
//!
//! The server dies with us by a word to the kernel, but not what it has started itself. So a second
//! process of ours waits at the end of a pipe that only we hold; when it closes, the groups that
//! were named on it and not taken back are ended. It keeps out of our own group, where it would be
//! ended with us.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

/// Between asking a group to end and making it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The way to that process.
#[derive(Debug)]
pub struct Guard {
    process: Child,
    groups: Option<ChildStdin>,
}

impl Guard {
    /// Starts it.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn start() -> io::Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let mut process = Command::new("/proc/self/exe")
            .arg("child-guard")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let groups = process.stdin.take();
        Ok(Self { process, groups })
    }

    /// Names a group.
    pub fn watch(&mut self, group: Pid) {
        self.tell('+', group);
    }

    /// Takes a group back: it is gone.
    pub fn release(&mut self, group: Pid) {
        self.tell('-', group);
    }

    fn tell(&mut self, sign: char, group: Pid) {
        let line = format!("{sign}{}\n", group.as_raw_nonzero());
        let told = self.groups.as_mut().map(|groups| groups.write_all(line.as_bytes()));
        if let Some(Err(error)) = told {
            tracing::warn!(%error, "nobody ends the server's processes if this one is killed");
            self.groups = None;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.groups = None;
        // With nothing named any more it ends at once.
        self.process.wait().ok();
    }
}

/// What that process does: reads names to the end, then ends what is left.
pub fn guard(names: impl BufRead) {
    let mut groups = BTreeSet::new();
    for line in names.lines().map_while(Result::ok) {
        let Some((sign, number)) = line.split_at_checked(1) else { continue };
        let Some(group) = number.parse().ok().and_then(Pid::from_raw) else { continue };
        match sign {
            "+" => drop(groups.insert(group.as_raw_nonzero().get())),
            _ => drop(groups.remove(&group.as_raw_nonzero().get())),
        }
    }
    let groups: Vec<Pid> = groups.into_iter().filter_map(Pid::from_raw).collect();
    let signal = |signal| {
        // A group that is gone by itself is as well.
        groups.iter().filter(|group| kill_process_group(**group, signal).is_ok()).count()
    };
    if signal(Signal::TERM) > 0 {
        std::thread::sleep(PATIENCE);
        signal(Signal::KILL);
    }
}

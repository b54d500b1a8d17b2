//! Signals the process that a pid file or a name stands for.
//!
//! A process is held by a descriptor before it is looked at and signalled through it, so that
//! its number, given to another process meanwhile, cannot make that one the target.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::output::hook::HookError;

/// A pid file is a number, perhaps with lines about it below.
const PID_FILE_BYTES: u64 = 1024;

/// Signals the process whose number is the first line of `path`.
pub(super) fn to_pid_file(signal: i32, path: &Path) -> Result<(), HookError> {
    let signal = known(signal)?;
    let pid = pid_in(path)?;
    if pid == rustix::process::getpid() {
        return Err(HookError::Ourselves { pid: number(pid) });
    }
    Handle::open(pid)?.signal(signal)
}

/// The number that is the first line of a pid file.
pub(in crate::output) fn pid_in(path: &Path) -> Result<Pid, HookError> {
    let display = || path.display().to_string();
    let unreadable = |source| HookError::PidFile { path: display(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(PID_FILE_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    let first = text.lines().next().unwrap_or_default().trim();
    let pid = first.parse().ok().filter(|&pid: &i32| pid > 1);
    pid.and_then(Pid::from_raw).ok_or_else(|| HookError::NoPid { path: display() })
}

/// Signals every process of that name but ourselves.
pub(super) fn to_named(signal: i32, name: &str) -> Result<(), HookError> {
    let signal = known(signal)?;
    let mut found = false;
    let mut failed = None;
    for pid in pids()?.filter(|&pid| pid != rustix::process::getpid()) {
        let signalled = match Handle::open(pid) {
            Ok(handle) if is_named(pid, name) => handle.signal(signal),
            Ok(_) => continue,
            Err(error) => Err(error),
        };
        match signalled {
            Ok(()) => found = true,
            Err(HookError::Gone { .. }) => {}
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) => Err(error),
        None if found => Ok(()),
        None => Err(HookError::NoProcess { name: name.to_owned() }),
    }
}

/// Every living process of that name but ourselves.
pub(in crate::output) fn named(name: &str) -> Result<impl Iterator<Item = Pid>, HookError> {
    let fits =
        |pid: &Pid| *pid != rustix::process::getpid() && is_named(*pid, name) && !is_dead(*pid);
    Ok(pids()?.filter(fits))
}

/// The signal's name for people.
pub(super) fn name(signal: i32) -> String {
    let common = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::TERM, "SIGTERM"),
    ];
    let known = common.iter().find(|(known, _)| known.as_raw() == signal);
    known.map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}

fn known(signal: i32) -> Result<Signal, HookError> {
    Signal::from_named_raw(signal).ok_or(HookError::Signal(signal))
}

/// A living process.
struct Handle {
    pid: Pid,
    fd: Option<OwnedFd>,
}

impl Handle {
    fn open(pid: Pid) -> Result<Self, HookError> {
        let gone = HookError::Gone { pid: number(pid) };
        let fd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => Some(fd),
            // Kernels before 5.3, and sandboxes that know no pidfd.
            Err(Errno::NOSYS | Errno::PERM) => None,
            Err(Errno::SRCH | Errno::INVAL) => return Err(gone),
            Err(error) => return Err(HookError::Kill { pid: number(pid), source: error.into() }),
        };
        if is_dead(pid) { Err(gone) } else { Ok(Self { pid, fd }) }
    }

    fn signal(&self, signal: Signal) -> Result<(), HookError> {
        let sent = match &self.fd {
            Some(fd) => rustix::process::pidfd_send_signal(fd, signal),
            None => rustix::process::kill_process(self.pid, signal),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(Errno::SRCH) => Err(HookError::Gone { pid: number(self.pid) }),
            Err(error) => Err(HookError::Kill { pid: number(self.pid), source: error.into() }),
        }
    }
}

fn number(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

/// A dead process that its parent has not asked after takes signals and does nothing.
fn is_dead(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", number(pid))).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, Some('Z' | 'X'))
}

fn pids() -> Result<impl Iterator<Item = Pid>, HookError> {
    let unreadable = |source| HookError::PidFile { path: "/proc".to_owned(), source };
    let entries = std::fs::read_dir("/proc").map_err(unreadable)?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)))
}

/// As `ps` shows it, or the base name of the program that was started.
fn is_named(pid: Pid, name: &str) -> bool {
    let read = |what| std::fs::read(format!("/proc/{}/{what}", number(pid))).unwrap_or_default();
    if read("comm").trim_ascii_end() == name.as_bytes() {
        return true;
    }
    let command = read("cmdline");
    let first = command.split(|&byte| byte == 0).next().unwrap_or_default();
    first.rsplit(|&byte| byte == b'/').next() == Some(name.as_bytes())
}

//! What a process of the server is before it is the server.
//!
//! A child cannot be told to die with its parent from outside, and code between fork and exec
//! cannot be safe. So we start ourselves, ask for that, and become the server: the request
//! survives the change. It speaks of the thread that started the process, which is the only one
//! of ours that starts any.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Dies with the parent from now on; true when it is that parent still.
///
/// # Errors
/// When the system does not know the request.
pub fn die_with_parent(parent: u32) -> io::Result<bool> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before we asked.
    let now = getppid().map(|pid| pid.as_raw_nonzero().get());
    Ok(now.is_some_and(|now| u32::try_from(now) == Ok(parent)))
}

/// Becomes the command; comes back only to say why it could not.
#[must_use]
pub fn become_command(program: &OsString, arguments: &[OsString]) -> io::Error {
    Command::new(program).args(arguments).exec()
}

//! Remembers across a crash that a hook has yet to run.
//!
//! Owns an empty file beside the env file, the marker: while it is there, not every hook has
//! worked for what the env file holds. It is not flushed: it has to outlive the sidecar, not the
//! machine, with which the server starts anew and reads the file. Everything in here blocks.
//!
//! Invariants
//! 1. The marker is there before a variable of the file changes, and goes only when every hook
//!    has worked for the latest change. A sidecar killed in between finds it at its next start.
//! 2. Only the output's worker makes and removes it, one after the other: a hook that works for
//!    one change while the next is being written cannot take away the marker of the next.
//! 3. A marker that cannot be made stops no write.

use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::output::OutputError;
use crate::output::place::Place;

const SUFFIX: &str = "due";

/// Makes the marker; whether it is there now.
pub(super) fn mark(place: &Place) -> bool {
    // Whatever has the name already is found at the next start just as well, and is not opened.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::openat(place.dir(), place.beside(SUFFIX), flags, mode) {
        Ok(_) | Err(Errno::EXIST) => true,
        Err(error) => {
            tracing::debug!(path = %place.path().display(), %error, "hooks not marked as due");
            false
        }
    }
}

/// Whether the marker is there.
pub(super) fn is_marked(path: &Path) -> Result<bool, OutputError> {
    let place = Place::find(path)?;
    match rustix::fs::statat(place.dir(), place.beside(SUFFIX), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(OutputError::io("look for the marker beside", path, error)),
    }
}

/// Removes the marker, if there is one.
pub(super) fn clear(path: &Path) -> Result<(), OutputError> {
    let place = Place::find(path)?;
    match rustix::fs::unlinkat(place.dir(), place.beside(SUFFIX), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(OutputError::io("remove the marker beside", path, error)),
    }
}

//! A directory for a while.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A directory of our own, readable by nobody else; removed when dropped unless it is kept.
#[derive(Debug)]
pub struct TemporaryDir {
    path: PathBuf,
    keep: bool,
}

impl TemporaryDir {
    /// Makes one whose name begins with `prefix`.
    ///
    /// # Errors
    /// When the system's place for temporary files takes none.
    pub fn new(prefix: &str, keep: bool) -> io::Result<Self> {
        let base = fs::canonicalize(std::env::temp_dir())?;
        let pid = std::process::id();
        for attempt in 0..10_000 {
            let path = base.join(format!("{prefix}-{pid}-{attempt}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(Self { path, keep }),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Takes over a directory that somebody else made, and never removes it.
    #[must_use]
    pub const fn kept(path: PathBuf) -> Self {
        Self { path, keep: true }
    }

    /// It.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it outlives this value.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        self.keep
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is left to the system's own cleaning of temporary files.
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

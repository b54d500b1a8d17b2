//! Variables and secret files, for whoever compiles a policy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::policy::Lookup;
use crate::watch::read::{Digest, SECRET_LIMIT, digest, read_bytes, text_of};

/// The files that were asked for, and what was in them: the digest, or `None` if unreadable.
pub type Seen = BTreeMap<PathBuf, Option<Digest>>;

/// Looks up variables in the environment and secrets in the file system.
///
/// It remembers what it saw, so that [`crate::watch::Watcher::also_seen`] notices a secret that
/// changed between the compilation that used it and the watch that guards it.
#[derive(Debug, Default)]
pub struct SystemLookup {
    seen: Mutex<Seen>,
}

impl SystemLookup {
    /// Has seen nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything asked for so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Lookup for SystemLookup {
    /// As the trait says; one that is not UTF-8 counts as unset.
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    /// As the trait says; at most [`SECRET_LIMIT`] bytes of a regular file, as they are.
    fn file(&self, path: &Path) -> Result<String, String> {
        let read = read_bytes(path, SECRET_LIMIT);
        let known = read.as_ref().ok().map(|(bytes, _)| digest(bytes));
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), known);
        let (bytes, _) = read.map_err(|error| error.explain())?;
        text_of(path, &bytes).map(str::to_owned).map_err(|error| error.explain())
    }
}

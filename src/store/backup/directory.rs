//! Backups as files of a directory.
//!
//! Invariants
//! 1. A call that hangs, as on a network file system that is gone, holds one thread and no more:
//!    until it returns, further calls fail at once.
//! 2. Files of others in the directory are neither read nor touched.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use rustix::fs::OFlags;
use tokio::sync::Semaphore;

use crate::store::backup::{BackupError, LIMIT, LISTED_MAX, Listed, Name};
use crate::store::error::StoreError;
use crate::store::files::{Dir, Found, find, read};

/// A draft that is older than this was left by a crash.
const DRAFT_AGE: Duration = Duration::from_secs(60 * 60);

/// A directory of backups.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    path: PathBuf,
    free: Arc<Semaphore>,
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, free: Arc::new(Semaphore::new(1)) }
    }

    pub(super) async fn list(&self) -> Result<Vec<Listed>, BackupError> {
        self.call(list).await
    }

    pub(super) async fn get(&self, name: Name) -> Result<Bytes, BackupError> {
        self.call(move |dir| get(dir, &name)).await
    }

    pub(super) async fn put(
        &self,
        name: Name,
        bytes: Bytes,
        now_ms: u64,
    ) -> Result<(), BackupError> {
        self.call(move |dir| put(dir, &name, &bytes, now_ms)).await
    }

    pub(super) async fn remove(&self, name: Name) -> Result<(), BackupError> {
        self.call(move |dir| {
            let path = dir.join(name.to_string());
            fs::remove_file(&path).map_err(BackupError::io("remove", &path))
        })
        .await
    }

    /// Runs something that blocks where nobody waits but who asked.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, BackupError> + Send + 'static,
    ) -> Result<T, BackupError> {
        let stuck = || BackupError::Stuck { place: self.path.display().to_string() };
        let free = Arc::clone(&self.free);
        let permit = free.try_acquire_owned().map_err(|_taken| stuck())?;
        let path = self.path.clone();
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&path);
            drop(permit);
            done
        });
        done.await.unwrap_or_else(|_ended| Err(stuck()))
    }
}

fn list(dir: &Path) -> Result<Vec<Listed>, BackupError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        // Nothing was ever stored there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(BackupError::io("list", dir)(error)),
    };
    let mut found = Vec::new();
    for entry in entries.take(LISTED_MAX) {
        let entry = entry.map_err(BackupError::io("list", dir))?;
        let name = entry.file_name().to_str().and_then(|name| name.parse::<Name>().ok());
        let Some(name) = name else { continue };
        let bytes = entry.metadata().map_or(0, |meta| meta.len());
        found.push(Listed { name, bytes });
    }
    Ok(found)
}

fn get(dir: &Path, name: &Name) -> Result<Bytes, BackupError> {
    read_file(&dir.join(name.to_string()))
        .and_then(|bytes| bytes.ok_or(BackupError::Missing { name: *name }).map(Bytes::from))
}

/// Reads a file of bounded size; `None` when there is none.
pub(super) fn read_file(path: &Path) -> Result<Option<Vec<u8>>, BackupError> {
    let damaged = |why| BackupError::Damaged { name: path.display().to_string(), why };
    let mut file = match find(path, OFlags::RDONLY).map_err(of_store)? {
        Found::Absent => return Ok(None),
        Found::Strange(why) => return Err(damaged(why)),
        Found::File(file) => file,
    };
    read(&mut file, u64::try_from(LIMIT).unwrap_or(u64::MAX)).map(Some).map_err(damaged)
}

fn put(path: &Path, name: &Name, bytes: &[u8], now_ms: u64) -> Result<(), BackupError> {
    let dir = Dir::create(path).map_err(of_store)?;
    sweep(path, now_ms);
    let name_text = name.to_string();
    if dir.file(&name_text).exists() {
        return Err(BackupError::Exists { name: *name });
    }
    dir.replace_with(&name_text, |file| file.write_all(bytes)).map(drop).map_err(of_store)
}

/// Removes drafts of ours that a crash left behind; another sidecar may be writing a younger one.
fn sweep(path: &Path, now_ms: u64) {
    let horizon = Duration::from_millis(now_ms).saturating_sub(DRAFT_AGE);
    for entry in fs::read_dir(path).into_iter().flatten().take(LISTED_MAX).flatten() {
        let name = entry.file_name();
        let ours =
            name.to_str().and_then(Dir::draft_of).is_some_and(|name| name.parse::<Name>().is_ok());
        let modified = entry.metadata().and_then(|meta| meta.modified()).ok();
        let age = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        if ours && age.is_some_and(|at| at < horizon) {
            drop(fs::remove_file(entry.path()));
        }
    }
}

fn of_store(error: StoreError) -> BackupError {
    match error {
        StoreError::Io { doing, path, source } => BackupError::Io { doing, path, source },
        other @ (StoreError::Locked { .. }
        | StoreError::Newer { .. }
        | StoreError::Encode(_)
        | StoreError::TooLarge { .. }) => BackupError::Unfit { why: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_hangs_holds_one_thread_and_no_more() {
        let directory = Directory::new(PathBuf::from("/nowhere/at/all"));
        let (release, hung) = std::sync::mpsc::channel::<()>();
        let (entered, inside) = tokio::sync::oneshot::channel();
        let other = directory.clone();
        let hanging = tokio::spawn(async move {
            let work = move |_: &Path| {
                entered.send(()).ok();
                hung.recv().ok();
                Ok(())
            };
            other.call(work).await
        });
        inside.await.expect("it hangs");
        // Whoever waited for it has given up; the thread is still there.
        hanging.abort();
        let refused = directory.list().await.expect_err("an earlier call still hangs");
        assert!(matches!(refused, BackupError::Stuck { .. }), "{refused}");
        drop(release);
        while let Err(error) = directory.list().await {
            assert!(matches!(error, BackupError::Stuck { .. }), "{error}");
            tokio::task::yield_now().await;
        }
    }
}

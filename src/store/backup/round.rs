//! One backup from beginning to end, and the search for the one to restore.

use std::path::Path;

use bytes::Bytes;

use crate::store::backup::directory::read_file;
use crate::store::backup::{Backup, BackupError, Listed, Name, Vault};

/// Backups removed at most in one round; the next one goes on.
const REMOVED_MAX: usize = 200;

/// Backups tried at most in a search: whoever has more broken ones has another problem.
const TRIED_MAX: usize = 64;

/// What one round came to.
#[derive(Debug)]
pub struct Round {
    /// The newest backup, which is good.
    pub name: Name,
    /// Its size.
    pub bytes: u64,
    /// How it came about.
    pub made: Made,
    /// The newest one that was there before.
    pub before: Option<Name>,
    /// How many are there now.
    pub kept: usize,
    /// Why an old one could not be removed.
    pub left: Option<BackupError>,
}

/// How the newest backup came about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Made {
    /// It was stored in this round.
    Stored,
    /// It was there, of the same state, and verified.
    Unchanged,
}

/// Stores a backup unless the newest one there is of the same state, and removes the oldest ones
/// beyond `keep`.
///
/// # Errors
/// When the backup could not be stored, or not be read back. Then nothing is removed.
pub async fn make(
    vault: &Vault,
    backup: Backup,
    keep: usize,
    now_ms: u64,
) -> Result<Round, BackupError> {
    let mut listed = vault.list().await?;
    let (facts, revision) = (backup.facts(), backup.revision().get());
    let newest = listed.first().copied();
    let before = newest.map(|newest| newest.name);
    if let Some(Listed { name, bytes }) = newest.filter(|newest| newest.name.facts == facts)
        && good(vault, name).await?
    {
        let left = prune(vault, &mut listed, keep).await;
        let (made, kept) = (Made::Unchanged, listed.len());
        return Ok(Round { name, bytes, made, before, kept, left });
    }
    let after = newest.map_or(0, |newest| newest.name.stamp_ms.saturating_add(1));
    let name = Name { stamp_ms: now_ms.max(after), revision, facts };
    let bytes = blocking(move || backup.encode()).await?;
    let bytes = Bytes::from(bytes);
    match vault.put(name, bytes.clone(), now_ms).await {
        // An attempt that we gave up on may have come through after all: reading it back tells.
        Ok(()) | Err(BackupError::Exists { .. }) => {}
        Err(error) => return Err(error),
    }
    if vault.get(name).await? != bytes {
        return Err(BackupError::NotKept { name });
    }
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    listed.insert(0, Listed { name, bytes: size });
    let left = prune(vault, &mut listed, keep).await;
    Ok(Round { name, bytes: size, made: Made::Stored, before, kept: listed.len(), left })
}

/// Whether a backup verifies; that it does not is no error.
async fn good(vault: &Vault, name: Name) -> Result<bool, BackupError> {
    match read(vault, name).await {
        Ok(_) => Ok(true),
        Err(BackupError::Damaged { .. } | BackupError::Missing { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the oldest beyond `keep`, of which the newest is never one.
async fn prune(vault: &Vault, listed: &mut Vec<Listed>, keep: usize) -> Option<BackupError> {
    let keep = keep.max(1);
    for _ in 0..REMOVED_MAX {
        if listed.len() <= keep {
            break;
        }
        let oldest = listed.last()?.name;
        if let Err(error) = vault.remove(oldest).await {
            return Some(error);
        }
        listed.pop();
    }
    None
}

/// Reads and verifies a backup.
///
/// # Errors
/// When it cannot be got, or does not verify.
pub async fn read(vault: &Vault, name: Name) -> Result<Backup, BackupError> {
    let bytes = vault.get(name).await?;
    let read = blocking(move || Ok(Backup::decode(&bytes))).await?;
    let backup = read.map_err(|why| BackupError::damaged(&name, why))?;
    if backup.revision().get() != name.revision {
        return Err(BackupError::damaged(&name, "is not the backup of that name".to_owned()));
    }
    Ok(backup)
}

/// Reads and verifies a file that lies anywhere.
///
/// # Errors
/// When it cannot be read, or does not verify.
pub fn read_path(path: &Path) -> Result<Backup, BackupError> {
    let missing = || BackupError::io("read", path)(std::io::ErrorKind::NotFound.into());
    let bytes = read_file(path)?.ok_or_else(missing)?;
    let damaged = |why| BackupError::Damaged { name: path.display().to_string(), why };
    Backup::decode(&bytes).map_err(damaged)
}

/// A backup to restore.
#[derive(Debug)]
pub struct Found {
    /// Its name.
    pub name: Name,
    /// It.
    pub backup: Backup,
}

/// The newest backup that verifies; `None` when there is none. `passed_over` is told of each newer
/// one that does not, and why.
///
/// # Errors
/// When the place cannot be reached.
pub async fn newest_good(
    vault: &Vault,
    passed_over: &mut (dyn FnMut(Name, &BackupError) + Send),
) -> Result<Option<Found>, BackupError> {
    for Listed { name, .. } in vault.list().await?.into_iter().take(TRIED_MAX) {
        match read(vault, name).await {
            Ok(backup) => return Ok(Some(Found { name, backup })),
            Err(error @ (BackupError::Damaged { .. } | BackupError::Missing { .. })) => {
                passed_over(name, &error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Works through many bytes where it holds nobody up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, BackupError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|_ended| Err("could not be worked through".to_owned()));
    done.map_err(|why| BackupError::Unfit { why })
}

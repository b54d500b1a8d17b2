//! Where backups are, whatever is behind it.

use std::sync::Arc;

use bytes::Bytes;

use crate::policy::model::{self, BackupPlace};
use crate::store::backup::directory::Directory;
use crate::store::backup::s3::S3;
use crate::store::backup::{BackupError, Name};

/// Files or objects looked at, at most, of one place.
pub const LISTED_MAX: usize = 100_000;

/// Tells the time of day, in milliseconds since 1970.
pub type Now = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A backup that is there, unread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listed {
    /// Its name.
    pub name: Name,
    /// Its size.
    pub bytes: u64,
}

/// A place of backups.
#[derive(Clone, Debug)]
pub struct Vault {
    shown: String,
    inside: Inside,
}

#[derive(Clone, Debug)]
enum Inside {
    Directory(Directory),
    Bucket(Box<S3>),
}

impl Vault {
    /// The place that a policy names; nothing is looked at yet. `now` tells the time of day, by
    /// which requests are signed.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(policy: &model::Backup, now: Now) -> Result<Self, BackupError> {
        let shown = policy.to.to_string();
        let inside = match &policy.to {
            BackupPlace::Directory(path) => Inside::Directory(Directory::new(path.clone())),
            BackupPlace::Bucket(bucket) => Inside::Bucket(Box::new(S3::new(bucket, &shown, now)?)),
        };
        Ok(Self { shown, inside })
    }

    /// The place, as the policy names it.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// What is there, newest first. Files and objects of others are passed over.
    ///
    /// # Errors
    /// When it cannot be told.
    pub async fn list(&self) -> Result<Vec<Listed>, BackupError> {
        let mut found = match &self.inside {
            Inside::Directory(directory) => directory.list().await?,
            Inside::Bucket(bucket) => bucket.list().await?,
        };
        found.sort_unstable_by_key(|one| std::cmp::Reverse(one.name));
        Ok(found)
    }

    /// The bytes under a name.
    ///
    /// # Errors
    /// When there are none, too many, or they cannot be got.
    pub async fn get(&self, name: Name) -> Result<Bytes, BackupError> {
        match &self.inside {
            Inside::Directory(directory) => directory.get(name).await,
            Inside::Bucket(bucket) => bucket.get(name).await,
        }
    }

    /// Stores bytes under a name that is not taken.
    ///
    /// # Errors
    /// [`BackupError::Exists`] when it is, or whatever is in the way.
    pub async fn put(&self, name: Name, bytes: Bytes, now_ms: u64) -> Result<(), BackupError> {
        match &self.inside {
            Inside::Directory(directory) => directory.put(name, bytes, now_ms).await,
            Inside::Bucket(bucket) => bucket.put(name, bytes).await,
        }
    }

    /// Removes a backup.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(super) async fn remove(&self, name: Name) -> Result<(), BackupError> {
        match &self.inside {
            Inside::Directory(directory) => directory.remove(name).await,
            Inside::Bucket(bucket) => bucket.remove(name).await,
        }
    }
}

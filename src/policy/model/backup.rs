//! Where copies of state and history go.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::secret::Secret;

/// Backups of state and history.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backup {
    /// Where to.
    pub to: BackupPlace,
    /// Gap between two looks at whether there is something new.
    pub interval: Duration,
    /// How long after a move, or an order of a person, one is made.
    pub after_switch: Duration,
    /// How many are kept; at least two.
    pub keep: usize,
    /// Whether a start without state takes up the newest good one.
    pub recover: bool,
    /// How long such a start may wait for it.
    pub recover_timeout: Duration,
}

/// A place of backups. Its display form is free of secrets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BackupPlace {
    /// A directory.
    Directory(PathBuf),
    /// A bucket.
    Bucket(Box<Bucket>),
}

/// A bucket of an S3 server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// What the key of every object begins with: empty, or with a slash at its end.
    pub prefix: String,
    /// Address of the server.
    pub endpoint: String,
    /// Its region.
    pub region: String,
    /// Whether the bucket stands in the path instead of the host name.
    pub path_style: bool,
    /// Id of the key.
    pub access_key: Secret,
    /// The key.
    pub secret_key: Secret,
    /// The token of a temporary key.
    pub session_token: Option<Secret>,
    /// Certificates to trust, as PEM; the platform's without.
    pub ca: Option<Arc<str>>,
}

impl fmt::Display for BackupPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Bucket(bucket) => write!(f, "s3://{}/{}", bucket.name, bucket.prefix),
        }
    }
}

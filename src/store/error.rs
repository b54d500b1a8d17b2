//! What can go wrong with the state directory.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why the store could not do its job.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another sidecar uses the directory.
    #[error("use {}: another sidecar holds it{}", dir.display(), holder(*by))]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The other's process id, if it says so.
        by: Option<u32>,
    },
    /// The operating system refused.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Its words.
        #[source]
        source: io::Error,
    },
    /// A newer program wrote the file; only a reader is told, the sidecar sets it aside.
    #[error("read {}: it has format {version}, written by a newer mcp-failover", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
    /// A record cannot be written as JSON.
    #[error("encode a history record")]
    Encode(#[source] serde_json::Error),
    /// More than a file may hold.
    #[error("write {}: {bytes} bytes are more than the {limit} allowed", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes to write.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

impl StoreError {
    /// What a person can do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "give each sidecar its own state_dir, or stop the other one",
            Self::Newer { .. } => "use the newer program",
            Self::Encode(_) | Self::TooLarge { .. } => "report this as a bug",
            Self::Io { source, .. } => io_help(source.kind()),
        }
    }

    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

fn io_help(kind: io::ErrorKind) -> &'static str {
    if kind == io::ErrorKind::PermissionDenied {
        return "let the user that mcp-failover runs as own the directory";
    }
    if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return "free some space on the file system of state_dir";
    }
    if kind == io::ErrorKind::ReadOnlyFilesystem {
        return "set state_dir to a directory that can be written";
    }
    "check state_dir and its file system"
}

fn holder(by: Option<u32>) -> String {
    by.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// A file that was not what we would have written, and was moved out of the way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// What was wrong, and what is used instead.
    pub why: String,
}

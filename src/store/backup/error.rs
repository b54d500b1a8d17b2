//! What can go wrong with backups.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::store::backup::Name;

/// Why a backup could not be made, found or read. Each message fits behind "failed to" and is free
/// of secrets.
#[derive(Debug, Error)]
pub enum BackupError {
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
    /// A call to the directory has not returned yet.
    #[error("use {place}: an earlier call to its file system still hangs")]
    Stuck {
        /// The directory.
        place: String,
    },
    /// The server refused.
    #[error("{doing} {place}: HTTP {status}{}{}", word(code), skew(*ahead))]
    Refused {
        /// What was asked for.
        doing: &'static str,
        /// The bucket.
        place: String,
        /// The status.
        status: u16,
        /// The server's code for it; empty without one.
        code: String,
        /// By how many seconds our clock is ahead of the server's, if that may be why.
        ahead: Option<i64>,
    },
    /// The server could not be talked to.
    #[error("reach {place}: {why}")]
    Unreachable {
        /// The bucket.
        place: String,
        /// What happened.
        why: String,
    },
    /// What answers is no S3 server that we understand.
    #[error("understand {place}: {why}")]
    Garbled {
        /// The bucket.
        place: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The client cannot be made.
    #[error("set up a client for {place}: {why}")]
    Setup {
        /// The bucket.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// It took too long.
    #[error("use {place}: no end within {} s", limit.as_secs_f64())]
    Late {
        /// The place.
        place: String,
        /// How long it had.
        limit: Duration,
    },
    /// There is one of this name already.
    #[error("store {name}: it exists")]
    Exists {
        /// Its name.
        name: Name,
    },
    /// There is none of this name.
    #[error("read {name}: it is not there")]
    Missing {
        /// Its name.
        name: Name,
    },
    /// It does not verify.
    #[error("read {name}: it {why}")]
    Damaged {
        /// Its name, or its path.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The state cannot be made a backup of.
    #[error("make a backup: the state {why}")]
    Unfit {
        /// What is wrong with it.
        why: String,
    },
    /// What was read back is not what was stored.
    #[error("store {name}: what was read back is something else")]
    NotKept {
        /// Its name.
        name: Name,
    },
}

impl BackupError {
    /// What a person can do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Io { source, .. } => io_help(source.kind()),
            Self::Refused { status, code, ahead, .. } => refusal_help(*status, code, *ahead),
            Self::Unreachable { .. } => {
                "check backup.endpoint, and that it can be reached from here"
            }
            Self::Garbled { .. } => "does backup.endpoint name an S3 server?",
            Self::Setup { .. } => "check backup.endpoint, backup.path_style and backup.ca_file",
            Self::Stuck { .. } => "is a network file system behind it that is gone?",
            Self::Late { .. } => "is the network, or the file system, as slow as that?",
            Self::Exists { .. } => "try again: the next one gets another name",
            Self::Missing { .. } => "`mcp-failover backup list` shows what is there",
            Self::Damaged { .. } => "`mcp-failover backup verify` shows which ones are good",
            Self::Unfit { .. } => "start the sidecar once: it sets aside what it cannot read",
            Self::NotKept { .. } => "do not trust this place with backups",
        }
    }

    /// The message with what the system said.
    #[must_use]
    pub fn explain(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }

    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(super) fn damaged(name: &Name, why: String) -> Self {
        Self::Damaged { name: name.to_string(), why }
    }
}

fn word(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!(" {code}") }
}

fn skew(ahead: Option<i64>) -> String {
    let Some(ahead) = ahead else { return String::new() };
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    format!(", and our clock is {} s {side} the server's", ahead.unsigned_abs())
}

fn refusal_help(status: u16, code: &str, ahead: Option<i64>) -> &'static str {
    match (status, code) {
        (403, _) if ahead.is_some() => "set the clock of this machine: requests are signed by it",
        (403, "SignatureDoesNotMatch") => "check the secret key, and backup.region",
        (403, "InvalidAccessKeyId") => "check the access key",
        (403, _) => "let the key list the bucket, and read, write and delete under the prefix",
        (401 | 400, "ExpiredToken" | "InvalidToken") => "get a new temporary key",
        (404, _) => "create the bucket, or check its name and backup.endpoint",
        (300..=399, _) => "set backup.region, or backup.endpoint, to that of the bucket",
        (500..=599 | 429, _) => "the server has a problem of its own; it is tried again",
        _ => "check backup.endpoint, backup.region and backup.path_style",
    }
}

fn io_help(kind: io::ErrorKind) -> &'static str {
    if kind == io::ErrorKind::PermissionDenied {
        return "let the user that mcp-failover runs as write to the directory";
    }
    if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return "free some space there";
    }
    if kind == io::ErrorKind::ReadOnlyFilesystem {
        return "set backup.to to a directory that can be written";
    }
    "check that backup.to is a directory on a disk that works"
}

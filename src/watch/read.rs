//! Reads one file whole, or says in a person's words why not.
//!
//! Never blocks on what is not a regular file, and never returns a mixture of two versions that a
//! writer in place was between: the file must look the same before and after it was read.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

/// Largest policy file, in bytes.
pub const POLICY_LIMIT: u64 = 1024 * 1024;

/// Largest secret file, in bytes.
pub const SECRET_LIMIT: u64 = 64 * 1024;

/// SHA-256 of a file's bytes.
pub type Digest = [u8; 32];

/// A policy file's text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Loaded {
    /// The whole text.
    pub text: Arc<str>,
    /// SHA-256 of the text.
    pub digest: Digest,
}

/// Why a file could not be read. No message holds anything of its content.
#[derive(Debug, Error)]
pub enum ReadError {
    /// There is no such file.
    #[error("read {}: there is no such file", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is a directory, a pipe, a socket or a device.
    #[error("read {}: it is a {kind}, not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// It is larger than any sensible file of its sort.
    #[error("read {}: it is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes allowed.
        limit: u64,
    },
    /// It is not text.
    #[error("read {}: byte {offset} is not valid UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Bytes before the first bad one.
        offset: usize,
    },
    /// Somebody wrote to it meanwhile.
    #[error("read {}: it changed while it was being read", path.display())]
    Changing {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its words.
        #[source]
        source: io::Error,
    },
}

impl ReadError {
    /// What a person can do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "check the path, and that the volume is mounted",
            Self::NotAFile { .. } => "name the file itself",
            Self::TooLarge { .. } => "check that the path names the right file",
            Self::NotUtf8 { .. } => "save the file as UTF-8",
            Self::Changing { .. } => "write the file beside its place and rename it over it",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "let the user that mcp-failover runs as read the file and enter its directories"
            }
            Self::Io { .. } => "check the path and the file system",
        }
    }

    /// The message, its cause and the help, in one line.
    #[must_use]
    pub fn explain(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("{self}: {source}; {}", self.help()),
            Self::Missing { .. }
            | Self::NotAFile { .. }
            | Self::TooLarge { .. }
            | Self::NotUtf8 { .. }
            | Self::Changing { .. } => format!("{self}; {}", self.help()),
        }
    }

    fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::NotFound {
            return Self::Missing { path };
        }
        Self::Io { path, source }
    }
}

/// Reads a policy file once.
///
/// # Errors
/// When it is absent, not a regular file, larger than [`POLICY_LIMIT`], not UTF-8, being written
/// at this moment, or refused by the operating system.
pub fn read_once(path: &Path) -> Result<Loaded, ReadError> {
    let (bytes, _) = read_bytes(path, POLICY_LIMIT)?;
    load(path, &bytes)
}

/// Takes bytes for text.
pub(super) fn load(path: &Path, bytes: &[u8]) -> Result<Loaded, ReadError> {
    let text = text_of(path, bytes)?;
    Ok(Loaded { text: Arc::from(text), digest: digest(bytes) })
}

/// Takes bytes for text, without copying them.
pub(super) fn text_of<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str, ReadError> {
    std::str::from_utf8(bytes)
        .map_err(|error| ReadError::NotUtf8 { path: path.to_owned(), offset: error.valid_up_to() })
}

/// SHA-256.
pub(super) fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// What the file system says of one version of a file: if it is the same, so is the content,
/// except for writes within one tick of the file system's clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Print {
    node: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Print {
    fn of(meta: &Metadata) -> Self {
        Self {
            node: (meta.dev(), meta.ino()),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Looks at a file without opening it.
    pub(super) fn take(path: &Path) -> Result<Self, ReadError> {
        std::fs::metadata(path)
            .map(|meta| Self::of(&meta))
            .map_err(|source| ReadError::io(path, source))
    }
}

/// Reads a file whole; the bytes are wiped when dropped, because they may hold a secret.
pub(super) fn read_bytes(
    path: &Path,
    limit: u64,
) -> Result<(Zeroizing<Vec<u8>>, Print), ReadError> {
    let io = |source| ReadError::io(path, source);
    let mut file = open(path)?;
    let before = file.metadata().map_err(io)?;
    check(path, &before, limit)?;
    // The whole capacity at once: a vector that grows leaves unwiped copies behind.
    let capacity = usize::try_from(before.size()).unwrap_or(0).saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.by_ref().take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if limit < length {
        return Err(ReadError::TooLarge { path: path.to_owned(), limit });
    }
    let after = Print::of(&file.metadata().map_err(io)?);
    // Files made up by the kernel claim a size of zero.
    let whole = length == before.size() || before.size() == 0;
    if !whole || after != Print::of(&before) {
        return Err(ReadError::Changing { path: path.to_owned() });
    }
    Ok((bytes, after))
}

fn open(path: &Path) -> Result<File, ReadError> {
    // Looked at before it is opened, since opening a device can already do something; and opened
    // without blocking, since a pipe may have taken its place in between.
    let meta = std::fs::metadata(path).map_err(|source| ReadError::io(path, source))?;
    check(path, &meta, u64::MAX)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    rustix::fs::open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(|errno| ReadError::io(path, errno.into()))
}

fn check(path: &Path, meta: &Metadata, limit: u64) -> Result<(), ReadError> {
    let kind = match FileType::from_raw_mode(meta.mode()) {
        FileType::RegularFile => None,
        FileType::Directory => Some("directory"),
        FileType::Fifo => Some("pipe"),
        FileType::Socket => Some("socket"),
        FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Symlink
        | FileType::Unknown => Some("device"),
    };
    if let Some(kind) = kind {
        return Err(ReadError::NotAFile { path: path.to_owned(), kind });
    }
    if limit < meta.size() {
        return Err(ReadError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(())
}

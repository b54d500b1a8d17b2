//! The few things done to files, each so that a crash in the middle leaves old or new.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use crate::store::error::{SetAside, StoreError};

/// Files set aside that are kept for a person to look at; older ones are removed.
const ASIDE_KEPT: usize = 8;

const DRAFT: &str = ".new";

const ASIDE: &str = ".set-aside-";

/// A state directory that exists.
#[derive(Debug)]
pub(super) struct Dir {
    path: PathBuf,
    handle: File,
}

impl Dir {
    /// Creates what is missing of it, for its owner alone.
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        let doing = StoreError::io("create the state directory", path);
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(doing)?;
        let handle = File::open(path).map_err(StoreError::io("open the state directory", path))?;
        Ok(Self { path: path.to_owned(), handle })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Puts a file with these bytes in place of what is there, durably, and returns it open.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<File, StoreError> {
        self.replace_with(name, |file| file.write_all(bytes))
    }

    /// As [`Dir::replace`], with a writer of the content.
    pub(super) fn replace_with(
        &self,
        name: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<File, StoreError> {
        let (path, draft) = (self.file(name), self.file(&format!(".{name}{DRAFT}")));
        let written = self.draft(&draft, &path, write);
        if written.is_err() {
            drop(fs::remove_file(&draft));
        }
        written.map_err(StoreError::io("write", &path))
    }

    fn draft(
        &self,
        draft: &Path,
        path: &Path,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<File> {
        let mut file = own().truncate(true).open(draft)?;
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(draft, path)?;
        self.sync()?;
        Ok(file)
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    /// Moves a file out of the way.
    pub(super) fn set_aside(
        &self,
        name: &str,
        now_ms: u64,
        why: &str,
    ) -> Result<SetAside, StoreError> {
        let (from, to) = (self.file(name), self.vacant(name, now_ms));
        let moved = fs::rename(&from, &to).and_then(|()| self.sync());
        moved.map_err(StoreError::io("set aside", &from))?;
        self.prune();
        Ok(SetAside { path: to, why: format!("{name} {why}") })
    }

    /// Keeps a file under a second name, because its place is about to be taken by a better one.
    /// What is better must not fail because of this.
    pub(super) fn keep_aside(&self, name: &str, now_ms: u64, why: &str) -> SetAside {
        let (from, to) = (self.file(name), self.vacant(name, now_ms));
        // Some file systems have no second names.
        let kept = fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop));
        self.prune();
        match kept {
            Ok(()) => SetAside { path: to, why: format!("{name} {why}") },
            Err(error) => {
                let why = format!("{name} {why}, and it could not be set aside: {error}");
                SetAside { path: from, why }
            }
        }
    }

    /// Writes bytes under a name of their own, among what was set aside.
    pub(super) fn lay_aside(
        &self,
        name: &str,
        bytes: &[u8],
        now_ms: u64,
    ) -> Result<PathBuf, StoreError> {
        let path = self.vacant(name, now_ms);
        let vacant = path.file_name().and_then(|name| name.to_str()).unwrap_or(name);
        drop(self.replace(vacant, bytes)?);
        self.prune();
        Ok(path)
    }

    fn vacant(&self, name: &str, now_ms: u64) -> PathBuf {
        let candidate = |ms| self.file(&format!("{name}{ASIDE}{ms}"));
        let mut free = (now_ms..).take(1000).map(candidate).filter(|path| !path.exists());
        free.next().unwrap_or_else(|| candidate(now_ms))
    }

    /// The name that a draft is for, if a file is one.
    pub(super) fn draft_of(name: &str) -> Option<&str> {
        name.strip_prefix('.')?.strip_suffix(DRAFT)
    }

    /// Drafts that a crash left behind.
    pub(super) fn sweep(&self) {
        for name in self.names() {
            if name.starts_with('.') && name.strip_suffix(DRAFT).is_some() {
                drop(fs::remove_file(self.file(&name)));
            }
        }
    }

    fn prune(&self) {
        let stamp = |name: &String| {
            name.rsplit_once(ASIDE).and_then(|(_, stamp)| stamp.parse::<u64>().ok())
        };
        let mut aside: Vec<(u64, String)> =
            self.names().filter_map(|name| Some((stamp(&name)?, name))).collect();
        aside.sort_unstable();
        let surplus = aside.len().saturating_sub(ASIDE_KEPT);
        for (_, name) in aside.into_iter().take(surplus) {
            drop(fs::remove_file(self.file(&name)));
        }
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str().map(str::to_owned))
    }
}

/// How our own files are opened to be written.
pub(super) fn own() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

/// What was found under a name.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing.
    Absent,
    /// A regular file.
    File(File),
    /// Something that cannot be what we wrote; why.
    Strange(String),
}

/// Opens a file to read and write it, without ever waiting for a pipe's other end.
pub(super) fn find(path: &Path, access: OFlags) -> Result<Found, StoreError> {
    let flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()).map(File::from) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(Found::Absent),
        Err(errno) => return strange(path, errno.into()),
    };
    match file.metadata() {
        Ok(meta) if FileType::from_raw_mode(meta.mode()) == FileType::RegularFile => {
            Ok(Found::File(file))
        }
        Ok(_) => Ok(Found::Strange("is not a regular file".to_owned())),
        Err(error) => strange(path, error),
    }
}

/// Being refused access says nothing against the file; anything else does.
fn strange(path: &Path, error: io::Error) -> Result<Found, StoreError> {
    let refused =
        matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
    if refused {
        return Err(StoreError::io("open", path)(error));
    }
    Ok(Found::Strange(format!("cannot be opened: {error}")))
}

/// Reads a small file whole.
pub(super) fn read(file: &mut File, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot be read: {error}"))?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= limit => Ok(bytes),
        Ok(_) | Err(_) => Err(format!("is larger than {limit} bytes")),
    }
}

/// Whether an open file still has its name.
pub(super) fn is_linked(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| meta.nlink() != 0)
}

//! One file in one directory, replaced so that no crash leaves anything but the old or the new.
//!
//! Owns the order of the system calls; knows nothing of what is written. Every call names the
//! file relative to a descriptor of its directory, so that a directory swapped meanwhile cannot
//! send half of the work elsewhere. Everything in here blocks.
//!
//! Invariants
//! 1. The name refers to the old file or to the new one, complete and on disk, never to anything
//!    else. Where the name cannot be given to another file (a bind-mounted one), the old file is
//!    overwritten by one call, space for it secured before.
//! 2. The new file never has wider permissions than wanted, not for an instant.
//! 3. A symbolic link is followed, never replaced.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FallocateFlags, Gid, Mode, OFlags, StatxAttributes, StatxFlags, Uid,
};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::output::OutputError;

/// A larger file is none that a server reads its environment from.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// A file by its directory and its name; it need not exist.
#[derive(Debug)]
pub(super) struct Place {
    dir: OwnedFd,
    name: OsString,
    path: PathBuf,
}

/// What distinguishes a file from itself before any change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stamp {
    identity: (u64, u64, u64),
    modified: (i64, i64),
    changed: (i64, i64),
    /// Permission bits.
    pub(super) mode: u32,
    /// Owner and group.
    pub(super) owner: (u32, u32),
}

/// What the file holds now.
#[derive(Debug)]
pub(super) struct Current {
    /// Its bytes.
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Its state while it was read.
    pub(super) stamp: Stamp,
}

/// Who may do what with the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    /// Permission bits.
    pub(super) mode: u32,
    /// Owner and group, where they are to be set.
    pub(super) owner: (Option<u32>, Option<u32>),
}

/// Looks at a new file under its temporary name.
pub(super) type Look<'a> = &'a dyn Fn(&Path) -> Result<(), OutputError>;

/// What stands between a new file and its name.
pub(super) struct Gate<'a> {
    /// The check that it must pass, if there is one.
    pub(super) check: Option<Look<'a>>,
    /// Called when nothing but the system can stop the file any more.
    pub(super) ready: &'a mut dyn FnMut(),
}

/// How the file was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Written {
    /// Overwritten rather than replaced, because it is a mount point.
    pub(super) in_place: bool,
    /// Whether it has the owner of the file before it.
    pub(super) owner_kept: bool,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            identity: (metadata.dev(), metadata.ino(), metadata.size()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
        }
    }

    /// The state of the file that `path` leads to; `None` when there is none.
    pub(super) fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }
}

impl Place {
    /// Finds the file that `path` leads to and opens its directory.
    pub(super) fn find(path: &Path) -> Result<Self, OutputError> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            let place = Self::open(path)?;
            match rustix::fs::readlinkat(&place.dir, &place.name, Vec::new()) {
                Ok(link) => {
                    let link = Path::new(OsStr::from_bytes(link.as_bytes()));
                    path = parent(&place.path).join(link);
                }
                Err(Errno::INVAL | Errno::NOENT) => return Ok(place),
                Err(error) => return Err(OutputError::io("look at", &place.path, error)),
            }
        }
        Err(OutputError::io("follow the links of", &path, Errno::LOOP))
    }

    fn open(path: PathBuf) -> Result<Self, OutputError> {
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return Err(OutputError::NotRegular { path: path.into(), kind: "a directory" });
        };
        let dir = parent(&path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty())
            .map_err(|error| OutputError::io("open the directory", dir, error))?;
        Ok(Self { dir, name, path })
    }

    /// Where the file really is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory.
    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The name of a file of ours that stands beside it.
    pub(super) fn beside(&self, suffix: &str) -> OsString {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(".mcp-failover.");
        name.push(suffix);
        name
    }

    /// Removes what a killed writer of this same file left behind.
    pub(super) fn sweep(&self) -> Result<(), OutputError> {
        let sweeping = |error| OutputError::io("sweep the directory of", &self.path, error);
        let prefix = self.beside("");
        for entry in Dir::read_from(&self.dir).map_err(sweeping)? {
            let entry = entry.map_err(sweeping)?;
            let suffix = entry.file_name().to_bytes().strip_prefix(prefix.as_bytes());
            if suffix.is_some_and(|suffix| self.is_temporary(suffix)) {
                match rustix::fs::unlinkat(&self.dir, entry.file_name(), AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(sweeping(error)),
                }
            }
        }
        Ok(())
    }

    fn is_temporary(&self, suffix: &[u8]) -> bool {
        let (random, ending) = suffix.split_at_checked(8).unwrap_or((suffix, &[]));
        let ours = |ending: &[u8]| {
            let known = self.ending().map(OsStr::as_bytes);
            ending.is_empty() || (known.is_some() && ending.strip_prefix(b".") == known)
        };
        random.len() == 8 && random.iter().all(u8::is_ascii_hexdigit) && ours(ending)
    }

    /// What stands behind the last dot of the name.
    fn ending(&self) -> Option<&OsStr> {
        Path::new(&self.name).extension()
    }

    /// What the file holds; `None` when there is none.
    pub(super) fn read(&self) -> Result<Option<Current>, OutputError> {
        if self.metadata()?.is_none() {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.dir, &self.name, flags, Mode::empty()) {
            Ok(file) => self.read_all(&File::from(file)).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed("read")(error.into())),
        }
    }

    fn read_all(&self, file: &File) -> Result<Current, OutputError> {
        let reading = self.failed("read");
        let stamp = Stamp::of(&file.metadata().map_err(&reading)?);
        if stamp.identity.2 > MAX_BYTES {
            return Err(reading(Errno::FBIG.into()));
        }
        let capacity = usize::try_from(stamp.identity.2).unwrap_or_default() + 1;
        let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(&reading)?;
        Ok(Current { bytes, stamp })
    }

    /// What has the name, if anything; anything but a file is refused.
    fn metadata(&self) -> Result<Option<Metadata>, OutputError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.dir, &self.name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.failed("look at")(error.into())),
        };
        let metadata = file.metadata().map_err(self.failed("look at"))?;
        match kind(&metadata) {
            None => Ok(Some(metadata)),
            Some(kind) => Err(OutputError::NotRegular { path: self.path.as_path().into(), kind }),
        }
    }

    /// Writes `bytes` so that invariant 1 holds, and reads them back.
    ///
    /// `seen` is the file that `bytes` were made for; another one by now is an error.
    pub(super) fn write(
        &self,
        bytes: &[u8],
        access: Access,
        seen: Option<Stamp>,
        mut gate: Gate<'_>,
    ) -> Result<(Written, Stamp), OutputError> {
        let written = if self.is_mount_point() {
            self.rehearse(bytes, &mut gate)?;
            self.overwrite(bytes, access)?
        } else {
            match self.replace(bytes, access, seen, &mut gate)? {
                Some(written) => written,
                None => self.overwrite(bytes, access)?,
            }
        };
        match self.read()? {
            Some(now) if *now.bytes == *bytes => Ok((written, now.stamp)),
            _ => Err(self.contended()),
        }
    }

    /// `None` when the name cannot be given to another file.
    fn replace(
        &self,
        bytes: &[u8],
        access: Access,
        seen: Option<Stamp>,
        gate: &mut Gate<'_>,
    ) -> Result<Option<Written>, OutputError> {
        let mut temporary = self.temporary(gate.check.is_some())?;
        let file = &mut temporary.file;
        reserve(file.as_fd(), bytes.len(), FallocateFlags::empty())
            .map_err(self.failed("make room for"))?;
        file.write_all(bytes).map_err(self.failed("write"))?;
        let owner_kept = self.set_owner(file, access, seen)?;
        rustix::fs::fchmod(&*file, Mode::from_raw_mode(access.mode))
            .map_err(|error| self.failed("set the permissions of")(error.into()))?;
        file.sync_all().map_err(self.failed("flush"))?;
        self.pass(&temporary, bytes, gate)?;
        if self.metadata()?.map(|metadata| Stamp::of(&metadata)) != seen {
            return Err(self.contended());
        }
        match rustix::fs::renameat(&self.dir, &temporary.name, &self.dir, &self.name) {
            Ok(()) => temporary.keep(),
            Err(Errno::BUSY | Errno::XDEV) => return Ok(None),
            Err(error) => return Err(self.failed("replace")(error.into())),
        }
        self.sync_dir()?;
        Ok(Some(Written { in_place: false, owner_kept }))
    }

    /// Where there is a check, shows it a copy of what is to be written in place.
    fn rehearse(&self, bytes: &[u8], gate: &mut Gate<'_>) -> Result<(), OutputError> {
        if gate.check.is_none() {
            (gate.ready)();
            return Ok(());
        }
        let mut temporary = self.temporary(true)?;
        temporary.file.write_all(bytes).map_err(self.failed("write"))?;
        self.pass(&temporary, bytes, gate)
    }

    /// Has the new file checked, which must leave it as it is.
    fn pass(
        &self,
        temporary: &Temporary<'_>,
        bytes: &[u8],
        gate: &mut Gate<'_>,
    ) -> Result<(), OutputError> {
        if let Some(check) = gate.check {
            let staged = parent(&self.path).join(&temporary.name);
            let before = temporary.file.metadata().map_err(self.failed("look at the copy of"))?;
            let before = Stamp::of(&before);
            check(&staged)?;
            let named = std::fs::symlink_metadata(&staged).ok();
            let untouched = named.is_some_and(|named| Stamp::of(&named) == before);
            // Time stamps are coarse: two changes within one tick look alike.
            let mut now = Zeroizing::new(vec![0; bytes.len()]);
            let read = temporary.file.read_exact_at(&mut now, 0);
            if !untouched || read.is_err() || *now != *bytes {
                let why = "changed the file instead of only looking at it";
                return Err(OutputError::Refused {
                    path: self.path.as_path().into(),
                    why: why.into(),
                });
            }
        }
        (gate.ready)();
        Ok(())
    }

    /// The second best, for a file that is itself a mount point: readers see the old bytes, the
    /// new ones, or new ones followed by line breaks, and a checksum, where there is one, tells.
    fn overwrite(&self, bytes: &[u8], access: Access) -> Result<Written, OutputError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, &self.name, flags, Mode::empty())
            .map_err(|error| self.failed("open")(error.into()))?;
        let file = File::from(file);
        let before = file.metadata().map_err(self.failed("look at"))?.len();
        let mut padded = Zeroizing::new(bytes.to_vec());
        padded.resize(bytes.len().max(usize::try_from(before).unwrap_or_default()), b'\n');
        reserve(file.as_fd(), padded.len(), FallocateFlags::KEEP_SIZE)
            .map_err(self.failed("make room for"))?;
        file.write_all_at(&padded, 0).map_err(self.failed("write"))?;
        file.set_len(u64::try_from(bytes.len()).unwrap_or(u64::MAX)).map_err(self.failed("cut"))?;
        self.settle_access(&file, access)?;
        file.sync_all().map_err(self.failed("flush"))?;
        Ok(Written { in_place: true, owner_kept: true })
    }

    /// Gives an unchanged file the wanted owner and permissions back.
    pub(super) fn reassert(&self, access: Access) -> Result<(), OutputError> {
        let file = self.reopen()?;
        self.settle_access(&file, access)?;
        file.sync_all().map_err(self.failed("flush"))
    }

    /// Makes sure that what is there survives a loss of power, whoever wrote it.
    pub(super) fn settle(&self) -> Result<(), OutputError> {
        self.reopen()?.sync_all().map_err(self.failed("flush"))?;
        self.sync_dir()
    }

    fn reopen(&self) -> Result<File, OutputError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.dir, &self.name, flags, Mode::empty())
            .map(File::from)
            .map_err(|error| self.failed("open")(error.into()))
    }

    fn settle_access(&self, file: &File, access: Access) -> Result<(), OutputError> {
        let now = Stamp::of(&file.metadata().map_err(self.failed("look at"))?);
        if access.owner_differs(now) {
            chown(file, access.owner).map_err(self.failed("set the owner of"))?;
        }
        if now.mode != access.mode {
            rustix::fs::fchmod(file, Mode::from_raw_mode(access.mode))
                .map_err(|error| self.failed("set the permissions of")(error.into()))?;
        }
        Ok(())
    }

    /// A wanted owner is a must; the owner of the file before is kept where that is allowed.
    fn set_owner(
        &self,
        file: &File,
        access: Access,
        seen: Option<Stamp>,
    ) -> Result<bool, OutputError> {
        chown(file, access.owner).map_err(self.failed("set the owner of"))?;
        let Some((user, group)) = seen.map(|seen| seen.owner) else { return Ok(true) };
        if self.is_open_to_all() {
            return Ok(access.owner.0.is_some() || user == rustix::process::geteuid().as_raw());
        }
        let now = Stamp::of(&file.metadata().map_err(self.failed("look at"))?).owner;
        let keep = |wanted: Option<u32>, old: u32, new: u32| {
            (wanted.is_none() && old != new).then_some(old)
        };
        let group = keep(access.owner.1, group, now.1);
        let user = keep(access.owner.0, user, now.0);
        let group_kept = chown(file, (None, group)).is_ok();
        Ok(chown(file, (user, None)).is_ok() && group_kept)
    }

    /// Where anybody may have put the old file, its owner must not inherit the secrets.
    fn is_open_to_all(&self) -> bool {
        rustix::fs::fstat(&self.dir).is_ok_and(|dir| dir.st_mode & 0o002 != 0)
    }

    fn sync_dir(&self) -> Result<(), OutputError> {
        rustix::fs::fsync(&self.dir)
            .map_err(|error| self.failed("flush the directory of")(error.into()))
    }

    fn is_mount_point(&self) -> bool {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::statx(&self.dir, &self.name, flags, StatxFlags::empty())
            .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    }

    /// Many a check goes by the ending of a name; where there is none, no reader that does so may
    /// take the file for its own.
    fn temporary(&self, with_ending: bool) -> Result<Temporary<'_>, OutputError> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let random = RandomState::new().hash_one(&self.name) & 0xffff_ffff;
            let mut name = self.beside(&format!("{random:08x}"));
            if let Some(ending) = self.ending().filter(|_| with_ending) {
                name.push(".");
                name.push(ending);
            }
            match rustix::fs::openat(&self.dir, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => {
                    return Ok(Temporary {
                        dir: self.dir.as_fd(),
                        name,
                        file: file.into(),
                        gone: false,
                    });
                }
                Err(Errno::EXIST) => {}
                Err(error) => {
                    return Err(self.failed("create a temporary file beside")(error.into()));
                }
            }
        }
    }

    fn failed(&self, doing: &'static str) -> impl Fn(io::Error) -> OutputError {
        move |error| OutputError::io(doing, &self.path, error)
    }

    fn contended(&self) -> OutputError {
        OutputError::Contended { path: self.path.as_path().into() }
    }
}

impl Access {
    /// Whether a file in this state is not as wanted.
    pub(super) fn differs(self, now: Stamp) -> bool {
        self.mode != now.mode || self.owner_differs(now)
    }

    fn owner_differs(self, now: Stamp) -> bool {
        let wrong = |wanted: Option<u32>, now| wanted.is_some_and(|wanted| wanted != now);
        wrong(self.owner.0, now.owner.0) || wrong(self.owner.1, now.owner.1)
    }
}

/// A file that goes unless it is given its name.
struct Temporary<'a> {
    dir: BorrowedFd<'a>,
    name: OsString,
    file: File,
    gone: bool,
}

impl Temporary<'_> {
    fn keep(mut self) {
        self.gone = true;
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.gone
            && let Err(error) = rustix::fs::unlinkat(self.dir, &self.name, AtFlags::empty())
        {
            tracing::debug!(%error, "temporary file left for the next sweep");
        }
    }
}

/// A filesystem that cannot reserve space says so when it is written to.
fn reserve(file: BorrowedFd<'_>, bytes: usize, flags: FallocateFlags) -> io::Result<()> {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    match rustix::fs::fallocate(file, flags, 0, bytes) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn chown(file: &File, (user, group): (Option<u32>, Option<u32>)) -> io::Result<()> {
    if user.is_none() && group.is_none() {
        return Ok(());
    }
    Ok(rustix::fs::fchown(file, user.map(Uid::from_raw), group.map(Gid::from_raw))?)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What it is, when it is not a regular file.
fn kind(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_dir() {
        Some("a directory")
    } else if kind.is_symlink() {
        Some("a symbolic link")
    } else if kind.is_fifo() {
        Some("a named pipe")
    } else if kind.is_socket() {
        Some("a socket")
    } else if kind.is_block_device() || kind.is_char_device() {
        Some("a device")
    } else {
        None
    }
}

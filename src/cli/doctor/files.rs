//! What the file system says of the files that a policy names. Looks, and changes nothing.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::cli::doctor::finding::Finding;
use crate::policy::model::{File, Intercept};

/// The longest path of a socket that the kernel takes.
const SOCKET_PATH_MAX: usize = 107;
/// What stands after the name of an open file that is not in its folder any more.
const DELETED: &[u8] = b" (deleted)";

/// Everything about a file that is written.
pub(super) fn output(file: &File, mounts: &[PathBuf]) -> Vec<Finding> {
    let path = absolute(&file.path);
    let mounted = is_mount(&path, mounts).then(|| {
        Finding::error(
            "file-mount",
            format!(
                "{} is mounted as a single file, so no new one can take its place",
                path.display()
            ),
            "mount the folder that it is in, and let the server read it there",
        )
    });
    let unwritable = if mounted.is_some() { None } else { cannot_write(&path, "write") };
    let found = mounted.into_iter().chain(unwritable).chain(open_mode(file, &path));
    found.chain(stale(&path)).collect()
}

/// What is wrong with the policy's own file.
pub(super) fn policy(path: &Path, mounts: &[PathBuf]) -> Option<Finding> {
    let path = absolute(path);
    is_mount(&path, mounts).then(|| {
        Finding::warning(
            "file-mount",
            format!(
                "{} is mounted as a single file: an editor that replaces it is not noticed",
                path.display()
            ),
            "mount the folder that it is in",
        )
    })
}

/// What is wrong with the path of a socket.
pub(super) fn socket(path: &Path) -> Option<Finding> {
    // As it is given: the kernel counts no folder that is not written out.
    let length = path.as_os_str().len();
    (length > SOCKET_PATH_MAX).then(|| {
        Finding::error(
            "socket-path",
            format!(
                "{} has {length} bytes; a socket's path has {SOCKET_PATH_MAX} at most",
                path.display()
            ),
            "choose a shorter one, such as /run/mcp-failover/sock",
        )
    })
}

/// What is wrong with the certificate of a local authority.
pub(super) fn authority(intercept: &Intercept) -> Option<Finding> {
    let path = absolute(&intercept.ca_file);
    if path.is_file() {
        return None;
    }
    if let Some(finding) = cannot_write(&path, "write the authority's certificate") {
        return Some(Finding { name: "ca-missing", ..finding });
    }
    Some(Finding::warning(
        "ca-missing",
        format!("{} is not there: a server that is started now trusts nobody's", path.display()),
        "start the sidecar first; it writes the file when it starts",
    ))
}

/// Whether a file could be put there.
fn cannot_write(path: &Path, what: &str) -> Option<Finding> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let writable = there.is_dir()
        && accessat(CWD, there, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok();
    let problem = if path.is_dir() {
        format!("{} is a folder", path.display())
    } else if writable {
        return None;
    } else {
        format!("cannot {what}: this user may not put files into {}", there.display())
    };
    Some(Finding::error(
        "cannot-write",
        problem,
        "give the sidecar's user the right to write there, or run this as that user",
    ))
}

/// Whether others may read what holds credentials.
fn open_mode(file: &File, path: &Path) -> Option<Finding> {
    let actual = fs::metadata(path).map(|metadata| metadata.permissions().mode() & 0o777).ok();
    let open =
        [Some(file.permissions), actual].into_iter().flatten().find(|mode| mode & 0o007 != 0)?;
    Some(Finding::warning(
        "open-mode",
        format!(
            "{} has mode {open:04o}: every user of the system can read its credentials",
            path.display()
        ),
        "set mode = \"0640\" with the server's group as gid, or \"0600\"",
    ))
}

/// Processes that hold an older file of this path, and so do not see the new one.
fn stale(path: &Path) -> Option<Finding> {
    let wanted: Vec<u8> = [path.as_os_str().as_bytes(), DELETED].concat();
    let holds = |pid: &u32| {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|target| target.as_os_str().as_bytes() == wanted)
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holders: Vec<String> = pids.filter(holds).take(8).map(|pid| pid.to_string()).collect();
    (!holders.is_empty()).then(|| {
        Finding::error(
            "stale-inode",
            format!(
                "process {} holds an older {} open, and will never see a new one",
                holders.join(", "),
                path.display()
            ),
            "start it anew, or let it open the file by its path each time",
        )
    })
}

/// Everything that something is mounted on.
pub(super) fn mounts() -> Vec<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let points = table.split(|byte| *byte == b'\n');
    points.filter_map(|line| line.split(|byte| *byte == b' ').nth(4).map(unescaped)).collect()
}

/// The kernel writes blanks and the like as three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *byte == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = after.get(3..).unwrap_or_default();
        } else {
            bytes.push(*byte);
            rest = after;
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

fn is_mount(path: &Path, mounts: &[PathBuf]) -> bool {
    !path.is_dir() && mounts.iter().any(|mount| mount.as_path() == path)
}

/// The path with its folder as the kernel names it; the last part may be missing.
fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().unwrap_or(OsStr::new(""));
    let folder = path.parent().and_then(|folder| fs::canonicalize(folder).ok());
    folder.map_or_else(|| path.clone(), |folder| folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_in_the_names_of_mounts_are_understood() {
        assert_eq!(unescaped(b"/a\\040b\\134c"), PathBuf::from("/a b\\c"));
        assert_eq!(unescaped(b"/a\\9"), PathBuf::from("/a\\9"));
    }
}

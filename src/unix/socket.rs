//! A listening socket and its file.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// Who may open the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Access {
    /// Permission bits of the socket.
    pub mode: u32,
    /// Permission bits of its directory, where there is none yet.
    pub folder_mode: u32,
    /// Owner and group by number, when they are to be set.
    pub owner: (Option<u32>, Option<u32>),
}

/// A bound socket. Its file is removed when it is dropped, if it is still the same one.
#[derive(Debug)]
pub struct SocketFile {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file we made.
    identity: (u64, u64),
}

impl SocketFile {
    /// Binds the socket, making its directory where there is none.
    ///
    /// # Errors
    /// `AddrInUse` when another process accepts on it, `AlreadyExists` when the path is something
    /// other than a socket, and whatever the system says of the directory.
    pub async fn bind(path: &Path, access: Access) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(access.folder_mode).create(folder)?;
        }
        clear_stale(path).await?;
        let listener = UnixListener::bind(path)?;
        // Between bind and this the umask alone guards the file, so whoever listens asks each
        // peer for its credentials too.
        fs::set_permissions(path, fs::Permissions::from_mode(access.mode))?;
        if access.owner != (None, None) {
            chown(path, access.owner.0, access.owner.1)?;
        }
        let made = fs::symlink_metadata(path)?;
        Ok(Self { listener, path: path.to_owned(), identity: (made.dev(), made.ino()) })
    }

    /// The next client.
    ///
    /// # Errors
    /// When the system has no descriptor for it; waiting a little helps.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Whether the file at the path is still the one that was made here.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_in_place() {
            // What is left behind is recognised as stale by the next start.
            fs::remove_file(&self.path).ok();
        }
    }
}

/// Removes a socket on which nobody accepts.
async fn clear_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        let message = format!("{} exists and is not a socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) | Err(_) => {
            let message = format!("another process listens on {}", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, message))
        }
    }
}

//! One sidecar a directory.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};

use crate::store::error::StoreError;
use crate::store::files::{Dir, own};

/// Held as long as this lives; the kernel frees it when the process is gone, however it went.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    pub(super) fn take(dir: &Dir) -> Result<Self, StoreError> {
        let path = dir.file("lock");
        let mut file = own().open(&path).map_err(StoreError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let by = holder(&mut file);
                return Err(StoreError::Locked { dir: dir.path().to_owned(), by });
            }
            Err(TryLockError::Error(source)) => return Err(StoreError::io("lock", &path)(source)),
        }
        // The name is a courtesy to whoever is refused: a full disk must not keep us from the lock.
        drop(sign(&mut file));
        Ok(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child between fork and exec still has a copy of the descriptor.
        drop(self.0.set_len(0));
        drop(self.0.unlock());
    }
}

fn sign(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

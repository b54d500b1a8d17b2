//! The policy file and the secret files it names, as bytes.
//!
//! Owns noticing that a file changed and reading it whole: renames, symlinks, `..data` swaps, bind
//! mounts and file systems without events included. It never parses a policy, never decides
//! whether one is good, and never logs: it tells [`SourceEvent`]s and somebody else judges them.
//!
//! Kernel events are only a hint that makes us look sooner. What we say rests on reading the file,
//! and a look every two seconds happens with or without events, because they are absent on NFS,
//! 9p and some container file systems, and stop after a rename when only the file is watched.
//!
//! Invariants
//! 1. [`SourceEvent::Changed`] without force always carries a digest other than the last one told.
//! 2. The content that is in the file when it comes to rest is told, whatever was told before.
//! 3. A change of mode, owner or time stamps alone tells nothing.
//! 4. A file that is absent or unreadable is told once, and its return is told once.
//! 5. Nothing here blocks the runtime: every file access happens on a blocking thread.

mod event;
mod hops;
mod lookup;
mod native;
mod read;
mod scout;
mod sight;
mod task;

pub use event::{SourceEvent, WatchMode};
pub use lookup::{Seen, SystemLookup};
pub use read::{Digest, Loaded, POLICY_LIMIT, ReadError, SECRET_LIMIT, read_once};
pub use task::{Watcher, spawn};

//! State and history on disk.
//!
//! Owns the files of one state directory: what the engine must remember over a restart, what it
//! decided, and the last policy that was good. It knows nothing of what is in a snapshot, reads no
//! clock, and never writes a value that came from a variable or a secret file.
//!
//! | File | Holds | Written |
//! |---|---|---|
//! | `state.0`, `state.1` | the last two snapshots | in turn, over the older one |
//! | `revision` | a number no revision has reached yet | once in [`RESERVE`] revisions, replaced |
//! | `history` | one decision a line | appended; rewritten when mostly expired |
//! | `policy` | the last good policy, references unresolved | replaced |
//! | `lock` | the holder's process id | under `flock`, so that it falls with its holder |
//!
//! Copies of them in another place are made by [`backup`] and [`redis`].
//!
//! Each begins with a line that names its kind and format and carries a checksum; every part is
//! covered by a checksum of its own. A file that is not what we would have written is set aside
//! under another name and said, and whatever of it still verifies is used.
//!
//! Invariants
//! 1. What [`Store::save`] and [`Store::append`] returned `Ok` for is there after a crash or a
//!    power cut at any later point.
//! 2. A call that failed leaves what was there before it readable.
//! 3. [`Opened::revision_floor`] is never below a revision that was saved, as long as any one of
//!    the files that know about it survived.
//! 4. Bytes that do not verify are never interpreted, whatever they are: opening a directory of
//!    garbage neither panics nor takes more memory than a bounded buffer.
//! 5. Of two processes on one directory the second is refused.
//! 6. The history holds at most [`HISTORY_RECORDS`] records of at most [`HISTORY_DAYS`] days.
//!
//! # Why not an embedded database
//! redb 4.6 was measured first, built as in a release: twenty commits of a 3 kB snapshot and a
//! history record, an 80 KiB file, closed cleanly and opened again after each damage. "Checked" is
//! with its integrity check at every start. For these files, `tests/store/damage.rs` flips a bit of
//! every meaningful byte and overwrites every stretch of 64. The write times are those of the bare
//! pattern of system calls on an idle disk; `cargo bench --bench store` measures the whole call.
//!
//! | | redb | redb, checked | these files |
//! |---|---|---|---|
//! | one bit flipped, 2,215 places: wrong values read | 513 | 0 | 0 |
//! | the same: panics | 9 | 0 | 0 |
//! | 512 bytes zeroed, 188 places: wrong values read | 42 | 0 | 0 |
//! | the same: panics | 22 | 8 | 0 |
//! | when damage is found | all is lost | all is lost | the rest is kept |
//! | a new directory with one record | 72 KiB | 72 KiB | 5 KiB |
//! | durable write, median on a disk | 0.26 ms | 0.26 ms | 0.14 ms a snapshot, 0.25 ms a record |
//!
//! A panic is an abort in the release build, so one damaged page would mean a sidecar that cannot
//! start until a person deletes the file. That decides it.

pub mod backup;
mod directory;
mod document;
mod error;
mod files;
mod history;
mod lock;
pub mod redis;
mod slots;

pub use directory::{LastGood, Opened, Peeked, Reader, Saved, Store};
pub use error::{SetAside, StoreError};
pub use history::{HISTORY_DAYS, HISTORY_RECORDS, HistoryQuery, line as history_line};
pub use slots::RESERVE;

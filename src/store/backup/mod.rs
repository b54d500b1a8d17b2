//! Copies of state and history in another place, and the way back.
//!
//! Owns the form of a backup, the places that hold them (a directory, a bucket), what is kept of
//! them, and which one a recovery takes. A backup is one file or object under a name of its own,
//! complete in itself:
//!
//! ```text
//! mcp-failover backup 1 revision=42 at=1763900000000 sidecar=web policy=9f… bytes=… body=… crc=…
//! {"version":1,"revision":42,…}
//! 1a2b3c4d 1763900000000 12 {"schema":1,…}
//! ```
//! The first line as in every file of the store, the snapshot, then the history as it lies on disk.
//!
//! **What is not in it.** No value of a variable or a secret file: the snapshot and the history have
//! names and times only. The text of the policy is left out, because a policy may hold a literal
//! credential, and a bucket has other readers than `/etc`; it belongs into version control. Its
//! digest is in, so that one can tell by which policy a backup was made. The fingerprints of the
//! endpoints, which would let a reader of the bucket try passwords one by one, are folded into one
//! over all of them ([`Backup::snapshot`]).
//!
//! Invariants
//! 1. Under a name of ours there is a whole backup or none, whenever the writer died: a directory
//!    gets it by rename, a bucket by one conditional `PUT`. A name is never written twice.
//! 2. Names rise: a new backup sorts after all that are there, whatever the clock says.
//! 3. Only names of ours are ever removed, only the oldest beyond what is to be kept, and only after
//!    the newest was read back and verified.
//! 4. What does not verify is never interpreted; the next older one is taken, and that is said.
//! 5. Every call is bounded in memory ([`LIMIT`], [`LISTED_MAX`]); its time is bounded by the caller.

mod archive;
mod directory;
mod error;
mod name;
mod restore;
mod round;
mod s3;
mod vault;

pub use archive::{Backup, HISTORY_BYTES, LIMIT, Parts};
pub use error::BackupError;
pub use name::{Name, ParseNameError};
pub use restore::{Plan, plan, restore};
pub use round::{Found, Made, Round, make, newest_good, read, read_path};
pub use vault::{LISTED_MAX, Listed, Now, Vault};

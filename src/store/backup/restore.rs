//! The way back: what a restore would do to a state directory, and doing it.
//!
//! Invariants
//! 1. No revision is given out twice: the restored state carries one that is above the backup's by
//!    [`RESERVE`], for what was given out after it, and not below any known locally.
//! 2. A crash at any point leaves the state before or the restored one; the history is never less
//!    than it was. The state before is kept aside.

use std::path::PathBuf;

use crate::core::id::Revision;
use crate::core::snapshot::Snapshot;
use crate::store::backup::{Backup, Parts};
use crate::store::error::StoreError;
use crate::store::slots::RESERVE;
use crate::store::{Opened, Saved};

/// The name that the state before a restore is kept under.
const BEFORE: &str = "before-restore";

/// What a restore comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plan {
    /// The revision that the restored state carries.
    pub revision: u64,
    /// Whether the local state is newer than the backup.
    pub newer: bool,
}

/// Compares a backup with the state there is; `floor` is the greatest revision known locally.
#[must_use]
pub fn plan(local: Option<&Saved>, floor: u64, backup: &Backup) -> Plan {
    let ahead = backup.revision().get().saturating_add(RESERVE);
    let newer = |saved: &Saved| backup.at_ms() < saved.saved_at_ms || ahead < saved.revision;
    Plan { revision: ahead.max(floor), newer: local.is_some_and(newer) }
}

/// Puts a backup in place of the state of a directory, and returns where the state before is kept.
///
/// `snapshot` is that of the backup for the rules in force.
///
/// # Errors
/// What the operating system refused. The state before is still there.
pub fn restore(
    opened: &mut Opened,
    backup: &Backup,
    mut snapshot: Snapshot,
    now_ms: u64,
) -> Result<Option<PathBuf>, StoreError> {
    let Plan { revision, .. } = plan(opened.snapshot.as_ref(), opened.revision_floor, backup);
    let kept = keep(opened, now_ms)?;
    snapshot.revision = Revision::new(revision);
    let json = serde_json::to_vec(&snapshot).map_err(StoreError::Encode)?;
    opened.store.merge_history(backup.history(), now_ms)?;
    opened.store.save(&json, revision, backup.at_ms())?;
    opened.snapshot = Some(Saved { json, revision, saved_at_ms: backup.at_ms() });
    opened.revision_floor = revision;
    Ok(kept)
}

/// Keeps what is there, in the form of a backup, so that it can be restored too.
fn keep(opened: &Opened, now_ms: u64) -> Result<Option<PathBuf>, StoreError> {
    let Some(saved) = &opened.snapshot else { return Ok(None) };
    let parts = Parts {
        snapshot: saved.json.clone(),
        at_ms: saved.saved_at_ms,
        history: opened.store.history_lines(super::HISTORY_BYTES)?,
        sidecar: String::new(),
        policy: String::new(),
    };
    // A snapshot that makes no sense is not worth keeping.
    let Ok(bytes) = Backup::new(parts).and_then(|backup| backup.encode()) else { return Ok(None) };
    opened.store.lay_aside(BEFORE, &bytes, now_ms).map(Some)
}

//! Brings one env file up to date, once. Everything in here blocks.

use std::path::Path;

use crate::output::due;
use crate::output::env_file::{render, same_variables};
use crate::output::place::{Access, Current, Place, Stamp, Written};
use crate::output::{ActiveConfig, OutputError};
use crate::policy::model::EnvFile;

/// A person's edit in the very moment of a merge is merged, too; somebody who writes without
/// pause is reported.
const ATTEMPTS: usize = 5;

/// How far the file was from what it should be.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Change {
    /// Not at all; nothing was written.
    None,
    /// In its owner or permissions.
    Access,
    /// In the revision and checksum, or in what is no variable of ours.
    Text,
    /// In a variable, or it was not there.
    Variables,
}

/// A file that is as it should be, durably.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Published {
    /// What had to be changed for that.
    pub change: Change,
    /// Overwritten rather than replaced, because it is a mount point.
    pub in_place: bool,
    /// Whether the owner of the file before could be kept.
    pub owner_kept: bool,
    /// Whether the hooks, if they are due now, are so even after a crash.
    pub due_kept: bool,
}

/// Brings the file up to date and flushes it to disk; blocks while it does.
///
/// # Errors
/// When the configuration cannot be rendered or the file not written. The old file is then as it
/// was.
pub fn publish(file: &EnvFile, config: &ActiveConfig) -> Result<Published, OutputError> {
    publish_and_stamp(file, config).map(|(published, _)| published)
}

/// The same, and the state that the file was left in.
pub(super) fn publish_and_stamp(
    file: &EnvFile,
    config: &ActiveConfig,
) -> Result<(Published, Option<Stamp>), OutputError> {
    let place = Place::find(&file.path)?;
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match publish_at(&place, file, config) {
            Err(OutputError::Contended { .. }) if left > 0 => {}
            result => return result,
        }
    }
}

/// Removes the temporary files that a killed sidecar left.
pub(super) fn sweep(path: &Path) -> Result<(), OutputError> {
    Place::find(path)?.sweep()
}

fn publish_at(
    place: &Place,
    file: &EnvFile,
    config: &ActiveConfig,
) -> Result<(Published, Option<Stamp>), OutputError> {
    let current = place.read()?;
    let access = Access { mode: file.permissions, owner: file.owner };
    let untouched =
        |change| Published { change, in_place: false, owner_kept: true, due_kept: true };
    let change = difference(file, config, current.as_ref())?;
    match (change, current) {
        (Change::None, Some(current)) if access.differs(current.stamp) => {
            place.reassert(access)?;
            Ok((untouched(Change::Access), Stamp::at(place.path())))
        }
        (Change::None, current) => {
            place.settle()?;
            Ok((untouched(Change::None), current.map(|current| current.stamp)))
        }
        (_, current) => {
            let bytes = render(file, config, current.as_ref().map(|now| now.bytes.as_slice()))?;
            let seen = current.map(|now| now.stamp);
            let due = change == Change::Variables && !file.on_change.is_empty();
            let due_kept = !due || due::mark(place);
            let (Written { in_place, owner_kept }, stamp) = place.write(&bytes, access, seen)?;
            Ok((Published { change, in_place, owner_kept, due_kept }, Some(stamp)))
        }
    }
}

/// What the bytes of the file say, owner and permissions apart.
fn difference(
    file: &EnvFile,
    config: &ActiveConfig,
    current: Option<&Current>,
) -> Result<Change, OutputError> {
    let Some(current) = current else { return Ok(Change::Variables) };
    let wanted = render(file, config, Some(&current.bytes))?;
    Ok(if *wanted == *current.bytes {
        Change::None
    } else if same_variables(file, &wanted, &current.bytes) {
        Change::Text
    } else {
        Change::Variables
    })
}

//! Brings one file up to date, once. Everything in here blocks.

use std::path::Path;

use crate::output::check::{self, Newer};
use crate::output::content::{self, Change, render};
use crate::output::place::{Access, Gate, Look, Place, Stamp, Written};
use crate::output::{ActiveConfig, OutputError, due};
use crate::policy::model::File;

/// A person's edit in the very moment of a merge is merged, too; somebody who writes without
/// pause is reported.
const ATTEMPTS: usize = 5;

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
/// When the configuration cannot be rendered, the file not written, or its check refuses it. The old
/// file is then as it was.
pub fn publish(file: &File, config: &ActiveConfig) -> Result<Published, OutputError> {
    publish_and_stamp(file, config, &None).map(|(published, _)| published)
}

/// The same, and the state that the file was left in; a newer configuration ends a check.
pub(super) fn publish_and_stamp(
    file: &File,
    config: &ActiveConfig,
    newer: &Newer,
) -> Result<(Published, Option<Stamp>), OutputError> {
    let place = Place::find(&file.path)?;
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match publish_at(&place, file, config, newer) {
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
    file: &File,
    config: &ActiveConfig,
    newer: &Newer,
) -> Result<(Published, Option<Stamp>), OutputError> {
    let current = place.read()?;
    let access = Access { mode: file.permissions, owner: file.owner };
    let untouched =
        |change| Published { change, in_place: false, owner_kept: true, due_kept: true };
    let bytes = current.as_ref().map(|current| current.bytes.as_slice());
    let change = content::difference(file, config, bytes)?;
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
            let due = change == Change::Content && !file.on_change.is_empty();
            let mut due_kept = true;
            let mut ready = || due_kept = !due || due::mark(place);
            let look: Look<'_> = &|staged| check::run(file, config, staged, newer);
            let gate = Gate { check: file.check.is_some().then_some(look), ready: &mut ready };
            let (Written { in_place, owner_kept }, stamp) =
                place.write(&bytes, access, seen, gate)?;
            Ok((Published { change, in_place, owner_kept, due_kept }, Some(stamp)))
        }
    }
}

//! A start that has lost its state takes up the newest good backup.
//!
//! Invariants
//! 1. It waits `recover_timeout` at most: a place that cannot be reached never keeps the sidecar
//!    from starting.
//! 2. It never replaces a snapshot that is there.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::daemon::clock::{Clock, rfc3339};
use crate::policy::model::{self, Policy};
use crate::store::backup::{BackupError, Found, Vault, newest_good, plan, restore};
use crate::store::{Opened, Saved};

/// Wait before a place that cannot be reached is tried again: the network may just be coming up.
const AGAIN: Duration = Duration::from_millis(500);

/// What was taken up.
#[derive(Debug)]
pub(super) struct Recovered {
    /// The name of the backup.
    pub(super) name: String,
    /// Its snapshot, for these rules, at a revision above all that are known.
    pub(super) saved: Saved,
}

/// Looks for a backup if the state is lost and the policy says so.
pub(super) async fn recover(
    policy: &Policy,
    opened: Option<&mut Opened>,
    clock: &Clock,
) -> Option<Recovered> {
    let backup = policy.backup.as_ref().filter(|backup| backup.recover)?;
    if opened.as_ref().is_some_and(|opened| opened.snapshot.is_some()) {
        return None;
    }
    let until = Instant::now() + backup.recover_timeout;
    let Found { name, backup } = search(backup, until, *clock).await?;
    let made = rfc3339(backup.at_ms());
    let mut snapshot = backup.snapshot(&policy.rules);
    let floor = opened.as_ref().map_or(0, |opened| opened.revision_floor);
    let revision = plan(None, floor, &backup).revision;
    snapshot.revision = crate::core::id::Revision::new(revision);
    let (records, from) = (backup.records(), backup.sidecar());
    tracing::warn!(
        %name, made, from, records, revision,
        "the state is lost: starting from a backup of it"
    );
    let json = serde_json::to_vec(&snapshot).ok()?;
    if let Some(opened) = opened
        && let Err(error) = restore(opened, &backup, snapshot, clock.wall_ms())
    {
        tracing::error!(%error, "the backup is used, but could not be written down");
    }
    let saved = Saved { json, revision, saved_at_ms: backup.at_ms() };
    Some(Recovered { name: name.to_string(), saved })
}

/// The newest good backup, if it can be had in time; otherwise says why not.
async fn search(policy: &model::Backup, until: Instant, clock: Clock) -> Option<Found> {
    let now = Arc::new(move || clock.wall_ms());
    let to = policy.to.to_string();
    let mut failure = None;
    let searching = async {
        let vault = Vault::new(policy, now).map_err(|error| failure = Some(error)).ok()?;
        loop {
            let mut passed_over = |_, error: &BackupError| {
                tracing::error!(to, "a backup is passed over: failed to {}", error.explain());
            };
            match newest_good(&vault, &mut passed_over).await {
                Ok(Some(found)) => return Some(found),
                Ok(None) => {
                    tracing::warn!(to, "no state and no good backup of it: starting afresh");
                    failure = None;
                    return None;
                }
                Err(error) => failure = Some(error),
            }
            sleep(AGAIN).await;
        }
    };
    let found = timeout_at(until, Box::pin(searching)).await;
    let late = found.is_err();
    let found = found.ok().flatten();
    if found.is_none() && (late || failure.is_some()) {
        let limit = policy.recover_timeout;
        let error = failure.unwrap_or(BackupError::Late { place: to, limit });
        tracing::error!(
            help = error.help(),
            "the state is lost, and its backups cannot be had: starting afresh; failed to {}",
            error.explain()
        );
    }
    found
}

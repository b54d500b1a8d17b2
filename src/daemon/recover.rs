//! A start that has lost its state takes up the newest of what Redis and the backups hold.
//!
//! Invariants
//! 1. It waits [`REDIS_PATIENCE`] for Redis and `recover_timeout` for a backup at most, for both at
//!    the same time: a place that cannot be reached never keeps the sidecar from starting.
//! 2. It never replaces a snapshot that is there.
//! 3. The revision that it begins with is above every one that anybody told of.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::core::id::Revision;
use crate::daemon::clock::{Clock, rfc3339};
use crate::policy::model::{self, Policy};
use crate::store::backup::{Backup, BackupError, Found, Vault, newest_good, plan, restore};
use crate::store::redis::{Client, Held, Keys, RedisError};
use crate::store::{Opened, RESERVE, Saved};

/// Wait before a place that cannot be reached is tried again: the network may just be coming up.
const AGAIN: Duration = Duration::from_millis(500);

/// How long a start that has lost its state may wait for Redis.
const REDIS_PATIENCE: Duration = Duration::from_secs(5);

/// What was found out.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// The name of the backup that was taken up.
    pub(super) backup: Option<String>,
    /// What was taken up from Redis.
    pub(super) redis: Option<String>,
    /// Its snapshot, for these rules, at a revision above all that are known.
    pub(super) saved: Option<Saved>,
    /// A revision that must not be begun below.
    pub(super) floor: Option<u64>,
}

/// What Redis holds.
#[derive(Debug)]
struct Copy {
    held: Held,
    /// Lines of the history, where they were asked for.
    history: Vec<u8>,
}

/// Looks for the state where it may be, as far as it is lost and the policy says so.
pub(super) async fn recover(
    policy: &Policy,
    mut opened: Option<&mut Opened>,
    clock: &Clock,
) -> Recovered {
    let lost = opened.as_ref().is_none_or(|opened| opened.snapshot.is_none());
    let backup = policy.backup.as_ref().filter(|backup| backup.recover && lost);
    let redis = policy.redis.as_ref().filter(|redis| redis.recover);
    let searching = async {
        let backup = backup?;
        search(backup, Instant::now() + backup.recover_timeout, *clock).await
    };
    let asking = async { ask(redis?, &policy.sidecar.name, lost).await };
    let (found, copy) = tokio::join!(Box::pin(searching), Box::pin(asking));
    let mut recovered = Recovered::default();
    let mut history = Vec::new();
    let mut held = None;
    if let (Some(copy), Some(redis)) = (copy, redis) {
        recovered.floor = floor(&copy.held, opened.as_deref(), redis);
        set_aside(&copy.held, opened.as_deref(), redis, clock);
        (history, held) = (copy.history, copy.held.backup);
    }
    if !lost {
        return recovered;
    }
    if let (Some(opened), Some(floor)) = (opened.as_deref_mut(), recovered.floor) {
        opened.revision_floor = opened.revision_floor.max(floor);
    }
    let age = |backup: &Backup| (backup.revision(), backup.at_ms());
    let (backup, name) = match (found, held) {
        (Some(found), Some(held)) if age(&found.backup) < age(&held) => (held, None),
        (Some(Found { name, backup }), _) => (backup, Some(name.to_string())),
        (None, Some(held)) => (held, None),
        (None, None) => {
            merge(opened, &history, clock);
            return recovered;
        }
    };
    recovered.saved = take_up(&backup, policy, (opened.as_deref_mut(), recovered.floor), clock);
    merge(opened, &history, clock);
    let made = rfc3339(backup.at_ms());
    let (records, from, revision) = (backup.records(), backup.sidecar(), backup.revision());
    if let Some(name) = name {
        tracing::warn!(
            %name, made, from, records, %revision,
            "the state is lost: starting from a backup of it"
        );
        recovered.backup = Some(name);
    } else {
        let url = redis.map(ToString::to_string).unwrap_or_default();
        let records = history.split(|byte| *byte == b'\n').count().saturating_sub(1);
        tracing::warn!(
            url, made, from, records, %revision,
            "the state is lost: starting from the copy of it in Redis"
        );
        recovered.redis = Some(format!("revision {revision} of {made}"));
    }
    recovered
}

/// The snapshot to begin with, written down too where it can be.
fn take_up(
    backup: &Backup,
    policy: &Policy,
    (opened, floor): (Option<&mut Opened>, Option<u64>),
    clock: &Clock,
) -> Option<Saved> {
    let mut snapshot = backup.snapshot(&policy.rules);
    let known = opened.as_ref().map_or(0, |opened| opened.revision_floor);
    let revision = plan(None, known.max(floor.unwrap_or(0)), backup).revision;
    snapshot.revision = Revision::new(revision);
    let json = serde_json::to_vec(&snapshot).ok()?;
    if let Some(opened) = opened
        && let Err(error) = restore(opened, backup, snapshot, clock.wall_ms())
    {
        tracing::error!(%error, "the state found is used, but could not be written down");
    }
    Some(Saved { json, revision, saved_at_ms: backup.at_ms() })
}

fn merge(opened: Option<&mut Opened>, history: &[u8], clock: &Clock) {
    let Some(opened) = opened.filter(|_| !history.is_empty()) else { return };
    if let Err(error) = opened.store.merge_history(history, clock.wall_ms()) {
        tracing::error!(%error, "the history in Redis could not be written down");
    }
}

/// What Redis tells of revisions, if that is more than is known here.
fn floor(held: &Held, opened: Option<&Opened>, redis: &model::Redis) -> Option<u64> {
    let theirs = held.revision?;
    let saved = opened.and_then(|opened| opened.snapshot.as_ref());
    let known = opened.map(|opened| opened.revision_floor);
    // The floor may be ahead of what was given out: only the snapshot tells what was.
    let ours = saved.map(|saved| saved.revision);
    if ours.is_some_and(|ours| theirs <= ours) {
        return None;
    }
    if let Some(ours) = ours {
        tracing::warn!(
            url = %redis, ours, theirs,
            help = "was an old state directory put back, or is there another sidecar of this name?",
            "Redis knows a later revision than the state directory: going on above it, with the \
             state of the directory"
        );
    }
    Some(theirs.saturating_add(RESERVE).max(known.unwrap_or(0)))
}

/// Keeps what makes no sense for a person who may want it.
fn set_aside(held: &Held, opened: Option<&Opened>, redis: &model::Redis, clock: &Clock) {
    let Some((bytes, why)) = &held.broken else { return };
    let kept = opened.map(|opened| opened.store.lay_aside("redis", bytes, clock.wall_ms()));
    let kept = kept.and_then(Result::ok).map(|path| path.display().to_string());
    tracing::error!(
        url = %redis,
        kept = kept.unwrap_or_default(),
        "the copy of the state in Redis is not used: it {why}"
    );
}

/// What Redis holds, if it can be had in time; otherwise says why not. One attempt where nothing is
/// lost: then it is only about the revision.
async fn ask(redis: &model::Redis, sidecar: &str, lost: bool) -> Option<Copy> {
    let keys = Keys::new(redis, sidecar);
    let mut failure: Option<RedisError> = None;
    let asking = async {
        loop {
            match Box::pin(read(redis, &keys, lost)).await {
                Ok(copy) => return Some(copy),
                Err(error) => failure = Some(error),
            }
            if !lost {
                return None;
            }
            sleep(AGAIN).await;
        }
    };
    let patience = if lost { REDIS_PATIENCE } else { redis.timeout.min(REDIS_PATIENCE) };
    let copy = timeout(patience, Box::pin(asking)).await.ok().flatten();
    match (&copy, lost) {
        (None, true) => {
            let why =
                failure.map_or_else(|| format!("use {redis}: no end in time"), |e| e.to_string());
            tracing::error!("the state is lost, and Redis cannot be asked for it: failed to {why}");
        }
        (None, false) => tracing::debug!("Redis is not asked for its revision"),
        (Some(copy), true) if copy.held.revision.is_none() && copy.held.broken.is_none() => {
            tracing::warn!(url = %redis, "no state, and none in Redis");
        }
        (Some(_), _) => {}
    }
    copy
}

async fn read(redis: &model::Redis, keys: &Keys, lost: bool) -> Result<Copy, RedisError> {
    let mut client = Client::connect(redis).await?;
    let held = Held::read(&mut client, keys).await?;
    if !lost {
        return Ok(Copy { held, history: Vec::new() });
    }
    let history = match Box::pin(Held::history(&mut client, keys)).await {
        Ok(history) => history,
        Err(error) => {
            tracing::error!("the history in Redis cannot be had: failed to {error}");
            Vec::new()
        }
    };
    Ok(Copy { held, history })
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

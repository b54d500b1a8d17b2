//! What the sidecar starts from: the policy, or the last good one, and the state of the last run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::core::engine::Restored;
use crate::core::id::Revision;
use crate::core::snapshot::Snapshot;
use crate::daemon::clock::Clock;
use crate::daemon::recover::{Recovered, recover};
use crate::daemon::reload::{Invalid, Proven, Source, prove};
use crate::daemon::{RunError, RunOptions};
use crate::policy::model::{Output, Policy};
use crate::store::{Opened, Saved, Store, StoreError};
use crate::telemetry::metric::{self, Reload};
use crate::watch::{ReadError, Seen, SystemLookup, read_once};

/// Everything that is known before the first step.
pub(super) struct Begun {
    pub(super) policy: Arc<Policy>,
    pub(super) source: Source,
    pub(super) restored: Option<Restored>,
    /// `None` when the state directory cannot be used: the sidecar runs all the same.
    pub(super) store: Option<Store>,
    /// The snapshot of the run before, where no store has it.
    pub(super) latest: Option<Saved>,
    /// The backup that it comes from, if it had to.
    pub(super) from_backup: Option<String>,
    /// What of Redis it comes from, if it had to.
    pub(super) from_redis: Option<String>,
    pub(super) secrets: Seen,
}

/// What is wrong with the policy file.
enum Wrong {
    Unreadable(ReadError),
    Invalid(Arc<str>, Box<Invalid>),
}

/// Reads policy and state.
pub(super) async fn begin(options: &RunOptions, clock: &Clock) -> Result<Begun, RunError> {
    let path = options.policy_path.clone();
    let began = clock.now();
    let read = read_once(&path).map_err(Wrong::Unreadable).and_then(|loaded| {
        prove(&path, &loaded.text).map_err(|invalid| Wrong::Invalid(loaded.text, invalid))
    });
    let (proven, mut opened, complaint) = match read {
        Ok(proven) => {
            let dir = options.state_dir.as_ref().unwrap_or(&proven.policy.sidecar.state_dir);
            let opened = open(dir, clock)?;
            (proven, opened, Vec::new())
        }
        Err(wrong) if options.strict => return Err(fatal(&path, wrong)),
        Err(wrong) => fall_back(options, clock, wrong)?,
    };
    let Proven { policy, text, secrets } = proven;
    let now = clock.now();
    let mut source = Source::new(path, Arc::clone(&text), policy.digest, now);
    let result = if complaint.is_empty() { Reload::Applied } else { Reload::Invalid };
    let wall = Duration::from_millis(clock.wall_ms()).as_secs_f64();
    metric::reloaded(result, now - began, wall);
    if complaint.is_empty() {
        keep(opened.as_mut(), &text, &policy, clock);
    } else {
        source.complain(complaint);
    }
    let recovered = Box::pin(recover(&policy, opened.as_mut(), clock)).await;
    let Recovered { backup: from_backup, redis: from_redis, saved, floor } = recovered;
    let floor = opened.as_ref().map(|opened| opened.revision_floor).max(floor);
    let (store, stored) = opened.map(|opened| (opened.store, opened.snapshot)).unzip();
    let latest = stored.flatten().or(saved);
    let restored = restore(floor, latest.as_ref(), &policy, clock);
    let latest = latest.filter(|_| store.is_none());
    let policy = Arc::new(policy);
    Ok(Begun { policy, source, restored, store, latest, from_backup, from_redis, secrets })
}

fn keep(opened: Option<&mut Opened>, text: &Arc<str>, policy: &Policy, clock: &Clock) {
    let Some(opened) = opened else { return };
    if let Err(error) = opened.store.save_policy(text, &policy.digest.0, clock.wall_ms()) {
        tracing::error!(%error, "failed to keep the policy for a start with a broken one");
    }
}

fn fatal(path: &Path, wrong: Wrong) -> RunError {
    match wrong {
        Wrong::Unreadable(error) => RunError::PolicyUnreadable(error),
        Wrong::Invalid(_, invalid) => RunError::PolicyInvalid {
            path: path.to_owned(),
            text: invalid.text,
            json: invalid.json,
        },
    }
}

type FellBack = (Proven, Option<Opened>, Vec<String>);

/// Starts from the last good policy, loudly; without one the file's own fault is the answer.
fn fall_back(options: &RunOptions, clock: &Clock, wrong: Wrong) -> Result<FellBack, RunError> {
    let path = &options.policy_path;
    let text = match &wrong {
        Wrong::Invalid(text, _) => Some(Arc::clone(text)),
        Wrong::Unreadable(_) => None,
    };
    let dir = options.state_dir.clone().unwrap_or_else(|| {
        crate::policy::state_dir_hint(text.as_deref().unwrap_or_default(), &SystemLookup::new())
    });
    // A start that must fail anyway leaves nothing behind.
    let opened = if dir.exists() { open(&dir, clock)? } else { None };
    let last_good = opened.as_ref().and_then(|opened| opened.store.last_good_policy());
    let proven = last_good.and_then(|kept| prove(path, &Arc::from(kept.text)).ok());
    let Some(proven) = proven else { return Err(fatal(path, wrong)) };
    let complaint = match wrong {
        Wrong::Unreadable(error) => {
            tracing::error!("running on the last good policy: {}", error.explain());
            vec![error.explain()]
        }
        Wrong::Invalid(_, invalid) => {
            tracing::error!(
                "running on the last good policy: this one is invalid\n{}",
                invalid.text
            );
            invalid.lines
        }
    };
    Ok((proven, opened, complaint))
}

fn open(dir: &Path, clock: &Clock) -> Result<Option<Opened>, RunError> {
    match Store::open(dir, clock.wall_ms()) {
        Ok(opened) => {
            for aside in &opened.warnings {
                tracing::error!(file = %aside.path.display(), "state set aside: {}", aside.why);
            }
            Ok(Some(opened))
        }
        Err(source @ StoreError::Locked { .. }) => {
            Err(RunError::State { dir: dir.to_owned(), source })
        }
        Err(error) => {
            tracing::error!(
                dir = %dir.display(), %error,
                help = "set sidecar.state_dir to a folder that this user may write",
                "running without memory: a restart will forget pins, breakers and history"
            );
            metric::store_written(false, Duration::ZERO);
            Ok(None)
        }
    }
}

/// The state of the last run, with a revision that no file in the world goes beyond.
fn restore(
    floor: Option<u64>,
    stored: Option<&Saved>,
    policy: &Policy,
    clock: &Clock,
) -> Option<Restored> {
    let written = policy.outputs.iter().filter_map(written_revision).max();
    let floor = floor.map(Revision::new).max(written);
    let read = stored.and_then(|saved| {
        let snapshot = serde_json::from_slice::<Snapshot>(&saved.json).map_err(|error| {
            tracing::error!(%error, "the state of the last run makes no sense; starting afresh");
        });
        Some((snapshot.ok()?, clock.wall_ms().saturating_sub(saved.saved_at_ms)))
    });
    let (mut snapshot, elapsed_ms) = read.unwrap_or_else(|| (Snapshot::empty(), 0));
    snapshot.revision = snapshot.revision.max(floor.unwrap_or_default());
    (snapshot.revision > Revision::default())
        .then(|| Restored { snapshot, elapsed: Duration::from_millis(elapsed_ms) })
}

/// The revision that an output's file carries.
fn written_revision(output: &Output) -> Option<Revision> {
    match output {
        Output::File(file) => {
            let bytes = std::fs::read(&file.path).ok()?;
            crate::output::verify(&bytes).ok().map(|verified| verified.revision)
        }
        Output::Socket(_) | Output::Proxy(_) => None,
    }
}

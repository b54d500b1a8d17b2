//! Keeps one output up to date for as long as the sidecar runs.
//!
//! Owns the order of things: write, then hooks; try again when one fails; look every now and then
//! whether somebody changed the file. The latest configuration wins, and older ones are forgotten.
//! A hook that is due when the sidecar is killed is due at its next start.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::core::id::Revision;
use crate::output::content::Change;
use crate::output::due;
use crate::output::hook::{self, Committed, Worked};
use crate::output::place::Stamp;
use crate::output::publish::{self, Published};
use crate::output::witness;
use crate::output::{ActiveConfig, Board, OutputError, OutputReport, ReportKind};
use crate::policy::model::File;

/// How often the file is compared with what was left there.
const LOOK: Duration = Duration::from_secs(2);
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// Runs one output until cancelled, hooks and all.
///
/// The latest configuration is written at once; one that cannot be written is tried again until
/// it can or a newer one takes its place. A write under way when `cancel` comes is finished first.
pub(super) async fn run(file: File, board: Board, cancel: CancellationToken) {
    let Board { configs, reports, feedback, .. } = board;
    let file = Arc::new(file);
    let reporter = Reporter { output: Arc::from(file.name.as_str()), reports };
    let (committed, _) = watch::channel(None);
    let ended = cancel.child_token();
    let mut hooks = JoinSet::new();
    let (worked, _) = watch::channel(vec![0; file.on_change.len()]);
    for (number, hook) in file.on_change.iter().enumerate() {
        let following = committed.subscribe();
        let worked = Worked { hook: number, changes: worked.clone() };
        let (hook, reporter, ended) = (hook.clone(), reporter.clone(), ended.clone());
        hooks.spawn(hook::follow(hook, following, worked, reporter, ended));
    }
    if let Some(reader) = file.reader.clone() {
        let (following, ended) = (committed.subscribe(), ended.clone());
        hooks.spawn(witness::follow(reader, following, feedback, ended));
    }
    let mut worker = Worker {
        file,
        committed,
        worked,
        reporter,
        warned: BTreeSet::new(),
        written: None,
        failures: Retry::default(),
        in_doubt: false,
    };
    worker.run(configs, &cancel).await;
    ended.cancel();
    while hooks.join_next().await.is_some() {}
    worker.clear_due().await;
}

/// Says what became of one output.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    output: Arc<str>,
    reports: mpsc::Sender<OutputReport>,
}

impl Reporter {
    pub(super) fn new(output: &str, reports: mpsc::Sender<OutputReport>) -> Self {
        Self { output: Arc::from(output), reports }
    }

    pub(super) async fn say(&self, revision: Revision, kind: ReportKind) {
        let report = OutputReport { output: Arc::clone(&self.output), revision, kind };
        if self.reports.send(report).await.is_err() {
            tracing::debug!(output = &*self.output, "nobody listens to reports any more");
        }
    }

    pub(super) fn output(&self) -> &str {
        &self.output
    }
}

/// How long to wait before trying again.
#[derive(Debug, Default)]
pub(super) struct Retry {
    last: Option<Duration>,
}

impl Retry {
    /// The next wait: twice the last one, up to the longest.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.last.map_or(RETRY_FIRST, |last| (last * 2).min(RETRY_LONGEST));
        self.last = Some(wait);
        wait
    }
}

/// What the file was left as.
#[derive(Clone, Debug)]
struct Left {
    config: Arc<ActiveConfig>,
    stamp: Option<Stamp>,
}

struct Worker {
    file: Arc<File>,
    committed: watch::Sender<Option<Committed>>,
    worked: watch::Sender<Vec<u64>>,
    reporter: Reporter,
    warned: BTreeSet<&'static str>,
    written: Option<Left>,
    failures: Retry,
    /// Whether an attempt failed since, or a sidecar was killed: nobody knows how far it came.
    in_doubt: bool,
}

impl Worker {
    async fn run(
        &mut self,
        mut configs: watch::Receiver<Option<Arc<ActiveConfig>>>,
        cancel: &CancellationToken,
    ) {
        self.sweep().await;
        self.in_doubt = self.was_due().await;
        let mut worked = self.worked.subscribe();
        loop {
            let config = configs.borrow_and_update().clone();
            let wait = match config {
                Some(config) => self.tend(&config, &configs).await,
                None => LOOK,
            };
            let until = Instant::now() + wait;
            loop {
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => return,
                    changed = configs.changed() => match changed {
                        Ok(()) => self.failures = Retry::default(),
                        Err(_) => return,
                    },
                    Ok(()) = worked.changed() => {
                        self.clear_due().await;
                        continue;
                    }
                    () = tokio::time::sleep_until(until) => {}
                }
                break;
            }
        }
    }

    async fn sweep(&mut self) {
        let path = self.file.path.clone();
        // What cannot be swept is no reason not to write; writing says what is wrong.
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || publish::sweep(&path)).await {
            tracing::debug!(output = self.reporter.output(), %error, "no sweep");
        }
    }

    /// Whether a hook had not worked yet when the sidecar last ended.
    async fn was_due(&self) -> bool {
        let (path, hooks) = (self.file.path.clone(), !self.file.on_change.is_empty());
        let look = move || {
            if hooks { due::is_marked(&path) } else { due::clear(&path).map(|()| false) }
        };
        // Where that cannot be told, a hook too many is better.
        tokio::task::spawn_blocking(look).await.ok().and_then(Result::ok).unwrap_or(hooks)
    }

    /// No hook is due once each has worked for the latest change, and no other is begun.
    async fn clear_due(&self) {
        let latest = self.committed.borrow().as_ref().map_or(0, |committed| committed.changes);
        if self.in_doubt || self.worked.borrow().iter().any(|&worked| worked < latest) {
            return;
        }
        let path = self.file.path.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || due::clear(&path)).await {
            tracing::debug!(output = self.reporter.output(), %error, "marker left");
        }
    }

    /// Brings the file up to date if it may not be, and says when to look again.
    async fn tend(
        &mut self,
        config: &Arc<ActiveConfig>,
        newer: &watch::Receiver<Option<Arc<ActiveConfig>>>,
    ) -> Duration {
        let since = Instant::now();
        let known = self.written.as_ref().filter(|left| left.config == *config);
        let known_stamp = known.and_then(|left| left.stamp);
        let known = known.is_some();
        if known_stamp.is_some() && self.stamp().await == known_stamp {
            return LOOK;
        }
        match self.publish(config, newer).await {
            Ok((published, stamp)) => {
                self.written = Some(Left { config: Arc::clone(config), stamp });
                self.settled(config, published, known, since.elapsed()).await;
                LOOK
            }
            // It is there already, and is taken up at once.
            Err(OutputError::Superseded { .. }) => Duration::ZERO,
            Err(error) => {
                self.in_doubt |= error.leaves_doubt();
                let error = Arc::from(error.explain());
                self.reporter.say(config.revision, ReportKind::Failed { error }).await;
                self.failures.next()
            }
        }
    }

    async fn stamp(&self) -> Option<Stamp> {
        let path = self.file.path.clone();
        tokio::task::spawn_blocking(move || Stamp::at(&path)).await.ok().flatten()
    }

    async fn publish(
        &self,
        config: &Arc<ActiveConfig>,
        newer: &watch::Receiver<Option<Arc<ActiveConfig>>>,
    ) -> Result<(Published, Option<Stamp>), OutputError> {
        let (file, config) = (Arc::clone(&self.file), Arc::clone(config));
        let newer = Some(newer.clone());
        tokio::task::spawn_blocking(move || publish::publish_and_stamp(&file, &config, &newer))
            .await
            .unwrap_or_else(|_| Err(OutputError::Aborted { path: self.file.path.clone() }))
    }

    /// Hooks hear of the change before anybody else does.
    async fn settled(
        &mut self,
        config: &Arc<ActiveConfig>,
        published: Published,
        known: bool,
        took: Duration,
    ) {
        let change = published.change;
        self.failures = Retry::default();
        // An attempt may have failed with the file already replaced: a hook too many is better.
        let in_doubt = std::mem::take(&mut self.in_doubt);
        let changed = in_doubt || change == Change::Content;
        self.committed.send_modify(|committed| {
            let changes = committed.as_ref().map_or(0, |committed| committed.changes);
            *committed = Some(Committed {
                changes: changes + u64::from(changed),
                config: Arc::clone(config),
                file: Arc::clone(&self.file),
            });
        });
        if !known {
            self.reporter.say(config.revision, ReportKind::Wrote { changed, took }).await;
        } else if self.is_drift(change) {
            self.reporter.say(config.revision, ReportKind::DriftRepaired).await;
        }
        self.warn(config.revision, published).await;
    }

    /// Between lines of others, what others write is no drift.
    fn is_drift(&self, change: Change) -> bool {
        match change {
            Change::None => false,
            Change::Text => self.file.is_ours(),
            Change::Access | Change::Content => true,
        }
    }

    async fn warn(&mut self, revision: Revision, published: Published) {
        let in_place = "the file is a mount point and is overwritten in place, which a crash can \
                        tear; mount its directory instead";
        let owner = "the file's former owner could not be kept; set owner and group in the policy";
        let due = "no note can be left beside the file that its hooks are due: one that has not run \
                   when the sidecar is killed is lost; let the sidecar's user write the directory";
        let warnings = [
            (published.in_place, in_place),
            (!published.owner_kept, owner),
            (!published.due_kept, due),
        ];
        for (_, text) in warnings.into_iter().filter(|(applies, _)| *applies) {
            if self.warned.insert(text) {
                self.reporter.say(revision, ReportKind::Warning(Arc::from(text))).await;
            }
        }
    }
}

//! Tells a server that its file changed.
//!
//! Owns when a hook runs: at once after a change that follows a quiet time, once for all changes
//! that come within its debounce, and again, at growing intervals, until it works. A hook under
//! way is not broken off by a newer change; it has its own timeout and runs again afterwards.

pub(super) mod command;
mod redact;
pub(super) mod signal;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::output::hook::command::Told;
use crate::output::worker::{Reporter, Retry};
use crate::output::{ActiveConfig, ReportKind};
use crate::policy::model::{File, Hook, HookRun};

/// A file that is durably on disk.
#[derive(Clone, Debug)]
pub(super) struct Committed {
    /// How many times it has changed, its revision apart.
    pub(super) changes: u64,
    /// What it holds.
    pub(super) config: Arc<ActiveConfig>,
    /// Which file.
    pub(super) file: Arc<File>,
}

/// Says up to which change a hook has worked.
#[derive(Debug)]
pub(super) struct Worked {
    /// Which of the file's hooks.
    pub(super) hook: usize,
    /// The number of the latest change that each has worked for.
    pub(super) changes: watch::Sender<Vec<u64>>,
}

impl Worked {
    fn up_to(&self, changes: u64) {
        self.changes.send_modify(|worked| {
            if let Some(worked) = worked.get_mut(self.hook) {
                *worked = changes;
            }
        });
    }
}

/// Why a hook did not do its work.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookError {
    #[error("signal a process: {0} is no signal that can be sent by number")]
    Signal(i32),
    #[error("read the pid file {path}: {source}")]
    PidFile { path: String, source: std::io::Error },
    #[error("find a process number above 1 in the pid file {path}")]
    NoPid { path: String },
    #[error("signal process {pid}: it is the sidecar itself")]
    Ourselves { pid: i32 },
    #[error(
        "signal process {pid}: there is none; help: a sidecar in a container of its own needs the server's pid namespace"
    )]
    Gone { pid: i32 },
    #[error("signal process {pid}: {source}")]
    Kill { pid: i32, source: std::io::Error },
    #[error("find a process named {name}")]
    NoProcess { name: String },
    #[error("run {program}: {source}")]
    Spawn { program: String, source: std::io::Error },
    #[error("run {program}: {status}{output}")]
    Exit { program: String, status: std::process::ExitStatus, output: String },
    #[error("run {program}: not done within {limit:?}; it and what it started were killed")]
    Timeout { program: String, limit: Duration },
    #[error("finish: the hook broke off")]
    Aborted,
}

/// Runs one hook after every change, until cancelled.
///
/// A change that is already on disk when `cancel` comes is still told of, but only once.
pub(super) async fn follow(
    hook: Hook,
    mut committed: watch::Receiver<Option<Committed>>,
    worked: Worked,
    reporter: Reporter,
    cancel: CancellationToken,
) {
    let label: Arc<str> = Arc::from(label(&hook.run));
    let mut done = 0;
    let mut retry = Retry::default();
    while let Some(due) = newer(&mut committed, done, &cancel).await {
        let since = Instant::now();
        let result = Box::pin(run(&hook, &due)).await;
        let took = since.elapsed();
        let failed = result.is_err();
        let name = Arc::clone(&label);
        let kind = match result {
            Ok(()) => ReportKind::HookRan { hook: name, took },
            Err(error) => {
                ReportKind::HookFailed { hook: name, error: Arc::from(error.to_string()) }
            }
        };
        reporter.say(due.config.revision, kind).await;
        if failed {
            let newer = newer(&mut committed, due.changes, &cancel);
            if let Ok(Some(_)) = tokio::time::timeout(retry.next(), newer).await {
                retry = Retry::default();
            }
            if cancel.is_cancelled() {
                return;
            }
        } else {
            done = due.changes;
            worked.up_to(done);
            retry = Retry::default();
        }
        cancel.run_until_cancelled(tokio::time::sleep_until(since + hook.debounce)).await;
    }
}

/// Waits for a change after `done`; `None` when there will be none.
async fn newer(
    committed: &mut watch::Receiver<Option<Committed>>,
    done: u64,
    cancel: &CancellationToken,
) -> Option<Committed> {
    let newer = async {
        let changes = |now: &Option<Committed>| now.as_ref().map_or(0, |now| now.changes);
        committed.wait_for(|now| changes(now) > done).await.ok()?.clone()
    };
    tokio::select! {
        biased;
        newer = newer => newer,
        () = cancel.cancelled() => None,
    }
}

async fn run(hook: &Hook, committed: &Committed) -> Result<(), HookError> {
    match &hook.run {
        HookRun::Command { argv } => {
            let told = Told { config: &committed.config, file: &committed.file };
            command::run(argv, hook.timeout, told).await
        }
        HookRun::SignalPidFile { signal, pid_file } => {
            let (signal, pid_file) = (*signal, pid_file.clone());
            off_the_loop(move || signal::to_pid_file(signal, &pid_file)).await
        }
        HookRun::SignalProcess { signal, process } => {
            let (signal, process) = (*signal, process.clone());
            off_the_loop(move || signal::to_named(signal, &process)).await
        }
    }
}

async fn off_the_loop(
    work: impl FnOnce() -> Result<(), HookError> + Send + 'static,
) -> Result<(), HookError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(HookError::Aborted))
}

/// The hook's name in reports; arguments of a command may hold secrets and are left out.
fn label(run: &HookRun) -> String {
    match run {
        HookRun::SignalPidFile { signal, pid_file } => {
            format!("{} to the process of {}", signal::name(*signal), pid_file.display())
        }
        HookRun::SignalProcess { signal, process } => {
            format!("{} to {process}", signal::name(*signal))
        }
        HookRun::Command { argv } => {
            format!("command {}", argv.first().map_or("", String::as_str))
        }
    }
}

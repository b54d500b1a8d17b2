//! The env file as its readers see it: formats, crashes, faults, drift and hooks.

mod crash;
mod drift;
mod due;
mod faults;
mod formats;
mod hooks;
mod merge;
mod readers;
mod replace;
mod socket;
mod template;

use std::path::Path;
use std::process::{Command, Output as Finished};
use std::sync::Arc;
use std::time::Duration;

use mcp_failover::core::id::{EndpointName, Revision, ServiceName};
use mcp_failover::output::{
    ActiveConfig, ActiveService, Board, Doors, OutputReport, ReportKind, run,
};
use mcp_failover::policy::model::{Content, Env, File, Output};
use mcp_failover::policy::secret::Secret;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::common;

/// Long enough for the slowest machine; only a broken promise waits for it.
const DEADLINE: Duration = Duration::from_secs(60);

fn env_file(path: &Path) -> File {
    File {
        name: "test".to_owned(),
        path: path.to_owned(),
        content: Content::Env(Env::default()),
        permissions: 0o600,
        owner: (None, None),
        services: Vec::new(),
        check: None,
        on_change: Vec::new(),
        reader: None,
        uptake: None,
    }
}

/// One service whose host and key tell which endpoint they belong to.
fn config(revision: u64, endpoint: &str) -> ActiveConfig {
    let host = format!("https://{endpoint}.example.com");
    let key = format!("key-of-{endpoint}");
    config_of(revision, endpoint, &[("INDEX_HOST", &host), ("INDEX_KEY", &key)])
}

fn config_of(revision: u64, endpoint: &str, env: &[(&str, &str)]) -> ActiveConfig {
    let secret = |(name, value): &(&str, &str)| ((*name).to_owned(), Secret::from(*value));
    let service = ActiveService {
        endpoint: Some(EndpointName::new(endpoint)),
        url: Some(format!("https://{endpoint}.example.com")),
        env: env.iter().map(secret).collect(),
        moved: None,
    };
    let services = [(ServiceName::new("index"), service)].into();
    ActiveConfig { revision: Revision::new(revision), services }
}

/// What an output is given that nobody asks for calls.
fn board(
    configs: watch::Receiver<Option<Arc<ActiveConfig>>>,
    reports: mpsc::Sender<OutputReport>,
) -> Board {
    let (_, offers) = watch::channel(Arc::default());
    let (feedback, _) = mpsc::channel(1);
    Board {
        configs,
        offers,
        reports,
        feedback,
        generation: Arc::from("test"),
        doors: Doors::default(),
    }
}

/// An output that runs as it does in the sidecar.
struct Running {
    configs: watch::Sender<Option<Arc<ActiveConfig>>>,
    reports: mpsc::Receiver<OutputReport>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(file: &File) -> Self {
        let (configs, following) = watch::channel(None);
        let (sender, reports) = mpsc::channel(64);
        let cancel = CancellationToken::new();
        let output = Output::File(file.clone());
        let task = tokio::spawn(run(output, board(following, sender), cancel.clone()));
        Self { configs, reports, cancel, task }
    }

    fn publish(&self, config: ActiveConfig) {
        self.configs.send_replace(Some(Arc::new(config)));
    }

    async fn next(&mut self) -> OutputReport {
        let next = tokio::time::timeout(DEADLINE, self.reports.recv()).await;
        next.expect("nothing was reported in time").expect("the output has ended")
    }

    /// Skips reports until one fits.
    async fn until(&mut self, fits: impl Fn(&ReportKind) -> bool) -> OutputReport {
        loop {
            let report = self.next().await;
            if fits(&report.kind) {
                return report;
            }
        }
    }

    async fn written(&mut self, revision: u64) -> bool {
        loop {
            let report = self.until(|kind| matches!(kind, ReportKind::Wrote { .. })).await;
            if let (true, ReportKind::Wrote { changed, .. }) =
                (report.revision == Revision::new(revision), report.kind)
            {
                return changed;
            }
        }
    }

    /// Publishes and waits until it is on disk; whether a variable changed.
    async fn switch(&mut self, config: ActiveConfig) -> bool {
        let revision = config.revision.get();
        self.publish(config);
        self.written(revision).await
    }

    async fn failed(&mut self) -> String {
        loop {
            if let ReportKind::Failed { error } = self.next().await.kind {
                return error.to_string();
            }
        }
    }

    async fn stop(mut self) -> Vec<OutputReport> {
        self.cancel.cancel();
        let mut rest = Vec::new();
        while let Some(report) = self.reports.recv().await {
            rest.push(report);
        }
        self.task.await.unwrap();
        rest
    }
}

/// Whether this process is a test started again by itself, to be killed or to be failed.
fn inner() -> bool {
    std::env::var_os("MCPF_INNER_DIR").is_some()
}

fn inner_dir() -> std::path::PathBuf {
    std::env::var_os("MCPF_INNER_DIR").unwrap().into()
}

/// Runs one test of this binary again, in `dir` and under `wrapper`.
fn again(wrapper: &[&str], test: &str, dir: &Path) -> Finished {
    common::again::command(test, wrapper).env("MCPF_INNER_DIR", dir).output().unwrap()
}

#[track_caller]
fn assert_passed(finished: &Finished) {
    let (out, err) = (&finished.stdout, &finished.stderr);
    let text = [String::from_utf8_lossy(out), String::from_utf8_lossy(err)].join("\n");
    assert!(finished.status.success() && text.contains("1 passed"), "{text}");
}

fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether mounts can be made that only this test sees; says why not.
fn may_mount() -> bool {
    let may = is_root()
        && Command::new("unshare")
            .args(["-m", "true"])
            .output()
            .is_ok_and(|finished| finished.status.success());
    if !may {
        common::skip("mounting needs root and unshare");
    }
    may
}

/// Files that a writer left and nobody asked for.
fn leftovers(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).filter(|name| name.starts_with('.')).collect()
}

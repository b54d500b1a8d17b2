//! The watcher against real files: each way that files are changed in the field, one test.

mod files;
mod links;
mod mounts;
mod read;
mod secrets;
mod storm;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mcp_failover::watch::{SourceEvent, WatchMode, Watcher, spawn};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// How long a change may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than the time between two looks: what has not happened by then does not happen.
const SILENCE: Duration = Duration::from_millis(2_600);

/// A watcher at work, and all it told.
struct Watched {
    watcher: Watcher,
    events: mpsc::Receiver<SourceEvent>,
    told: Vec<SourceEvent>,
    cancel: CancellationToken,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Watched {
    /// Watches a file that holds `text` now.
    async fn holding(path: &Path, text: &str) -> Self {
        let mut watched = Self::start(path);
        watched.expect_text(text).await;
        watched
    }

    fn start(path: &Path) -> Self {
        let (sender, events) = mpsc::channel(8);
        let cancel = CancellationToken::new();
        let watcher = spawn(path.to_owned(), sender, cancel.clone());
        Self { watcher, events, told: Vec::new(), cancel }
    }

    /// Waits for an event.
    async fn expect(&mut self, what: &str, wanted: impl Fn(&SourceEvent) -> bool) -> SourceEvent {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(Some(event)) = timeout(left, self.events.recv()).await else {
                panic!("no {what}, only {:?}", self.told);
            };
            self.told.push(event.clone());
            if wanted(&event) {
                return event;
            }
        }
    }

    async fn expect_text(&mut self, wanted: &str) -> SourceEvent {
        self.expect(wanted, |event| text_of(event) == Some(wanted)).await
    }

    /// Everything told until no more can come.
    async fn rest(&mut self) -> Vec<SourceEvent> {
        let mut rest = Vec::new();
        while let Ok(Some(event)) = timeout(SILENCE, self.events.recv()).await {
            rest.push(event);
        }
        rest
    }
}

fn text_of(event: &SourceEvent) -> Option<&str> {
    match event {
        SourceEvent::Changed { text, .. } => Some(text),
        _ => None,
    }
}

fn is_mode(wanted: WatchMode) -> impl Fn(&SourceEvent) -> bool {
    move |event| matches!(event, SourceEvent::Mode(mode, _) if *mode == wanted)
}

fn put(path: &Path, text: &str) {
    fs::write(path, text).expect("a file written");
}

/// As editors and deployment tools do: beside its place, then renamed over it.
fn replace(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    put(&draft, text);
    fs::rename(&draft, path).expect("a file renamed");
}

/// A folder with a policy file that holds `one`.
fn folder() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("failover.toml");
    put(&path, "one");
    (dir, path)
}

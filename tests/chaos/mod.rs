//! Drills, played for real: the scenarios pass on a good sidecar, and fail when they must.

mod interrupt;
mod policies;
mod reports;
mod sabotage;
mod scenarios;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// What the machine is allowed here, where it does many things at once.
const ALLOWANCE: &str = "4s";
/// The same for drills that are to fail: what is late needs no more patience.
const ALLOWED: Duration = Duration::from_millis(500);

/// A place for the temporary files of drills.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `chaos` with arguments, ready to be started; its labs lie below this place.
    fn command(&self, args: &[&str]) -> Command {
        let labs = self.path("labs");
        std::fs::create_dir_all(&labs).expect("a directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-failover"));
        command.arg("chaos").args(args).env("TMPDIR", labs).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the binary starts")
    }

    /// What drills have left: there must be nothing.
    fn left(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path("labs")).expect("a directory");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }
}

/// The processes whose command line speaks of a path.
fn processes_of(path: &Path) -> Vec<String> {
    let wanted = path.to_string_lossy().into_owned();
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let lines = entries.filter_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(&wanted)).collect()
}

/// Looks again and again until there is an answer.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let since = tokio::time::Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "never came: {what}");
        std::thread::sleep(Duration::from_millis(10)); // poll
    }
}

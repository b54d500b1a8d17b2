//! Watches for the start of the process that reads a file when it starts: one that started after
//! the file was changed has what stands in it.
//!
//! Both times are measured back from one moment: the file's by the time of day of its inode, the
//! process's by the clock that its kernel stamps processes with. A process that started within the
//! kernel's tick before the change is taken for an older one, unless it was not there yet when the
//! change was first looked at: a server may well be back within the hundredth of a second.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::core::id::Revision;
use crate::output::board::{Effect, Feedback, Proof};
use crate::output::hook::{Committed, signal};
use crate::policy::model::Reader;

/// How often it is looked, and how often when nothing has happened for long.
const LOOK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// Proves each change of a file, for as long as the output runs.
pub(super) async fn follow(
    reader: Reader,
    mut committed: watch::Receiver<Option<Committed>>,
    feedback: mpsc::Sender<Feedback>,
    ended: CancellationToken,
) {
    let reader = Arc::new(reader);
    let mut change = None;
    let mut wait = LOOK.0;
    loop {
        let latest = committed.borrow_and_update().clone();
        let proven = match latest {
            Some(latest) => {
                let known = change.take().filter(|known: &Change| known.number == latest.changes);
                let known = match known {
                    Some(known) => known,
                    None => Change::of(&latest, &reader).await,
                };
                let (known, proven) = prove(known, &latest, &reader, &feedback).await;
                change = Some(known);
                proven
            }
            None => true,
        };
        tokio::select! {
            () = ended.cancelled() => return,
            changed = committed.changed() => {
                wait = LOOK.0;
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(wait), if !proven => wait = (wait * 2).min(LOOK.1),
        }
    }
}

/// A change of the variables: later writes of the same variables are none.
#[derive(Clone, Debug)]
struct Change {
    number: u64,
    /// When, by the time of day; unknown where the file cannot be looked at.
    at: Option<Duration>,
    /// Who was there when it was first looked at.
    there: Arc<BTreeSet<Process>>,
    proven: bool,
}

impl Change {
    async fn of(committed: &Committed, reader: &Arc<Reader>) -> Self {
        let (reader, path) = (Arc::clone(reader), committed.file.path.clone());
        let look = move || (present(&reader), changed_at(&path));
        let (there, at) = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        Self { number: committed.changes, at, there: Arc::new(there), proven: false }
    }
}

/// One process; its number may be given to another one later, which starts at another time.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Process {
    pid: i32,
    /// Ticks of the kernel's clock from the boot to its start.
    started: u64,
}

async fn prove(
    mut change: Change,
    committed: &Committed,
    reader: &Arc<Reader>,
    feedback: &mpsc::Sender<Feedback>,
) -> (Change, bool) {
    if !change.proven {
        let (reader, at, there) = (Arc::clone(reader), change.at, Arc::clone(&change.there));
        let look = move || at.is_some_and(|at| started_after(&reader, at, &there));
        change.proven = tokio::task::spawn_blocking(look).await.unwrap_or(false);
    }
    if change.proven {
        let output = Arc::from(committed.file.name.as_str());
        let revision: Revision = committed.config.revision;
        let effect = Effect { output, service: None, revision, proof: Proof::Started };
        // Without a sidecar that listens there is nobody to prove it to.
        feedback.send(Feedback::Effective(effect)).await.ok();
    }
    let proven = change.proven;
    (change, proven)
}

/// When the file took its present form: a rename counts.
fn changed_at(path: &Path) -> Option<Duration> {
    let stat = rustix::fs::stat(path).ok()?;
    let seconds = u64::try_from(stat.st_ctime).ok()?;
    Some(Duration::new(seconds, u32::try_from(stat.st_ctime_nsec).ok()?))
}

/// Whether every process of the reader started after that moment, and there is one; those that
/// were not there when the change was first looked at did.
fn started_after(reader: &Reader, at: Duration, there: &BTreeSet<Process>) -> bool {
    let Some(ago) = now(ClockId::Realtime).and_then(|now| now.checked_sub(at)) else {
        return false;
    };
    let newer =
        |process: &Process| !there.contains(process) || age(*process).is_some_and(|age| age <= ago);
    let present = present(reader);
    !present.is_empty() && present.iter().all(newer)
}

/// Every process of the reader.
fn present(reader: &Reader) -> BTreeSet<Process> {
    let pids: Vec<Pid> = match reader {
        Reader::PidFile(path) => signal::pid_in(path).into_iter().collect(),
        Reader::Process(name) => signal::named(name).into_iter().flatten().collect(),
    };
    pids.into_iter().filter_map(process).collect()
}

fn process(pid: Pid) -> Option<Process> {
    let pid = pid.as_raw_nonzero().get();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let started = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    Some(Process { pid, started })
}

/// How long ago a process started, rounded up.
fn age(process: Process) -> Option<Duration> {
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let started = Duration::from_millis(process.started.saturating_mul(1_000) / ticks);
    now(ClockId::Boottime)?.checked_sub(started)
}

fn now(clock: ClockId) -> Option<Duration> {
    Duration::try_from(clock_gettime(clock)).ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Self {
            let mut command = Command::new("sleep");
            Self(command.arg("60").stdin(Stdio::null()).spawn().unwrap())
        }

        fn pid(&self) -> Reader {
            let file = tempfile::NamedTempFile::new().unwrap();
            let path = file.into_temp_path().keep().unwrap();
            std::fs::write(&path, self.0.id().to_string()).unwrap();
            Reader::PidFile(path)
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    #[test]
    fn a_process_is_older_or_newer_than_a_file() {
        let (older, folder) = (Sleeper::start(), tempfile::tempdir().unwrap());
        let path = folder.path().join("env");
        // The kernel stamps processes in ticks and files more finely.
        while age(process(Pid::from_child(&older.0)).unwrap()).unwrap() < Duration::from_millis(50)
        {
            std::thread::yield_now();
        }
        std::fs::write(&path, "A=1").unwrap();
        let at = changed_at(&path).unwrap();
        let there = present(&older.pid());
        assert!(!started_after(&older.pid(), at, &there));
        // However soon it starts: in the same tick of the kernel, too.
        let newer = Sleeper::start();
        assert!(started_after(&newer.pid(), at, &there));
        let none = Reader::PidFile(folder.path().join("none"));
        assert!(!started_after(&none, at, &there));
        assert!(!started_after(&Reader::Process("no such process".to_owned()), at, &there));
        // One that was there already may be newer than the file nevertheless.
        let late = loop {
            let late = Sleeper::start();
            let there = present(&late.pid());
            if started_after(&late.pid(), at, &there) {
                break late;
            }
        };
        drop((older, newer, late));
    }
}

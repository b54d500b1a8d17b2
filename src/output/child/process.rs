//! One process of the server, from its start to its burial.
//!
//! It leads a group of its own, so that whatever it starts can be ended with it. A task of its own
//! reads it, ends it in steps when it is told to, and tells of its end after its last line.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, ChildStdout};
use tokio::sync::{Notify, mpsc, watch};

use crate::output::child::session::Generation;
use crate::output::child::settings::Command;
use crate::output::child::streams::{Outlet, Read, pump};
use crate::policy::secret::Secret;

/// What a process leaves running may hold its output open for ever.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Variables of a service manager, which speak of us and not of our child.
const OURS: [&str; 4] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID"];

/// How a process is ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Farewell {
    /// It owes nothing any more: its input ends, and it may take its time.
    Leave,
    /// The client is gone and gives us two seconds.
    Hurry,
    /// It is asked at once.
    Ask,
}

/// What a process did.
#[derive(Debug)]
pub(super) enum Happening {
    /// It wrote.
    Wrote(Generation, Read),
    /// It ended, and has written nothing since: exit code, or 128 and the signal.
    Ended(Generation, u8),
}

/// What every process is started with.
#[derive(Clone, Debug)]
pub(super) struct Launcher {
    pub(super) command: Command,
    /// The longest message, if it speaks over its standard streams.
    pub(super) message_max: Option<usize>,
    pub(super) stop_timeout: Duration,
    pub(super) happenings: mpsc::Sender<Happening>,
    pub(super) drained: Arc<Notify>,
}

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Its input, while it is to read more.
    pub(super) input: Option<Outlet>,
    /// The group that it leads.
    pub(super) group: Option<Pid>,
    farewell: watch::Sender<Option<Farewell>>,
}

impl Launcher {
    /// Starts a process.
    pub(super) fn start(
        &self,
        generation: Generation,
        variables: &BTreeMap<String, Secret>,
    ) -> io::Result<Process> {
        // Even when the file was replaced meanwhile, this is the program that runs now.
        let mut command = tokio::process::Command::new("/proc/self/exe");
        command
            .arg("child-init")
            .arg("--parent")
            .arg(std::process::id().to_string())
            .arg("--")
            .arg(&self.command.program)
            .args(&self.command.arguments)
            .envs(variables.iter().map(|(name, value)| (name, value.expose())))
            .process_group(0)
            .kill_on_drop(true);
        for name in OURS {
            command.env_remove(name);
        }
        if self.message_max.is_some() {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        }
        let mut child = command.spawn()?;
        let pid = child.id().unwrap_or_default();
        let group = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let (farewell, orders) = watch::channel(None);
        let input = child.stdin.take().map(|stdin| {
            // What it does not read any more is lost with it.
            let (outlet, _) = Outlet::open(stdin, Arc::clone(&self.drained));
            outlet
        });
        let stdout = child.stdout.take();
        let life = Life { group: Group(group), launcher: self.clone(), generation };
        tokio::spawn(life.live(child, stdout, (farewell.clone(), orders)));
        Ok(Process { pid, input, group, farewell })
    }
}

impl Process {
    /// Begins to end it; an earlier farewell may be hastened.
    pub(super) fn end(&mut self, farewell: Farewell) {
        if farewell != Farewell::Ask {
            self.input = None;
        }
        self.farewell.send_replace(Some(farewell));
    }

    /// Whether it was told to end.
    pub(super) fn is_ending(&self) -> bool {
        self.farewell.borrow().is_some()
    }

    /// Signals it.
    pub(super) fn signal(&self, signal: i32) {
        if let (Some(pid), Some(signal)) = (self.group, Signal::from_named_raw(signal))
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::debug!(%error, "the process was gone before it could be signalled");
        }
    }
}

/// Everything that a process started, ended with it.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(Err(error)) = self.0.map(|group| kill_process_group(group, signal)) {
            tracing::trace!(%error, "nobody is left in the group");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

type Orders = (watch::Sender<Option<Farewell>>, watch::Receiver<Option<Farewell>>);

struct Life {
    group: Group,
    launcher: Launcher,
    generation: Generation,
}

impl Life {
    async fn live(self, mut child: Child, stdout: Option<ChildStdout>, orders: Orders) {
        let (generation, (own, orders)) = (self.generation, orders);
        let happenings = self.launcher.happenings.clone();
        let speaks = stdout.is_some();
        let reading = async {
            if let Some(stdout) = stdout {
                let wrap = |read| Happening::Wrote(generation, read);
                let longest = self.launcher.message_max.unwrap_or_default();
                pump(stdout, longest, happenings.clone(), wrap).await;
            }
        };
        tokio::pin!(reading);
        let mut reads = speaks;
        let status = {
            let ending = self.ending(orders);
            tokio::pin!(ending);
            loop {
                tokio::select! {
                    status = child.wait() => break status,
                    () = &mut ending => {}
                    () = &mut reading, if reads => {
                        reads = false;
                        // A server that cannot be heard any more is of no use.
                        own.send_if_modified(|farewell| {
                            let first = farewell.is_none();
                            farewell.get_or_insert(Farewell::Ask);
                            first
                        });
                    }
                }
            }
        };
        self.group.signal(Signal::KILL);
        if reads {
            tokio::time::timeout(LAST_WORDS, reading).await.unwrap_or_default();
        }
        // Nobody listens only when everything ends.
        happenings.send(Happening::Ended(generation, code(&status))).await.ok();
    }

    /// Ends the process in steps, once told to; never returns.
    async fn ending(&self, mut orders: watch::Receiver<Option<Farewell>>) {
        loop {
            let farewell = *orders.borrow_and_update();
            let steps = async {
                let Some(farewell) = farewell else { return std::future::pending().await };
                let patience = self.launcher.stop_timeout;
                let (first, second) = match farewell {
                    Farewell::Leave => (Duration::from_secs(2), patience),
                    Farewell::Hurry => (Duration::from_secs(1), Duration::from_millis(400)),
                    Farewell::Ask => (Duration::ZERO, patience),
                };
                tokio::time::sleep(first).await;
                self.group.signal(Signal::TERM);
                tokio::time::sleep(second).await;
                self.group.signal(Signal::KILL);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = steps => {}
                changed = orders.changed() => if changed.is_err() {
                    return std::future::pending().await;
                }
            }
        }
    }
}

/// The exit code as a shell tells it.
fn code(status: &io::Result<ExitStatus>) -> u8 {
    let Ok(status) = status else { return 1 };
    let signal = status.signal().map(|signal| 128 + signal);
    status.code().or(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

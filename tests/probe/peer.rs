//! Servers that nobody here wrote, each at a loopback address of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use mcp_failover::policy::model::Target;
use rustix::process::{Pid, Signal, kill_process};

use super::PATIENT;
use crate::common;

/// A process that ends with the test.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    /// Starts it, deaf and, as its log would drown the test's, mute.
    pub(crate) fn start(command: &mut Command) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.spawn().expect("the server starts"))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it is not waited for yet");
    }

    /// Ends it by a signal, or at once when it does not heed that.
    pub(crate) fn end(&mut self, signal: Signal) {
        self.signal(signal);
        for _ in 0..1000 {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5)); // poll
        }
        self.kill();
    }

    /// Ends it at once, and waits until it has ended.
    pub(crate) fn kill(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program by its name, also where only root looks; says so when there is none.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.exists());
    if found.is_none() {
        common::skip(&format!("{name} is not installed"));
    }
    found
}

/// An address that is ours: other tests, and other runs, use other loopback addresses or ports.
pub(crate) fn address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(7001);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 64 + high % 64, middle, low.clamp(1, 254));
    (ip, NEXT.fetch_add(1, Ordering::SeqCst)).into()
}

/// An address as a check names it.
pub(crate) fn target(address: SocketAddr) -> Target {
    Target { host: address.ip().to_string(), port: address.port() }
}

/// Waits until the condition holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENT * 3, waiting).await.expect(what);
}

/// Writes a file and returns its path as text.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a writable folder");
    path.to_str().expect("a path of plain letters").to_owned()
}

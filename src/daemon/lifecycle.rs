//! Signals in, service-manager notes out.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::watch::Watcher;

/// The signals we live by; made before anything else, so that none of them can kill us early.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGHUP.
    ///
    /// # Errors
    /// When the runtime cannot register a handler.
    pub(crate) fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Turns signals into their effects: the first SIGTERM or SIGINT begins the drain, a second
    /// one ends the wait for it, SIGHUP reads the policy anew.
    pub(crate) async fn serve(
        mut self,
        watcher: Arc<Watcher>,
        shutdown: CancellationToken,
        hurry: CancellationToken,
    ) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => stop("SIGTERM", &shutdown, &hurry),
                _ = self.interrupt.recv() => stop("SIGINT", &shutdown, &hurry),
                _ = self.hangup.recv() => {
                    tracing::info!("SIGHUP: reading the policy anew");
                    watcher.poke();
                }
                () = hurry.cancelled() => return,
            }
        }
    }
}

fn stop(signal: &'static str, shutdown: &CancellationToken, hurry: &CancellationToken) {
    if shutdown.is_cancelled() {
        tracing::warn!(signal, "told twice: not waiting for the drain");
        hurry.cancel();
    } else {
        tracing::info!(signal, "draining");
        shutdown.cancel();
    }
}

/// The service manager, if there is one.
#[derive(Debug)]
pub(crate) struct Manager {
    watchdog: Option<Duration>,
    ready: bool,
}

impl Manager {
    /// Learns from the environment whether a service manager listens.
    pub(crate) fn connect() -> Self {
        // Half the period, as sd_watchdog_enabled(3) advises.
        Self { watchdog: sd_notify::watchdog_enabled().map(|period| period / 2), ready: false }
    }

    /// How often [`Manager::alive`] must be called.
    pub(crate) const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The loop has completed a round.
    pub(crate) fn alive(&self) {
        if self.watchdog.is_some() {
            tell(&[sd_notify::NotifyState::Watchdog]);
        }
    }

    /// The policy is loaded and the outputs are written; told once.
    pub(crate) fn ready(&mut self, line: &str) {
        if !std::mem::replace(&mut self.ready, true) {
            tell(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(line)]);
        }
    }

    /// The drain has begun.
    pub(crate) fn stopping() {
        tell(&[sd_notify::NotifyState::Stopping]);
    }
}

fn tell(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}

/// Probes at a time at most, whatever the system allows.
const PROBES_MAX: u64 = 4_096;
/// Descriptors that are not for probes.
const DESCRIPTORS_KEPT: u64 = 192;

/// Raises the limit of open descriptors as far as it goes, and says how many probes may then run
/// at a time.
pub(crate) fn probes_max() -> usize {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limits.maximum, maximum: limits.maximum };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limits.maximum,
        Err(_) => limits.current,
    };
    let probes = allowed.unwrap_or(u64::MAX).saturating_sub(DESCRIPTORS_KEPT);
    usize::try_from(probes.clamp(16, PROBES_MAX)).unwrap_or(16)
}

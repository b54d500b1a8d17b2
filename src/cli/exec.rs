//! `exec`: the server with its session kept, beside a sidecar in another container.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::cli::connect::block_on;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::server::{ServerArgs, span};
use crate::cli::terminal::Terminal;
use crate::output::child::{self, Command, Ended, Orders, follow};
use crate::telemetry::log;

/// Events that wait to be acknowledged to the sidecar at most.
const EVENTS_MAX: usize = 64;

/// Run an MCP server with the configuration that a sidecar gives out on its config socket.
///
/// The server gets the active endpoints' variables. When others become active, it is replaced
/// without its client noticing, or restarted or signalled, as `--on-switch` says. While the sidecar
/// is not there, the last configuration holds.
#[derive(Args, Debug)]
pub(crate) struct Exec {
    /// The sidecar's config socket.
    #[arg(
        long,
        value_name = "PATH",
        env = "MCP_FAILOVER_SOCK",
        default_value = "/run/mcp-failover/sock"
    )]
    socket: PathBuf,
    /// How long to wait for the sidecar before the server is started with our own environment.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = span)]
    wait: Duration,
    #[command(flatten)]
    server: ServerArgs,
    /// What to log: a level, or levels by target such as `warn,mcp_failover=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "MCP_FAILOVER_LOG")]
    log: String,
    /// How to log: auto (text on a terminal, JSON otherwise), text or json.
    #[arg(long, value_name = "FORMAT", default_value = "auto", env = "MCP_FAILOVER_LOG_FORMAT")]
    log_format: String,
    /// The server's command.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Exec {
    pub(crate) fn run(self, _terminal: Terminal) -> Result<Exit, Failure> {
        let format = self.log_format.parse().map_err(Failure::Log)?;
        let guard = log::init(format, &self.log).map_err(Failure::Log)?;
        let ended = block_on(self.supervise())??;
        drop(guard);
        Ok(Exit::Server(ended.code))
    }

    async fn supervise(self) -> Result<Ended, Failure> {
        let stop = CancellationToken::new();
        // Before anything else, so that no signal can end us early.
        let signals = forward(&stop).map_err(Failure::Runtime)?;
        let settings = self.server.child();
        let (publish, configs) = watch::channel(None);
        let (events, effective) = mpsc::channel(EVENTS_MAX);
        let services = settings.services.clone();
        let following = follow(self.socket, services, publish, effective);
        // Its own words are all there is to it, so these never change.
        let (_kept, settings) = watch::channel(settings);
        let orders = Orders { configs, settings, signals, config_wait: self.wait, stop, events };
        let Some(command) = Command::new(self.command) else { return Ok(Ended { code: 0 }) };
        tokio::select! {
            ended = child::supervise(command, orders) => Ok(ended),
            never = following => match never {},
        }
    }
}

/// SIGTERM and SIGINT end the server; the others are passed on to it.
fn forward(stop: &CancellationToken) -> std::io::Result<mpsc::Receiver<i32>> {
    let (sender, signals) = mpsc::channel(EVENTS_MAX);
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut caught, stop) = (signal(kind)?, stop.clone());
        tokio::spawn(async move {
            caught.recv().await;
            stop.cancel();
        });
    }
    let passed = [
        SignalKind::hangup(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
        SignalKind::quit(),
        SignalKind::window_change(),
    ];
    for kind in passed {
        let (mut caught, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move {
            while caught.recv().await.is_some() && sender.send(kind.as_raw_value()).await.is_ok() {}
        });
    }
    Ok(signals)
}

//! `run`: the sidecar itself, in the foreground.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::cli::connect::block_on;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::locate::PolicyArgs;
use crate::cli::terminal::Terminal;
use crate::daemon::{self, RunError, RunOptions};
use crate::output::child::Command;
use crate::telemetry::log;

/// Run the sidecar in the foreground, alone or as the parent of the MCP server.
///
/// With a command, it starts the server with the active endpoints' variables and makes a switch
/// effective in it as `[child]` of the policy says; it ends with the server and with its exit code.
///
/// On SIGTERM or SIGINT it drains and exits with 0.
///
/// SIGHUP reads the policy again; so does every edit of it. When the policy is not valid at the
/// start, the last good one is used if there is one on disk, else the exit code is 78.
#[derive(Args, Debug)]
pub(crate) struct Run {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Where to keep state, instead of where the policy says.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Do not start on the last good policy when the current one is not valid.
    #[arg(long)]
    strict: bool,
    /// What to log: a level, or levels by target such as `warn,mcp_failover=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "MCP_FAILOVER_LOG")]
    log: String,
    /// How to log: auto (text on a terminal, JSON otherwise), text or json.
    #[arg(long, value_name = "FORMAT", default_value = "auto", env = "MCP_FAILOVER_LOG_FORMAT")]
    log_format: String,
    /// The MCP server's command.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Run {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let policy_path = self.policy.path()?;
        let format = self.log_format.parse().map_err(Failure::Log)?;
        let guard = log::init(format, &self.log).map_err(Failure::Log)?;
        let mut options = RunOptions::new(policy_path);
        options.state_dir = self.state_dir;
        options.strict = self.strict;
        options.command = Command::new(self.command);
        let ended = block_on(daemon::run(options))?;
        drop(guard);
        match ended {
            Ok(code) => Ok(code.map_or(Exit::Fine, Exit::Server)),
            Err(error) => {
                if let RunError::PolicyInvalid { text, .. } = &error {
                    terminal.say(text);
                }
                Err(Failure::Run(error))
            }
        }
    }
}

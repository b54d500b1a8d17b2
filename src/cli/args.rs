//! What can be asked for, and the way from arguments to an exit code.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::cli::completions::Completions;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::man::Manual;
use crate::cli::terminal::Terminal;

/// The command's name.
pub(crate) const NAME: &str = "mcp-failover";

/// Keeps MCP servers working when the services behind them die.
///
/// Probes every endpoint named in failover.toml, decides which one to use, and rewrites the
/// configuration that the MCP server reads.
#[derive(Debug, Parser)]
#[command(
    name = NAME,
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 fine, 1 failed, 2 usage, 3 unhealthy, 78 policy invalid.\n\
                  New here? `mcp-failover demo` shows it all on this machine."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Completions(Completions),
    Man(Manual),
}

impl Command {
    fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        match self {
            Self::Completions(command) => command.run(terminal),
            Self::Man(command) => command.run(terminal),
        }
    }
}

/// The description of every command: the source of help, completions and manual pages.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what the process's arguments ask for.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error).into(),
    };
    let terminal = Terminal::detect();
    match cli.command.run(terminal) {
        Ok(exit) => exit.into(),
        Err(failure) if failure.is_broken_pipe() => Exit::Fine.into(),
        Err(failure) => {
            terminal.report(&failure);
            failure.exit().into()
        }
    }
}

/// Help and version are answers; everything else is a mistake. Nobody can be told if the
/// terminal does not take it.
fn usage(error: &clap::Error) -> Exit {
    drop(error.print());
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Fine,
        _ => Exit::Usage,
    }
}

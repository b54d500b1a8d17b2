//! What can be asked for, and the way from arguments to an exit code.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::cli::backup::Backup;
use crate::cli::chaos::Chaos;
use crate::cli::check::Check;
use crate::cli::child_init::{ChildInit, child_guard};
use crate::cli::completions::Completions;
use crate::cli::demo::Demo;
use crate::cli::doctor::Doctor;
use crate::cli::drain::{Drain, Undrain};
use crate::cli::exec::Exec;
use crate::cli::exit::Exit;
use crate::cli::explain::Explain;
use crate::cli::failure::Failure;
use crate::cli::healthcheck::Healthcheck;
use crate::cli::history::History;
use crate::cli::init::Init;
use crate::cli::man::Manual;
use crate::cli::pause::{Pause, Resume};
use crate::cli::pin::{Pin, Unpin};
use crate::cli::probe::Probe;
use crate::cli::reload::Reload;
use crate::cli::render::Render;
use crate::cli::restore::Restore;
use crate::cli::run::Run;
use crate::cli::schema::Schema;
use crate::cli::status::Status;
use crate::cli::switch::Switch;
use crate::cli::terminal::Terminal;
use crate::cli::watch::Watch;

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
    Run(Run),
    Exec(Exec),
    Check(Check),
    Doctor(Doctor),
    Probe(Probe),
    Status(Status),
    Explain(Explain),
    Switch(Switch),
    Pin(Pin),
    Unpin(Unpin),
    Drain(Drain),
    Undrain(Undrain),
    Pause(Pause),
    Resume(Resume),
    History(History),
    Watch(Watch),
    Render(Render),
    Reload(Reload),
    Backup(Backup),
    Restore(Restore),
    Init(Init),
    Schema(Schema),
    Healthcheck(Healthcheck),
    Chaos(Chaos),
    Demo(Demo),
    Completions(Completions),
    Man(Manual),
    #[command(hide = true)]
    ChildInit(ChildInit),
    /// End the groups named on standard input when it closes.
    #[command(hide = true)]
    ChildGuard,
}

impl Command {
    fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        match self {
            Self::Run(command) => command.run(terminal),
            Self::Exec(command) => command.run(terminal),
            Self::Check(command) => command.run(terminal),
            Self::Doctor(command) => command.run(terminal),
            Self::Probe(command) => command.run(terminal),
            Self::Status(command) => command.run(terminal),
            Self::Explain(command) => command.run(terminal),
            Self::Switch(command) => command.run(terminal),
            Self::Pin(command) => command.run(terminal),
            Self::Unpin(command) => command.run(terminal),
            Self::Drain(command) => command.run(terminal),
            Self::Undrain(command) => command.run(terminal),
            Self::Pause(command) => command.run(terminal),
            Self::Resume(command) => command.run(terminal),
            Self::History(command) => command.run(terminal),
            Self::Watch(command) => command.run(terminal),
            Self::Render(command) => command.run(terminal),
            Self::Reload(command) => command.run(terminal),
            Self::Backup(command) => command.run(terminal),
            Self::Restore(command) => command.run(terminal),
            Self::Init(command) => command.run(terminal),
            Self::Schema(command) => command.run(terminal),
            Self::Healthcheck(command) => command.run(terminal),
            Self::Chaos(command) => command.run(terminal),
            Self::Demo(command) => command.run(terminal),
            Self::Completions(command) => command.run(terminal),
            Self::Man(command) => command.run(terminal),
            Self::ChildInit(command) => Ok(command.run(terminal)),
            Self::ChildGuard => Ok(child_guard()),
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
    let answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if answer { Exit::Fine } else { Exit::Usage }
}

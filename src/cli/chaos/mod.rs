//! `chaos`: faults on purpose, and whether the policy's promises are kept.

mod audience;
mod explain;
mod list;
mod policy;
mod run;
mod show;

use clap::{Args, Subcommand};

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::terminal::Terminal;

/// Break things on purpose and see whether the policy's promises are kept.
///
/// Each drill runs in a lab of its own on loopback: upstreams, a fault proxy before each, the real
/// sidecar, a reader of its env file and a client that follows it. Nothing else is touched.
#[derive(Args, Debug)]
pub(crate) struct Chaos {
    #[command(subcommand)]
    command: ChaosCommand,
}

#[derive(Debug, Subcommand)]
enum ChaosCommand {
    Run(run::Run),
    List(list::List),
    Explain(explain::Explain),
}

impl Chaos {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        match self.command {
            ChaosCommand::Run(command) => command.run(terminal),
            ChaosCommand::List(command) => command.run(terminal),
            ChaosCommand::Explain(command) => command.run(terminal),
        }
    }
}

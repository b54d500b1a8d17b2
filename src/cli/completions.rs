//! `completions`: prints the completion script of a shell.

use clap::Args;
use clap_complete::Shell;

use crate::cli::args;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::terminal::Terminal;

/// Print a completion script.
///
/// For bash: `source <(mcp-failover completions bash)`.
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell to complete in.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut args::command(), args::NAME, &mut script);
        terminal.print(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Fine)
    }
}

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
        let script = String::from_utf8_lossy(&script);
        terminal.print(&if self.shell == Shell::Bash { mend(&script) } else { script.into() })?;
        Ok(Exit::Fine)
    }
}

/// Gives the bash script one name for each of its states.
///
/// The generator spells a hyphen in the name of the command one way where it enters a state and
/// another where it handles it, so that nothing past the subcommand would be completed
/// (<https://github.com/clap-rs/clap/issues/6421>).
fn mend(script: &str) -> String {
    let entered = format!("{}__subcmd__", args::NAME.replace('-', "__"));
    let handled = format!("{}__subcmd__", args::NAME.replace('-', "__subcmd__"));
    script.replace(&handled, &entered)
}

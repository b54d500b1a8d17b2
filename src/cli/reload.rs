//! `reload`: read the policy file again now.

use clap::Args;

use crate::admin::protocol::{Answer, Request};
use crate::cli::connect::{ControlArgs, block_on};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::terminal::Terminal;

/// Make a running sidecar read its policy file again now.
///
/// It notices edits by itself; this is for when you do not want to wait, or to see the verdict.
/// Exit code 78 when the policy is not valid; the running one stays then.
#[derive(Args, Debug)]
pub(crate) struct Reload {
    #[command(flatten)]
    control: ControlArgs,
}

impl Reload {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let link = self.control.link()?;
        let answer = block_on(link.ask(&Request::Reload))??;
        let Answer::Policy(policy) = answer else { return Err(Failure::OddAnswer) };
        let digest: String = policy.digest.chars().take(12).collect();
        terminal.print(&format!("{} is in force, digest {digest}\n", policy.path))?;
        Ok(Exit::Fine)
    }
}

//! `schema`: the JSON Schema of the policy, for completion in editors.

use clap::Args;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::terminal::Terminal;
use crate::policy::schema;

/// Print the JSON Schema of failover.toml.
///
/// Editors complete and check a policy that begins with `#:schema PATH`.
#[derive(Args, Debug)]
pub(crate) struct Schema;

impl Schema {
    #[expect(clippy::unused_self, reason = "every command is run the same way")]
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        terminal.print(schema::TEXT)?;
        Ok(Exit::Fine)
    }
}

//! What every order has in common: a reason, a receipt.

use clap::Args;
use serde_json::json;

use crate::admin::protocol::{Answer, Request};
use crate::cli::connect::{ControlArgs, block_on};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::terminal::Terminal;
use crate::core::input::{Command, Order};
use crate::core::record::SCHEMA;

/// What can be said along with every order.
#[derive(Args, Debug)]
pub(crate) struct OrderArgs {
    /// Why, for the history and the log.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print the receipt as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    control: ControlArgs,
}

impl OrderArgs {
    /// Gives the order and prints the receipt.
    ///
    /// # Errors
    /// When the sidecar cannot be reached, or refuses.
    pub(crate) fn give(self, order: Order, terminal: Terminal) -> Result<Exit, Failure> {
        let link = self.control.link()?;
        let command = Command { order, reason: self.reason, by: who() };
        let answer = block_on(async { link.ask(&Request::Command { command }).await })??;
        let Answer::Receipt(receipt) = answer else { return Err(Failure::OddAnswer) };
        if self.json {
            let (revision, message) = (receipt.revision, receipt.message);
            terminal.print_json(
                &json!({ "schema": SCHEMA, "revision": revision, "message": message }),
            )?;
        } else {
            terminal.print(&format!("{} (revision {})\n", receipt.message, receipt.revision))?;
        }
        Ok(Exit::Fine)
    }
}

/// The person behind the command, as far as the environment tells.
fn who() -> Option<String> {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .filter(|name| !name.is_empty())
}

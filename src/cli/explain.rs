//! `explain`: why a service is where it is, and what would move it.

use clap::Args;
use serde_json::Value;

use crate::admin::protocol::{Answer, Request};
use crate::cli::connect::{ControlArgs, block_on};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::terminal::Terminal;
use crate::core::explain::Explanation;
use crate::core::id::ServiceName;
use crate::core::record::SCHEMA;

/// Explain why a service is where it is.
///
/// Also what would move it, and how soon an outage would be noticed.
#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The service to explain.
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    control: ControlArgs,
}

impl Explain {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let link = self.control.link()?;
        let service = ServiceName::new(&self.service);
        let answer = block_on(link.ask(&Request::Explain { service }))??;
        let Answer::Explanation(mut document) = answer else { return Err(Failure::OddAnswer) };
        if self.json {
            if let Value::Object(members) = &mut document {
                members.insert("schema".into(), SCHEMA.into());
            }
            terminal.print_json(&document)?;
        } else {
            let explanation: Explanation =
                serde_json::from_value(document).map_err(|_odd| Failure::OddAnswer)?;
            terminal.print(&format!("{explanation}\n"))?;
        }
        Ok(Exit::Fine)
    }
}

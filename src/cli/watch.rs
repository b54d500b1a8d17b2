//! `watch`: events as they happen.

use clap::Args;

use crate::cli::connect::{ControlArgs, block_on};
use crate::cli::events::event_line;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::terminal::Terminal;
use crate::cli::time;

/// Print events as they happen.
///
/// For people on a terminal, otherwise JSON, one event a line. Exit code 1 when the sidecar goes.
#[derive(Args, Debug)]
pub(crate) struct Watch {
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON on a terminal too.
    #[arg(long)]
    json: bool,
}

impl Watch {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let link = self.control.link()?;
        let json = self.json || !terminal.interactive();
        block_on(async {
            let mut events = link.watch().await?;
            while let Some(record) = events.next().await? {
                if json {
                    terminal.print_json_line(&record)?;
                } else {
                    terminal.print(&event_line(&record, terminal, time::now()))?;
                }
            }
            // The stream only ends with the sidecar, and whoever follows it should know.
            Err(Failure::SidecarLeft)
        })?
    }
}

//! `history`: the moves of the past.

use std::path::Path;

use clap::Args;
use jiff::Timestamp;

use crate::admin::control_client::ControlError;
use crate::admin::protocol::{Answer, HistoryQuery, Request};
use crate::cli::connect::{ControlArgs, block_on};
use crate::cli::events::{arrow, move_tone};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{Terminal, Tone};
use crate::cli::time;
use crate::core::id::ServiceName;
use crate::core::record::HistoryRecord;
use crate::store::{self, Store};

/// Show the moves of the past, newest first.
///
/// Where no sidecar runs, the history is read from its state directory.
#[derive(Args, Debug)]
pub(crate) struct History {
    /// Show the moves of this service only.
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Show at most so many.
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 20)]
    count: usize,
    /// Print JSON, one move a line, with the evidence of each.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    control: ControlArgs,
}

impl History {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let records = self.records(terminal)?;
        if self.json {
            for record in &records {
                terminal.print_json_line(record)?;
            }
        } else if records.is_empty() {
            terminal.say("no move so far\n");
        } else {
            terminal.print(&table(&records, time::now()).render(terminal))?;
        }
        Ok(Exit::Fine)
    }

    fn records(&self, terminal: Terminal) -> Result<Vec<HistoryRecord>, Failure> {
        let service = self.service.as_deref().map(ServiceName::new);
        let link = self.control.link()?;
        let query = HistoryQuery { service: service.clone(), n: self.count };
        match block_on(async { link.ask(&Request::History { query }).await })? {
            Ok(Answer::History(records)) => Ok(records),
            Ok(_) => Err(Failure::OddAnswer),
            Err(Failure::Control(ControlError::Unreachable { .. })) => {
                let dir = self.control.policy().load(terminal)?.sidecar.state_dir;
                offline(&dir, service.as_ref(), self.count)
            }
            Err(failure) => Err(failure),
        }
    }
}

fn offline(
    dir: &Path,
    service: Option<&ServiceName>,
    count: usize,
) -> Result<Vec<HistoryRecord>, Failure> {
    let failed = |source| Failure::State { dir: dir.to_owned(), source };
    let query = store::HistoryQuery {
        service: service.cloned(),
        limit: Some(count),
        ..store::HistoryQuery::default()
    };
    Store::read_only(dir).and_then(|store| store.history(&query)).map_err(failed)
}

fn table(records: &[HistoryRecord], now: Timestamp) -> Table {
    let mut table = Table::new(&["AT", "REVISION", "SERVICE", "KIND", "MOVE", "CAUSE"]);
    for record in records {
        let decision = &record.decision;
        table.row(vec![
            Cell::new(Tone::Quiet, time::clock(&record.at, now)),
            decision.revision.to_string().into(),
            Cell::new(Tone::Strong, decision.service.as_str()),
            Cell::new(move_tone(decision.kind), decision.kind.label()),
            arrow(decision.from.as_ref(), decision.to.as_ref()).into(),
            decision.cause.as_str().into(),
        ]);
    }
    table
}

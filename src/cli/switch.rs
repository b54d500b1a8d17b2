//! `switch`: move a service now.

use clap::Args;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::order::OrderArgs;
use crate::cli::terminal::Terminal;
use crate::core::id::{EndpointName, ServiceName};
use crate::core::input::Order;

/// Move a service to another endpoint now.
///
/// The service stays free to move by itself afterwards; `pin` keeps it there.
#[derive(Args, Debug)]
pub(crate) struct Switch {
    /// The service to move.
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Where to; the best other endpoint when absent.
    #[arg(value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// Move even to an endpoint that is known dead.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    order: OrderArgs,
}

impl Switch {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let service = ServiceName::new(&self.service);
        let endpoint = self.endpoint.as_deref().map(EndpointName::new);
        self.order.give(Order::Switch { service, endpoint, force: self.force }, terminal)
    }
}

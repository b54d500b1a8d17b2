//! `drain` and `undrain`: take an endpoint out of the choice, and put it back.

use clap::Args;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::order::OrderArgs;
use crate::cli::terminal::Terminal;
use crate::core::id::{EndpointName, ServiceName};
use crate::core::input::Order;

/// Which endpoint, and why.
#[derive(Args, Debug)]
pub(crate) struct EndpointArgs {
    /// The service of the endpoint.
    #[arg(value_name = "SERVICE")]
    service: String,
    /// The endpoint.
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,
    #[command(flatten)]
    order: OrderArgs,
}

/// Never choose an endpoint by itself; move away from it if it is active.
#[derive(Args, Debug)]
pub(crate) struct Drain {
    #[command(flatten)]
    what: EndpointArgs,
}

impl Drain {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let service = ServiceName::new(&self.what.service);
        let endpoint = EndpointName::new(&self.what.endpoint);
        self.what.order.give(Order::Drain { service, endpoint }, terminal)
    }
}

/// Let a drained endpoint be chosen again.
#[derive(Args, Debug)]
pub(crate) struct Undrain {
    #[command(flatten)]
    what: EndpointArgs,
}

impl Undrain {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let service = ServiceName::new(&self.what.service);
        let endpoint = EndpointName::new(&self.what.endpoint);
        self.what.order.give(Order::Undrain { service, endpoint }, terminal)
    }
}

//! `pin` and `unpin`: keep a service where a person wants it.

use std::time::Duration;

use clap::Args;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::order::OrderArgs;
use crate::cli::terminal::Terminal;
use crate::core::id::{EndpointName, ServiceName};
use crate::core::input::Order;
use crate::policy::duration;

/// Move a service to an endpoint and keep it there, whatever happens.
#[derive(Args, Debug)]
pub(crate) struct Pin {
    /// The service to pin.
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Where to.
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,
    /// How long, such as `30m` or `1h 30m`; until `unpin` when absent.
    #[arg(long = "for", value_name = "DURATION", value_parser = span)]
    duration: Option<Duration>,
    #[command(flatten)]
    order: OrderArgs,
}

impl Pin {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let service = ServiceName::new(&self.service);
        let endpoint = EndpointName::new(&self.endpoint);
        self.order.give(Order::Pin { service, endpoint, duration: self.duration }, terminal)
    }
}

/// Let a pinned service move by itself again.
#[derive(Args, Debug)]
pub(crate) struct Unpin {
    /// The service to unpin.
    #[arg(value_name = "SERVICE")]
    service: String,
    #[command(flatten)]
    order: OrderArgs,
}

impl Unpin {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        self.order.give(Order::Unpin { service: ServiceName::new(&self.service) }, terminal)
    }
}

/// A span of time as the policy writes it, but not none.
fn span(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(Duration::ZERO) => Err("a pin for no time is no pin".into()),
        Ok(span) => Ok(span),
        Err(error) => Err(format!("{error}; write `30m` or `1h 30m`")),
    }
}

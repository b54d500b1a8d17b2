//! `pause` and `resume`: watch without moving, and move again.

use clap::Args;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::order::OrderArgs;
use crate::cli::terminal::Terminal;
use crate::core::id::ServiceName;
use crate::core::input::Order;

/// Which service, and why.
#[derive(Args, Debug)]
pub(crate) struct ScopeArgs {
    /// The service; all of them when absent.
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    #[command(flatten)]
    order: OrderArgs,
}

impl ScopeArgs {
    fn service(&self) -> Option<ServiceName> {
        self.service.as_deref().map(ServiceName::new)
    }
}

/// Keep probing, but let nothing move by itself.
#[derive(Args, Debug)]
pub(crate) struct Pause {
    #[command(flatten)]
    scope: ScopeArgs,
}

impl Pause {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let service = self.scope.service();
        self.scope.order.give(Order::Pause { service }, terminal)
    }
}

/// Let a paused service move by itself again.
#[derive(Args, Debug)]
pub(crate) struct Resume {
    #[command(flatten)]
    scope: ScopeArgs,
}

impl Resume {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let service = self.scope.service();
        self.scope.order.give(Order::Resume { service }, terminal)
    }
}

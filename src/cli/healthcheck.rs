//! `healthcheck`: whether the sidecar is alive, for Docker and the like.

use std::time::Duration;

use clap::Args;

use crate::admin::protocol::{Answer, Request};
use crate::cli::connect::{ControlArgs, block_on};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::terminal::Terminal;

/// Longest time an answer may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// Ask the sidecar whether it is alive.
///
/// Exit code 0 if it is, 1 if it is not or does not answer within two seconds.
#[derive(Args, Debug)]
pub(crate) struct Healthcheck {
    #[command(flatten)]
    control: ControlArgs,
}

impl Healthcheck {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        match self.ask() {
            Ok(answer) => {
                terminal.print(&answer)?;
                Ok(Exit::Fine)
            }
            // Docker gives every other number a meaning of its own.
            Err(failure) => {
                terminal.report(&failure);
                Ok(Exit::Failed)
            }
        }
    }

    fn ask(self) -> Result<String, Failure> {
        let link = self.control.link()?;
        let asked = async { tokio::time::timeout(DEADLINE, link.ask(&Request::Ping)).await };
        match block_on(asked)? {
            Ok(Ok(Answer::Pong(sidecar))) => {
                Ok(format!("{} is alive, pid {}\n", sidecar.name, sidecar.pid))
            }
            Ok(Ok(_)) => Err(Failure::OddAnswer),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::NoAnswer { deadline: DEADLINE }),
        }
    }
}

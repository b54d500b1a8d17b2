//! `demo`: the whole thing on this machine, with nothing else installed.
//!
//! Two upstreams of our own on loopback, the real sidecar on a real policy, and a timeline of
//! what happens when one of the upstreams dies and comes back. Everything is seen the way any
//! operator would see it: through the control socket and the env file.
//!
//! Invariant: everything the demo starts ends with it, and its temporary directory is removed.

mod keys;
mod narrator;
mod script;
mod show;
mod sidecar;
mod stage;
mod timeline;

use std::path::PathBuf;

use clap::Args;

use crate::cli::connect::block_on;
use crate::cli::demo::stage::Stage;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::terminal::Terminal;

/// Watch a failover and the return from it, on this machine.
///
/// Starts two upstreams and a sidecar, breaks and heals the primary, and shows what happens.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Run one cycle unattended: exit code 0 if it went right, 1 if a stage missed its deadline.
    #[arg(long)]
    once: bool,
    /// Where to put the policy, the env file and the state; kept afterwards.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep the temporary directory.
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        block_on(async {
            let stage = Stage::set(self.dir, self.keep).await?;
            show::perform(&stage, self.once, terminal).await
        })?
    }
}

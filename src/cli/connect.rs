//! The way to a running sidecar.

use std::future::Future;
use std::path::PathBuf;

use clap::Args;

use crate::admin::control_client::{Client, Watch};
use crate::admin::document::StatusDocument;
use crate::admin::protocol::{Answer, Request};
use crate::cli::failure::Failure;
use crate::cli::locate::PolicyArgs;

/// Which sidecar.
#[derive(Args, Clone, Debug)]
pub(crate) struct ControlArgs {
    /// The sidecar's control socket [default: what the policy says].
    #[arg(long, value_name = "PATH", env = "MCP_FAILOVER_CONTROL", hide_env_values = true)]
    control: Option<PathBuf>,
    #[command(flatten)]
    policy: PolicyArgs,
}

impl ControlArgs {
    /// The way to the sidecar; nothing is sent yet.
    ///
    /// # Errors
    /// When no socket is named and no policy names one.
    pub(crate) fn link(&self) -> Result<Link, Failure> {
        if let Some(path) = self.control.as_ref().filter(|path| !path.as_os_str().is_empty()) {
            return Ok(Link { socket: path.clone() });
        }
        Ok(Link { socket: self.policy.control_socket()? })
    }

    /// The policy beside it.
    pub(crate) const fn policy(&self) -> &PolicyArgs {
        &self.policy
    }
}

/// The way to a sidecar.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    socket: PathBuf,
}

impl Link {
    /// The way to the sidecar behind this socket.
    pub(crate) const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Asks one thing on a connection of its own.
    ///
    /// # Errors
    /// When the sidecar cannot be reached, does not answer, or refuses.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        let mut client = Client::connect(&self.socket).await?;
        Ok(client.call(request).await?)
    }

    /// Everything at this moment.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub(crate) async fn status(&self) -> Result<StatusDocument, Failure> {
        let answer = self.ask(&Request::Status).await?;
        let Answer::Status(document) = answer else { return Err(Failure::OddAnswer) };
        Ok(*document)
    }

    /// Every event from now on.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub(crate) async fn watch(&self) -> Result<Watch, Failure> {
        Ok(Client::connect(&self.socket).await?.watch().await?)
    }
}

/// Runs a future to its end on this thread.
///
/// # Errors
/// When the runtime does not start.
pub(crate) fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().map_err(Failure::Runtime)?;
    let output = runtime.block_on(future);
    // A resolver or a disk that hangs on a blocking thread must not keep the process from ending.
    runtime.shutdown_background();
    Ok(output)
}

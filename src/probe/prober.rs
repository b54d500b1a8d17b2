//! Runs one attempt against its deadline.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout_at;

use crate::policy::model::{Check, Probe};
use crate::probe::dial::Dialler;
use crate::probe::finding::{Finding, Step};
use crate::probe::report::Report;
use crate::probe::trace::Trace;
use crate::probe::{bolt, exec, http, redis, tcp, tls};

/// Why probing cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ProbeSetupError {
    /// The TLS library cannot work as built.
    #[error("failed to set up TLS")]
    Tls(#[source] rustls::Error),
}

/// Runs probes; cheap to clone, and one is enough for all endpoints.
///
/// Clones share the TLS configurations, made once for each set of roots, and the resolver with
/// its bound on calls in flight.
#[derive(Clone, Debug)]
pub struct Prober {
    dialler: Arc<Dialler>,
}

impl Prober {
    /// Makes one; the platform's roots are read when TLS is first needed.
    ///
    /// # Errors
    /// When the TLS library offers no protocol version, which no shipped build does.
    pub fn new() -> Result<Self, ProbeSetupError> {
        Ok(Self { dialler: Arc::new(Dialler::new().map_err(ProbeSetupError::Tls)?) })
    }

    /// Makes one attempt, which ends within `timeout` whatever the peer does.
    ///
    /// Needs a tokio runtime with time and I/O. Dropping the future abandons the attempt: the
    /// connection is closed, and a command is killed with all its children.
    pub async fn run(&self, probe: &Probe, timeout: Duration) -> Report {
        let mut trace = Trace::begin();
        let deadline = trace.deadline(timeout);
        let end = timeout_at(deadline, self.attempt(&probe.check, &mut trace)).await;
        let end = end.unwrap_or_else(|_late| Err(trace.timed_out(timeout)));
        trace.report(end)
    }

    async fn attempt(&self, check: &Check, trace: &mut Trace) -> Step {
        match check {
            Check::Http(check) => http::run(&self.dialler, check, trace).await,
            Check::Tcp(check) => tcp::run(&self.dialler, check, trace).await,
            Check::Tls(check) => tls::run(&self.dialler, check, trace).await,
            Check::Exec(check) => exec::run(check, trace).await,
            Check::Bolt(check) => Box::pin(bolt::run(&self.dialler, check, trace)).await,
            Check::Redis(check) => Box::pin(redis::run(&self.dialler, check, trace)).await,
            Check::Mcp(_)
            | Check::McpStdio(_)
            | Check::Neo4j(_)
            | Check::Postgres(_)
            | Check::Grpc(_)
            | Check::Dns(_)
            | Check::Several(_) => Err(unspoken(check)),
        }
    }
}

fn unspoken(check: &Check) -> Finding {
    Finding::misconfigured(format!("this build does not speak {}", check.label()))
}

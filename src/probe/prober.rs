//! Runs one attempt against its deadline.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout_at;

use crate::core::outcome::Outcome;
use crate::policy::model::{Addresses, Check, HttpCheck, McpCheck, Neo4jCheck, Probe, TokenSource};
use crate::policy::secret::Secret;
use crate::probe::dial::Dialler;
use crate::probe::finding::{Finding, Step};
use crate::probe::grpc::{self, Watches};
use crate::probe::report::Report;
use crate::probe::token::{Bearer, Tokens};
use crate::probe::trace::{Limit, Trace};
use crate::probe::{bolt, dns, exec, http, mcp, neo4j, postgres, redis, tcp, tls};

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
    pub(super) dialler: Arc<Dialler>,
    tokens: Arc<Tokens>,
    mcp: Arc<mcp::Memory>,
    watches: Arc<Watches>,
}

impl Prober {
    /// Makes one; the platform's roots are read when TLS is first needed.
    ///
    /// # Errors
    /// When the TLS library offers no protocol version, which no shipped build does.
    pub fn new() -> Result<Self, ProbeSetupError> {
        Ok(Self {
            dialler: Arc::new(Dialler::new().map_err(ProbeSetupError::Tls)?),
            tokens: Arc::default(),
            mcp: Arc::default(),
            watches: Arc::default(),
        })
    }

    /// Makes one attempt, which ends within `timeout` whatever the peer does.
    ///
    /// Needs a tokio runtime with time and I/O. Dropping the future abandons the attempt: the
    /// connection is closed, and a command is killed with all its children.
    pub async fn run(&self, probe: &Probe, timeout: Duration) -> Report {
        let limit = Limit::of(timeout);
        match (&probe.check, probe.addresses) {
            (check, Addresses::One) if !matches!(check, Check::Several(_)) => {
                self.one(check, Trace::begin(), limit).await
            }
            (check, addresses) => self.many(check, addresses, limit).await,
        }
    }

    /// One check at one address.
    pub(super) async fn one(&self, check: &Check, mut trace: Trace, limit: Limit) -> Report {
        trace.limit(limit);
        let end = timeout_at(limit.ends, self.attempt(check, &mut trace)).await;
        let end = end.unwrap_or_else(|_late| Err(trace.timed_out(limit.timeout)));
        trace.report(end)
    }

    /// Waits until nothing that attempts left behind is under way: a session of an MCP server
    /// whose attempt ran into its deadline is ended after it.
    ///
    /// Ends within seconds. For those who are about to leave; nobody else needs it.
    pub async fn settled(&self) {
        self.mcp.settled().await;
    }

    async fn attempt(&self, check: &Check, trace: &mut Trace) -> Step {
        match check {
            Check::Http(check) => self.by_http(ByHttp::Plain(check), trace).await,
            Check::Mcp(check) => self.by_http(ByHttp::Mcp(check), trace).await,
            Check::Neo4j(check) => self.by_http(ByHttp::Neo4j(check), trace).await,
            Check::McpStdio(check) => Box::pin(mcp::run_stdio(&self.mcp, check, trace)).await,
            Check::Tcp(check) => tcp::run(&self.dialler, check, trace).await,
            Check::Tls(check) => tls::run(&self.dialler, check, trace).await,
            Check::Exec(check) => exec::run(check, trace).await,
            Check::Bolt(check) => Box::pin(bolt::run(&self.dialler, check, trace)).await,
            Check::Dns(check) => Box::pin(dns::run(&self.dialler, check, trace)).await,
            Check::Postgres(check) => Box::pin(postgres::run(&self.dialler, check, trace)).await,
            Check::Redis(check) => Box::pin(redis::run(&self.dialler, check, trace)).await,
            Check::Grpc(check) => {
                Box::pin(grpc::run(&self.dialler, &self.watches, check, trace)).await
            }
            Check::Several(_) => Err(unspoken(check)),
        }
    }

    /// A check that may need a bearer token, which is made anew when a kept one is refused.
    async fn by_http(&self, check: ByHttp<'_>, trace: &mut Trace) -> Step {
        let Some(source) = &check.http().token else { return self.with(check, None, trace).await };
        let mut bearer = Box::pin(self.token(source, None, trace)).await?;
        loop {
            let end = self.with(check, Some(&bearer.token), trace).await;
            if !is_spent(&end, &bearer, trace) {
                return end;
            }
            bearer = Box::pin(self.token(source, Some(&bearer), trace)).await?;
        }
    }

    async fn with(&self, check: ByHttp<'_>, token: Option<&Secret>, trace: &mut Trace) -> Step {
        let dialler = &self.dialler;
        match check {
            ByHttp::Plain(check) => http::run(dialler, check, token, trace).await,
            ByHttp::Mcp(check) => Box::pin(mcp::run(dialler, &self.mcp, check, token, trace)).await,
            ByHttp::Neo4j(check) => Box::pin(neo4j::run(dialler, check, token, trace)).await,
        }
    }

    async fn token(
        &self,
        source: &TokenSource,
        spent: Option<&Bearer>,
        trace: &mut Trace,
    ) -> Step<Bearer> {
        self.tokens.get(&self.dialler, source, spent, trace).await
    }
}

/// A check that asks over HTTP.
#[derive(Clone, Copy)]
enum ByHttp<'a> {
    Plain(&'a HttpCheck),
    Mcp(&'a McpCheck),
    Neo4j(&'a Neo4jCheck),
}

impl<'a> ByHttp<'a> {
    const fn http(self) -> &'a HttpCheck {
        match self {
            Self::Plain(check) => check,
            Self::Mcp(check) => &check.http,
            Self::Neo4j(check) => &check.http,
        }
    }
}

/// Whether an attempt failed with a token that was not made for it.
fn is_spent(end: &Step, bearer: &Bearer, trace: &Trace) -> bool {
    let refused = end.as_ref().is_err_and(|finding| finding.outcome == Outcome::Auth);
    refused && bearer.kept && trace.status == Some(401)
}

fn unspoken(check: &Check) -> Finding {
    Finding::misconfigured(format!("this build does not speak {}", check.label()))
}

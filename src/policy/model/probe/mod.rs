//! What probes do.

mod http;
mod mcp;
mod server;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::policy::secret::Secret;

pub use http::*;
pub use mcp::*;
pub use server::*;

/// A configured check of one endpoint.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Deadline of one attempt.
    pub timeout: Duration,
    /// Which of a name's addresses are tried.
    pub addresses: Addresses,
    /// Fingerprint of everything an attempt depends on, secrets included: attempts of probes with
    /// equal ones may be shared.
    pub fingerprint: u64,
    /// What to do.
    pub check: Check,
}

impl Probe {
    /// A probe of one address an attempt, not to be shared.
    #[must_use]
    pub const fn new(timeout: Duration, check: Check) -> Self {
        Self { timeout, addresses: Addresses::One, fingerprint: 0, check }
    }
}

/// Which of a name's addresses one attempt tries.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Addresses {
    /// One, in turn.
    #[default]
    One,
    /// All at once; at least this many per mille must pass.
    All {
        /// From 1 to 1000.
        min_permille: u32,
    },
}

/// What a probe does.
#[derive(Clone, Debug)]
pub enum Check {
    /// One HTTP request with assertions on the answer.
    Http(Box<HttpCheck>),
    /// A TCP connection.
    Tcp(TcpCheck),
    /// A TLS handshake.
    Tls(TlsCheck),
    /// A command; exit code 0 is a pass.
    Exec(ExecCheck),
    /// An MCP server over streamable HTTP.
    Mcp(Box<McpCheck>),
    /// An MCP server over the standard streams of a private child.
    McpStdio(Box<McpStdioCheck>),
    /// A Neo4j server by Bolt.
    Bolt(Box<BoltCheck>),
    /// A Neo4j server by HTTP.
    Neo4j(Box<Neo4jCheck>),
    /// A Redis server.
    Redis(Box<RedisCheck>),
    /// A `PostgreSQL` server.
    Postgres(Box<PostgresCheck>),
    /// A gRPC server's health service.
    Grpc(Box<GrpcCheck>),
    /// A DNS server.
    Dns(Box<DnsCheck>),
    /// Several checks with one verdict.
    Several(Box<SeveralCheck>),
}

impl Check {
    /// The probe kind's name in the policy and in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Tcp(_) => "tcp",
            Self::Tls(_) => "tls",
            Self::Exec(_) => "exec",
            Self::Mcp(_) => "mcp",
            Self::McpStdio(_) => "mcp_stdio",
            Self::Bolt(_) => "bolt",
            Self::Neo4j(_) => "neo4j",
            Self::Redis(_) => "redis",
            Self::Postgres(_) => "postgres",
            Self::Grpc(_) => "grpc",
            Self::Dns(_) => "dns",
            Self::Several(_) => "several",
        }
    }

    /// Shows every secret in here to `visit`, always in the same order.
    pub fn secrets<'a>(&'a self, visit: &mut dyn FnMut(&'a Secret)) {
        match self {
            Self::Http(http) => http.secrets(visit),
            Self::Tcp(tcp) => tcp.send.iter().for_each(visit),
            Self::Exec(exec) => exec.env.values().for_each(visit),
            Self::Tls(_) | Self::Dns(_) => {}
            Self::Mcp(mcp) => mcp.http.secrets(visit),
            Self::McpStdio(mcp) => mcp.exec.env.values().for_each(visit),
            Self::Bolt(bolt) => bolt.login.iter().for_each(|login| login.secrets(visit)),
            Self::Neo4j(neo4j) => neo4j.http.secrets(visit),
            Self::Redis(redis) => redis.login.iter().for_each(|login| login.secrets(visit)),
            Self::Postgres(postgres) => postgres.login.secrets(visit),
            Self::Grpc(grpc) => grpc.metadata.iter().for_each(|(_, value)| visit(value)),
            Self::Several(several) => {
                several.checks.iter().for_each(|(_, check)| check.secrets(visit));
            }
        }
    }

    /// Where the check connects to, if it is one place on the network.
    #[must_use]
    pub fn target(&self) -> Option<&Target> {
        let of_http = |http: &HttpCheck| http.socket.is_none();
        match self {
            Self::Http(http) => of_http(http).then_some(&http.target),
            Self::Tcp(tcp) => Some(&tcp.target),
            Self::Tls(tls) => Some(&tls.target),
            Self::Mcp(mcp) => of_http(&mcp.http).then_some(&mcp.http.target),
            Self::Bolt(bolt) => Some(&bolt.target),
            Self::Neo4j(neo4j) => of_http(&neo4j.http).then_some(&neo4j.http.target),
            Self::Redis(redis) => Some(&redis.target),
            Self::Postgres(postgres) => Some(&postgres.target),
            Self::Grpc(grpc) => Some(&grpc.target),
            Self::Dns(dns) => Some(&dns.target),
            Self::Exec(_) | Self::McpStdio(_) | Self::Several(_) => None,
        }
    }

    /// How TLS is verified, where the check uses it; of several checks, the first that does.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsOptions> {
        match self {
            Self::Http(http) => http.tls.as_ref(),
            Self::Tls(tls) => Some(&tls.tls),
            Self::Mcp(mcp) => mcp.http.tls.as_ref(),
            Self::Bolt(bolt) => bolt.tls.as_ref(),
            Self::Neo4j(neo4j) => neo4j.http.tls.as_ref(),
            Self::Redis(redis) => redis.tls.as_ref(),
            Self::Postgres(postgres) => postgres.tls.as_ref(),
            Self::Grpc(grpc) => grpc.tls.as_ref(),
            Self::Several(several) => several.checks.iter().find_map(|(_, check)| check.tls()),
            Self::Tcp(_) | Self::Exec(_) | Self::McpStdio(_) | Self::Dns(_) => None,
        }
    }
}

/// Where to connect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// A name or an IP literal without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Which certificates are accepted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Trust {
    /// Valid, for the name, and signed by a trusted root.
    #[default]
    Verified,
    /// Any: for the schemes that say so (`bolt+ssc`, `neo4j+ssc`), and by no other way.
    SelfSigned,
}

/// How TLS is verified.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsOptions {
    /// Which certificates are accepted.
    pub trust: Trust,
    /// The name asked for and verified, when it is not the host.
    pub server_name: Option<String>,
    /// Roots to trust instead of the platform's: PEM text.
    pub ca_pem: Option<String>,
    /// A certificate that ends sooner than this makes a pass `degraded`.
    pub expiry_warning: Duration,
}

/// A TCP connection.
#[derive(Clone, Debug)]
pub struct TcpCheck {
    /// Where to connect.
    pub target: Target,
    /// Bytes to send once connected.
    pub send: Option<Secret>,
    /// Bytes that the answer must contain.
    pub expect: Option<String>,
}

/// A TLS handshake.
#[derive(Clone, Debug)]
pub struct TlsCheck {
    /// Where to connect.
    pub target: Target,
    /// How to verify.
    pub tls: TlsOptions,
}

/// A command; exit code 0 is a pass.
#[derive(Clone, Debug)]
pub struct ExecCheck {
    /// Program and arguments; never a shell line. The endpoint's `env` is set for it.
    pub argv: Vec<String>,
    /// Environment of the command, besides `PATH`.
    pub env: BTreeMap<String, Secret>,
}

/// Several checks with one verdict.
#[derive(Clone, Debug)]
pub struct SeveralCheck {
    /// How many must pass; at least 1, at most as many as there are checks.
    pub need: usize,
    /// The checks, by name; run at once, within the deadline of the whole attempt.
    pub checks: Vec<(String, Check)>,
}

//! What probes do.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::policy::secret::Secret;

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

/// One HTTP request with assertions on the answer.
#[derive(Clone, Debug)]
pub struct HttpCheck {
    /// Where to connect.
    pub target: Target,
    /// TLS, when the scheme is `https`.
    pub tls: Option<TlsOptions>,
    /// The request method, in upper case.
    pub method: String,
    /// Path and query; may hold a secret.
    pub path: Secret,
    /// Request headers beyond `Host`, `User-Agent` and `Accept`.
    pub headers: Vec<(String, Secret)>,
    /// Request body.
    pub body: Option<Secret>,
    /// What the answer must be.
    pub expect: HttpExpect,
    /// The protocol spoken.
    pub version: HttpVersion,
    /// Connect to this unix socket instead of `target`, which then only names the host.
    pub socket: Option<PathBuf>,
    /// Keep the connection for the next attempt. A kept one hides a dead listener.
    pub reuse: bool,
    /// A bearer token made anew for each attempt.
    pub token: Option<TokenSource>,
}

impl HttpCheck {
    /// `GET /` in plain text, with any 2xx as the answer.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            target,
            tls: None,
            method: "GET".to_owned(),
            path: Secret::from("/"),
            headers: Vec::new(),
            body: None,
            expect: HttpExpect { status: vec![(200, 299)], ..HttpExpect::default() },
            version: HttpVersion::Http1,
            socket: None,
            reuse: false,
            token: None,
        }
    }

    fn secrets<'a>(&'a self, visit: &mut dyn FnMut(&'a Secret)) {
        visit(&self.path);
        self.headers.iter().for_each(|(_, value)| visit(value));
        self.body.iter().for_each(&mut *visit);
        match &self.token {
            Some(TokenSource::Jwt(jwt)) => [&jwt.secret, &jwt.claims].into_iter().for_each(visit),
            Some(TokenSource::OAuth(oauth)) => {
                [&oauth.path, &oauth.client_id, &oauth.client_secret].into_iter().for_each(visit);
            }
            None => {}
        }
    }
}

/// The HTTP version spoken.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HttpVersion {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by ALPN over TLS, with prior knowledge in plain text.
    Http2,
}

/// Where a bearer token comes from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// Signed here.
    Jwt(Box<JwtSigner>),
    /// Asked for with client credentials (RFC 6749, section 4.4), kept until shortly before it ends.
    OAuth(Box<OAuthClient>),
}

/// Signs a JSON Web Token with HMAC-SHA-256; the secret itself never leaves.
#[derive(Clone, Debug)]
pub struct JwtSigner {
    /// The key.
    pub secret: Secret,
    /// The claims, without `iat` and `exp`; a JSON object, which may hold identifiers of an account.
    pub claims: Secret,
    /// How long a token is valid.
    pub lifetime: Duration,
}

/// Client credentials for a token endpoint.
#[derive(Clone, Debug)]
pub struct OAuthClient {
    /// Where the token endpoint connects.
    pub target: Target,
    /// TLS, when its scheme is `https`.
    pub tls: Option<TlsOptions>,
    /// Its path and query.
    pub path: Secret,
    /// The client's identifier.
    pub client_id: Secret,
    /// The client's secret.
    pub client_secret: Secret,
    /// The scope asked for.
    pub scope: Option<String>,
    /// The resource that the token is for (RFC 8707).
    pub resource: Option<String>,
}

/// What an HTTP answer must be.
#[derive(Clone, Debug, Default)]
pub struct HttpExpect {
    /// Accepted statuses, as inclusive ranges; never empty.
    pub status: Vec<(u16, u16)>,
    /// Statuses that mean something other than their class says.
    pub outcomes: BTreeMap<u16, MappedOutcome>,
    /// Headers that must be present, and what each must contain (empty: anything).
    pub headers: BTreeMap<String, String>,
    /// Texts that the body must contain.
    pub body_contains: Vec<String>,
    /// Texts that it must not contain.
    pub body_excludes: Vec<String>,
    /// A pattern that it must match.
    pub body_matches: Option<regex_lite::Regex>,
    /// JSON pointers (RFC 6901) and the value that each must have; `None`: it must exist.
    pub json: BTreeMap<String, Option<serde_json::Value>>,
    /// Whether a GraphQL `errors` member fails the check.
    pub graphql: bool,
    /// JSON pointer to how much of a quota is used up. All of it is `throttled`.
    pub quota_used: Option<String>,
    /// JSON pointer to how much the quota is.
    pub quota_limit: Option<String>,
    /// An answer slower than this is `degraded`.
    pub slow: Option<Duration>,
}

/// What a status is mapped to by the policy or a preset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MappedOutcome {
    /// A pass.
    Ok,
    /// A pass with a warning.
    Degraded,
    /// A failure.
    ServerError,
    /// Slow down, or a quota used up.
    Throttled,
    /// Credential refused.
    Auth,
    /// The request is wrong.
    ClientError,
    /// Not in the wanted role.
    WrongRole,
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

/// An MCP server over streamable HTTP.
#[derive(Clone, Debug)]
pub struct McpCheck {
    /// Address, headers and token; method, body and expectations are the protocol's.
    pub http: HttpCheck,
    /// Which era of the protocol is spoken.
    pub era: McpEra,
    /// What the answer must be.
    pub expect: McpExpect,
}

/// An MCP server over the standard streams of a private child.
#[derive(Clone, Debug)]
pub struct McpStdioCheck {
    /// Program, arguments and environment.
    pub exec: ExecCheck,
    /// Which era of the protocol is spoken.
    pub era: McpEra,
    /// What the answer must be.
    pub expect: McpExpect,
    /// Keep the child for the next attempt instead of starting one each time.
    pub keep: bool,
}

/// An era of the MCP protocol.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum McpEra {
    /// Found out by asking, and remembered.
    #[default]
    Auto,
    /// 2026-07-28: `server/discover`, no sessions.
    Modern,
    /// Up to 2025-11-25: `initialize`, `ping`, `DELETE`.
    Legacy,
}

/// What an MCP server must be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct McpExpect {
    /// Tools that it must list; when empty its tools are not asked for.
    pub tools: Vec<String>,
    /// The name that it must give for itself.
    pub server: Option<String>,
    /// An answer that only asks for a credential is a pass: the server is there, and no more is known.
    pub unauthorized: bool,
    /// An answer slower than this is `degraded`.
    pub slow: Option<Duration>,
}

/// A Neo4j server by Bolt.
#[derive(Clone, Debug)]
pub struct BoltCheck {
    /// Where to connect.
    pub target: Target,
    /// TLS, when the scheme asks for it.
    pub tls: Option<TlsOptions>,
    /// How far to go.
    pub depth: BoltDepth,
    /// User and password; without them the scheme `none` is used.
    pub login: Option<Login>,
    /// The database; the server's default when absent.
    pub database: Option<String>,
    /// The role that the server must have for the database; asked with ROUTE.
    pub role: Role,
    /// What the server must call itself, such as `Neo4j/5.26.0`: a part of it.
    pub server: Option<String>,
    /// The id that the database must have, as `CALL db.info()` shows it; needs a query.
    pub database_id: Option<String>,
    /// An answer slower than this is `degraded`.
    pub slow: Option<Duration>,
}

/// How far a Bolt check goes.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum BoltDepth {
    /// Version negotiation only.
    #[default]
    Handshake,
    /// HELLO and LOGON.
    Login,
    /// `RETURN 1`.
    Query,
}

/// User and password.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user; empty where only a password is needed.
    pub username: Secret,
    /// The password.
    pub password: Secret,
}

impl Login {
    fn secrets<'a>(&'a self, visit: &mut dyn FnMut(&'a Secret)) {
        visit(&self.username);
        visit(&self.password);
    }
}

/// The role wanted of a member of a cluster.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Role {
    /// Any.
    #[default]
    Any,
    /// Takes writes: leader, primary, master.
    Writer,
    /// Serves reads only: follower, secondary, replica.
    Reader,
}

/// A Neo4j server by HTTP.
#[derive(Clone, Debug)]
pub struct Neo4jCheck {
    /// Address, headers and credential; method, path, body and expectations are the protocol's.
    pub http: HttpCheck,
    /// What is asked.
    pub ask: Neo4jQuestion,
    /// The database asked about.
    pub database: String,
    /// The id that it must have, as `CALL db.info()` shows it; needs a query.
    pub database_id: Option<String>,
}

/// What is asked of a Neo4j server by HTTP.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Neo4jQuestion {
    /// The discovery document; needs no credential.
    #[default]
    Discovery,
    /// `RETURN 1` by the query API, or by the transaction API where there is none.
    Query,
    /// Whether it takes writes for the database.
    Writable,
    /// Whether it serves only reads for the database.
    ReadOnly,
    /// Whether it takes part in the cluster.
    Available,
}

/// A Redis server.
#[derive(Clone, Debug)]
pub struct RedisCheck {
    /// Where to connect.
    pub target: Target,
    /// TLS, when the scheme is `rediss`.
    pub tls: Option<TlsOptions>,
    /// User (may be empty) and password.
    pub login: Option<Login>,
    /// The role that it must have.
    pub role: Role,
    /// A replica further behind than this many seconds since the last word from its master is `degraded`.
    pub max_lag: Option<Duration>,
    /// An answer slower than this is `degraded`.
    pub slow: Option<Duration>,
}

/// A `PostgreSQL` server.
#[derive(Clone, Debug)]
pub struct PostgresCheck {
    /// Where to connect.
    pub target: Target,
    /// TLS, when asked for; begun by an `SSLRequest`.
    pub tls: Option<TlsOptions>,
    /// The user, and a password that may be empty.
    pub login: Login,
    /// Whether to log in, because a password was given or a role or lag is asked for.
    pub authenticate: bool,
    /// The database.
    pub database: Option<String>,
    /// The role that it must have; needs a login.
    pub role: Role,
    /// A standby further behind than this is `degraded`; needs a login.
    pub max_lag: Option<Duration>,
    /// An answer slower than this is `degraded`.
    pub slow: Option<Duration>,
}

/// A gRPC server's health service, `grpc.health.v1`.
#[derive(Clone, Debug)]
pub struct GrpcCheck {
    /// Where to connect.
    pub target: Target,
    /// TLS, when the scheme is `grpcs`.
    pub tls: Option<TlsOptions>,
    /// The service asked about; the whole server when empty.
    pub service: String,
    /// Request metadata.
    pub metadata: Vec<(String, Secret)>,
    /// Stay connected and be told of changes.
    pub watch: bool,
    /// An answer slower than this is `degraded`.
    pub slow: Option<Duration>,
}

/// A DNS server.
#[derive(Clone, Debug)]
pub struct DnsCheck {
    /// The server.
    pub target: Target,
    /// The name asked for.
    pub name: String,
    /// The record asked for.
    pub record: DnsRecord,
    /// Values of which one must be in the answer; any answer will do when empty.
    pub expect: Vec<String>,
    /// An answer slower than this is `degraded`.
    pub slow: Option<Duration>,
}

/// A kind of DNS record.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DnsRecord {
    /// IPv4 address.
    #[default]
    A,
    /// IPv6 address.
    Aaaa,
    /// Alias.
    Cname,
    /// Text.
    Txt,
    /// Service location.
    Srv,
}

/// Several checks with one verdict.
#[derive(Clone, Debug)]
pub struct SeveralCheck {
    /// How many must pass; at least 1, at most as many as there are checks.
    pub need: usize,
    /// The checks, by name; run at once, within the deadline of the whole attempt.
    pub checks: Vec<(String, Check)>,
}

//! Checks that speak the protocol of a database, or of another server than HTTP's.

use std::time::Duration;

use crate::policy::model::probe::{HttpCheck, Target, TlsOptions};
use crate::policy::secret::Secret;

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
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Login {
    /// The user; empty where only a password is needed.
    pub username: Secret,
    /// The password.
    pub password: Secret,
}

impl Login {
    pub(super) fn secrets<'a>(&'a self, visit: &mut dyn FnMut(&'a Secret)) {
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

//! The Redis server that is told the state and every decision.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::model::{Login, Target};

/// A Redis server, and what is kept there. Its display form is its address, free of secrets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Redis {
    /// Host and port.
    pub target: Target,
    /// Who we are there; nobody in particular without.
    pub login: Option<Login>,
    /// The number of its database.
    pub database: u32,
    /// TLS, when the scheme asks for it.
    pub tls: Option<RedisTls>,
    /// What every key begins with.
    pub prefix: String,
    /// Decisions kept there.
    pub history: usize,
    /// How long a decision is kept there.
    pub history_age: Duration,
    /// Whether a start without state takes up what is there.
    pub recover: bool,
    /// How long one exchange may take.
    pub timeout: Duration,
    /// Whether the keys of the first prototype are written too.
    pub compat: bool,
}

/// Whom to trust.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RedisTls {
    /// Certificates to trust, as PEM; the platform's without.
    pub ca: Option<Arc<str>>,
}

impl fmt::Display for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        let Target { host, port } = &self.target;
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}/{}", self.database)
        } else {
            write!(f, "{scheme}://{host}:{port}/{}", self.database)
        }
    }
}

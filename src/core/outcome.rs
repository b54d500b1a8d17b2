//! The one result type shared by probes, reports, breaker, score and metric labels.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one attempt or report found.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It served as expected.
    Ok,
    /// It served, but slowly or with a warning such as a certificate about to expire.
    Degraded,
    /// The connection was refused.
    Refused,
    /// No answer within the deadline.
    Timeout,
    /// The connection was cut before the answer was complete.
    Reset,
    /// The name does not exist or has no address.
    Dns,
    /// The TLS handshake failed, or the certificate is not acceptable.
    Tls,
    /// It answered that it cannot serve (5xx, starting up, saturated).
    ServerError,
    /// Something else answered, or the answer breaks an expectation.
    Protocol,
    /// It told us to slow down or that a quota is used up.
    Throttled {
        /// How long it asked us to stay away, if it said so.
        retry_after: Option<Duration>,
    },
    /// It refused our credential.
    Auth,
    /// It refused our request as malformed: the probe is wrong, not the service.
    ClientError,
    /// It serves, but not in the role wanted (a replica where a writer is needed).
    WrongRole,
    /// Our own fault: no route, no descriptors, resolver down. Says nothing about the endpoint.
    Local,
}

/// How an outcome counts towards health and breaker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// A success in a row.
    Pass,
    /// A failure in a row.
    Fail,
    /// Neither: it interrupts no streak.
    Neutral,
}

impl Outcome {
    /// Every label, in the order of declaration; the bound of the metric label `outcome`.
    pub const LABELS: [&'static str; 14] = [
        "ok",
        "degraded",
        "refused",
        "timeout",
        "reset",
        "dns",
        "tls",
        "server_error",
        "protocol",
        "throttled",
        "auth",
        "client_error",
        "wrong_role",
        "local",
    ];

    /// The outcome's name in metrics, logs and JSON.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::ServerError => "server_error",
            Self::Protocol => "protocol",
            Self::Throttled { .. } => "throttled",
            Self::Auth => "auth",
            Self::ClientError => "client_error",
            Self::WrongRole => "wrong_role",
            Self::Local => "local",
        }
    }

    /// How the outcome counts in a row of passes or failures.
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Ok | Self::Degraded => Verdict::Pass,
            Self::Refused
            | Self::Timeout
            | Self::Reset
            | Self::Dns
            | Self::Tls
            | Self::ServerError
            | Self::Protocol => Verdict::Fail,
            Self::Throttled { .. }
            | Self::Auth
            | Self::ClientError
            | Self::WrongRole
            | Self::Local => Verdict::Neutral,
        }
    }

    /// Whether the outcome could as well mean that our own network is cut.
    #[must_use]
    pub const fn may_be_ours(self) -> bool {
        matches!(self, Self::Timeout | Self::Dns | Self::Local)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// An outcome with what is needed to weigh and to explain it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Observation {
    /// The typed result.
    pub outcome: Outcome,
    /// How long the attempt took from start to verdict.
    pub latency: Duration,
    /// What was seen, for people, such as `HTTP 503`; free of secrets.
    pub detail: Option<Arc<str>>,
}

impl Observation {
    /// An observation without detail.
    #[must_use]
    pub const fn new(outcome: Outcome, latency: Duration) -> Self {
        Self { outcome, latency, detail: None }
    }

    /// The same observation, saying what was seen.
    #[must_use]
    pub fn with_detail(mut self, detail: &str) -> Self {
        self.detail = Some(Arc::from(detail));
        self
    }
}

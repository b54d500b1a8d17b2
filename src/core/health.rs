//! Turns a run of outcomes into a verdict with hysteresis.

use serde::{Deserialize, Serialize};

/// Observed health of an endpoint.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Never proven either way.
    #[default]
    Unknown,
    /// It serves.
    Healthy,
    /// It serves, with a warning.
    Degraded,
    /// It does not serve.
    Unhealthy,
    /// It asked to be left alone for a while.
    Throttled,
    /// It refuses our credential.
    AuthFailed,
}

impl Health {
    /// Every label; the bound of the metric label `state`.
    pub const LABELS: [&'static str; 6] =
        ["unknown", "healthy", "degraded", "unhealthy", "throttled", "auth_failed"];

    /// Its name in JSON, metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
            Self::Throttled => "throttled",
            Self::AuthFailed => "auth_failed",
        }
    }
}

//! Decides whether an endpoint may be tried at all.

use serde::{Deserialize, Serialize};

/// What the breaker does with traffic, as shown to people.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls flow.
    #[default]
    Closed,
    /// Calls are blocked.
    Open,
    /// Trials are allowed.
    HalfOpen,
    /// Blocked by hand.
    ForcedOpen,
    /// Flowing by hand.
    ForcedClosed,
    /// Switched off: always flows, counts nothing.
    Disabled,
    /// Counts and says when it would trip, but never blocks.
    MetricsOnly,
}

impl BreakerState {
    /// Every label; the bound of the metric label `state`.
    pub const LABELS: [&'static str; 7] =
        ["closed", "open", "half_open", "forced_open", "forced_closed", "disabled", "metrics_only"];

    /// Its name in JSON, metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics_only",
        }
    }
}

/// Why a breaker tripped: for people, not for behaviour.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TripReason {
    /// Too many failures in a row.
    Consecutive,
    /// Too high a share of failures in the window.
    FailureRate,
    /// Too high a share of slow calls in the window.
    SlowRate,
    /// A trial failed, or did not come back.
    TrialFailed,
    /// By hand.
    Forced,
}

impl TripReason {
    /// Its name in JSON, metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::FailureRate => "failure_rate",
            Self::SlowRate => "slow_rate",
            Self::TrialFailed => "trial_failed",
            Self::Forced => "forced",
        }
    }
}

//! What a decision is made from: everything known of one service at one moment.

use std::time::Duration;

use serde::Serialize;

use crate::core::action::{HoldReason, MoveKind};
use crate::core::time::Instant;

/// Why an endpoint is not usable.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Its breaker blocks.
    BreakerOpen,
    /// It failed its probes.
    Unhealthy,
    /// It refuses our credential.
    AuthFailed,
    /// It serves in another role.
    WrongRole,
    /// It asked to be left alone.
    Throttled,
    /// Its breaker lets single trials through.
    BreakerTrial,
    /// It was never proven either way.
    Unknown,
    /// Its score is too low to be chosen.
    LowScore,
}

impl Fault {
    /// Whether it may turn out to be usable as soon as a probe passes.
    pub(super) const fn open_question(self) -> bool {
        matches!(self, Self::Unknown | Self::BreakerTrial)
    }
}

/// What is known of one endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Its tier; 0 is preferred.
    pub tier: u32,
    /// Whether a person took it out.
    pub drained: bool,
    /// Why it is not usable, if it is not.
    pub fault: Option<Fault>,
    /// Whether it serves with a warning.
    pub degraded: bool,
    /// Whether a fresh pass proves it.
    pub proven: bool,
    /// Failures in a row.
    pub failures: u32,
    /// Passes in a row.
    pub passes: u32,
    /// Its score in per mille.
    pub score: u16,
    /// When it will have been usable long enough to return to it.
    pub held_at: Option<Instant>,
    /// Until when its flapping forbids a return.
    pub suppressed_until: Option<Instant>,
    /// Until when no return to it is tried, because the last one did not take effect.
    pub barred_until: Option<Instant>,
    /// Fingerprint of its credential.
    pub credential: u64,
    /// Fingerprint of whoever's quota it uses.
    pub account: u64,
}

impl Candidate {
    pub(super) const fn usable(&self) -> bool {
        !self.drained && self.fault.is_none()
    }
}

/// Where a service is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Place {
    /// Not published yet.
    Starting {
        /// Since when it waits.
        since: Instant,
        /// How long it waits for a proof.
        patience: Duration,
    },
    /// Published without an endpoint.
    Nowhere,
    /// At this candidate.
    At(usize),
}

/// Automatic moves left.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Budget {
    /// How many.
    pub left: u32,
    /// When one more is.
    pub frees_at: Option<Instant>,
}

/// Everything that decides about one service.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Where it is.
    pub place: Place,
    /// Where a person pinned it.
    pub pinned: Option<usize>,
    /// Whether a person paused it.
    pub paused: bool,
    /// Why our own evidence cannot be trusted, when it cannot.
    pub blind: Option<HoldReason>,
    /// Whether a person chose the present place, so that only its failure leaves it.
    pub manual: bool,
    /// Whether it has just moved there, so that one failure is enough to move on.
    pub verifying: bool,
    /// Whether an outage of everything was told already, and what it asks for was done.
    pub outage: bool,
    /// Since when candidates are being proven.
    pub waiting_since: Option<Instant>,
    /// Automatic moves left.
    pub budget: Budget,
    /// The endpoints, in the order of the file.
    pub candidates: &'a [Candidate],
}

/// Why the active endpoint must be left.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// It is not usable.
    Fault(Fault),
    /// A person took it out.
    Drained,
    /// It failed right after the move.
    VerifyFailed,
    /// There is none.
    Nothing,
}

impl Loss {
    /// Whether the endpoint does not serve at all, so that anything usable is better.
    pub(super) const fn hard(self) -> bool {
        match self {
            Self::Fault(fault) => matches!(
                fault,
                Fault::BreakerOpen | Fault::Unhealthy | Fault::WrongRole | Fault::BreakerTrial
            ),
            Self::Nothing => true,
            Self::Drained | Self::VerifyFailed => false,
        }
    }

    pub(super) const fn kind(self) -> MoveKind {
        match self {
            Self::Drained => MoveKind::Switchover,
            Self::Fault(_) | Self::VerifyFailed | Self::Nothing => MoveKind::Failover,
        }
    }
}

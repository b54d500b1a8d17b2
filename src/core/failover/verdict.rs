//! What a decision comes to, with the reasoning that led there.

use serde::{Deserialize, Serialize};

use super::view::{Candidate, Loss, View};
use crate::core::action::{HoldReason, MoveKind};
use crate::core::time::Instant;

/// One step of the reasoning, in order.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// A person pinned the service.
    Pinned,
    /// A person paused it.
    Paused,
    /// Our own evidence cannot be trusted.
    Blind,
    /// The service is not published yet.
    Starting,
    /// The active endpoint serves.
    ActiveServes,
    /// The active endpoint must be left.
    Lost {
        /// Why.
        loss: Loss,
    },
    /// This candidate is usable and proven.
    Proven {
        /// Its place in the order of the file.
        candidate: usize,
    },
    /// Nothing is proven yet; candidates are probed fast.
    AwaitingProof {
        /// When the best unproven one is taken.
        until: Option<Instant>,
    },
    /// Nothing could be proven in time; this is the best guess.
    Unproven {
        /// Its place in the order of the file.
        candidate: usize,
    },
    /// An endpoint of a better tier has not answered yet.
    BetterTierUnsettled,
    /// Every other usable endpoint shares the credential or quota.
    SameCredential,
    /// No endpoint is usable.
    NothingAlive,
    /// There is nowhere better to go.
    NowhereElse,
    /// Too many automatic moves lately.
    BudgetSpent,
    /// An endpoint of a better tier is usable.
    BetterTier {
        /// Its place in the order of the file.
        candidate: usize,
        /// What keeps us from returning now.
        waits_for: Option<Wait>,
    },
}

/// What keeps a service from returning to a better tier.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// The policy leaves it to a person.
    ManualMode,
    /// The policy forbids it.
    NeverMode,
    /// A person chose the present endpoint.
    PersonsChoice,
    /// It came and went too often.
    Suppressed,
    /// It has not been usable long enough.
    Hold,
    /// It has not passed often enough in a row.
    Rise,
    /// Its latest pass is too old; it is being probed again.
    FreshPass,
    /// The budget keeps its last move for an emergency.
    Budget,
    /// The last move there did not take effect.
    RolledBack,
}

/// A return that is being prepared.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
pub struct Return {
    /// Where to.
    pub to: usize,
    /// When, if nothing changes and nobody must act first.
    pub at: Option<Instant>,
    /// What it waits for.
    pub waits_for: Wait,
}

impl Return {
    /// Whether fresh passes of the endpoint are all that it waits for.
    #[must_use]
    pub const fn wants_proof(self) -> bool {
        matches!(self.waits_for, Wait::Rise | Wait::FreshPass)
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "next", rename_all = "snake_case")]
pub enum Next {
    /// Nothing.
    Stay,
    /// A move is due, but must not happen.
    Hold {
        /// What stops it.
        why: HoldReason,
    },
    /// Go there; `None` publishes the service without an endpoint.
    Go {
        /// Its place in the order of the file.
        to: Option<usize>,
        /// What sort of move.
        kind: MoveKind,
    },
}

/// The decision with its reasons.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What to do.
    pub next: Next,
    /// Why the active endpoint must be left, if it must.
    pub loss: Option<Loss>,
    /// Whether no endpoint is usable.
    pub outage: bool,
    /// The return being prepared.
    pub comeback: Option<Return>,
    /// When time alone may change the verdict.
    pub wake: Option<Instant>,
    /// How it came about.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    pub(super) fn new(view: &View<'_>, loss: Option<Loss>) -> Self {
        let outage = view.outage && !view.candidates.iter().any(Candidate::usable);
        Self { next: Next::Stay, loss, outage, comeback: None, wake: None, reasons: Vec::new() }
    }

    pub(super) fn because(mut self, reason: Reason) -> Self {
        self.reasons.push(reason);
        self
    }

    pub(super) fn go(mut self, to: Option<usize>, kind: MoveKind) -> Self {
        self.next = Next::Go { to, kind };
        self
    }

    pub(super) fn hold(mut self, why: HoldReason, until: Option<Instant>) -> Self {
        self.next = Next::Hold { why };
        self.wake = until;
        self
    }
}

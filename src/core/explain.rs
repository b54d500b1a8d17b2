//! A decision taken apart for people: where a service is, why, and what would move it.
//!
//! Data and its words; what is true is found out by `engine`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::breaker::BreakerState;
use crate::core::failover::{Fault, Loss, Next, Reason, Wait};
use crate::core::health::Health;
use crate::core::id::{EndpointName, ServiceName};
use crate::core::schedule::Bound;
use crate::core::status::ServiceState;
use crate::core::time::Instant;

/// One service, explained.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Explanation {
    /// The service.
    pub service: ServiceName,
    /// In one word.
    pub state: ServiceState,
    /// Where it is.
    pub active: Option<EndpointName>,
    /// For how long.
    pub active_for: Option<Duration>,
    /// Where a person pinned it.
    pub pinned: Option<EndpointName>,
    /// How much of the pin is left; for ever when absent.
    pub pin_left: Option<Duration>,
    /// Whether a person chose the present place, which suspends the return to a better tier.
    pub manual: bool,
    /// What would be decided now.
    pub verdict: Next,
    /// Why, in order.
    pub reasons: Vec<String>,
    /// Every endpoint, in the order of the file.
    pub candidates: Vec<CandidateView>,
    /// How soon an outage is noticed.
    pub detection: DetectionView,
    /// The return being prepared.
    pub failback: Option<FailbackView>,
    /// Automatic moves left.
    pub budget: BudgetView,
}

/// One endpoint as a choice.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CandidateView {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// Its tier.
    pub tier: u32,
    /// Whether the service is there.
    pub active: bool,
    /// Why it would not be chosen; `None` when it could be.
    pub unusable: Option<String>,
    /// Whether a fresh pass proves it.
    pub proven: bool,
    /// Its health.
    pub health: Health,
    /// Its breaker.
    pub breaker: BreakerState,
    /// Its score in per mille.
    pub score: u16,
    /// The latest result.
    pub last: String,
    /// How long ago that was.
    pub last_age: Option<Duration>,
}

/// How soon an outage of the active endpoint is noticed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DetectionView {
    /// By the frequent check.
    pub shallow: Bound,
    /// By the rare one.
    pub deep: Option<Bound>,
    /// By the frequent check while more endpoints waver at once than can be asked fast; absent
    /// where the policy is too small for that.
    #[serde(default)]
    pub crowded: Option<Bound>,
    /// How long a confirmation waits for its turn at present.
    #[serde(default)]
    pub wait: Duration,
}

/// A return being prepared.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FailbackView {
    /// Where to.
    pub to: EndpointName,
    /// How soon if nothing changes; absent when a person must act first.
    pub within: Option<Duration>,
    /// What it waits for.
    pub waits_for: Wait,
}

/// Automatic moves left.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BudgetView {
    /// How many.
    pub left: u32,
    /// Of how many.
    pub of: u32,
    /// Within which span.
    pub window: Duration,
    /// How soon one more is free.
    pub frees_in: Option<Duration>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.label();
        match &self.active {
            Some(active) => write!(f, "{}: {state}, at {active}", self.service)?,
            None => write!(f, "{}: {state}, at no endpoint", self.service)?,
        }
        if let Some(span) = self.active_for {
            write!(f, " for {}", Span(span))?;
        }
        writeln!(f)?;
        for reason in &self.reasons {
            writeln!(f, "  - {reason}")?;
        }
        for candidate in &self.candidates {
            writeln!(f, "  {candidate}")?;
        }
        writeln!(f, "  {}", self.detection)?;
        if let Some(back) = &self.failback {
            writeln!(f, "  {back}")?;
        }
        let BudgetView { left, of, window, .. } = self.budget;
        write!(f, "  {left} of {of} automatic moves left within {}", Span(window))
    }
}

impl fmt::Display for DetectionView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bound { refused, silent } = self.shallow;
        let (refused, silent) = (Span(refused), Span(silent));
        write!(f, "an outage is noticed within {refused} (refused), {silent} (silent)")?;
        if let Some(Bound { refused, silent }) = self.crowded {
            let (refused, silent) = (Span(refused), Span(silent));
            let when = if self.wait.is_zero() { "if hundreds waver at once" } else { "at present" };
            write!(f, "; {when}, within {refused} (refused), {silent} (silent)")?;
        }
        Ok(())
    }
}

impl fmt::Display for CandidateView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.active { '*' } else { ' ' };
        write!(f, "{mark} {} (tier {}): ", self.endpoint, self.tier)?;
        match &self.unusable {
            Some(why) => f.write_str(why),
            None if self.proven => f.write_str("usable and proven"),
            None => f.write_str("usable, no fresh pass"),
        }
    }
}

impl fmt::Display for FailbackView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "return to {}: {}", self.to, self.waits_for.sentence())?;
        self.within.map_or(Ok(()), |span| write!(f, ", in {}", Span(span)))
    }
}

/// A span in words.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&span(self.0))
    }
}

/// A span in words: to a tenth of a second below a minute, to a second below an hour.
#[must_use]
pub fn span(span: Duration) -> String {
    if span < Duration::from_secs(60) {
        return format!("{:.1} s", span.as_secs_f64());
    }
    let secs = span.as_secs();
    match (secs / 3600, secs / 60 % 60, secs % 60) {
        (0, m, 0) => format!("{m} min"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

impl Wait {
    /// In words.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::ManualMode => "the policy leaves it to a person",
            Self::NeverMode => "the policy forbids it",
            Self::PersonsChoice => "a person chose the present endpoint",
            Self::Suppressed => "it came and went too often",
            Self::Hold => "it must stay usable for the hold time",
            Self::Rise => "it must pass more often in a row",
            Self::FreshPass => "it is being asked once more",
            Self::Budget => "the last automatic move is kept for an emergency",
            Self::RolledBack => "the last move there did not take effect",
        }
    }
}

impl Fault {
    /// In words.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::BreakerOpen => "its breaker is open",
            Self::Unhealthy => "it failed its probes",
            Self::AuthFailed => "it refuses our credential",
            Self::WrongRole => "it serves in another role",
            Self::Throttled => "it asked to be left alone",
            Self::BreakerTrial => "its breaker is trying it out",
            Self::Unknown => "it was never proven",
            Self::LowScore => "its score is too low",
        }
    }
}

impl Reason {
    /// In words; `name` gives the name of a candidate.
    #[must_use]
    pub fn sentence<'a>(
        &self,
        name: &impl Fn(usize) -> Option<&'a EndpointName>,
        now: Instant,
    ) -> String {
        let named = |at: &usize| name(*at).map_or_else(|| "?".to_owned(), ToString::to_string);
        match self {
            Self::Pinned => "a person pinned the service".to_owned(),
            Self::Paused => "a person paused the service".to_owned(),
            Self::Blind => "our own evidence cannot be trusted now".to_owned(),
            Self::Starting => "the service is not published yet".to_owned(),
            Self::ActiveServes => "the active endpoint serves".to_owned(),
            Self::Lost { loss } => match loss {
                Loss::Fault(fault) => format!("the active endpoint is lost: {}", fault.sentence()),
                Loss::Drained => "the active endpoint is drained".to_owned(),
                Loss::VerifyFailed => "the active endpoint failed right after the move".to_owned(),
                Loss::Nothing => "no endpoint is published".to_owned(),
            },
            Self::Proven { candidate } => format!("{} is usable and proven", named(candidate)),
            Self::AwaitingProof { until: None } => "waiting for a proof".to_owned(),
            Self::AwaitingProof { until: Some(until) } => {
                format!("waiting for a proof, for {} at most", span(until.since(now)))
            }
            Self::Unproven { candidate } => format!("{} is the best guess", named(candidate)),
            Self::BetterTierUnsettled => "a better tier has not answered yet".to_owned(),
            Self::SameCredential => "the others share its credential or quota".to_owned(),
            Self::NothingAlive => "no endpoint is usable".to_owned(),
            Self::NowhereElse => "there is nowhere better to go".to_owned(),
            Self::BudgetSpent => "too many automatic moves lately".to_owned(),
            Self::BetterTier { candidate, waits_for: None } => {
                format!("{} of a better tier is ready", named(candidate))
            }
            Self::BetterTier { candidate, waits_for: Some(wait) } => {
                format!("{} of a better tier is usable, but {}", named(candidate), wait.sentence())
            }
        }
    }
}

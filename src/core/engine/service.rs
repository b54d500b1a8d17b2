//! One service: where it is, what people ordered, and what it is waiting for.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::core::action::{HoldReason, MoveKind};
use crate::core::failover::{Budget, Loss, Return};
use crate::core::id::{EndpointName, Revision, ServiceName};
use crate::core::rules::ServiceRules;
use crate::core::select::Selector;
use crate::core::time::Instant;

/// A person's order to stay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pin {
    pub(super) index: u32,
    pub(super) until: Option<Instant>,
}

/// A move, and where it led from.
#[derive(Clone, Debug)]
pub(super) struct Left {
    pub(super) revision: Revision,
    pub(super) kind: MoveKind,
    pub(super) endpoint: Option<EndpointName>,
}

/// One logical upstream.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) rules: Arc<ServiceRules>,
    /// Its first slot; the others follow.
    pub(super) first: u32,
    pub(super) count: u32,
    /// Since when it exists.
    pub(super) started_at: Instant,
    pub(super) published: bool,
    pub(super) active: Option<u32>,
    pub(super) active_since: Option<Instant>,
    /// The latest move of this process, and where it led from.
    pub(super) left: Option<Left>,
    /// Until when one failure of the active endpoint is enough to move on.
    pub(super) verify_until: Option<Instant>,
    pub(super) pin: Option<Pin>,
    pub(super) paused: bool,
    pub(super) manual: bool,
    /// Automatic moves, oldest first.
    pub(super) moves: VecDeque<Instant>,
    pub(super) held: Option<HoldReason>,
    pub(super) outage: bool,
    pub(super) critical_told: bool,
    pub(super) waiting_since: Option<Instant>,
    /// Since when it looks for somewhere to go.
    pub(super) alarm_since: Option<Instant>,
    pub(super) loss: Option<Loss>,
    pub(super) comeback: Option<Return>,
    pub(super) selector: Selector,
    /// Whether a decision is asked for at the end of the step.
    pub(super) dirty: bool,
}

impl Service {
    pub(super) fn new(rules: Arc<ServiceRules>, now: Instant) -> Self {
        Self {
            rules,
            first: 0,
            count: 0,
            started_at: now,
            published: false,
            active: None,
            active_since: None,
            left: None,
            verify_until: None,
            pin: None,
            paused: false,
            manual: false,
            moves: VecDeque::new(),
            held: None,
            outage: false,
            critical_told: false,
            waiting_since: None,
            alarm_since: None,
            loss: None,
            comeback: None,
            selector: Selector::new(),
            dirty: false,
        }
    }

    pub(super) fn name(&self) -> &ServiceName {
        &self.rules.name
    }

    pub(super) fn slots(&self) -> std::ops::Range<u32> {
        self.first..self.first + self.count
    }

    pub(super) fn endpoint_name(&self, index: u32) -> Option<&EndpointName> {
        let at = usize::try_from(index).ok()?;
        self.rules.endpoints.get(at).map(|endpoint| &endpoint.name)
    }

    pub(super) fn active_name(&self) -> Option<&EndpointName> {
        self.endpoint_name(self.active?)
    }

    pub(super) fn index_of(&self, endpoint: &str) -> Option<u32> {
        let at = self.rules.endpoints.iter().position(|one| one.name.as_str() == endpoint)?;
        u32::try_from(at).ok()
    }

    pub(super) fn is_active(&self, index: u32) -> bool {
        self.active == Some(index)
    }

    /// Whether any result of any of its endpoints may change the decision.
    pub(super) const fn restless(&self) -> bool {
        !self.published
            || self.loss.is_some()
            || self.outage
            || self.comeback.is_some()
            || self.alarm_since.is_some()
            || self.held.is_some()
    }

    /// Automatic moves left within the window.
    pub(super) fn budget(&self, now: Instant) -> Budget {
        let rules = &self.rules.failover;
        let recent = self.moves.iter().filter(|at| now.since(**at) < rules.budget_window);
        let used = u32::try_from(recent.clone().count()).unwrap_or(u32::MAX);
        let oldest = recent.min().map(|at| *at + rules.budget_window);
        Budget { left: rules.budget.saturating_sub(used), frees_at: oldest }
    }

    /// Counts an automatic move.
    pub(super) fn spend(&mut self, now: Instant) {
        let window = self.rules.failover.budget_window;
        self.moves.retain(|at| now.since(*at) < window);
        self.moves.push_back(now);
    }
}

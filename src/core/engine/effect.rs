//! What follows when a move does not reach its reader: people are told, and if the policy says so
//! the service goes back to where the reader still is.
//!
//! Invariants
//! 1. A move is rolled back at most once, and a roll-back never: readers that follow nothing must
//!    not make a service go to and fro. Nor is a failover: an emergency is not undone.
//! 2. A roll-back needs an endpoint to go back to that is usable, passed its latest probe, and is
//!    not known to be worse than the present one.
//! 3. It obeys what stops every other automatic move: pins, pauses, blindness, the budget; and it
//!    never takes the budget's last move.
//! 4. The automatic return to where it did not work is barred, for longer each time in a row, until
//!    a move there is taken up, a person orders something, or the policy changes. No bar delays an
//!    emergency.

use std::sync::Arc;
use std::time::Duration;

use crate::core::action::{Event, MoveKind};
use crate::core::backoff::Backoff;
use crate::core::explain::span;
use crate::core::failover::{Candidate, HYSTERESIS};
use crate::core::id::{Revision, ServiceName};
use crate::core::input::Order;
use crate::core::time::Instant;

use super::deciding::Move;
use super::evidence::unusable;
use super::probing::usize_of;
use super::service::Service;
use super::{Engine, count};

/// No bar is shorter, however short the hold of a return is.
const BAR_MIN: Duration = Duration::from_secs(60);
/// No bar is longer.
const BAR_MAX: Duration = Duration::from_secs(24 * 3600);
/// After so many in a row every bar is the longest.
pub(super) const BAR_DOUBLINGS: u32 = 12;

/// Moves to an endpoint that were rolled back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bar {
    /// How many in a row.
    pub(super) count: u32,
    /// Until when no return to it is tried.
    pub(super) until: Option<Instant>,
}

/// A reader that lags behind.
pub(super) struct Lag {
    pub(super) output: Arc<str>,
    pub(super) revision: Revision,
    pub(super) waited: Duration,
    pub(super) roll_back: bool,
}

impl Engine {
    pub(super) fn ineffective(&mut self, name: &ServiceName, lag: &Lag, now: Instant) {
        // What is due by now may have moved the service on.
        self.settle_all(now);
        let Some(service) = self.by_name.get(name.as_str()).copied() else { return };
        let way = self.way_back(service, lag.revision, now);
        let Some(way) = way else { return };
        let since = format!("not in use {} after it was decided", span(lag.waited));
        let cause = match way {
            _ if !lag.roll_back => since,
            Err(why) => format!("{since}; not rolled back: {why}"),
            Ok(to) => {
                let cause = format!("{} does not use revision {}", lag.output, lag.revision);
                let order = Move {
                    from: None,
                    to: Some(to),
                    kind: MoveKind::Rollback,
                    cause,
                    verify: true,
                };
                self.bar(service, now);
                self.relocate(service, order, now);
                format!("{since}; rolled back")
            }
        };
        let (service, output, revision) = (name.clone(), Arc::clone(&lag.output), lag.revision);
        self.batch.tell(Event::Ineffective { service, output, revision, cause });
    }

    /// Where the move led from, if the service may go back there, or else why not; `None` when it
    /// has moved on since.
    fn way_back(&self, service: u32, moved: Revision, now: Instant) -> Option<Result<u32, String>> {
        let state = self.service(service)?;
        let left = state.left.as_ref().filter(|left| left.revision == moved)?;
        let stopped = if left.kind == MoveKind::Rollback {
            Some("it is itself a roll-back")
        } else if left.kind == MoveKind::Failover {
            Some("it had to leave, and an emergency is not undone")
        } else if state.pin.is_some() {
            Some("the service is pinned")
        } else if state.paused {
            Some("the service is paused")
        } else if self.stall.is_some() || self.isolation.isolated() {
            Some("we cannot trust what we see")
        } else if state.budget(now).left < 2 {
            Some("the last automatic move is kept for an emergency")
        } else {
            None
        };
        if let Some(why) = stopped {
            return Some(Err(why.to_owned()));
        }
        let Some(former) = &left.endpoint else {
            return Some(Err("there was no endpoint before".to_owned()));
        };
        let Some(to) = state.index_of(former.as_str()) else {
            return Some(Err(format!("{former} is no longer in the policy")));
        };
        let endpoint = self.slot(state.first + to)?;
        let candidates = self.candidates(state, now);
        let back = candidates.get(usize_of(to))?;
        let here = state.active.and_then(|index| candidates.get(usize_of(index)));
        Some(if let Some(why) = unusable(endpoint, &state.rules, now) {
            Err(format!("{former}: {why}"))
        } else if back.failures > 0 {
            Err(format!("{former}: its latest probe failed"))
        } else if here.is_some_and(|here| worse(back, here)) {
            Err(format!("{former} is known to be worse"))
        } else {
            Ok(to)
        })
    }

    /// The active endpoint is not returned to by itself for a while.
    fn bar(&mut self, service: u32, now: Instant) {
        let Some(state) = self.service(service) else { return };
        let hold = state.rules.failover.failback.hold;
        let slot = state.active.map(|index| state.first + index);
        if let Some(endpoint) = slot.and_then(|slot| self.slot_mut(slot)) {
            let waits = Backoff::doubling(hold.max(BAR_MIN), BAR_MAX);
            endpoint.bar.until = Some(now + waits.period(endpoint.bar.count));
            endpoint.bar.count = endpoint.bar.count.saturating_add(1);
        }
    }

    /// A move is in use; `told` names the output of which the contrary was told.
    pub(super) fn effective(
        &mut self,
        name: &ServiceName,
        moved: Revision,
        told: Option<Arc<str>>,
    ) {
        let Some(service) = self.by_name.get(name.as_str()).copied() else { return };
        let Some(state) = self.service(service) else { return };
        let present = state.left.as_ref().is_some_and(|left| left.revision == moved);
        let slot = state.active.filter(|_| present).map(|index| state.first + index);
        let bar = slot.and_then(|slot| self.slot_mut(slot)).map(|endpoint| &mut endpoint.bar);
        if bar.is_some_and(|bar| std::mem::take(bar).count > 0) {
            self.batch.persist();
        }
        if let Some(output) = told {
            let service = name.clone();
            self.batch.tell(Event::Effective { service, output, revision: moved });
        }
    }

    /// Whoever moves a service, or lets it move, wants to see it tried.
    pub(super) fn lift_bars(&mut self, order: &Order) {
        let named = match order {
            Order::Switch { service, .. }
            | Order::Pin { service, .. }
            | Order::Unpin { service }
            | Order::Resume { service: Some(service) } => Some(service),
            Order::Resume { service: None } => None,
            Order::Drain { .. }
            | Order::Undrain { .. }
            | Order::Pause { .. }
            | Order::Breaker { .. } => return,
        };
        let named = named.map(|service| self.by_name.get(service.as_str()).copied());
        for service in 0..count(self.services.len()) {
            if named.is_some_and(|named| named != Some(service)) {
                continue;
            }
            for slot in self.service(service).map_or(0..0, Service::slots) {
                if let Some(endpoint) = self.slot_mut(slot) {
                    endpoint.bar = Bar::default();
                }
            }
            self.touch(service);
        }
    }
}

/// Whether it is known that `back` serves worse than `here`, if that serves at all.
fn worse(back: &Candidate, here: &Candidate) -> bool {
    let degraded = back.degraded && !here.degraded;
    here.fault.is_none() && (degraded || back.score.saturating_add(HYSTERESIS) < here.score)
}

//! What follows when a move does not reach its reader: people are told, and if the policy says so
//! the service goes back to where the reader still is.
//!
//! Invariants
//! 1. A move is rolled back at most once, and a roll-back never: readers that follow nothing must
//!    not make a service go to and fro.
//! 2. A roll-back needs a usable endpoint to go back to: away from a dead one there is no way back.
//! 3. It obeys what stops every other automatic move: pins, pauses, blindness, the budget.
//! 4. What a person or a better tier had asked for is not tried again by itself: the place stays
//!    until it fails or a person says otherwise.

use std::sync::Arc;
use std::time::Duration;

use crate::core::action::{Event, MoveKind};
use crate::core::explain::span;
use crate::core::id::{Revision, ServiceName};
use crate::core::time::Instant;

use super::Engine;
use super::deciding::Move;
use super::evidence::unusable;

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
                self.relocate(service, order, now);
                self.mark_choice(service, to);
                self.touch(service);
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
        } else if state.pin.is_some() {
            Some("the service is pinned")
        } else if state.paused {
            Some("the service is paused")
        } else if self.stall.is_some() || self.isolation.isolated() {
            Some("we cannot trust what we see")
        } else if state.budget(now).left == 0 {
            Some("no move is left in the budget")
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
        Some(match unusable(endpoint, &state.rules, now) {
            Some(why) => Err(format!("{former}: {why}")),
            None => Ok(to),
        })
    }
}

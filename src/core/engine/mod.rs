//! Owns every service and endpoint and decides, one input at a time.
//!
//! The only place where the parts of the core meet. It reads no clock, draws no random number but
//! from its seed, and does nothing: what should happen comes out as [`Action`]s. Endpoints live in
//! slots and timers in an ordered set, so that one step costs the logarithm of their number.
//!
//! Invariants (checked by [`Engine::check_invariants`] after every step of a debug build)
//! 1. Every slot belongs to exactly one service, at the place that its service says.
//! 2. The active, pinned and published endpoint of a service exists in its policy.
//! 3. Every attempt that is out is known to exactly one watch, and no watch has more than `fall`.
//! 4. Every timer lies ahead, so a tick always makes progress.
//! 5. A pinned service that is published is at its pin.
//! 6. Leases are counted: an endpoint's count equals the leases that name it.
//! 7. What is usable has a running usable time, and nothing else has.
//! 8. No confirmation is put off beyond the start that the plan has for its endpoint anyway.

mod batch;
mod commands;
mod deciding;
mod effect;
mod endpoint;
mod evidence;
mod explaining;
mod invariants;
mod keeping;
mod leasing;
mod probing;
mod reload;
mod sensing;
mod service;
mod shown;
mod timers;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

#[cfg(doc)]
use crate::core::action::Action;
use crate::core::action::{Actions, Event, Publication};
use crate::core::allowance::Allowance;
use crate::core::id::{AttemptId, LeaseId, Revision, ServiceName};
use crate::core::input::{Input, Sense};
use crate::core::isolation::Isolation;
use crate::core::ordered::Gather as _;
use crate::core::rng::{Rng, mix};
use crate::core::rules::Rules;
use crate::core::status::OutputStatus;
use crate::core::time::Instant;

pub use crate::core::snapshot::{Restored, Snapshot};
pub use probing::Outstanding;

use batch::Batch;
use effect::Lag;
use endpoint::Endpoint;
use leasing::Leases;
use probing::Out;
use sensing::Stall;
use service::Service;
use timers::Timers;

/// The decision core: inputs in, actions out.
#[derive(Clone, Debug)]
pub struct Engine {
    rules: Arc<Rules>,
    rng: Rng,
    now: Instant,
    services: Vec<Service>,
    by_name: BTreeMap<ServiceName, u32>,
    slots: Vec<Endpoint>,
    timers: Timers,
    attempts: BTreeMap<AttemptId, Out>,
    next_attempt: AttemptId,
    allowance: Allowance,
    leases: Leases,
    isolation: Isolation,
    stall: Option<Stall>,
    /// Passes from before this moment prove nothing.
    fresh_after: Instant,
    /// Nothing that began before this moment stands in for a probe.
    share_after: Instant,
    paused_all: bool,
    revision: Revision,
    outputs: BTreeMap<Arc<str>, OutputStatus>,
    dirty: Vec<u32>,
    batch: Batch,
}

impl Engine {
    /// Starts, from nothing or from what was kept; `seed` makes timers differ between sidecars.
    ///
    /// The actions hold the first probes and, after a restart, a publication of the same choices
    /// under a new revision, so that every output is asserted again.
    #[must_use]
    pub fn new(
        rules: Arc<Rules>,
        restored: Option<Restored>,
        seed: u64,
        now: Instant,
    ) -> (Self, Actions) {
        let mut engine = Self {
            rules: Arc::new(Rules::default()),
            rng: Rng::new(seed),
            now,
            services: Vec::new(),
            by_name: BTreeMap::new(),
            slots: Vec::new(),
            timers: Timers::default(),
            attempts: BTreeMap::new(),
            next_attempt: AttemptId::new(1),
            allowance: Allowance::of(&Rules::default()),
            // Leases do not outlive the process: a number from before must not name a new one.
            leases: Leases::starting_at(LeaseId::new(mix(seed) >> 12)),
            isolation: Isolation::default(),
            stall: None,
            fresh_after: now,
            share_after: now,
            paused_all: false,
            revision: Revision::default(),
            outputs: BTreeMap::new(),
            dirty: Vec::new(),
            batch: Batch::default(),
        };
        engine.install(rules, now);
        if let Some(restored) = restored {
            engine.take_up(&restored, now);
        }
        engine.run_due(now);
        let actions = engine.finish(now);
        (engine, actions)
    }

    /// Takes one input and says what should happen. A `now` before the latest one counts as that.
    pub fn step(&mut self, now: Instant, input: Input) -> Actions {
        let now = now.max(self.now);
        self.now = now;
        if !matches!(input, Input::Sensed(Sense::Stalled(_))) {
            self.run_due(now);
        }
        self.take(input, now);
        self.finish(now)
    }

    /// When a [`Input::Tick`] is wanted.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.first()
    }

    /// The rules in force.
    #[must_use]
    pub const fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// The latest revision published.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    fn take(&mut self, input: Input, now: Instant) {
        match input {
            Input::Tick => {}
            Input::Probed { attempt, observation } => self.probed(attempt, &observation, now),
            Input::Shared { attempt, began, observation } => {
                self.shared(attempt, began, &observation, now);
            }
            Input::Reported { service, endpoint, observation } => {
                if let Some(slot) = self.find(service.as_str(), endpoint.as_str()) {
                    self.reported(slot, None, &observation, now);
                }
            }
            Input::RulesReplaced(rules) => self.replace_rules(rules, now),
            Input::Commanded { ticket, command } => self.commanded(ticket, command, now),
            Input::Written { output, revision, failure } => {
                self.written(output, revision, failure, now);
            }
            Input::Ineffective { service, output, revision, waited, roll_back } => {
                let lag = Lag { output, revision, waited, roll_back };
                self.ineffective(&service, &lag, now);
            }
            Input::Effective { service, output, revision, late } => {
                self.effective(&service, revision, late.then_some(output));
            }
            Input::LeaseRequested { ticket, service, ttl } => {
                self.lease_requested(ticket, &service, ttl, now);
            }
            Input::LeaseRenewed(lease) => self.lease_renewed(lease, now),
            Input::LeaseReleased { lease, observation } => {
                self.lease_released(lease, observation.as_ref(), now);
            }
            Input::Sensed(Sense::Stalled(_)) => self.stalled(now),
            Input::Sensed(Sense::References { reachable, total }) => {
                let turn = self.isolation.references(&self.rules.isolation, reachable, total, now);
                self.turn(turn, now);
            }
        }
    }

    fn finish(&mut self, now: Instant) -> Actions {
        self.settle_all(now);
        let publication = self.batch.publishes().then(|| self.publication());
        let actions = std::mem::take(&mut self.batch).into_actions(publication);
        // The full check is quadratic over a run; large engines are checked by their tests.
        if cfg!(debug_assertions) && self.slots.len() <= 64 {
            self.check_invariants();
        }
        actions
    }

    fn publication(&self) -> Publication {
        let published = self.services.iter().filter(|service| service.published);
        let active =
            published.map(|service| (service.name().clone(), service.active_name().cloned()));
        Publication { revision: self.revision, active: active.gather_map() }
    }

    fn written(
        &mut self,
        output: Arc<str>,
        revision: Revision,
        failure: Option<Arc<str>>,
        now: Instant,
    ) {
        let state = self.outputs.entry(Arc::clone(&output)).or_default();
        let news = state.failure != failure;
        state.at = Some(now);
        state.failure.clone_from(&failure);
        if failure.is_none() {
            state.revision = state.revision.max(Some(revision));
        }
        if news {
            self.batch.tell(Event::Output { output, revision, failure });
        }
    }

    fn find(&self, service: &str, endpoint: &str) -> Option<u32> {
        let service = self.service(*self.by_name.get(service)?)?;
        service.index_of(endpoint).map(|index| service.first + index)
    }

    fn service(&self, service: u32) -> Option<&Service> {
        usize::try_from(service).ok().and_then(|at| self.services.get(at))
    }

    fn service_mut(&mut self, service: u32) -> Option<&mut Service> {
        usize::try_from(service).ok().and_then(|at| self.services.get_mut(at))
    }

    fn slot(&self, slot: u32) -> Option<&Endpoint> {
        usize::try_from(slot).ok().and_then(|at| self.slots.get(at))
    }

    fn slot_mut(&mut self, slot: u32) -> Option<&mut Endpoint> {
        usize::try_from(slot).ok().and_then(|at| self.slots.get_mut(at))
    }

    /// Asks for a decision about a service at the end of the step.
    fn touch(&mut self, service: u32) {
        if let Some(state) = self.service_mut(service)
            && !state.dirty
        {
            state.dirty = true;
            self.dirty.push(service);
        }
    }

    fn touch_all(&mut self) {
        for service in 0..count(self.services.len()) {
            self.touch(service);
        }
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

//! Carries out what people order.

use crate::core::action::{Action, Event, MoveKind, Receipt, Refusal};
use crate::core::failover::best_other;
use crate::core::id::{EndpointName, ServiceName, Ticket};
use crate::core::input::{Command, Forced, Order};
use crate::core::time::Instant;

use super::deciding::Move;
use super::evidence::unusable;
use super::probing::usize_of;
use super::service::Pin;
use super::{Engine, count};

/// What a command did, in words; the revision is added when the step is decided.
type Done = Result<String, Refusal>;

impl Engine {
    pub(super) fn commanded(&mut self, ticket: Ticket, command: Command, now: Instant) {
        // An order is judged by what is known now, with everything due already decided.
        self.settle_all(now);
        let result = self.obey(&command, now);
        self.settle_all(now);
        if result.is_ok() {
            self.lift_bars(&command.order);
            self.batch.persist();
            self.batch.tell(Event::Commanded(command));
        }
        let revision = self.revision;
        let result = result.map(|message| Receipt { revision, message });
        self.batch.answer(Action::Answer { ticket, result });
    }

    fn obey(&mut self, command: &Command, now: Instant) -> Done {
        match &command.order {
            Order::Switch { service, endpoint, force } => {
                let service = self.known_service(service)?;
                let (to, force) = if let Some(endpoint) = endpoint {
                    (self.known_endpoint(service, endpoint)?, *force)
                } else {
                    (self.best_switch(service, now)?, false)
                };
                self.switch(service, to, force, (command, now))
            }
            Order::Pin { service, endpoint, duration } => {
                let service = self.known_service(service)?;
                let to = self.known_endpoint(service, endpoint)?;
                let pin = Pin { index: to, until: duration.map(|span| now + span) };
                Ok(self.pin(service, pin, (command, now)))
            }
            Order::Unpin { service } => {
                let service = self.known_service(service)?;
                Ok(self.unpin(service))
            }
            Order::Drain { service, endpoint } => {
                let service = self.known_service(service)?;
                let index = self.known_endpoint(service, endpoint)?;
                Ok(self.drain(service, index, now))
            }
            Order::Undrain { service, endpoint } => {
                let service = self.known_service(service)?;
                let index = self.known_endpoint(service, endpoint)?;
                Ok(self.undrain(service, index, now))
            }
            Order::Pause { service } => self.pause(service.as_ref(), true),
            Order::Resume { service } => self.pause(service.as_ref(), false),
            Order::Breaker { service, endpoint, forced } => {
                let service = self.known_service(service)?;
                let index = self.known_endpoint(service, endpoint)?;
                Ok(self.force_breaker(service, index, *forced, now))
            }
        }
    }

    fn best_switch(&self, service: u32, now: Instant) -> Result<u32, Refusal> {
        let nowhere = |service: &ServiceName| Refusal::NoOtherEndpoint { service: service.clone() };
        let Some(state) = self.service(service) else {
            return Err(nowhere(&ServiceName::new("")));
        };
        let candidates = self.candidates(state, now);
        let best = best_other(&self.view(state, &candidates, now));
        best.map(count).ok_or_else(|| nowhere(state.name()))
    }

    fn switch(&mut self, service: u32, to: u32, force: bool, by: (&Command, Instant)) -> Done {
        let (command, now) = by;
        let Some(state) = self.service(service) else { return Ok(String::new()) };
        let slot = state.first + to;
        if let Some(endpoint) = state.pin.and_then(|pin| state.endpoint_name(pin.index)) {
            return Err(Refusal::Pinned { endpoint: endpoint.clone() });
        }
        let Some(target) = self.slot(slot) else { return Ok(String::new()) };
        let endpoint = target.name().clone();
        let why = unusable(target, &state.rules, now);
        let already = state.published && state.is_active(to);
        // A drained endpoint is never active unless pinned, so force does not help there.
        let drained = target.drained;
        match why {
            Some(why) if !already && (!force || drained) => {
                return Err(Refusal::TargetUnusable { endpoint, why });
            }
            Some(_) if !already => self.believe(slot, now),
            Some(_) | None => {}
        }
        if !already {
            let verify = !force;
            let order = Move {
                from: None,
                to: Some(to),
                kind: MoveKind::Switchover,
                cause: cause(command),
                verify,
            };
            self.relocate(service, order, now);
        }
        self.mark_choice(service, to);
        self.touch(service);
        Ok(if already {
            format!("{endpoint} is active already")
        } else {
            format!("switched to {endpoint}")
        })
    }

    /// A person says the endpoint is worth a try: what was known of it counts no more.
    fn believe(&mut self, slot: u32, now: Instant) {
        let Some(endpoint) = self.slot_mut(slot) else { return };
        endpoint.forget_health();
        let reset = if endpoint.breaker.admits() { None } else { endpoint.breaker.reset() };
        self.breaker_turned(slot, reset, now);
        self.reassess(slot, now);
    }

    /// A place below the best tier that a person chose is not left just because a better one works.
    fn mark_choice(&mut self, service: u32, to: u32) {
        let Some(state) = self.service_mut(service) else { return };
        let tiers = || state.rules.endpoints.iter().map(|endpoint| endpoint.tier);
        let best = tiers().min();
        state.manual = tiers().nth(usize_of(to)) != best;
    }

    fn pin(&mut self, service: u32, pin: Pin, by: (&Command, Instant)) -> String {
        let (command, now) = by;
        let Some(state) = self.service_mut(service) else { return String::new() };
        state.pin = Some(pin);
        state.manual = false;
        let moves = !state.published || !state.is_active(pin.index);
        let name = state.endpoint_name(pin.index).map_or_else(String::new, ToString::to_string);
        if moves {
            let to = Some(pin.index);
            let kind = if state.published { MoveKind::Switchover } else { MoveKind::Start };
            self.relocate(
                service,
                Move { from: None, to, kind, cause: cause(command), verify: false },
                now,
            );
        }
        self.touch(service);
        format!("pinned to {name}")
    }

    fn unpin(&mut self, service: u32) -> String {
        let Some(state) = self.service_mut(service) else { return String::new() };
        state.manual = false;
        let pinned = state.pin.take().is_some();
        self.touch(service);
        if pinned { "unpinned".to_owned() } else { "it was not pinned".to_owned() }
    }

    /// A pin ends by itself; whoever ordered it said when.
    pub(super) fn end_pin_if_due(&mut self, service: u32, now: Instant) {
        let Some(state) = self.service_mut(service) else { return };
        if state.pin.and_then(|pin| pin.until).is_some_and(|until| until <= now) {
            self.end_pin(service, "the time of the pin is over");
        }
    }

    pub(super) fn end_pin(&mut self, service: u32, why: &str) {
        let Some(state) = self.service_mut(service) else { return };
        state.pin = None;
        let order = Order::Unpin { service: state.name().clone() };
        let by = Some("mcp-failover".to_owned());
        self.batch.persist();
        self.batch.tell(Event::Commanded(Command { order, reason: Some(why.to_owned()), by }));
    }

    fn drain(&mut self, service: u32, index: u32, now: Instant) -> String {
        let Some(state) = self.service(service) else { return String::new() };
        let slot = state.first + index;
        let Some(endpoint) = self.slot_mut(slot) else { return String::new() };
        endpoint.drained = true;
        let name = endpoint.name().clone();
        self.touch(service);
        self.settle_all(now);
        match self.service(service) {
            Some(state) if state.is_active(index) && state.pin.is_some() => {
                format!("{name} is drained, but stays active because it is pinned")
            }
            Some(state) if state.is_active(index) => {
                format!("{name} is drained, but stays active until another endpoint is usable")
            }
            _ => format!("{name} is drained"),
        }
    }

    fn undrain(&mut self, service: u32, index: u32, now: Instant) -> String {
        let Some(state) = self.service(service) else { return String::new() };
        let slot = state.first + index;
        let Some(endpoint) = self.slot_mut(slot) else { return String::new() };
        let was = std::mem::replace(&mut endpoint.drained, false);
        if was {
            // Its time of proving itself begins now.
            endpoint.run = None;
        }
        let name = endpoint.name().clone();
        self.reassess(slot, now);
        self.touch(service);
        if was { format!("{name} may be chosen again") } else { format!("{name} was not drained") }
    }

    fn pause(&mut self, service: Option<&ServiceName>, paused: bool) -> Done {
        let range = if let Some(service) = service {
            let service = self.known_service(service)?;
            service..service + 1
        } else {
            self.paused_all = paused;
            0..count(self.services.len())
        };
        for service in range {
            if let Some(state) = self.service_mut(service) {
                state.paused = paused;
                state.manual &= paused;
            }
            self.touch(service);
        }
        Ok(if paused { "paused".to_owned() } else { "resumed".to_owned() })
    }

    fn force_breaker(
        &mut self,
        service: u32,
        index: u32,
        forced: Option<Forced>,
        now: Instant,
    ) -> String {
        let Some(slot) = self.service(service).map(|state| state.first + index) else {
            return String::new();
        };
        let Some(endpoint) = self.slot_mut(slot) else { return String::new() };
        let turned = endpoint.breaker.force(forced);
        let (name, state) = (endpoint.name().clone(), endpoint.breaker.state());
        self.breaker_turned(slot, turned, now);
        self.reassess(slot, now);
        self.retime(slot, now);
        format!("breaker of {name} is {}", state.label())
    }

    fn known_service(&self, service: &ServiceName) -> Result<u32, Refusal> {
        let known = self.by_name.get(service.as_str()).copied();
        known.ok_or_else(|| Refusal::UnknownService { service: service.clone() })
    }

    fn known_endpoint(&self, service: u32, endpoint: &EndpointName) -> Result<u32, Refusal> {
        let state = self.service(service);
        let known = state.and_then(|state| state.index_of(endpoint.as_str()));
        known.ok_or_else(|| Refusal::UnknownEndpoint {
            service: state.map_or_else(|| ServiceName::new(""), |state| state.name().clone()),
            endpoint: endpoint.clone(),
        })
    }
}

fn cause(command: &Command) -> String {
    let who = command.by.as_deref().unwrap_or("a person");
    match &command.reason {
        Some(reason) => format!("ordered by {who}: {reason}"),
        None => format!("ordered by {who}"),
    }
}

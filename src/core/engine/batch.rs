//! Collects what one step asks for and puts it in the promised order.

use crate::core::action::{Action, Actions, Decision, Event, ProbeOrder, Publication};

/// What one step asks for so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    probes: Vec<ProbeOrder>,
    persist: bool,
    publish: bool,
    records: Vec<Decision>,
    events: Vec<Event>,
    answers: Vec<Action>,
}

impl Batch {
    pub(super) fn probe(&mut self, order: ProbeOrder) {
        self.probes.push(order);
    }

    /// Durable facts changed.
    pub(super) const fn persist(&mut self) {
        self.persist = true;
    }

    /// What is visible changed, which is always a durable fact too.
    pub(super) const fn publish(&mut self) {
        self.publish = true;
        self.persist = true;
    }

    pub(super) const fn publishes(&self) -> bool {
        self.publish
    }

    pub(super) fn record(&mut self, decision: Decision) {
        self.events.push(Event::Switched(decision.clone()));
        self.records.push(decision);
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    pub(super) fn answer(&mut self, answer: Action) {
        self.answers.push(answer);
    }

    /// Probes, then persist, publish, record, emit: nothing is told before it is durable.
    pub(super) fn into_actions(self, publication: Option<Publication>) -> Actions {
        let mut actions: Actions = self.probes.into_iter().map(Action::Probe).collect();
        actions.extend(self.persist.then_some(Action::Persist));
        actions.extend(publication.map(Action::Publish));
        actions.extend(self.records.into_iter().map(Action::Record));
        actions.extend(self.events.into_iter().map(Action::Emit));
        actions.extend(self.answers);
        actions
    }
}

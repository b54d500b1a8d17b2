//! From one process to the next, and what becomes of requests whose process is gone.

use std::collections::BTreeSet;

use serde_json::json;
use serde_json::value::RawValue;

use crate::core::time::Instant;
use crate::output::child::session::answer::Why;
use crate::output::child::session::answered::about;
use crate::output::child::session::flight::{Flight, Place};
use crate::output::child::session::lists::Kind;
use crate::output::child::session::message::{Id, Object, notification, request};
use crate::output::child::session::opening::Era;
use crate::output::child::session::prime::Replayed;
use crate::output::child::session::{DRAINING_MAX, Effect, Generation, Keeper, Stage, Unfit};

/// How often a request is sent again at most: one that ends every process it meets is given up.
const RESENDS_MAX: u8 = 2;

/// Requests that change nothing, or nothing more the second time.
const SAFE: [&str; 14] = [
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "subscriptions/listen",
    "tools/list",
];

impl Keeper {
    /// Takes a process into service that needs to be told nothing.
    pub(super) fn serve(&mut self, generation: Generation) {
        let old = self.serving.replace(generation);
        self.stages.insert(generation, Stage::Serving);
        self.without = None;
        if let Some(old) = old {
            self.drain(old);
        }
        for place in [Place::Lost, Place::Waiting] {
            for id in self.flights.at(place) {
                self.send(&id, generation);
            }
        }
        self.out.push(Effect::Serves(generation));
    }

    /// The new process takes over, between two lines.
    pub(super) fn commit(&mut self) {
        let Some(priming) = self.priming.take() else { return };
        let generation = priming.generation;
        self.catch_up(generation, &priming.replayed);
        for id in &priming.replayed.listens {
            if let Some(flight) = self.flights.get_mut(id) {
                flight.place = Place::At(generation);
            }
        }
        let late: Vec<Id> = {
            let late = self
                .flights
                .listens()
                .filter(|(_, flight, _)| flight.place != Place::At(generation));
            late.map(|(id, ..)| id.clone()).collect()
        };
        for id in late {
            if let Some(flight) = self.flights.get_mut(&id) {
                flight.place = Place::Waiting;
            }
        }
        self.serve(generation);
        let changed = self.lists.replace(priming.lists);
        self.tell_news(&changed);
    }

    /// What the client changed while the new process was told how things stood.
    fn catch_up(&mut self, generation: Generation, replayed: &Replayed) {
        if self.opening.era != Some(Era::Legacy) {
            let ended: Vec<Id> = {
                let ended = replayed.listens.iter().filter(|id| self.flights.get(id).is_none());
                ended.cloned().collect()
            };
            for id in ended {
                let params = json!({ "requestId": id });
                let line = notification("notifications/cancelled", Some(&params));
                self.tell_server(generation, line);
            }
            return;
        }
        if self.opening.initialized && !replayed.initialized {
            let line = notification::<Object>("notifications/initialized", None);
            self.tell_server(generation, line);
        }
        let level =
            self.opening.level.clone().filter(|level| Some(level) != replayed.level.as_ref());
        let mut late: Vec<(&str, String)> = Vec::new();
        late.extend(level.map(|params| ("logging/setLevel", params.to_string())));
        let subscribed = self.opening.subscriptions.difference(&replayed.subscriptions);
        late.extend(subscribed.map(|uri| ("resources/subscribe", about(uri))));
        let ended = replayed.subscriptions.difference(&self.opening.subscriptions);
        late.extend(ended.map(|uri| ("resources/unsubscribe", about(uri))));
        for (method, params) in late {
            let Ok(params) = RawValue::from_string(params) else { continue };
            let id = self.private(generation);
            self.tell_server(generation, request(&id, method, Some(&params)));
        }
    }

    /// Tells the client what another process may have changed, as far as it asked to be told.
    fn tell_news(&mut self, changed: &BTreeSet<Kind>) {
        let mut news: Vec<(&'static str, serde_json::Value)> = Vec::new();
        if self.opening.era == Some(Era::Legacy) {
            let told = self.opening.told.as_ref();
            for kind in changed {
                if told.is_some_and(|told| told.announces(kind.capability())) {
                    news.push((kind.changed(), serde_json::Value::Null));
                }
            }
            let uris = self.opening.subscriptions.iter();
            news.extend(uris.map(|uri| ("notifications/resources/updated", json!({ "uri": uri }))));
        } else {
            for (id, _, listen) in self.flights.listens() {
                let filter = listen.granted.as_deref().unwrap_or(&listen.wanted);
                let filter: serde_json::Value = serde_json::from_str(filter).unwrap_or_default();
                let meta = json!({ "io.modelcontextprotocol/subscriptionId": id });
                for kind in changed {
                    if filter.get(kind.filter()) == Some(&serde_json::Value::Bool(true)) {
                        news.push((kind.changed(), json!({ "_meta": meta })));
                    }
                }
                let uris = filter.get("resourceSubscriptions").and_then(|uris| uris.as_array());
                for uri in uris.into_iter().flatten() {
                    let params = json!({ "uri": uri, "_meta": meta });
                    news.push(("notifications/resources/updated", params));
                }
            }
        }
        news.dedup();
        for (method, params) in news {
            let params = Some(&params).filter(|params| !params.is_null());
            self.tell_client(notification(method, params));
        }
    }

    /// Lets the serving process go before there is another.
    pub(super) fn park(&mut self) {
        if let Some(serving) = self.serving.take() {
            self.drain(serving);
        }
    }

    fn drain(&mut self, generation: Generation) {
        let until = self.now + self.rules.drain_timeout;
        self.stages.insert(generation, Stage::Draining(until));
        let draining = self.draining();
        let surplus = draining.len().saturating_sub(DRAINING_MAX);
        for oldest in draining.into_iter().take(surplus) {
            self.release(oldest, Why::Overdue);
        }
    }

    fn draining(&self) -> Vec<Generation> {
        let draining = |stage: &Stage| matches!(stage, Stage::Draining(_));
        let all = self.stages.iter().filter(|(_, stage)| draining(stage));
        all.map(|(generation, _)| *generation).collect()
    }

    /// A process will write nothing more.
    pub(super) fn ended(&mut self, generation: Generation) {
        let Some(stage) = self.stages.remove(&generation) else { return };
        match stage {
            Stage::Priming => {
                self.priming = None;
                self.forget(generation);
                self.out.push(Effect::Unfit(generation, Unfit::Ended));
            }
            Stage::Serving => {
                self.serving = None;
                self.lose(generation, Why::Died);
                self.bereft();
                // One that waited for the client to open the session gets the opening itself.
                let waits = self.priming.as_ref().filter(|priming| priming.waits);
                if let Some(next) = waits.map(|priming| priming.generation) {
                    self.priming = None;
                    self.serve(next);
                }
            }
            Stage::Draining(_) => {
                self.lose(generation, Why::Died);
                self.bereft();
            }
            Stage::Released => {}
        }
    }

    /// From now on requests wait for the next process, but not for ever.
    fn bereft(&mut self) {
        if self.serving.is_none() {
            self.without.get_or_insert(self.now);
        }
    }

    /// Nobody listens to the process any more.
    pub(super) fn let_go(&mut self, generation: Generation) {
        if let Some(stage) = self.stages.get_mut(&generation) {
            *stage = Stage::Released;
        }
        self.forget(generation);
    }

    fn release(&mut self, generation: Generation, why: Why) {
        self.let_go(generation);
        self.lose(generation, why);
        self.bereft();
        self.out.push(Effect::Released(generation));
    }

    /// What it asked of the client is no longer wanted.
    fn forget(&mut self, generation: Generation) {
        self.holds.forget(generation);
        for face in self.asked.forget(generation) {
            let params = json!({ "requestId": face, "reason": "the server's process is gone" });
            self.tell_client(notification("notifications/cancelled", Some(&params)));
        }
    }

    /// Sends what the process had to the next one, or answers in its place.
    fn lose(&mut self, generation: Generation, why: Why) {
        self.forget(generation);
        for id in self.flights.at(Place::At(generation)) {
            let Some(flight) = self.flights.get(&id) else { continue };
            if self.is_safe(flight) {
                if let Some(flight) = self.flights.get_mut(&id) {
                    flight.place = Place::Lost;
                }
                if let Some(serving) = self.serving {
                    self.send(&id, serving);
                }
            } else if let Some(flight) = self.flights.remove(&id) {
                self.answer_instead(&id, &flight, why);
            }
        }
    }

    fn is_safe(&self, flight: &Flight) -> bool {
        if flight.line.is_none() || flight.resent >= RESENDS_MAX {
            return false;
        }
        let tool = flight.tool.as_deref().filter(|_| &*flight.method == "tools/call");
        SAFE.contains(&&*flight.method)
            || tool.is_some_and(|tool| {
                self.rules.safe_tools.contains(tool) || self.lists.may_call_twice(tool)
            })
    }

    fn send(&mut self, id: &Id, generation: Generation) {
        let Some(flight) = self.flights.get_mut(id) else { return };
        let Some(line) = flight.line.clone() else { return };
        if flight.place == Place::Lost {
            flight.resent += 1;
        }
        flight.place = Place::At(generation);
        self.tell_server(generation, line);
    }

    pub(super) fn on_time(&mut self) {
        self.priming_on_time();
        let draining = self.stages.iter().filter_map(|(generation, stage)| match stage {
            Stage::Draining(until) => Some((*generation, *until)),
            Stage::Priming | Stage::Serving | Stage::Released => None,
        });
        let draining: Vec<(Generation, Instant)> = draining.collect();
        for (generation, until) in draining {
            let held = self.holds.until(generation, self.now).is_some();
            let owes = self.flights.owed_by(generation) > 0;
            if owes && until <= self.now {
                self.lose_overdue(generation);
            }
            if !held && (!owes || until <= self.now) {
                self.release(generation, Why::Overdue);
            }
        }
        let waited = self.without.is_some_and(|since| since + self.rules.wait_timeout <= self.now);
        if waited {
            for place in [Place::Lost, Place::Waiting] {
                for id in self.flights.at(place) {
                    if let Some(flight) = self.flights.remove(&id) {
                        let why = if place == Place::Lost { Why::Died } else { Why::Nobody };
                        self.answer_instead(&id, &flight, why);
                    }
                }
            }
        }
    }

    /// Requests that took too long, of a process that is kept for something else.
    fn lose_overdue(&mut self, generation: Generation) {
        for id in self.flights.at(Place::At(generation)) {
            if self.flights.get(&id).is_some_and(|flight| self.is_safe(flight))
                && let Some(serving) = self.serving
            {
                if let Some(flight) = self.flights.get_mut(&id) {
                    flight.place = Place::Lost;
                }
                self.send(&id, serving);
            } else if let Some(flight) = self.flights.remove(&id) {
                self.answer_instead(&id, &flight, Why::Overdue);
            }
        }
    }
}

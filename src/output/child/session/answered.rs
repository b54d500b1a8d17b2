//! What an answer changes, and what the client sees of it.

use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::output::child::session::flight::{Change, Flight};
use crate::output::child::session::lists::Kind;
use crate::output::child::session::message::{Id, Object, Outcome, request, text, with};
use crate::output::child::session::opening::{Era, Told, shown};
use crate::output::child::session::server::elicitations;
use crate::output::child::session::{Generation, Keeper, tag};

/// A result or an error.
type Ended<'a> = (Option<&'a RawValue>, Option<&'a RawValue>);

impl Keeper {
    /// Takes in an answer; the line, if the client is to see another.
    pub(super) fn answered(
        &mut self,
        generation: Generation,
        flight: Flight,
        (result, error): Ended<'_>,
        (id, line): (&Id, &Bytes),
    ) -> Option<Bytes> {
        let Some(result) = result else {
            if &*flight.method == "server/discover" {
                self.opening.refused();
            }
            for elicitation in error.map(elicitations).unwrap_or_default() {
                self.holds.elicitation(elicitation, generation);
            }
            return None;
        };
        if self.opening.era == Some(Era::Modern) {
            self.opening.proven = true;
        }
        let outcome = Outcome::read(result);
        if let Some(change) = flight.changes {
            self.changed(generation, change);
            return None;
        }
        match &*flight.method {
            "initialize" => return self.opened(id, &outcome, result, line),
            "server/discover" => self.opening.told = Some(Told::read(&outcome)),
            "tasks/result" | "tasks/cancel" => self.task_over(flight.task.as_deref()),
            "tasks/get" if self.opening.era == Some(Era::Modern) => {
                let status = text(outcome.status);
                if matches!(status.as_deref(), Some("completed" | "failed" | "cancelled")) {
                    self.task_over(flight.task.as_deref());
                }
            }
            _ => {}
        }
        if let Some(kind) = Kind::of(&flight.method) {
            self.lists.page(kind, generation, flight.first_page, &outcome);
        }
        self.task_begun(generation, &flight, &outcome);
        self.rewritten(generation, &flight.method, (result, &outcome), line)
    }

    /// The handshake is done; a process that waited for it can be told of it.
    fn opened(
        &mut self,
        id: &Id,
        outcome: &Outcome<'_>,
        result: &RawValue,
        line: &Bytes,
    ) -> Option<Bytes> {
        if self.opening.initialize.as_ref().is_none_or(|(asked, _)| asked != id) {
            return None;
        }
        self.opening.told = Some(Told::read(outcome));
        self.begin_waiting();
        shown(result).and_then(|shown| with(line, "result", &shown))
    }

    /// What the client changed with one process, the one that serves must know as well.
    fn changed(&mut self, generation: Generation, change: Change) {
        let (method, params) = match &change {
            Change::Level(params) => ("logging/setLevel", params.to_string()),
            Change::Subscribed(uri) => ("resources/subscribe", about(uri)),
            Change::Unsubscribed(uri) => ("resources/unsubscribe", about(uri)),
        };
        match change {
            Change::Level(params) => self.opening.level = Some(params),
            Change::Subscribed(uri) => self.opening.subscribe(uri),
            Change::Unsubscribed(uri) => {
                self.opening.subscriptions.remove(&uri);
            }
        }
        if let Some(serving) = self.serving.filter(|serving| *serving != generation)
            && let Ok(params) = RawValue::from_string(params)
        {
            let id = self.private(serving);
            self.tell_server(serving, request(&id, method, Some(&params)));
        }
    }

    fn task_over(&mut self, task: Option<&str>) {
        if let Some(task) = task {
            self.holds.task_done(task);
        }
    }

    fn task_begun(&mut self, generation: Generation, flight: &Flight, outcome: &Outcome<'_>) {
        if flight.method.starts_with("tasks/") {
            return;
        }
        let nested = outcome.task.map(Outcome::read).unwrap_or_default();
        let Some(task) = text(nested.task_id.or(outcome.task_id)) else { return };
        let ttl = nested.ttl.or(outcome.ttl).or(outcome.ttl_ms);
        let ttl = ttl.and_then(|raw| raw.get().parse().ok()).map(Duration::from_millis);
        let longest = self.rules.task_ttl_max;
        let until = self.now + ttl.unwrap_or(longest).min(longest);
        self.holds.task(task, generation, until, flight.token.clone());
    }

    /// The line with what must be marked as this process's, or kept from living too long.
    fn rewritten(
        &mut self,
        generation: Generation,
        method: &str,
        (result, outcome): (&RawValue, &Outcome<'_>),
        line: &Bytes,
    ) -> Option<Bytes> {
        let mut fresh: Option<Object> = None;
        if method == "server/discover" {
            fresh = shown(result);
        }
        let mut set = |name: &str, value: serde_json::Value| {
            if fresh.is_none() {
                fresh = Object::read(result);
            }
            if let Some(fresh) = &mut fresh {
                fresh.set(name, &value);
            }
        };
        if let Some(cursor) = text(outcome.next_cursor) {
            set("nextCursor", tag::wrap(generation, &cursor).into());
        }
        if self.opening.era == Some(Era::Modern) {
            if let Some(state) = text(outcome.request_state) {
                self.holds.state_given(generation, self.now, self.rules.state_ttl);
                set("requestState", tag::wrap(generation, &state).into());
            }
            let longest = u64::try_from(self.rules.cache_ttl_max.as_millis()).unwrap_or(u64::MAX);
            let is_task = outcome.task_id.is_some();
            let ttl = outcome.ttl_ms.filter(|_| !is_task).and_then(|raw| raw.get().parse().ok());
            if ttl.is_some_and(|ttl: f64| ttl > Duration::from_millis(longest).as_secs_f64() * 1e3)
            {
                set("ttlMs", longest.into());
            }
        }
        with(line, "result", &fresh?)
    }
}

/// The parameters that name a resource.
pub(super) fn about(uri: &str) -> String {
    serde_json::json!({ "uri": uri }).to_string()
}

//! What the client writes.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::output::child::session::answer::{INVALID_PARAMS, PARSE_ERROR, Why, instead};
use crate::output::child::session::flight::{Change, Flight, Listen, Place};
use crate::output::child::session::lists::Kind;
use crate::output::child::session::message::{
    Id, Message, Object, Params, batch, error, is_json, readdressed, text, unreadable, with,
};
use crate::output::child::session::{Effect, Generation, Keeper, Stage, tag};

/// Messages of a batch at most.
const BATCH_MAX: usize = 1_024;

/// One request on its way: where to, and as which line.
struct Routed {
    line: Bytes,
    to: Option<Generation>,
}

impl Keeper {
    pub(super) fn client_line(&mut self, line: &Bytes) {
        match batch(line) {
            Some(parts) => parts.iter().take(BATCH_MAX).for_each(|part| self.client_message(part)),
            None => self.client_message(line),
        }
    }

    fn client_message(&mut self, line: &Bytes) {
        match Message::read(line) {
            Some(Message::Request { id, method, params }) => {
                self.client_request(&id, &method, params, line);
            }
            Some(Message::Notification { method, params }) => {
                self.client_notification(&method, params, line);
            }
            Some(Message::Answer { id, .. }) => self.client_answer(&id, line),
            None if is_json(line) => {}
            None => self.tell_client(unreadable(PARSE_ERROR, "the message is no JSON")),
        }
    }

    fn client_request(&mut self, id: &Id, method: &str, params: Option<&RawValue>, line: &Bytes) {
        if self.flights.get(id).is_some() {
            // A second answer under one id would reach whoever waits for the first.
            return;
        }
        self.opening.see(id, method, params);
        let parsed = Params::read(params);
        let Routed { line, to } = match self.route(method, params, &parsed, line) {
            Ok(routed) => routed,
            Err(message) => return self.tell_client(error(id, INVALID_PARAMS, message)),
        };
        let place = to.map_or(Place::Waiting, Place::At);
        let flight = flight(method, params, &parsed, line.clone(), place);
        match self.flights.insert(id.clone(), flight) {
            Ok(()) => {
                if let Some(to) = to {
                    self.tell_server(to, line);
                }
            }
            Err(flight) => self.answer_instead(id, &flight, Why::Crowded),
        }
    }

    /// Where a request goes: to whoever holds what it names, else to the one that serves.
    fn route(
        &mut self,
        method: &str,
        params: Option<&RawValue>,
        parsed: &Params<'_>,
        line: &Bytes,
    ) -> Result<Routed, &'static str> {
        let line = line.clone();
        if let Some(cursor) = text(parsed.cursor)
            && let Some((from, cursor)) = tag::unwrap(&cursor)
        {
            if self.serving != Some(from) {
                return Err("the cursor is of a process that was replaced; begin the list again");
            }
            let line = edited(&line, params, "cursor", cursor).unwrap_or(line);
            return Ok(Routed { line, to: self.serving });
        }
        if let Some(state) = text(parsed.request_state)
            && let Some((from, state)) = tag::unwrap(&state)
        {
            self.holds.state_returned(from);
            let line = edited(&line, params, "requestState", state).unwrap_or(line);
            // Without the one that gave it, another may still know the state by a shared key.
            return Ok(Routed { line, to: self.alive(from).or(self.serving) });
        }
        let task = text(parsed.task_id).filter(|_| method.starts_with("tasks/"));
        let owner = task.and_then(|task| self.holds.task_owner(&task));
        let to = owner.and_then(|owner| self.alive(owner)).or(self.serving);
        Ok(Routed { line, to })
    }

    fn alive(&self, generation: Generation) -> Option<Generation> {
        let stage = self.stage(generation);
        let alive = matches!(stage, Some(Stage::Serving | Stage::Draining(_)));
        alive.then_some(generation)
    }

    fn client_notification(&mut self, method: &str, params: Option<&RawValue>, line: &Bytes) {
        let parsed = Params::read(params);
        match method {
            "notifications/cancelled" => self.client_cancelled(&parsed, line),
            "notifications/progress" => self.client_progress(params, &parsed, line),
            _ => {
                if method == "notifications/initialized" {
                    self.opening.initialized = true;
                }
                // Whatever else a client announces, a process still to come asks for itself.
                if let Some(serving) = self.serving {
                    self.tell_server(serving, line.clone());
                }
            }
        }
    }

    fn client_cancelled(&mut self, parsed: &Params<'_>, line: &Bytes) {
        let Some(id) = parsed.request_id.and_then(Id::read) else { return };
        let method = self.flights.get(&id).map(|flight| &*flight.method);
        if matches!(method, None | Some("initialize")) {
            return;
        }
        if let Some(Flight { place: Place::At(owner), .. }) = self.flights.remove(&id) {
            self.tell_server(owner, line.clone());
        }
    }

    fn client_progress(&mut self, params: Option<&RawValue>, parsed: &Params<'_>, line: &Bytes) {
        let Some(face) = parsed.progress_token.and_then(Id::read) else { return };
        let Some(question) = self.asked.get(&face) else { return };
        let (generation, token) = (question.generation, question.token.clone());
        if let Some(token) = token
            && let Some(line) = edited(line, params, "progressToken", &token)
        {
            self.tell_server(generation, line);
        }
    }

    fn client_answer(&mut self, face: &Id, line: &Bytes) {
        let Some(question) = self.asked.remove(face) else { return };
        if let Some(line) = readdressed(line, &question.id) {
            self.tell_server(question.generation, line);
        }
    }

    /// Answers a request in the place of a process.
    pub(super) fn answer_instead(&mut self, id: &Id, flight: &Flight, why: Why) {
        self.tell_client(instead(id, flight, why, self.opening.era));
        self.out.push(Effect::Substituted { requests: 1, reason: why.reason() });
    }
}

/// The line with one of its parameters changed.
pub(super) fn edited(
    line: &Bytes,
    params: Option<&RawValue>,
    name: &str,
    value: impl serde::Serialize,
) -> Option<Bytes> {
    let mut params = Object::read(params?)?;
    params.set(name, &value);
    with(line, "params", &params)
}

fn flight(
    method: &str,
    params: Option<&RawValue>,
    parsed: &Params<'_>,
    line: Bytes,
    place: Place,
) -> Flight {
    let uri = || text(parsed.uri);
    let change = match method {
        "logging/setLevel" => params.map(|params| Change::Level(params.get().into())),
        "resources/subscribe" => uri().map(Change::Subscribed),
        "resources/unsubscribe" => uri().map(Change::Unsubscribed),
        _ => None,
    };
    let wanted = parsed.notifications.map_or("{}", RawValue::get);
    let listen = Listen { wanted: wanted.into(), granted: None };
    Flight {
        line: Some(line),
        method: method.into(),
        tool: text(parsed.name).filter(|_| method == "tools/call").map(Into::into),
        token: parsed.meta().progress_token.map(|token| token.get().into()),
        place,
        resent: 0,
        progress: None,
        listen: (method == "subscriptions/listen").then_some(listen),
        changes: change,
        first_page: Kind::of(method).is_some() && parsed.cursor.is_none(),
        task: text(parsed.task_id).filter(|_| method.starts_with("tasks/")).map(Into::into),
        seq: 0,
    }
}

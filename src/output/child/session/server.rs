//! What the server's processes write.

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::output::child::session::answer::LOST;
use crate::output::child::session::asked::Question;
use crate::output::child::session::client::edited;
use crate::output::child::session::flight::{Flight, Place};
use crate::output::child::session::message::{
    Id, Message, Object, Params, batch, error, is_json, readdressed, text, with,
};
use crate::output::child::session::{Effect, Generation, Keeper, Stage};

impl Keeper {
    pub(super) fn server_line(&mut self, generation: Generation, line: &Bytes) {
        if matches!(self.stage(generation), None | Some(Stage::Released)) {
            return;
        }
        match batch(line) {
            Some(parts) => parts.iter().for_each(|part| self.server_message(generation, part)),
            None => self.server_message(generation, line),
        }
    }

    fn server_message(&mut self, generation: Generation, line: &Bytes) {
        match Message::read(line) {
            Some(Message::Request { id, method, params }) => {
                self.server_request(generation, (id, &method), params, line);
            }
            Some(Message::Notification { method, params }) => {
                self.server_notification(generation, &method, params, line);
            }
            Some(Message::Answer { id, result, error }) => {
                if self.is_private(generation, &id) {
                    self.private_answer(&id, result);
                } else if self.flights.get(&id).is_some_and(|f| f.place == Place::At(generation))
                    && let Some(flight) = self.flights.remove(&id)
                {
                    let changed = self.answered(generation, flight, (result, error), (&id, line));
                    self.tell_client(changed.unwrap_or_else(|| line.clone()));
                }
            }
            None if is_json(line) => {}
            None => self.out.push(Effect::Stray(generation, line.clone())),
        }
    }

    /// A question to the client, under a name that says whose it is.
    fn server_request(
        &mut self,
        generation: Generation,
        (id, method): (Id, &str),
        params: Option<&RawValue>,
        line: &Bytes,
    ) {
        let parsed = Params::read(params);
        let token = parsed.meta().progress_token.map(ToOwned::to_owned);
        let asks_progress = token.is_some();
        let question = Question { generation, id: id.clone(), token };
        let Some(face) = self.asked.insert(question) else {
            let busy = error(&id, LOST, "the client has too many requests of this server");
            return self.tell_server(generation, busy);
        };
        if method == "elicitation/create"
            && let Some(elicitation) = text(parsed.elicitation_id)
        {
            self.holds.elicitation(elicitation, generation);
        }
        let named = if asks_progress { with_token(line, params, &face) } else { None };
        if let Some(line) = readdressed(named.as_ref().unwrap_or(line), &face) {
            self.tell_client(line);
        }
    }

    fn server_notification(
        &mut self,
        generation: Generation,
        method: &str,
        params: Option<&RawValue>,
        line: &Bytes,
    ) {
        let parsed = Params::read(params);
        let passes = match method {
            "notifications/progress" => self.server_progress(generation, &parsed),
            "notifications/cancelled" => {
                return self.server_cancelled(generation, params, &parsed, line);
            }
            "notifications/subscriptions/acknowledged" => self.acknowledged(generation, &parsed),
            "notifications/message" => true,
            "notifications/elicitation/complete" => text(parsed.elicitation_id)
                .is_some_and(|id| self.holds.elicitation_over(&id, generation)),
            "notifications/tasks/status" | "notifications/tasks" => text(parsed.task_id)
                .is_some_and(|id| self.holds.task_owner(&id) == Some(generation)),
            "notifications/resources/updated" => self.is_heard(generation, &parsed),
            _ if method.ends_with("/list_changed") => {
                self.recheck(generation, method);
                self.is_heard(generation, &parsed)
            }
            _ => self.stage(generation) != Some(Stage::Priming),
        };
        if passes {
            self.tell_client(line.clone());
        }
    }

    /// News of the server's contents count only from the one that serves, and only to a
    /// subscription that is open there.
    fn is_heard(&self, generation: Generation, parsed: &Params<'_>) -> bool {
        let subscription = parsed.meta().subscription.map(Id::read);
        let open = |id: &Id| {
            self.flights.get(id).is_some_and(|flight| flight.place == Place::At(generation))
        };
        self.serving == Some(generation)
            && subscription.is_none_or(|id| id.as_ref().is_some_and(open))
    }

    /// Progress reaches only a request that waits, and after it was sent again never goes back.
    fn server_progress(&mut self, generation: Generation, parsed: &Params<'_>) -> bool {
        let Some(token) = parsed.progress_token.map(RawValue::get) else { return false };
        let value = parsed.progress.and_then(|raw| raw.get().parse::<f64>().ok());
        if let Some(flight) = self.flights.of_token(token)
            && flight.place == Place::At(generation)
        {
            let known = flight.progress.filter(|_| flight.resent > 0);
            if known.is_some_and(|known| value.is_none_or(|value| value <= known)) {
                return false;
            }
            flight.progress = value.or(flight.progress);
            return true;
        }
        self.holds.has_token(generation, token)
    }

    /// A server takes back a question, or ends a subscription.
    fn server_cancelled(
        &mut self,
        generation: Generation,
        params: Option<&RawValue>,
        parsed: &Params<'_>,
        line: &Bytes,
    ) {
        let Some(id) = parsed.request_id.and_then(Id::read) else { return };
        if let Some(face) = self.asked.face(generation, &id) {
            self.asked.remove(&face);
            if let Some(line) = edited(line, params, "requestId", &face) {
                self.tell_client(line);
            }
            return;
        }
        let ends =
            |flight: &Flight| flight.listen.is_some() && flight.place == Place::At(generation);
        if self.flights.get(&id).is_some_and(ends) {
            self.flights.remove(&id);
            self.tell_client(line.clone());
        }
    }

    /// The first acknowledgement of a subscription is the client's, the later ones are ours.
    fn acknowledged(&mut self, generation: Generation, parsed: &Params<'_>) -> bool {
        let Some(id) = parsed.meta().subscription.and_then(Id::read) else { return false };
        let granted = parsed.notifications.map_or("{}", RawValue::get);
        if self.stage(generation) == Some(Stage::Priming) {
            self.listen_granted(generation, &id, granted);
            return false;
        }
        let flight = self.flights.get_mut(&id).filter(|f| f.place == Place::At(generation));
        let Some(listen) = flight.and_then(|flight| flight.listen.as_mut()) else { return false };
        let first = listen.granted.is_none();
        if first {
            listen.granted = Some(granted.into());
        }
        first
    }
}

/// The line with the token under which the client is to report its progress.
fn with_token(line: &Bytes, params: Option<&RawValue>, face: &Id) -> Option<Bytes> {
    let mut params = Object::read(params?)?;
    let mut meta = Object::read(params.get("_meta")?)?;
    meta.set("progressToken", face);
    params.set("_meta", &meta);
    with(line, "params", &params)
}

/// The names of the elicitations by address that an error asks for.
pub(super) fn elicitations(error: &RawValue) -> Vec<String> {
    if !error.get().contains("elicitationId") {
        return Vec::new();
    }
    let error: Value = serde_json::from_str(error.get()).unwrap_or_default();
    let asked = error.pointer("/data/elicitations").and_then(Value::as_array);
    let names = asked.into_iter().flatten().filter_map(|one| one.get("elicitationId")?.as_str());
    names.map(ToOwned::to_owned).collect()
}

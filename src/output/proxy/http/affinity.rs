//! What an MCP session changes about a request: where it goes first, and what is done before and
//! after.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::HeaderName;
use hyper::{Method, Response, StatusCode};

use crate::output::proxy::http::exchange::{Begun, Call};
use crate::output::proxy::http::reopen::{self, Unopened};
use crate::output::proxy::http::session::{Home, Message, Opening, SESSION, Session, VERSION};
use crate::output::proxy::http::verdict::Failure;
use crate::output::proxy::lane::Lane;

/// Where a caller wants to go on in a stream of events; the numbers are one server's own.
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

impl Call<'_> {
    /// The endpoints to try, best first: a session stays where it is as long as that serves.
    pub(super) async fn lanes(&self) -> Vec<Arc<Lane>> {
        let mut lanes = self.desk.order();
        let Some(session) = &self.session else { return lanes };
        let home = session.home.lock().await.endpoint.clone();
        if self.desk.offers(&home) {
            lanes.sort_by_key(|lane| lane.labels.endpoint != home);
        }
        lanes
    }

    /// Sends it to one endpoint, with its session at home there.
    pub(super) async fn visit(&mut self, lane: &Arc<Lane>) -> Result<Begun, Failure> {
        let Some(session) = self.session.clone() else { return self.attempt(lane).await };
        let mut home = session.home.lock().await;
        if let Some(version) = self.parts.headers.get(VERSION) {
            home.version = Some(version.clone());
        }
        if home.endpoint != lane.labels.endpoint {
            self.open(&session, &mut home, lane).await?;
        }
        self.go_as(&home);
        let known = home.id.clone();
        drop(home);
        let begun = self.attempt(lane).await?;
        let status = begun.0.status();
        let refused = matches!(status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST);
        if !refused || !self.source.replayable() {
            return Ok(begun);
        }
        // Refused, so not done: with a session that the server knows it may be said again.
        let mut home = session.home.lock().await;
        if home.id == known {
            if !reopen::forgot(&home, lane, &self.spec).await {
                return Ok(begun);
            }
            self.open(&session, &mut home, lane).await?;
        }
        self.go_as(&home);
        drop(home);
        self.attempt(lane).await
    }

    /// Notes what an answer says about the session, and calls it what the caller calls it.
    pub(super) async fn settle(&self, lane: &Lane, response: &mut Response<Incoming>) {
        let done = response.status().is_success();
        let post = self.parts.method == Method::POST;
        let message = self.source.kept().filter(|_| post && done);
        if let Some(session) = &self.session {
            if done && self.parts.method == Method::DELETE {
                self.desk.sessions.close(session);
            }
            if let Some((message, read)) =
                message.as_ref().and_then(|message| Some((message, Message::read(message)?)))
            {
                session.home.lock().await.note(&read, message);
            }
            if response.headers().contains_key(SESSION) {
                response.headers_mut().insert(SESSION, session.id.clone());
            }
            return;
        }
        let (Some(message), Some(id)) = (message, response.headers().get(SESSION).cloned()) else {
            return;
        };
        let opens = Message::read(&message)
            .is_some_and(|message| message.method.as_deref() == Some("initialize"));
        if opens {
            let (path, headers) = (self.parts.uri.clone(), self.parts.headers.clone());
            let opening = Opening { path, headers, message };
            let ours = self.desk.sessions.open(&lane.labels.endpoint, id, opening);
            if let Some(ours) = ours {
                response.headers_mut().insert(SESSION, ours);
            }
        }
    }

    /// Whether it is a message of MCP that may be heard twice.
    pub(super) fn says_nothing_new(&self) -> bool {
        let mcp = self.session.is_some() || self.parts.headers.contains_key(VERSION);
        let message = self.source.kept().filter(|_| mcp);
        message.is_some_and(|message| {
            Message::read(&message).is_some_and(|message| message.repeatable())
        })
    }

    /// Opens the session at an endpoint; one that differs from what the caller knows ends it.
    async fn open(&self, session: &Session, home: &mut Home, lane: &Lane) -> Result<(), Failure> {
        match reopen::reopen(home, lane, &self.spec).await {
            Ok(()) => Ok(()),
            Err(Unopened::Failed(failure)) => {
                // Nothing of the caller's was sent.
                Err(failure.outcome().map_or(failure, Failure::Unreached))
            }
            Err(Unopened::Different) => {
                self.desk.sessions.close(session);
                Err(Failure::Gone)
            }
        }
    }

    /// Names the session as the server knows it.
    fn go_as(&mut self, home: &Home) {
        self.parts.headers.insert(SESSION, home.id.clone());
        if home.moves > 0 {
            self.parts.headers.remove(LAST_EVENT);
        }
    }
}

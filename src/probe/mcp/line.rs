//! Requests of MCP over HTTP and their answers, as JSON or as an event stream, in one attempt.
//!
//! A connection is kept from one request to the next, and replaced when the server closes it. A
//! stream that goes on after its answer is not listened to: its connection is given up.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCEPT, AGE, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use hyper::http::response::Parts;
use hyper::{Method, Request, Response};
use tokio::time::timeout;

use crate::core::outcome::Outcome;
use crate::policy::model::HttpCheck;
use crate::policy::secret::Secret;
use crate::probe::channel::{Channel, Incoming, Outgoing};
use crate::probe::dial::Dialler;
use crate::probe::finding::{Finding, Step};
use crate::probe::http;
use crate::probe::mcp::message::{Ask, Found, SAYS_VERSION, find};
use crate::probe::mcp::reading::{Answer, Content};
use crate::probe::mcp::sse::{EVENT_MAX, Events};
use crate::probe::trace::{Stage, Trace};

/// Bytes of an answer that are read; a list of tools with its schemas can be long.
const ANSWER_MAX: usize = EVENT_MAX;
/// Bytes of an answer with its head and framing.
const READ_MAX: usize = ANSWER_MAX + 64 * 1024;
/// Bytes of an answer that nobody looks at.
const IGNORED_MAX: usize = 16 * 1024;
/// How long the end of a stream is waited for once the answer is there.
const END_WAIT: Duration = Duration::from_millis(50);

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");

/// A session, as the server knows it.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// What the server calls it; absent when it keeps none.
    pub(super) id: Option<HeaderValue>,
    /// The version agreed on; absent when nobody knows it.
    pub(super) version: Option<String>,
}

/// How a request is to be worded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dialect<'a> {
    /// In the modern era, in this version.
    Modern(&'a str),
    /// In the legacy era, before there is a session.
    Opening,
    /// In the legacy era, in this session.
    Session(&'a Session),
}

/// The way to one server.
#[derive(Debug)]
pub(super) struct Line<'a> {
    dialler: &'a Dialler,
    http: &'a HttpCheck,
    headers: HeaderMap,
    pub(super) channel: Option<Channel>,
    /// The session that the last answer's head granted.
    pub(super) granted: Option<HeaderValue>,
    answered: bool,
}

impl<'a> Line<'a> {
    /// Everything that can be wrong before a connection exists.
    pub(super) fn new(
        dialler: &'a Dialler,
        http: &'a HttpCheck,
        token: Option<&Secret>,
    ) -> Step<Self> {
        let mut headers = http::headers(http, token)?;
        headers.remove(CONNECTION);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(Self { dialler, http, headers, channel: None, granted: None, answered: false })
    }

    /// The same way with the same headers, for somebody else to go.
    pub(super) fn resume(dialler: &'a Dialler, http: &'a HttpCheck, kept: Kept) -> Self {
        let Kept { headers, channel, granted } = kept;
        Self { dialler, http, headers, channel, granted, answered: true }
    }

    /// What [`Line::resume`] needs.
    pub(super) fn keep(&mut self) -> Kept {
        let channel = self.channel.take();
        Kept { headers: self.headers.clone(), channel, granted: self.granted.take() }
    }

    /// Asks, and waits for the answer to exactly this.
    pub(super) async fn ask(
        &mut self,
        ask: &Ask,
        id: u64,
        dialect: Dialect<'_>,
        trace: &mut Trace,
    ) -> Step<Answer> {
        let modern = if let Dialect::Modern(version) = dialect { Some(version) } else { None };
        let mut request = self.request(Method::POST, ask.text(id, modern).into())?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match dialect {
            Dialect::Modern(version) => {
                insert_version(headers, version)?;
                headers.insert(METHOD, HeaderValue::from_static(ask.method()));
            }
            Dialect::Opening => {}
            Dialect::Session(session) => say_session(headers, session)?,
        }
        self.granted = None;
        let answer = self.send(request, ask.method(), trace).await?;
        let (head, body) = answer.into_parts();
        trace.status = Some(head.status.as_u16());
        self.granted = head.headers.get(SESSION).cloned();
        let content = self.content(&head, body, ask.is_request().then_some(id)).await?;
        trace.enter(Stage::Between);
        Ok(Answer { status: head.status, headers: head.headers, content })
    }

    /// The answer to a request to begin a session, which somebody else gave up waiting for.
    pub(super) async fn overhear(&mut self) -> Step<Option<HeaderValue>> {
        if let Some(channel) = self.channel.as_mut()
            && channel.is_waiting()
        {
            let answer = channel.answer().await?;
            self.granted = answer.headers().get(SESSION).cloned();
        }
        // Whatever the body is, the connection will not be used for anything else.
        self.channel = None;
        Ok(self.granted.take())
    }

    /// Ends a session; what the server says to that is nobody's business.
    pub(super) async fn leave(&mut self, session: &Session, trace: &mut Trace) -> Step {
        let mut request = self.request(Method::DELETE, Bytes::new())?;
        say_session(request.headers_mut(), session)?;
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        self.send(request, "DELETE", trace).await?;
        self.channel = None;
        Ok(())
    }

    fn request(&self, method: Method, body: Bytes) -> Step<Outgoing> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = http::path(self.http)?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }

    /// Sends over the connection at hand, or a new one; returns the head of the answer.
    async fn send(
        &mut self,
        request: Outgoing,
        what: &'static str,
        trace: &mut Trace,
    ) -> Step<Response<Incoming>> {
        let kept = self.is_ready().await;
        if kept {
            let end = self.exchange(request.clone(), what, trace).await;
            if !end.as_ref().is_err_and(|finding| self.was_stale(finding)) {
                return end;
            }
        }
        self.channel = Some(http::open(self.dialler, self.http, trace).await?);
        self.exchange(request, what, trace).await
    }

    /// Whether there is a connection that takes another request.
    async fn is_ready(&mut self) -> bool {
        let ready = match self.channel.as_mut() {
            Some(channel) => channel.is_ready().await,
            None => false,
        };
        if !ready {
            self.channel = None;
        }
        ready
    }

    /// A server may close a kept connection just when it is used again: that says nothing.
    fn was_stale(&self, finding: &Finding) -> bool {
        let silent = self.channel.as_ref().is_none_or(|channel| channel.first_byte().is_none());
        finding.outcome == Outcome::Reset && silent
    }

    async fn exchange(
        &mut self,
        request: Outgoing,
        what: &'static str,
        trace: &mut Trace,
    ) -> Step<Response<Incoming>> {
        let Some(channel) = self.channel.as_mut() else {
            return Err(Finding::cut("connection closed without an answer"));
        };
        let first = !std::mem::replace(&mut self.answered, true);
        trace.enter(if first { Stage::Answer } else { Stage::Reply(what) });
        channel.start(request, READ_MAX);
        let answer = channel.answer().await;
        if let Some(moment) = channel.first_byte()
            && first
        {
            trace.enter_at(Stage::Body, moment);
        }
        answer
    }

    /// Reads what an answer holds; without an `id` nothing is looked for.
    async fn content(&mut self, head: &Parts, body: Incoming, id: Option<u64>) -> Step<Content> {
        let Some(channel) = self.channel.as_mut() else { return Ok(Content::Nothing) };
        let streams = is_event_stream(&head.headers);
        let Some(id) = id else {
            if streams {
                self.channel = None;
            } else {
                channel.body(body, IGNORED_MAX, false).await?;
            }
            return Ok(Content::Nothing);
        };
        if is_from_a_cache(&head.headers) {
            self.channel = None;
            return Ok(Content::Foreign("answer comes from a cache"));
        }
        if streams {
            return self.stream(body, id).await;
        }
        let body = channel.body(body, ANSWER_MAX, true).await?;
        Ok(if body.bytes.trim_ascii().is_empty() {
            Content::Nothing
        } else if body.whole {
            content(find(&body.bytes, id))
        } else {
            Content::Foreign("answer is too long")
        })
    }

    /// Reads events up to the answer.
    async fn stream(&mut self, mut body: Incoming, id: u64) -> Step<Content> {
        let Some(channel) = self.channel.as_mut() else { return Ok(Content::Nothing) };
        let mut events = Events::default();
        while let Some(piece) = channel.piece(&mut body).await? {
            let Ok(complete) = events.feed(&piece) else {
                return Err(Finding::protocol("event is too long"));
            };
            let found = complete.iter().map(|data| find(data, id));
            if let Some(Found::Reply(reply)) = found.into_iter().find(is_reply) {
                let rest = channel.body(body, IGNORED_MAX, false);
                // Most streams end here, and then their connection is free again.
                if !matches!(timeout(END_WAIT, rest).await, Ok(Ok(rest)) if rest.whole) {
                    self.channel = None;
                }
                return Ok(Content::Reply(reply));
            }
        }
        let last = events.finish().map(|data| find(&data, id)).filter(is_reply);
        Ok(last.map_or(Content::Foreign("event stream ended without the answer"), content))
    }
}

/// What is kept of a line when the attempt is over.
#[derive(Debug)]
pub(super) struct Kept {
    headers: HeaderMap,
    channel: Option<Channel>,
    granted: Option<HeaderValue>,
}

impl Kept {
    /// Drops the connection.
    pub(super) fn hang_up(&mut self) {
        self.channel = None;
    }
}

const fn is_reply(found: &Found) -> bool {
    matches!(found, Found::Reply(_))
}

fn content(found: Found) -> Content {
    match found {
        Found::Reply(reply) => Content::Reply(reply),
        Found::Other => Content::Foreign("answer is to another request"),
        Found::Foreign => Content::Foreign("answer is not JSON-RPC"),
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

/// A cached answer shows that the cache lives.
fn is_from_a_cache(headers: &HeaderMap) -> bool {
    headers.get(AGE).is_some_and(|age| age.as_bytes().trim_ascii() != b"0")
}

fn insert_version(headers: &mut HeaderMap, version: &str) -> Step {
    let version = HeaderValue::from_str(version)
        .map_err(|_invalid| Finding::protocol("server names no version that it speaks"))?;
    headers.insert(VERSION, version);
    Ok(())
}

fn say_session(headers: &mut HeaderMap, session: &Session) -> Step {
    if let Some(id) = &session.id {
        headers.insert(SESSION, id.clone());
    }
    match &session.version {
        // Versions are dates, so the order of their letters is that of time.
        Some(version) if version.as_str() >= SAYS_VERSION => insert_version(headers, version),
        Some(_) | None => Ok(()),
    }
}

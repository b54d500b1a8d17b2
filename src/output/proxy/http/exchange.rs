//! One request over all its attempts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::Either;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::core::outcome::Outcome;
use crate::output::proxy::desk::{Desk, Spec};
use crate::output::proxy::http::head;
use crate::output::proxy::http::pool::Outgoing;
use crate::output::proxy::http::replay::Source;
use crate::output::proxy::http::serve::{Arrival, Refusal, Reply};
use crate::output::proxy::http::session::{Named, Session};
use crate::output::proxy::http::tied::{Tie, Tied};
use crate::output::proxy::http::upgrade;
use crate::output::proxy::http::verdict::{self, Failure};
use crate::output::proxy::lane::Lane;
use crate::telemetry::metric;

/// Answers one request.
pub(in crate::output::proxy) async fn exchange(
    desk: &Arc<Desk>,
    arrival: &Arrival,
    request: Request<Incoming>,
) -> Response<Reply> {
    if let Err(refusal) = admit(arrival, &request) {
        return refusal.answer(desk);
    }
    let Ok(place) = desk.requests.load().try_acquire_owned() else {
        return Refusal::Busy.answer(desk);
    };
    let spec = desk.spec.load();
    desk.budget.deposit(spec.policy.retry.budget_permille);
    if let Some(protocol) = head::upgrade(request.headers()) {
        return upgrade::exchange(desk, &spec, request, (protocol, place)).await;
    }
    let (parts, body) = request.into_parts();
    let safe = head::idempotent(&parts.method);
    let source = Source::new(body);
    Call { desk, spec, parts, source, session: None, safe, place: Some(place) }.run().await
}

/// Whether a request may be served at all.
fn admit(arrival: &Arrival, request: &Request<Incoming>) -> Result<(), Refusal> {
    if request.method() == Method::CONNECT || !request.uri().path().starts_with('/') {
        return Err(Refusal::Invalid);
    }
    match arrival {
        Arrival::Direct { local } if local.ip().is_loopback() => {
            let foreign = head::foreign(request.headers(), request.uri());
            if foreign { Err(Refusal::Forbidden) } else { Ok(()) }
        }
        Arrival::Direct { .. } | Arrival::Opened => Ok(()),
    }
}

/// A request on its way.
pub(super) struct Call<'a> {
    pub(super) desk: &'a Arc<Desk>,
    pub(super) spec: Arc<Spec>,
    pub(super) parts: Parts,
    pub(super) source: Source,
    /// The MCP session that it belongs to.
    pub(super) session: Option<Arc<Session>>,
    /// Whether it may be done twice.
    safe: bool,
    place: Option<OwnedSemaphorePermit>,
}

/// An answer that has begun.
pub(super) type Begun = (Response<Incoming>, Tie, Outcome);

impl Call<'_> {
    async fn run(mut self) -> Response<Reply> {
        match self.desk.sessions.find(&self.parts.headers) {
            Named::Not => {}
            Named::Known(session) => self.session = Some(session),
            Named::Forgotten => return Refusal::Gone.answer(self.desk),
        }
        let mut lanes: VecDeque<Arc<Lane>> = self.lanes().await.into();
        if lanes.is_empty() {
            return Refusal::NoEndpoint.answer(self.desk);
        }
        let mut attempts = 0;
        let mut bad: Option<Begun> = None;
        let mut refusal = Refusal::Unreached;
        while let Some(lane) = lanes.pop_front() {
            attempts += 1;
            match self.visit(&lane).await {
                Ok((response, tie, outcome)) => {
                    let again = self.is_bad(response.status()) && !lanes.is_empty();
                    bad = Some((response, tie, outcome));
                    if !(again && self.may_repeat(attempts)) {
                        break;
                    }
                }
                Err(Failure::Caller) => return Refusal::Invalid.answer(self.desk),
                Err(failure) => {
                    refusal = failure.refusal();
                    if !self.goes_on(failure, attempts) {
                        break;
                    }
                    // A kept connection may have been closed under us: that is worth one more.
                    if lanes.is_empty() && failure == Failure::Broken(Outcome::Reset) {
                        lanes.extend((attempts == 1).then_some(lane));
                    }
                }
            }
        }
        match bad {
            Some((mut response, tie, outcome)) => {
                self.settle(&tie.lane, &mut response).await;
                self.pass(response, tie, outcome)
            }
            None => refusal.answer(self.desk),
        }
    }

    /// Whether another endpoint is tried after a failure.
    fn goes_on(&self, failure: Failure, attempts: u32) -> bool {
        match failure {
            // Nothing was sent: another endpoint is no second time.
            Failure::Unreached(_) => true,
            Failure::Cut => self.repeatable(),
            Failure::Broken(_) => self.may_repeat(attempts),
            Failure::Caller | Failure::Gone => false,
        }
    }

    /// Whether sending it once more is safe, and can be done.
    fn repeatable(&self) -> bool {
        (self.safe || self.says_nothing_new()) && self.source.replayable()
    }

    /// Whether it may be sent once more: safe, allowed so many times, and paid for.
    fn may_repeat(&self, attempts: u32) -> bool {
        let retry = &self.spec.policy.retry;
        if !self.repeatable() || attempts >= retry.attempts {
            return false;
        }
        let granted = self.desk.budget.withdraw(retry.budget_min, Instant::now());
        metric::proxy_retry(&self.spec.policy.name, granted);
        granted
    }

    fn is_bad(&self, status: StatusCode) -> bool {
        self.spec.policy.retry.statuses.contains(&status.as_u16())
    }

    /// Sends it to one endpoint.
    pub(super) async fn attempt(&self, lane: &Arc<Lane>) -> Result<Begun, Failure> {
        let policy = &self.spec.policy;
        let (cut, entered) = (lane.cut(), lane.enter());
        let request = self.request(lane).ok_or(Failure::Caller)?;
        let ours = self.spec.credential(&lane.labels.endpoint);
        let began = Instant::now();
        let answer = async {
            let pool = lane.pool(policy.connect_timeout).ok_or(Failure::Unreached(Outcome::Tls))?;
            pool.request(request).await.map_err(|error| verdict::failure(&error))
        };
        let patience = policy.first_byte_timeout.max(policy.connect_timeout + MOMENT);
        let answered = tokio::select! {
            answered = answer => answered,
            () = cut.done(), if self.repeatable() => Err(Failure::Cut),
            caller = self.source.stall(patience, policy.idle_timeout) => Err(if caller {
                Failure::Caller
            } else {
                Failure::Broken(Outcome::Timeout)
            }),
        };
        let took = began.elapsed();
        match answered {
            Ok(response) => {
                lane.answered(took);
                lane.tally.sent.fetch_add(self.source.taken(), Ordering::Relaxed);
                self.desk.proven(&lane.labels.endpoint);
                let outcome = verdict::outcome(response.status(), response.headers(), ours);
                lane.tell(&self.desk.feedback, outcome, took);
                Ok((response, Tie { lane: Arc::clone(lane), cut, entered }, outcome))
            }
            Err(failure) => {
                if let Some(outcome) = failure.outcome() {
                    lane.ended(&self.desk.feedback, outcome, took);
                }
                Err(failure)
            }
        }
    }

    fn request(&self, lane: &Lane) -> Option<Request<Outgoing>> {
        let set = self.spec.headers(&lane.labels.endpoint);
        let mut headers = self.parts.headers.clone();
        let host = head::outgoing(&mut headers, set);
        let mut request = Request::new(Outgoing::Left(self.source.attempt()));
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = head::address(&lane.upstream, host.as_ref(), &self.parts.uri)?;
        *request.headers_mut() = headers;
        *request.version_mut() = Version::HTTP_11;
        Some(request)
    }

    /// Passes an upstream's answer on.
    fn pass(
        &mut self,
        response: Response<Incoming>,
        tie: Tie,
        outcome: Outcome,
    ) -> Response<Reply> {
        let (mut parts, body) = response.into_parts();
        if parts.status.is_informational() {
            return Refusal::Unreached.answer(self.desk);
        }
        head::strip(&mut parts.headers);
        parts.extensions.clear();
        parts.version = Version::HTTP_11;
        // Events may be rare: only a dead connection ends a stream of them.
        let idle = (!is_event_stream(&parts.headers)).then_some(self.spec.policy.idle_timeout);
        let body = Tied::new(body, tie, outcome, idle, self.place.take());
        Response::from_parts(parts, Either::Right(body))
    }
}

/// What a deadline that follows another one is longer by.
const MOMENT: Duration = Duration::from_millis(50);

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"))
}

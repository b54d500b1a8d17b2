//! From a path to an answer.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::body::Answer;
use super::{AdminState, Arrival, guard, page, sse};
use crate::admin::protocol::HistoryQuery;
use crate::core::id::ServiceName;
use crate::core::record::SCHEMA;
use crate::telemetry::metric;

/// Longest path and query together.
const TARGET_MAX: usize = 1024;
/// Longest name accepted in a query.
const NAME_MAX: usize = 128;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const JSON_LINES: &str = "application/x-ndjson";
const STILL: &str = "the decision loop stands still";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What may be asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Route {
    Page,
    Status,
    History,
    Events,
    Metrics,
    Healthz,
    Readyz,
}

impl Route {
    /// Exact matches only: what is normalised nowhere can be confused nowhere.
    fn of(path: &str) -> Option<Self> {
        match path {
            "/" => Some(Self::Page),
            "/status" => Some(Self::Status),
            "/history" => Some(Self::History),
            "/events" => Some(Self::Events),
            "/metrics" => Some(Self::Metrics),
            "/healthz" => Some(Self::Healthz),
            "/readyz" => Some(Self::Readyz),
            _ => None,
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Status => "status",
            Self::History => "history",
            Self::Events => "events",
            Self::Metrics => "metrics",
            Self::Healthz => "healthz",
            Self::Readyz => "readyz",
        }
    }
}

/// Answers requests.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) state: AdminState,
    pub(super) listen: Option<SocketAddr>,
    pub(super) streams: Arc<Semaphore>,
    pub(super) cancel: CancellationToken,
}

impl Desk {
    pub(super) async fn answer(
        &self,
        request: &Request<Incoming>,
        local: SocketAddr,
    ) -> Response<Answer> {
        let route = Route::of(request.uri().path());
        let answer = match self.admit(request, local, route) {
            Ok(route) => self.give(route, request).await,
            Err(refusal) => *refusal,
        };
        metric::admin_request(route.map_or("other", Route::label), answer.status().as_u16());
        armoured(answer)
    }

    fn admit(
        &self,
        request: &Request<Incoming>,
        local: SocketAddr,
        route: Option<Route>,
    ) -> Result<Route, Box<Response<Answer>>> {
        let refuse = |code, text| Box::new(plain(code, text));
        let allowed_hosts = &self.state.allowed_hosts;
        let arrival = Arrival { listen: self.listen, local, allowed_hosts };
        guard::check(request.headers(), request.uri(), &arrival)
            .map_err(|why| refuse(StatusCode::FORBIDDEN, why.help()))?;
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        if target > TARGET_MAX {
            return Err(refuse(StatusCode::URI_TOO_LONG, "the address is too long\n"));
        }
        let route = route.ok_or_else(|| refuse(StatusCode::NOT_FOUND, "no such page\n"))?;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = refuse(StatusCode::METHOD_NOT_ALLOWED, "this surface is read-only\n");
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Err(refusal);
        }
        if !request.body().is_end_stream() {
            let mut refusal =
                refuse(StatusCode::PAYLOAD_TOO_LARGE, "this surface takes no request body\n");
            refusal.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return Err(refusal);
        }
        Ok(route)
    }

    async fn give(&self, route: Route, request: &Request<Incoming>) -> Response<Answer> {
        match route {
            Route::Page => page::page(),
            Route::Status => self.status().await,
            Route::History => self.history(request.uri().query().unwrap_or_default()).await,
            Route::Events => self.events(request),
            Route::Metrics => self.metrics().await,
            Route::Healthz => self.health(),
            Route::Readyz => self.readiness(),
        }
    }

    async fn status(&self) -> Response<Answer> {
        let document = (self.state.status)().await;
        document.map_or_else(still, |document| json(StatusCode::OK, &*document))
    }

    async fn metrics(&self) -> Response<Answer> {
        let text = (self.state.metrics)().await;
        text.map_or_else(still, |text| whole(StatusCode::OK, PROMETHEUS, text))
    }

    fn health(&self) -> Response<Answer> {
        let alive = self.state.vitals.is_alive();
        let (code, status) = verdict(alive, STILL);
        let age = self.state.vitals.beat_age().as_secs_f64();
        json(
            code,
            &serde_json::json!({ "schema": SCHEMA, "status": status, "loop_age_seconds": age }),
        )
    }

    fn readiness(&self) -> Response<Answer> {
        let missing = self.state.vitals.missing();
        let (code, status) = verdict(missing.is_none(), missing.unwrap_or_default());
        json(code, &serde_json::json!({ "schema": SCHEMA, "status": status }))
    }

    async fn history(&self, query: &str) -> Response<Answer> {
        let Some(query) = history_query(query) else {
            let help = "write /history?service=NAME&n=COUNT, both optional\n";
            return plain(StatusCode::BAD_REQUEST, help);
        };
        let mut text = Vec::new();
        for record in (self.state.history)(query).await {
            if serde_json::to_writer(&mut text, &record).is_ok() {
                text.push(b'\n');
            }
        }
        whole(StatusCode::OK, JSON_LINES, text)
    }

    fn events(&self, request: &Request<Incoming>) -> Response<Answer> {
        let Some(replay) = sse::replay(request) else {
            let help = "write /events?last=COUNT, optional\n";
            return plain(StatusCode::BAD_REQUEST, help);
        };
        if request.method() == Method::HEAD {
            return whole(StatusCode::OK, sse::CONTENT_TYPE, Bytes::new());
        }
        let Ok(place) = Arc::clone(&self.streams).try_acquire_owned() else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "too many event streams\n");
        };
        let stream = sse::Stream {
            events: self.state.hub.subscribe(replay),
            limits: self.state.limits,
            cancel: self.cancel.clone(),
        };
        respond(StatusCode::OK, sse::CONTENT_TYPE, stream.start(place))
    }
}

const fn verdict(good: bool, why: &str) -> (StatusCode, &str) {
    if good { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, why) }
}

/// The pairs of a query; `None` when it holds anything but plain `key=value` pairs.
pub(super) fn pairs(query: &str) -> Option<Vec<(&str, &str)>> {
    let pieces = query.split('&').filter(|piece| !piece.is_empty());
    pieces.map(|piece| piece.split_once('=').filter(|(_, value)| !value.contains('%'))).collect()
}

fn history_query(query: &str) -> Option<HistoryQuery> {
    let mut wanted = HistoryQuery::default();
    for (key, value) in pairs(query)? {
        match key {
            "service" if !value.is_empty() && value.len() <= NAME_MAX => {
                wanted.service = Some(ServiceName::new(value));
            }
            "n" => wanted.n = value.parse().ok().filter(|n| *n <= HistoryQuery::COUNT_MAX)?,
            _ => return None,
        }
    }
    Some(wanted)
}

fn json(code: StatusCode, document: &impl serde::Serialize) -> Response<Answer> {
    match serde_json::to_vec(document) {
        Ok(mut text) => {
            text.push(b'\n');
            whole(code, JSON, text)
        }
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the document cannot be written\n"),
    }
}

fn still() -> Response<Answer> {
    whole(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{STILL}\n"))
}

fn plain(code: StatusCode, text: &'static str) -> Response<Answer> {
    whole(code, TEXT, text)
}

pub(super) fn whole(
    code: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Answer> {
    respond(code, content_type, Answer::whole(body))
}

fn respond(code: StatusCode, content_type: &'static str, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Adds what tells a browser to trust this answer with nothing.
fn armoured(mut response: Response<Answer>) -> Response<Answer> {
    const ARMOUR: [(HeaderName, &str); 5] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    let headers = response.headers_mut();
    for (name, value) in ARMOUR {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    response
}

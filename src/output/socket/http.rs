//! The same over HTTP, for people: `curl --unix-socket PATH http://localhost/v1/services`.
//!
//! A lease taken this way belongs to no connection; it ends by its time or by `release`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value, json};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use crate::core::id::ServiceName;
use crate::output::socket::desk::Desk;
use crate::output::socket::protocol::{Failure, LINE_MAX, Op, parse};
use crate::output::socket::session::answer;
use crate::output::socket::view::line;

/// How long a client may take to send a request's head, or stay idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a watcher may refuse to take a change.
const STALL: Duration = Duration::from_secs(30);
const HEAD_BYTES_MAX: usize = 16 * 1024;

type Body = Either<Full<Bytes>, Channel<Bytes>>;

/// Serves a client until it goes.
pub(super) async fn serve(stream: UnixStream, desk: Desk) {
    let service = service_fn(move |request| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(respond(request, desk).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a client of the config socket went away");
    }
}

/// What a request is about.
enum Route<'a> {
    Services,
    Service(&'a str),
    Watch(Option<&'a str>),
    Ping,
    /// An operation of the line protocol, about this service or lease.
    Do(&'static str, &'static str, &'a str),
}

fn route<'a>(method: &Method, path: &'a str) -> Result<Route<'a>, Option<&'static str>> {
    let mut parts = path.trim_matches('/').split('/');
    let (root, kind, name, verb) = (parts.next(), parts.next(), parts.next(), parts.next());
    if root != Some("v1") || parts.next().is_some() {
        return Err(None);
    }
    let (route, wanted) = match (kind, name, verb) {
        (Some("ping"), None, None) => (Route::Ping, Method::GET),
        (Some("services"), None, None) => (Route::Services, Method::GET),
        (Some("watch"), None, None) => (Route::Watch(None), Method::GET),
        (Some("services"), Some(name), None) => (Route::Service(name), Method::GET),
        (Some("services"), Some(name), Some("watch")) => (Route::Watch(Some(name)), Method::GET),
        (Some("services"), Some(name), Some("lease")) => {
            (Route::Do("lease", "service", name), Method::POST)
        }
        (Some("services"), Some(name), Some("report")) => {
            (Route::Do("report", "service", name), Method::POST)
        }
        (Some("services"), Some(name), Some("ack")) => {
            (Route::Do("ack", "service", name), Method::POST)
        }
        (Some("leases"), Some(name), Some("renew")) => {
            (Route::Do("renew", "lease", name), Method::POST)
        }
        (Some("leases"), Some(name), Some("release")) => {
            (Route::Do("release", "lease", name), Method::POST)
        }
        _ => return Err(None),
    };
    let same = *method == wanted;
    if same { Ok(route) } else { Err(Some(if wanted == Method::GET { "GET" } else { "POST" })) }
}

async fn respond(request: Request<Incoming>, desk: Desk) -> Response<Body> {
    let (head, body) = request.into_parts();
    match route(&head.method, head.uri.path()) {
        Ok(Route::Ping) => done(Ok(Map::new())),
        Ok(Route::Services) => {
            let names = desk.services();
            let all = names.iter().filter_map(|name| desk.get(name.as_str()).ok());
            done(Ok(Map::from_iter([("services".to_owned(), all.map(Value::Object).collect())])))
        }
        Ok(Route::Service(name)) => done(desk.get(name)),
        Ok(Route::Watch(name)) => match name.map(|name| desk.known(name)).transpose() {
            Ok(name) => watch(desk, name),
            Err(failure) => done(Err(failure)),
        },
        Ok(Route::Do(op, key, value)) => {
            let done_so_far = members(body).await.map(|mut members| {
                members.insert("op".to_owned(), json!(op));
                members.insert(key.to_owned(), json!(value));
                Value::Object(members).to_string()
            });
            match done_so_far.and_then(|text| parse(text.as_bytes()).op) {
                Ok(op) => done(carry_out(op, &desk).await),
                Err(failure) => done(Err(failure)),
            }
        }
        Err(Some(allowed)) => {
            let failure = Failure::new("bad_request", "another method is wanted here");
            let mut response = whole(StatusCode::METHOD_NOT_ALLOWED, &answer(None, Err(failure)));
            response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static(allowed));
            response
        }
        Err(None) => {
            let failure = Failure::new("unknown_op", "there is nothing here; see /v1/services");
            whole(StatusCode::NOT_FOUND, &answer(None, Err(failure)))
        }
    }
}

async fn carry_out(op: Op, desk: &Desk) -> Result<Map<String, Value>, Failure> {
    let mut held = desk.shared.lock().await;
    held.sweep(Instant::now());
    match op {
        Op::Lease { service, ttl } => desk.lease(&service, ttl, &mut held).await,
        Op::Renew { lease } => desk.renew(lease, &mut held),
        Op::Release { lease, observation } => desk.release(lease, observation, &mut held),
        Op::Report { service, endpoint, observation } => {
            desk.report(&service, &endpoint, observation, &mut held)
        }
        Op::Ack { service, generation, seq } => {
            desk.known(&service)?;
            desk.ack(&service, &generation, seq);
            Ok(Map::new())
        }
        Op::Get { .. } | Op::Subscribe { .. } | Op::Unsubscribe { .. } | Op::Ping => Ok(Map::new()),
    }
}

/// The body's members; none for an empty body.
async fn members(body: Incoming) -> Result<Map<String, Value>, Failure> {
    let collected = timeout(BODY_TIMEOUT, Limited::new(body, LINE_MAX).collect()).await;
    let Ok(Ok(collected)) = collected else { return Err(Failure::TOO_LARGE) };
    let bytes = collected.to_bytes();
    if bytes.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) | Err(_) => Err(Failure::new("bad_request", "the body is not a JSON object")),
    }
}

/// Changes as lines, beginning with what is active now.
fn watch(desk: Desk, name: Option<ServiceName>) -> Response<Body> {
    let (sender, body) = Channel::new(1);
    tokio::spawn(follow(desk, name, sender));
    let mut response = Response::new(Either::Right(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/x-ndjson"));
    response
}

async fn follow(mut desk: Desk, name: Option<ServiceName>, mut sender: Sender<Bytes>) {
    let mut seen = std::collections::BTreeMap::new();
    loop {
        let views = Arc::clone(&desk.views.borrow_and_update());
        for (service, view) in &views.services {
            let wanted = name.as_ref().is_none_or(|name| name == service);
            if !wanted || seen.insert(service.clone(), view.seq) == Some(view.seq) {
                continue;
            }
            let event = Bytes::copy_from_slice(view.event.as_bytes());
            if !matches!(timeout(STALL, sender.send_data(event)).await, Ok(Ok(()))) {
                return;
            }
        }
        if desk.views.changed().await.is_err() {
            return;
        }
    }
}

fn done(result: Result<Map<String, Value>, Failure>) -> Response<Body> {
    let status = match &result {
        Ok(_) => StatusCode::OK,
        Err(failure) => match failure.code {
            "unknown_service" | "unknown_endpoint" | "unknown_lease" => StatusCode::NOT_FOUND,
            "no_endpoint" => StatusCode::SERVICE_UNAVAILABLE,
            "busy" => StatusCode::TOO_MANY_REQUESTS,
            "too_large" => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        },
    };
    whole(status, &answer(None, result))
}

fn whole(status: StatusCode, message: &Value) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(line(message)))));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

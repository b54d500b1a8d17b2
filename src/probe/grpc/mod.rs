//! The health service of gRPC, `grpc.health.v1`: asked, or listened to.
//!
//! A server without a health service passes, since it answers in gRPC: that is all that can be
//! known of it, and what gRPC's own clients make of it. The detail says so.
//!
//! With `watch` the server tells of changes by itself, on a stream that outlives the attempt. An
//! attempt then asks nothing; see [`watch`] for what it does instead.

pub(in crate::probe) mod message;
mod status;
mod watch;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TE, USER_AGENT};
use hyper::{Request, StatusCode, Uri};

use crate::policy::model::{GrpcCheck, HttpExpect, HttpVersion};
use crate::probe::channel::{Channel, Incoming, Outgoing};
use crate::probe::dial::{Dialler, Route};
use crate::probe::expect;
use crate::probe::finding::{Finding, Step};
use crate::probe::http;
use crate::probe::tls;
use crate::probe::trace::{Stage, Trace};
use message::{Frames, Malformed};
use status::Code;
pub(super) use watch::Watches;

/// Bytes of one answer: a head, trailers, one small message and the framing of all.
const READ_MAX: usize = 40 * 1024;

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const KIND: &str = "application/grpc";

pub(super) async fn run(
    dialler: &Dialler,
    watches: &Arc<Watches>,
    check: &GrpcCheck,
    trace: &mut Trace,
) -> Step {
    // One watch cannot be of several addresses.
    if check.watch && trace.pinned.is_none() {
        watches.attempt(dialler, check, trace).await?;
    } else {
        let mut channel = open(dialler, check, trace).await?;
        ask(&mut channel, check, trace).await?;
    }
    expect::speed(check.slow, trace.elapsed())?;
    check.tls.as_ref().map_or(Ok(()), |options| tls::expiry(options, trace))
}

async fn open(dialler: &Dialler, check: &GrpcCheck, trace: &mut Trace) -> Step<Channel> {
    let route = Route {
        target: &check.target,
        socket: None,
        tls: check.tls.as_ref(),
        version: HttpVersion::Http2,
    };
    http::connect(dialler, &route, trace).await
}

/// Asks once, and waits for the end of the answer.
async fn ask(channel: &mut Channel, check: &GrpcCheck, trace: &mut Trace) -> Step {
    let (head, mut body) = begin(channel, check, CHECK, trace).await?;
    if let Some(code) = Code::read(&head) {
        return status::end(None, Some(code), &head);
    }
    let mut frames = Frames::default();
    let mut serving = None;
    while let Some(piece) = channel.piece(&mut body).await? {
        frames.push(&piece);
        while let Some(next) = frames.next().map_err(malformed)? {
            serving = Some(next);
        }
    }
    let trailers = channel.trailers(&mut body).await?.unwrap_or_default();
    status::end(serving, Code::read(&trailers), &trailers)
}

/// Begins a call: the head of the answer, known to be gRPC, and the body to come.
async fn begin(
    channel: &mut Channel,
    check: &GrpcCheck,
    method: &'static str,
    trace: &mut Trace,
) -> Step<(HeaderMap, Incoming)> {
    let request = request(check, method, trace)?;
    trace.enter(Stage::Answer);
    channel.start(request, READ_MAX);
    let (head, body) = channel.answer().await?.into_parts();
    trace.enter(Stage::Body);
    trace.status = Some(head.status.as_u16());
    let is_grpc = |kind: &HeaderValue| kind.as_bytes().starts_with(KIND.as_bytes());
    if head.status != StatusCode::OK {
        let expect = HttpExpect { status: vec![(200, 200)], ..HttpExpect::default() };
        expect::status(&expect, head.status, &head.headers)?;
    }
    if !head.headers.get(CONTENT_TYPE).is_some_and(is_grpc) {
        return Err(Finding::protocol("answer is not gRPC"));
    }
    Ok((head.headers, body))
}

fn request(check: &GrpcCheck, method: &'static str, trace: &Trace) -> Step<Outgoing> {
    let body = Bytes::from(message::request(&check.service));
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(method);
    let headers = request.headers_mut();
    http::own_headers(&check.metadata, headers)?;
    let host = http::authority(&check.target, check.tls.is_some());
    let host = HeaderValue::try_from(host)
        .map_err(|_invalid| Finding::misconfigured("host is not valid"))?;
    headers.insert(HOST, host);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(KIND));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(http::AGENT));
    if method == CHECK {
        // A server that gives up at our deadline does no work for nobody.
        let left = format!("{}m", trace.left().as_millis().clamp(1, 99_999_999));
        let left = HeaderValue::try_from(left)
            .map_err(|_invalid| Finding::misconfigured("deadline is not valid"))?;
        headers.insert(HeaderName::from_static("grpc-timeout"), left);
    }
    Ok(request)
}

fn malformed(why: Malformed) -> Finding {
    Finding::protocol(why.to_string())
}

//! One HTTP/1.1 request on a fresh connection, and the answer held against expectations.

use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;

use crate::policy::model::{HttpCheck, Target};
use crate::probe::dial::Dialler;
use crate::probe::expect::{self, Body};
use crate::probe::finding::{Finding, Step};
use crate::probe::tls;
use crate::probe::trace::{Stage, Trace};
use crate::probe::wire::{Meter, Wire};

/// Bytes of a body that are read and held against expectations.
const BODY_MAX: usize = 64 * 1024;
/// Bytes of an answer's head, and of any one buffer.
const HEAD_MAX: usize = 16 * 1024;
/// Header lines of an answer.
const HEADERS_MAX: usize = 100;

const AGENT: &str = concat!("mcp-failover/", env!("CARGO_PKG_VERSION"));

type Outgoing = Request<Full<Bytes>>;

pub(super) async fn run(dialler: &Dialler, check: &HttpCheck, trace: &mut Trace) -> Step {
    let request = request(check)?;
    let meter = Arc::new(Meter::default());
    let wire = match &check.tls {
        None => Wire::plain(dialler.connect(&check.target, trace).await?, Arc::clone(&meter)),
        Some(options) => {
            let protocol = Some(b"http/1.1".as_slice());
            let stream = dialler.connect_tls(&check.target, options, protocol, trace).await?;
            Wire::secure(stream, Arc::clone(&meter))
        }
    };
    trace.enter(Stage::Answer);
    exchange(wire, request, Conversation { check, meter: &meter, trace }).await?;
    expect::speed(&check.expect, trace.elapsed())?;
    check.tls.as_ref().map_or(Ok(()), |options| tls::expiry(options, trace))
}

/// Drives connection and conversation in one task, so that dropping it leaves nothing behind.
async fn exchange(wire: Wire, request: Outgoing, conversation: Conversation<'_>) -> Step {
    let meter = conversation.meter;
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .max_header_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(wire))
        .await
        .map_err(|error| broken(&error, meter))?;
    let mut connection = pin!(connection);
    let mut conversation = pin!(conversation.hold(sender, request));
    tokio::select! {
        biased;
        end = &mut conversation => end,
        // What ended the connection reaches the conversation as its own error.
        _ended = &mut connection => conversation.await,
    }
}

/// Request and answer, apart from the connection that carries them.
struct Conversation<'a> {
    check: &'a HttpCheck,
    meter: &'a Meter,
    trace: &'a mut Trace,
}

impl Conversation<'_> {
    async fn hold(self, mut sender: http1::SendRequest<Full<Bytes>>, request: Outgoing) -> Step {
        let expect = &self.check.expect;
        let answer = sender.send_request(request).await;
        if let Some(moment) = self.meter.first_byte() {
            self.trace.enter_at(Stage::Body, moment);
        }
        let (head, body) = answer.map_err(|error| broken(&error, self.meter))?.into_parts();
        self.trace.status = Some(head.status.as_u16());
        expect::status(expect, head.status, &head.headers)?;
        expect::headers(expect, &head.headers)?;
        let body = self.read(body).await?;
        expect::body(expect, &head.headers, &body)
    }

    /// Reads the body to its end or its limit, and keeps it only if somebody looks at it.
    async fn read(&self, mut body: Incoming) -> Step<Body> {
        let keep = expect::looks_at_body(&self.check.expect);
        let mut kept = Vec::new();
        let mut room = BODY_MAX;
        while let Some(frame) = body.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(_limit) if self.meter.exhausted() => {
                    return Ok(Body { bytes: kept, whole: false });
                }
                Err(error) => return Err(broken(&error, self.meter)),
            };
            let Ok(data) = frame.into_data() else { continue };
            let taken = data.len().min(room);
            if keep {
                kept.extend(data.iter().take(taken));
            }
            room -= taken;
            if taken < data.len() {
                return Ok(Body { bytes: kept, whole: false });
            }
        }
        Ok(Body { bytes: kept, whole: true })
    }
}

/// Sorts what ended a conversation.
fn broken(error: &hyper::Error, meter: &Meter) -> Finding {
    if meter.exhausted() {
        return Finding::protocol("answer has no end");
    }
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    if let Some(finding) = cause.and_then(tls::sort) {
        return finding;
    }
    if cause.is_some_and(|cause| cause.kind() != io::ErrorKind::UnexpectedEof) {
        return Finding::protocol("body is not framed as HTTP");
    }
    if error.is_parse_too_large() {
        Finding::protocol("answer has too many or too long headers")
    } else if error.is_parse_version_h2() {
        Finding::protocol("answer is HTTP/2")
    } else if error.is_parse() {
        Finding::protocol("answer is not HTTP")
    } else if error.is_user() {
        Finding::misconfigured("request cannot be sent")
    } else if meter.first_byte().is_some() {
        Finding::cut("connection closed before the answer was complete")
    } else {
        Finding::cut("connection closed without an answer")
    }
}

/// The request as the policy words it; what it leaves out gets our defaults.
fn request(check: &HttpCheck) -> Step<Outgoing> {
    let body = check.body.as_ref().map(|body| Bytes::copy_from_slice(body.expose().as_bytes()));
    let mut request = Request::new(Full::new(body.unwrap_or_default()));
    *request.method_mut() = Method::from_bytes(check.method.as_bytes())
        .map_err(|_invalid| Finding::misconfigured("request method is not valid"))?;
    *request.uri_mut() = Uri::builder()
        .path_and_query(check.path.expose())
        .build()
        .map_err(|_invalid| Finding::misconfigured("request path is not valid"))?;
    *request.headers_mut() = headers(check)?;
    Ok(request)
}

fn headers(check: &HttpCheck) -> Step<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(check.headers.len() + 5);
    for (name, value) in &check.headers {
        let field = HeaderName::from_bytes(name.as_bytes());
        let content = HeaderValue::from_bytes(value.expose().as_bytes());
        let (Ok(field), Ok(mut content)) = (field, content) else {
            return Err(Finding::misconfigured(format!("request header {name:?} is not valid")));
        };
        content.set_sensitive(true);
        headers.append(field, content);
    }
    let host = HeaderValue::try_from(authority(&check.target, check.tls.is_some()))
        .map_err(|_invalid| Finding::misconfigured("host is not valid"))?;
    headers.entry(HOST).or_insert(host);
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(headers)
}

/// The host as the header wants it: without the scheme's own port.
fn authority(target: &Target, tls: bool) -> String {
    let own = if tls { 443 } else { 80 };
    let full = target.to_string();
    if target.port == own {
        return full.strip_suffix(&format!(":{own}")).unwrap_or(&full).to_owned();
    }
    full
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;

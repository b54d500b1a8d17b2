//! One HTTP/1.1 request on a fresh connection, and the answer held against expectations.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue,
    USER_AGENT,
};
use hyper::{Method, Request, StatusCode, Uri};
use zeroize::Zeroizing;

use crate::policy::model::{HttpCheck, Target};
use crate::policy::secret::Secret;
use crate::probe::channel::{Channel, Outgoing};
use crate::probe::dial::Dialler;
use crate::probe::expect;
use crate::probe::finding::{Finding, Step};
use crate::probe::quota;
use crate::probe::tls;
use crate::probe::trace::{Stage, Trace};
use crate::probe::wire::{Meter, Wire};

/// Bytes of a body that are read and held against expectations.
const BODY_MAX: usize = 64 * 1024;
/// Bytes of one answer: a full body, a full head and the framing of both. Nothing else bounds how
/// many interim answers a server sends, or how finely it chops a body.
const READ_MAX: usize = 128 * 1024;

const AGENT: &str = concat!("mcp-failover/", env!("CARGO_PKG_VERSION"));

pub(super) async fn run(
    dialler: &Dialler,
    check: &HttpCheck,
    token: Option<&Secret>,
    trace: &mut Trace,
) -> Step {
    let request = request(check, token)?;
    let mut channel = open(dialler, check, trace).await?;
    trace.enter(Stage::Answer);
    converse(&mut channel, request, check, trace).await?;
    expect::speed(check.expect.slow, trace.elapsed())?;
    check.tls.as_ref().map_or(Ok(()), |options| tls::expiry(options, trace))
}

/// One request whose answer somebody else judges: its status, headers and body.
pub(super) async fn fetch(
    dialler: &Dialler,
    check: &HttpCheck,
    trace: &mut Trace,
) -> Step<(StatusCode, HeaderMap, Vec<u8>)> {
    let request = request(check, None)?;
    let mut channel = open(dialler, check, trace).await?;
    channel.start(request, READ_MAX);
    let (head, body) = channel.answer().await?.into_parts();
    let body = channel.body(body, BODY_MAX, true).await?;
    Ok((head.status, head.headers, body.bytes))
}

/// A connection ready for requests.
pub(super) async fn open(dialler: &Dialler, check: &HttpCheck, trace: &mut Trace) -> Step<Channel> {
    let meter = Arc::new(Meter::default());
    let wire = match &check.tls {
        None => Wire::plain(dialler.connect(&check.target, trace).await?, Arc::clone(&meter)),
        Some(options) => {
            let protocol = Some(b"http/1.1".as_slice());
            let stream = dialler.connect_tls(&check.target, options, protocol, trace).await?;
            Wire::secure(stream, Arc::clone(&meter))
        }
    };
    Channel::open(wire, meter).await
}

/// Request and answer, the answer held against the expectations.
async fn converse(
    channel: &mut Channel,
    request: Outgoing,
    check: &HttpCheck,
    trace: &mut Trace,
) -> Step {
    let expect = &check.expect;
    channel.start(request, READ_MAX);
    let answer = channel.answer().await;
    if let Some(moment) = channel.first_byte() {
        trace.enter_at(Stage::Body, moment);
    }
    let (head, body) = answer?.into_parts();
    trace.status = Some(head.status.as_u16());
    trace.quota = quota::read(&head.headers);
    expect::status(expect, head.status, &head.headers)?;
    expect::headers(expect, &head.headers)?;
    let body = channel.body(body, BODY_MAX, expect::looks_at_body(expect)).await?;
    trace.quota = quota::of_body(expect, &body).or(trace.quota);
    expect::body(expect, &head.headers, &body)?;
    expect::quota(expect, trace.quota)
}

/// The request as the policy words it; what it leaves out gets our defaults.
fn request(check: &HttpCheck, token: Option<&Secret>) -> Step<Outgoing> {
    let body = check.body.as_ref().map(|body| Bytes::copy_from_slice(body.expose().as_bytes()));
    let mut request = Request::new(Full::new(body.unwrap_or_default()));
    *request.method_mut() = Method::from_bytes(check.method.as_bytes())
        .map_err(|_invalid| Finding::misconfigured("request method is not valid"))?;
    *request.uri_mut() = path(check)?;
    *request.headers_mut() = headers(check, token)?;
    Ok(request)
}

/// Path and query, for the request line.
pub(super) fn path(check: &HttpCheck) -> Step<Uri> {
    Uri::builder()
        .path_and_query(check.path.expose())
        .build()
        .map_err(|_invalid| Finding::misconfigured("request path is not valid"))
}

/// The policy's headers, ours, and the token that goes with this attempt.
pub(super) fn headers(check: &HttpCheck, token: Option<&Secret>) -> Step<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(check.headers.len() + 6);
    for (name, value) in &check.headers {
        let field = HeaderName::from_bytes(name.as_bytes());
        let content = HeaderValue::from_bytes(value.expose().as_bytes());
        let (Ok(field), Ok(mut content)) = (field, content) else {
            return Err(Finding::misconfigured(format!("request header {name:?} is not valid")));
        };
        content.set_sensitive(true);
        headers.append(field, content);
    }
    if let Some(token) = token {
        let bearer = Zeroizing::new(format!("Bearer {}", token.expose()));
        let mut bearer = HeaderValue::from_str(&bearer)
            .map_err(|_invalid| Finding::misconfigured("token cannot stand in a header"))?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
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

//! One HTTP request, and the answer held against expectations.
//!
//! The connection is a fresh one, unless the policy asks to keep it for the next attempt. One that
//! was kept may be dead without anybody's fault: if it ends without an answer, the attempt goes on
//! with a fresh one, once. A request that a probe makes must be safe to repeat.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue,
    USER_AGENT,
};
use hyper::http::response::Parts;
use hyper::http::uri::Scheme;
use hyper::{Method, Request, StatusCode, Uri};
use zeroize::Zeroizing;

use crate::core::outcome::Outcome;
use crate::policy::model::{HttpCheck, HttpVersion, Target};
use crate::policy::secret::Secret;
use crate::probe::channel::{Channel, Greeting, Outgoing};
use crate::probe::dial::{Dialler, Route};
use crate::probe::expect::{self, Body};
use crate::probe::finding::{Finding, Step};
use crate::probe::identity::Identity;
use crate::probe::kept::Line;
use crate::probe::quota;
use crate::probe::tls;
use crate::probe::trace::{Stage, Trace};
use crate::probe::wire::{Meter, Wire};

/// Bytes of a body that are read and held against expectations.
const BODY_MAX: usize = 64 * 1024;
/// Bytes of one answer: a full body, a full head and the framing of both. Nothing else bounds how
/// many interim answers a server sends, or how finely it chops a body.
const READ_MAX: usize = 128 * 1024;

pub(super) const AGENT: &str = concat!("mcp-failover/", env!("CARGO_PKG_VERSION"));

pub(super) async fn run(
    dialler: &Dialler,
    check: &HttpCheck,
    token: Option<&Secret>,
    trace: &mut Trace,
) -> Step {
    let request = request(check, token)?;
    // A kept connection is of whichever address it was opened to.
    if check.reuse && trace.pinned.is_none() {
        Box::pin(on_kept(dialler, request, check, trace)).await?;
    } else {
        let mut channel = open(dialler, check, trace).await?;
        converse(&mut channel, request, check, trace).await?;
    }
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

/// The attempt on a kept connection, or on a fresh one that is kept.
async fn on_kept(
    dialler: &Dialler,
    request: Outgoing,
    check: &HttpCheck,
    trace: &mut Trace,
) -> Step {
    let place = place(check);
    if let Some(mut line) = dialler.kept().take(&place).await {
        line.facts.tell(trace);
        let end = converse(&mut line.channel, request.clone(), check, trace).await;
        let unheard = line.channel.first_byte().is_none();
        let died = matches!(&end, Err(finding) if finding.outcome == Outcome::Reset);
        if !(unheard && died) {
            dialler.kept().keep(place, line);
            return end;
        }
        trace.enter(Stage::Between);
    }
    let channel = open(dialler, check, trace).await?;
    let mut line = Line::new(channel, trace);
    let end = converse(&mut line.channel, request, check, trace).await;
    dialler.kept().keep(place, line);
    end
}

fn place(check: &HttpCheck) -> Identity {
    let socket = check.socket.as_ref().map_or(&[][..], |path| path.as_os_str().as_bytes());
    let version = [u8::from(check.version == HttpVersion::Http2)];
    Identity::of_place(&check.target, check.tls.as_ref(), &[socket, &version])
}

/// A connection ready for requests.
pub(super) async fn open(dialler: &Dialler, check: &HttpCheck, trace: &mut Trace) -> Step<Channel> {
    let route = Route {
        target: &check.target,
        socket: check.socket.as_deref(),
        tls: check.tls.as_ref(),
        version: check.version,
    };
    connect(dialler, &route, trace).await
}

/// A connection ready for requests.
pub(super) async fn connect(
    dialler: &Dialler,
    route: &Route<'_>,
    trace: &mut Trace,
) -> Step<Channel> {
    let meter = Arc::new(Meter::default());
    let stream = dialler.open(route, trace).await?;
    let wire = Wire::new(stream, Arc::clone(&meter));
    let greeting = match (route.version, route.tls) {
        (HttpVersion::Http1, _) => Greeting::Http1,
        (HttpVersion::Http2, None) => Greeting::Http2(Scheme::HTTP),
        (HttpVersion::Http2, Some(_)) => Greeting::Http2(Scheme::HTTPS),
    };
    Channel::open(wire, meter, greeting).await
}

/// One request on an open connection, whose answer somebody else judges.
pub(super) async fn ask(
    channel: &mut Channel,
    request: Outgoing,
    trace: &mut Trace,
) -> Step<(Parts, Body)> {
    trace.enter(Stage::Answer);
    channel.start(request, READ_MAX);
    let answer = channel.answer().await;
    if let Some(moment) = channel.first_byte() {
        trace.enter_at(Stage::Body, moment);
    }
    let (head, body) = answer?.into_parts();
    trace.status = Some(head.status.as_u16());
    let body = channel.body(body, BODY_MAX, true).await?;
    Ok((head, body))
}

/// Request and answer, the answer held against the expectations.
async fn converse(
    channel: &mut Channel,
    request: Outgoing,
    check: &HttpCheck,
    trace: &mut Trace,
) -> Step {
    let expect = &check.expect;
    trace.enter(Stage::Answer);
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
pub(super) fn request(check: &HttpCheck, token: Option<&Secret>) -> Step<Outgoing> {
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

/// Adds the policy's own headers, whose values stay hidden.
pub(super) fn own_headers(own: &[(String, Secret)], headers: &mut HeaderMap) -> Step {
    for (name, value) in own {
        let field = HeaderName::from_bytes(name.as_bytes());
        let content = HeaderValue::from_bytes(value.expose().as_bytes());
        let (Ok(field), Ok(mut content)) = (field, content) else {
            return Err(Finding::misconfigured(format!("request header {name:?} is not valid")));
        };
        content.set_sensitive(true);
        headers.append(field, content);
    }
    Ok(())
}

/// The policy's headers, ours, and the token that goes with this attempt.
pub(super) fn headers(check: &HttpCheck, token: Option<&Secret>) -> Step<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(check.headers.len() + 6);
    own_headers(&check.headers, &mut headers)?;
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
    if check.reuse {
        headers.remove(CONNECTION);
    } else {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(headers)
}

/// The host as the header wants it: without the scheme's own port.
pub(super) fn authority(target: &Target, tls: bool) -> String {
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

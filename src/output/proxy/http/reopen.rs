//! Opens a caller's MCP session at another server, as the caller opened it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response};
use serde::Deserialize;
use tokio::time::timeout;

use crate::core::outcome::Outcome;
use crate::output::proxy::desk::Spec;
use crate::output::proxy::http::head;
use crate::output::proxy::http::pool::Outgoing;
use crate::output::proxy::http::session::{Home, SESSION, VERSION};
use crate::output::proxy::http::verdict::{self, Failure};
use crate::output::proxy::lane::Lane;

/// How long a server may take to open a session.
const OPENING: Duration = Duration::from_secs(10);
/// Bytes of its answer.
const ANSWER_MAX: usize = 1024 * 1024;

/// Why a session could not be opened anew.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unopened {
    /// The server cannot be talked to.
    Failed(Failure),
    /// It is not what the caller knows: the caller must open a session itself.
    Different,
}

/// What of the answer to `initialize` matters here.
#[derive(Debug, Deserialize)]
struct Answer {
    result: Option<Opened>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Opened {
    protocol_version: Option<String>,
}

/// Opens the session at `lane`; on success it is at home there.
pub(super) async fn reopen(home: &mut Home, lane: &Lane, spec: &Spec) -> Result<(), Unopened> {
    let opened = timeout(OPENING, open(home, lane, spec)).await;
    let id = opened.unwrap_or(Err(Unopened::Failed(Failure::Broken(Outcome::Timeout))))?;
    home.endpoint = lane.labels.endpoint.clone();
    home.id = id;
    home.moves += 1;
    Ok(())
}

async fn open(home: &Home, lane: &Lane, spec: &Spec) -> Result<HeaderValue, Unopened> {
    let mut response = say(home, lane, spec, (None, &home.opening.message)).await?;
    let id = response.headers().get(SESSION).cloned();
    let id = id.filter(|_| response.status().is_success()).ok_or(Unopened::Different)?;
    let answer = read(&mut response).await.ok_or(Unopened::Different)?;
    let version = answer.protocol_version.unwrap_or_default();
    if home.version.as_ref().is_some_and(|known| known.as_bytes() != version.as_bytes()) {
        return Err(Unopened::Different);
    }
    drop(response);
    let rest = home.initialized.iter().chain(&home.level).chain(home.subscriptions.values());
    for message in rest {
        let mut heard = say(home, lane, spec, (Some(&id), message)).await?;
        // Its answer is for the caller who asked first, long ago.
        while let Some(Ok(_)) = heard.frame().await {}
    }
    Ok(id)
}

/// Whether the server knows the session no more.
pub(super) async fn forgot(home: &Home, lane: &Lane, spec: &Spec) -> bool {
    let ping = Bytes::from_static(br#"{"jsonrpc":"2.0","id":"mf-ping","method":"ping"}"#);
    let asked = timeout(OPENING, say(home, lane, spec, (Some(&home.id), &ping))).await;
    asked.is_ok_and(|said| said.is_ok_and(|answer| answer.status().is_client_error()))
}

async fn say(
    home: &Home,
    lane: &Lane,
    spec: &Spec,
    (id, message): (Option<&HeaderValue>, &Bytes),
) -> Result<Response<Incoming>, Unopened> {
    let failed = |outcome| Unopened::Failed(Failure::Unreached(outcome));
    let mut headers = home.opening.headers.clone();
    headers.remove(SESSION);
    let host = head::outgoing(&mut headers, spec.headers(&lane.labels.endpoint));
    if let Some(id) = id {
        headers.insert(SESSION, id.clone());
        headers.extend(home.version.clone().map(|version| (VERSION, version)));
    }
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    headers
        .entry(ACCEPT)
        .or_insert(HeaderValue::from_static("application/json, text/event-stream"));
    let mut request = Request::new(Outgoing::Right(Full::new(message.clone())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = head::address(&lane.upstream, host.as_ref(), &home.opening.path)
        .ok_or(failed(Outcome::Protocol))?;
    *request.headers_mut() = headers;
    let pool = lane.pool(spec.policy.connect_timeout).ok_or(failed(Outcome::Tls))?;
    let sent = pool.request(request).await;
    sent.map_err(|error| Unopened::Failed(verdict::failure(&error)))
}

/// The result of `initialize`, be it one document or an event of a stream.
async fn read(response: &mut Response<Incoming>) -> Option<Opened> {
    let mut body = Vec::new();
    loop {
        let frame = match response.frame().await {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return None,
            None => return parse(&body, response.headers()),
        };
        let Ok(data) = frame.into_data() else { continue };
        if body.len() + data.len() > ANSWER_MAX {
            return None;
        }
        body.extend_from_slice(&data);
        // A stream need not end with the answer.
        if let Some(opened) = parse(&body, response.headers()) {
            return Some(opened);
        }
    }
}

fn parse(body: &[u8], headers: &HeaderMap) -> Option<Opened> {
    let text = std::str::from_utf8(body).ok()?;
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let stream = kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"));
    let of = |text: &str| serde_json::from_str::<Answer>(text).ok()?.result;
    if stream {
        text.lines().filter_map(|line| line.strip_prefix("data:")).find_map(of)
    } else {
        of(text)
    }
}

//! HTTP/2, by ALPN or with prior knowledge.
//!
//! The library bounds what a peer can make us hold: header blocks and their CONTINUATIONs, streams
//! reset, frames too small to be honest. Above it stands the allowance of the wire.

use std::pin::Pin;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{PingPong, Reason, RecvStream};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use hyper::http::uri::{Authority, Scheme};
use hyper::{Request, Response, Uri, Version};

use super::{Broken, Connection, HEAD_MAX, Outgoing, cut};
use crate::core::outcome::Outcome;
use crate::probe::finding::Finding;
use crate::probe::tls;
use crate::probe::wire::Wire;

/// Bytes of answers that a peer may send before we have taken them.
const WINDOW: u32 = 64 * 1024;
/// Streams given up that are remembered, to tell a late frame from a wrong one.
const RESETS_MAX: usize = 8;

type Greeted = (SendRequest<Bytes>, Pin<Box<Connection>>, Option<PingPong>);

/// Makes a connection of a wire, and says so to the peer without waiting for its answer.
pub(super) async fn greet(wire: Wire) -> Result<Greeted, Broken> {
    let (sender, mut connection) = Builder::new()
        .enable_push(false)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(u32::from(HEAD_MAX))
        .max_frame_size(u32::from(HEAD_MAX))
        .max_concurrent_reset_streams(RESETS_MAX)
        .handshake(wire)
        .await
        .map_err(Broken::Two)?;
    let pings = connection.ping_pong();
    let connection = Box::pin(async move { drop(connection.await) });
    Ok((sender, connection, pings))
}

/// Sends a request and waits for the head of the answer.
pub(super) async fn ask(
    sender: SendRequest<Bytes>,
    request: Outgoing,
    scheme: Scheme,
) -> Result<Response<RecvStream>, h2::Error> {
    let (mut head, body) = request.into_parts();
    let body = body.into_inner().unwrap_or_default();
    head.version = Version::HTTP_2;
    if let Some(uri) = absolute(&head.uri, scheme, head.headers.remove(HOST)) {
        head.uri = uri;
    }
    strip(&mut head.headers);
    if !body.is_empty() && !head.headers.contains_key(TE) {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let mut sender = sender.ready().await?;
    let (answer, mut stream) =
        sender.send_request(Request::from_parts(head, ()), body.is_empty())?;
    if !body.is_empty() {
        stream.send_data(body, true)?;
    }
    answer.await
}

fn absolute(uri: &Uri, scheme: Scheme, host: Option<HeaderValue>) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(scheme);
    parts.authority = Some(Authority::try_from(host?.as_bytes()).ok()?);
    Uri::from_parts(parts).ok()
}

/// Drops what belongs to a connection of HTTP/1.1 and is forbidden here.
fn strip(headers: &mut HeaderMap) {
    let names = [CONNECTION, TRANSFER_ENCODING, UPGRADE];
    let more = ["keep-alive", "proxy-connection"].map(HeaderName::from_static);
    for name in names.into_iter().chain(more) {
        headers.remove(name);
    }
}

/// The next piece of a body, for which the peer may then send as much again.
pub(super) async fn piece(body: &mut RecvStream) -> Result<Option<Bytes>, Broken> {
    let Some(piece) = body.data().await.transpose().map_err(Broken::Two)? else {
        return Ok(None);
    };
    body.flow_control().release_capacity(piece.len()).map_err(Broken::Two)?;
    Ok(Some(piece))
}

/// Sorts what ended a conversation.
pub(super) fn sort(error: &h2::Error, headed: bool) -> Finding {
    if let Some(cause) = error.get_io() {
        return tls::sort(cause).unwrap_or_else(|| cut(headed));
    }
    match error.reason() {
        Some(reason) if error.is_remote() => refused(reason, headed),
        Some(Reason::FRAME_SIZE_ERROR) if !headed => Finding::protocol("answer is not HTTP/2"),
        Some(_) => Finding::protocol("answer is not proper HTTP/2"),
        None if error.is_go_away() || error.is_reset() => cut(headed),
        None => Finding::misconfigured("request cannot be sent"),
    }
}

/// Sorts the reason that a peer gives for breaking off.
fn refused(reason: Reason, headed: bool) -> Finding {
    match reason {
        Reason::NO_ERROR | Reason::CANCEL | Reason::STREAM_CLOSED => cut(headed),
        Reason::ENHANCE_YOUR_CALM => {
            Finding::new(Outcome::Throttled { retry_after: None }, "server asks for calm")
        }
        Reason::REFUSED_STREAM => Finding::new(Outcome::ServerError, "server refused the request"),
        Reason::INTERNAL_ERROR => Finding::new(Outcome::ServerError, "server failed"),
        Reason::HTTP_1_1_REQUIRED => Finding::protocol("server wants HTTP/1.1"),
        other => {
            Finding::protocol(format!("server broke off with HTTP/2 error {}", u32::from(other)))
        }
    }
}

//! HTTP/1.1.

use std::error::Error;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::{Broken, Connection, HEAD_MAX, cut};
use crate::probe::finding::Finding;
use crate::probe::tls;
use crate::probe::wire::{Meter, Wire};

/// Header lines of an answer.
const HEADERS_MAX: usize = 100;

type Greeted = (http1::SendRequest<Full<Bytes>>, Pin<Box<Connection>>);

/// Makes a connection of a wire; nothing is sent.
pub(super) async fn greet(wire: Wire) -> Result<Greeted, Broken> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(usize::from(HEAD_MAX))
        .max_header_size(usize::from(HEAD_MAX))
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(wire))
        .await
        .map_err(Broken::One)?;
    let connection = Box::pin(async move { drop(connection.await) });
    Ok((sender, connection))
}

/// The next piece of a body; trailers are skipped.
pub(super) async fn piece(body: &mut Incoming) -> Result<Option<Bytes>, Broken> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(Broken::One)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Sorts what ended a conversation.
pub(super) fn sort(error: &hyper::Error, meter: &Meter) -> Finding {
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
    } else {
        cut(meter.first_byte().is_some())
    }
}

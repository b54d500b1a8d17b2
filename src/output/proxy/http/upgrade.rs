//! Requests after which both sides go on in a protocol of their own, such as `WebSocket`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use crate::core::outcome::Outcome;
use crate::output::proxy::desk::{Desk, Spec};
use crate::output::proxy::http::head;
use crate::output::proxy::http::serve::{Refusal, Reply};
use crate::output::proxy::http::tied::{Tie, Tied};
use crate::output::proxy::http::verdict;
use crate::output::proxy::lane::{Cut, Lane};
use crate::output::proxy::splice::{Flow, splice};

/// Answers a request for another protocol; nothing but its head is sent, so any endpoint may be
/// tried until one takes it.
pub(super) async fn exchange(
    desk: &Arc<Desk>,
    spec: &Arc<Spec>,
    mut request: Request<Incoming>,
    (protocol, place): (HeaderValue, OwnedSemaphorePermit),
) -> Response<Reply> {
    let policy = &spec.policy;
    let upgrade = hyper::upgrade::on(&mut request);
    for lane in desk.order() {
        let (cut, entered) = (lane.cut(), lane.enter());
        let began = Instant::now();
        let stream = match lane.open_http1(policy.connect_timeout).await {
            Ok(stream) => stream,
            Err(unreached) => {
                lane.ended(&desk.feedback, unreached.0, began.elapsed());
                continue;
            }
        };
        let Some(asked) = asked(&request, spec, &lane, &protocol) else {
            return Refusal::Invalid.answer(desk);
        };
        let sent = timeout(policy.first_byte_timeout, send(stream, asked)).await;
        let took = began.elapsed();
        let late = sent.is_err();
        let Ok(Ok(response)) = sent else {
            let outcome = if late { Outcome::Timeout } else { Outcome::Reset };
            lane.ended(&desk.feedback, outcome, took);
            return if late { Refusal::Late } else { Refusal::Unreached }.answer(desk);
        };
        lane.answered(took);
        desk.proven(&lane.labels.endpoint);
        let outcome = verdict::outcome(response.status(), response.headers(), false);
        lane.tell(&desk.feedback, outcome, took);
        let tie = Tie { lane, cut, entered };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return switch(desk, response, tie, (upgrade, place));
        }
        let (mut parts, body) = response.into_parts();
        head::strip(&mut parts.headers);
        parts.extensions.clear();
        let body = Tied::new(body, tie, outcome, Some(policy.idle_timeout), Some(place));
        return Response::from_parts(parts, Either::Right(body));
    }
    Refusal::Unreached.answer(desk)
}

/// The request as the upstream gets it.
fn asked(
    request: &Request<Incoming>,
    spec: &Spec,
    lane: &Lane,
    protocol: &HeaderValue,
) -> Option<Request<Empty<Bytes>>> {
    let mut headers = request.headers().clone();
    let host = head::outgoing(&mut headers, spec.headers(&lane.labels.endpoint));
    let whole = head::address(&lane.upstream, host.as_ref(), request.uri())?;
    let named =
        whole.authority().and_then(|authority| HeaderValue::try_from(authority.as_str()).ok());
    headers.insert(HOST, named?);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol.clone());
    let mut asked = Request::new(Empty::new());
    *asked.method_mut() = request.method().clone();
    *asked.uri_mut() = whole.path_and_query()?.as_str().parse().ok()?;
    *asked.headers_mut() = headers;
    Some(asked)
}

async fn send(
    stream: crate::output::proxy::dial::Stream,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the tunnel, or with the answer's body.
    drop(tokio::spawn(async move { connection.with_upgrades().await.ok() }));
    sender.send_request(request).await
}

/// Lets both sides go on.
fn switch(
    desk: &Arc<Desk>,
    mut response: Response<Incoming>,
    tie: Tie,
    (upgrade, place): (OnUpgrade, OwnedSemaphorePermit),
) -> Response<Reply> {
    let far = hyper::upgrade::on(&mut response);
    let (mut parts, _) = response.into_parts();
    let protocol = parts.headers.get(UPGRADE).cloned();
    head::strip(&mut parts.headers);
    parts.extensions.clear();
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.extend(protocol.map(|protocol| (UPGRADE, protocol)));
    let Tie { lane, cut, entered } = tie;
    let idle = desk.spec.load().policy.idle_timeout;
    desk.tunnels.spawn(async move {
        let (Ok(near), Ok(far)) = tokio::join!(upgrade, far) else { return };
        tunnel(&lane, (near, far), cut, idle).await;
        drop((entered, place));
    });
    Response::from_parts(parts, Either::Left(Full::default()))
}

async fn tunnel(lane: &Lane, (near, far): (Upgraded, Upgraded), cut: Cut, idle: Duration) {
    let (mut near, mut far, flow) = (TokioIo::new(near), TokioIo::new(far), Flow::default());
    let outcome = tokio::select! {
        passed = splice(&mut near, &mut far, &flow, Some(&lane.tally)) => {
            if passed.is_ok() { Outcome::Ok } else { Outcome::Reset }
        }
        () = cut.done() => Outcome::Reset,
        () = flow.silence(idle) => Outcome::Ok,
    };
    lane.tally.count(outcome);
}

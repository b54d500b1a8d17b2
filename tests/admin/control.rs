//! The operators' socket: what it answers, and that no client can hurt it.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mcp_failover::admin::control::{CLIENTS_MAX, ControlRequest, ControlSocket};
use mcp_failover::admin::control_client::{Client, ControlError};
use mcp_failover::admin::document::PolicyInfo;
use mcp_failover::admin::hub::EventHub;
use mcp_failover::admin::protocol::{
    Answer, ControlFailure, FailureCode, HistoryQuery, LINE_MAX, Request, Response,
};
use mcp_failover::core::action::{Receipt, Refusal};
use mcp_failover::core::id::{EndpointName, Revision, ServiceName};
use mcp_failover::core::input::{Command, Order};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::fixture::{self, DEADLINE};

/// A served socket whose engine answers from the fixture.
struct Sidecar {
    path: PathBuf,
    hub: EventHub,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    _folder: TempDir,
}

impl Sidecar {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run/control.sock");
        let socket = ControlSocket::bind(&path).await.expect("a socket");
        let (sender, mut requests) = mpsc::channel::<ControlRequest>(8);
        tokio::spawn(async move {
            while let Some(ControlRequest { request, reply }) = requests.recv().await {
                if let Some(response) = respond(request) {
                    reply.send(response).ok();
                }
            }
        });
        let (hub, cancel) = (EventHub::new(), CancellationToken::new());
        let task = tokio::spawn(socket.serve(sender, hub.clone(), cancel.clone()));
        Self { path, hub, cancel, task, _folder: folder }
    }

    async fn client(&self) -> Client {
        Client::connect(&self.path).await.expect("a sidecar")
    }

    async fn raw(&self) -> BufReader<UnixStream> {
        BufReader::new(UnixStream::connect(&self.path).await.expect("a sidecar"))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// What an engine would say; `None` lets the question fall.
fn respond(request: Request) -> Option<Response> {
    Some(match request {
        Request::Ping | Request::Watch => Ok(Answer::Pong(fixture::document().sidecar)),
        Request::Status => Ok(Answer::Status(Box::new(fixture::document()))),
        Request::Explain { service } if service.as_str() == "vectors" => {
            Ok(Answer::Explanation(serde_json::json!({ "service": service })))
        }
        Request::Explain { service } => Err(Refusal::UnknownService { service }.into()),
        Request::Command { command } => command_response(&command),
        Request::History { query } => {
            Ok(Answer::History(fixture::history().into_iter().take(query.n).collect()))
        }
        Request::Policy => Ok(Answer::Policy(fixture::document().policy)),
        Request::Reload | Request::Backup => return None,
    })
}

fn command_response(command: &Command) -> Response {
    if matches!(command.order, Order::Switch { force: false, .. }) {
        let endpoint = EndpointName::new("primary");
        return Err(Refusal::TargetUnusable { endpoint, why: String::from("3 failures") }.into());
    }
    let message = format!("{:?}", command.order);
    Ok(Answer::Receipt(Receipt { revision: Revision::new(8), message }))
}

fn switch(force: bool) -> Request {
    let order = Order::Switch { service: ServiceName::new("vectors"), endpoint: None, force };
    Request::Command { command: Command { order, reason: Some("drill".into()), by: None } }
}

async fn line(reader: &mut BufReader<UnixStream>) -> Option<serde_json::Value> {
    let mut text = String::new();
    let read = timeout(DEADLINE, reader.read_line(&mut text)).await.expect("in time");
    match read {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(serde_json::from_str(&text).expect("one JSON object a line")),
    }
}

#[tokio::test]
async fn every_request_gets_its_answer_over_one_connection() {
    let sidecar = Sidecar::start().await;
    let mut client = sidecar.client().await;
    let document = fixture::document();
    assert_eq!(
        client.call(&Request::Ping).await.expect("pong"),
        Answer::Pong(document.sidecar.clone())
    );
    let status = client.call(&Request::Status).await.expect("status");
    assert_eq!(status, Answer::Status(Box::new(document.clone())));
    let explain = Request::Explain { service: ServiceName::new("vectors") };
    assert!(matches!(client.call(&explain).await, Ok(Answer::Explanation(_))));
    let query = HistoryQuery { service: None, n: 2 };
    let history = client.call(&Request::History { query }).await.expect("history");
    assert_eq!(history, Answer::History(fixture::history()[..2].to_vec()));
    let policy = client.call(&Request::Policy).await.expect("policy");
    assert_eq!(policy, Answer::Policy(document.policy));
    assert!(matches!(client.call(&switch(true)).await, Ok(Answer::Receipt(_))));
}

#[tokio::test]
async fn a_refusal_says_why_and_what_to_do() {
    let sidecar = Sidecar::start().await;
    let mut client = sidecar.client().await;
    let refused = client.call(&switch(false)).await.expect_err("refused");
    assert_eq!(refused.to_string(), "endpoint `primary` is not usable: 3 failures");
    assert!(refused.help().expect("help").contains("--force"));
    let unknown = Request::Explain { service: ServiceName::new("nobody") };
    let ControlError::Failed(failure) = client.call(&unknown).await.expect_err("unknown") else {
        panic!("a failure of the sidecar's");
    };
    assert_eq!(failure.code, FailureCode::NotFound);
    // The question that the engine lets fall ends as a failure, not as silence.
    let fallen = client.call(&Request::Reload).await.expect_err("no answer");
    assert!(
        matches!(&fallen, ControlError::Failed(failure) if failure.code == FailureCode::Stopping)
    );
}

#[tokio::test]
async fn the_lines_are_what_the_protocol_says() {
    let sidecar = Sidecar::start().await;
    let mut raw = sidecar.raw().await;
    raw.write_all(b"{\"request\":\"ping\"}\n{\"request\":\"history\",\"n\":1}\n")
        .await
        .expect("sent");
    let pong = line(&mut raw).await.expect("an answer");
    assert_eq!(
        (&pong["schema"], &pong["ok"], &pong["answer"]),
        (&1.into(), &true.into(), &"pong".into())
    );
    let history = line(&mut raw).await.expect("an answer");
    assert_eq!(history["data"][0]["revision"], 7);
    let order =
        r#"{"request":"command","command":{"order":{"order":"pause"},"reason":null,"by":"me"}}"#;
    raw.write_all(format!("{order}\n").as_bytes()).await.expect("sent");
    assert_eq!(line(&mut raw).await.expect("an answer")["answer"], "receipt");
}

#[tokio::test]
async fn garbage_gets_an_error_line_and_the_connection_goes_on() {
    let sidecar = Sidecar::start().await;
    let mut raw = sidecar.raw().await;
    for garbage in [
        &b"\n"[..],
        b"{}\n",
        b"null\n",
        b"[[[[[[[[[[\n",
        b"{\"request\":\"rm -rf\"}\n",
        b"{\"request\":\"command\"}\n",
        b"{\"request\":\"history\",\"n\":-1}\n",
        b"\xff\xfe\x00\x01\n",
        b"GET / HTTP/1.1\r\n",
        b"{\"request\":\"explain\",\"service\":\"sk-canary-in-a-request\"\n",
    ] {
        raw.write_all(garbage).await.expect("sent");
        let answer = line(&mut raw).await.expect("an error line");
        assert_eq!(answer["ok"], false, "{}", String::from_utf8_lossy(garbage));
        assert_eq!(answer["error"]["code"], "bad_request");
        assert!(answer["error"]["help"].is_string());
        assert!(!answer.to_string().contains("canary"), "what was sent is not repeated");
    }
    raw.write_all(b"{\"request\":\"ping\"}\n").await.expect("sent");
    assert_eq!(line(&mut raw).await.expect("an answer")["ok"], true);
}

#[tokio::test]
async fn a_huge_line_is_refused_and_the_connection_closed() {
    let sidecar = Sidecar::start().await;
    let mut fits = sidecar.raw().await;
    let padding = " ".repeat(LINE_MAX - 18);
    fits.write_all(format!("{{\"request\":\"ping\"}}{padding}\n").as_bytes()).await.expect("sent");
    assert_eq!(line(&mut fits).await.expect("an answer")["ok"], true, "the longest line");
    let mut huge = sidecar.raw().await;
    huge.write_all(&vec![b'x'; LINE_MAX + 1]).await.expect("sent");
    assert_eq!(line(&mut huge).await.expect("an error line")["error"]["code"], "too_long");
    assert_eq!(line(&mut huge).await, None, "closed");
    assert!(sidecar.client().await.call(&Request::Ping).await.is_ok());
}

#[tokio::test]
async fn half_a_line_at_the_end_is_judged_and_half_a_request_is_not_carried_out() {
    let sidecar = Sidecar::start().await;
    let mut raw = sidecar.raw().await;
    raw.write_all(b"{\"request\":\"pi").await.expect("sent");
    raw.get_mut().shutdown().await.expect("our half closes");
    assert_eq!(line(&mut raw).await.expect("an error line")["ok"], false);
    assert_eq!(line(&mut raw).await, None, "closed");
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_loses_the_place() {
    let sidecar = Sidecar::start().await;
    for start in [&b""[..], b"{\"request\""] {
        let mut raw = sidecar.raw().await;
        raw.write_all(start).await.expect("sent");
        let mut rest = Vec::new();
        raw.read_to_end(&mut rest).await.expect("the end");
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn one_client_too_many_is_told_so() {
    let sidecar = Sidecar::start().await;
    let mut held = Vec::new();
    for _ in 0..CLIENTS_MAX {
        let mut client = sidecar.client().await;
        client.call(&Request::Ping).await.expect("pong");
        held.push(client);
    }
    let mut late = sidecar.client().await;
    let ControlError::Failed(failure) = late.call(&Request::Ping).await.expect_err("full") else {
        panic!("a failure of the sidecar's");
    };
    assert_eq!(failure.code, FailureCode::Busy);
    drop(held);
    let admitted = async {
        while sidecar.client().await.call(&Request::Ping).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, admitted).await.expect("places are given back");
}

#[tokio::test]
async fn a_watcher_hears_every_event_until_the_end() {
    let sidecar = Sidecar::start().await;
    let mut watch = sidecar.client().await.watch().await.expect("a watch");
    for seq in 1..=100 {
        sidecar.hub.publish(fixture::event(seq));
    }
    for seq in 1..=100 {
        let record = timeout(DEADLINE, watch.next()).await.expect("in time").expect("a record");
        assert_eq!(record, Some(fixture::event(seq)));
    }
    sidecar.cancel.cancel();
    assert_eq!(timeout(DEADLINE, watch.next()).await.expect("in time").expect("an end"), None);
}

#[tokio::test]
async fn a_watcher_who_does_not_read_delays_nobody() {
    let sidecar = Sidecar::start().await;
    let mut stuck = sidecar.raw().await;
    stuck.write_all(b"{\"request\":\"watch\"}\n").await.expect("sent");
    assert_eq!(line(&mut stuck).await.expect("an answer")["answer"], "watching");
    let mut quick = sidecar.client().await.watch().await.expect("a watch");
    for seq in 1..=5_000 {
        sidecar.hub.publish(fixture::event(seq));
        if seq % 100 == 0 {
            for _ in 0..100 {
                quick.next().await.expect("a record").expect("not the end");
            }
        }
    }
    assert!(sidecar.client().await.call(&Request::Status).await.is_ok());
}

#[tokio::test]
async fn the_socket_is_for_its_owner_alone_and_goes_with_the_sidecar() {
    let mut sidecar = Sidecar::start().await;
    let made = std::fs::symlink_metadata(&sidecar.path).expect("the socket");
    assert!(made.file_type().is_socket());
    assert_eq!(made.permissions().mode() & 0o777, 0o600);
    let folder = std::fs::metadata(sidecar.path.parent().expect("a folder")).expect("a folder");
    assert_eq!(folder.mode() & 0o777, 0o700);
    sidecar.cancel.cancel();
    let task = std::mem::replace(&mut sidecar.task, tokio::spawn(async {}));
    timeout(DEADLINE, task).await.expect("an end").expect("no panic");
    assert!(!sidecar.path.exists());
}

#[tokio::test]
async fn only_a_dead_socket_is_taken_over() {
    let sidecar = Sidecar::start().await;
    let living = ControlSocket::bind(&sidecar.path).await.expect_err("it lives");
    assert_eq!(living.kind(), io::ErrorKind::AddrInUse);
    assert!(sidecar.client().await.call(&Request::Ping).await.is_ok(), "and is unharmed");

    let folder = tempfile::tempdir().expect("a folder");
    let stale = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("a socket left behind"));
    ControlSocket::bind(&stale).await.expect("taken over");

    let file = folder.path().join("precious.txt");
    std::fs::write(&file, "precious").expect("a file");
    let refused = ControlSocket::bind(&file).await.expect_err("not a socket");
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), "precious");
}

#[tokio::test]
async fn a_socket_that_was_replaced_is_not_removed_at_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("control.sock");
    let socket = ControlSocket::bind(&path).await.expect("a socket");
    std::fs::remove_file(&path).expect("somebody removes it");
    std::fs::write(&path, "somebody else's").expect("and puts a file there");
    drop(socket);
    assert!(path.exists());
}

#[tokio::test]
async fn an_absent_sidecar_is_explained() {
    let nowhere =
        Client::connect(Path::new("/nonexistent/control.sock")).await.expect_err("absent");
    assert_eq!(nowhere.to_string(), "reach the sidecar at /nonexistent/control.sock");
    assert!(nowhere.help().expect("help").contains("is the sidecar running?"));
    let folder = tempfile::tempdir().expect("a folder");
    let stale = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("a socket left behind"));
    let dead = Client::connect(&stale).await.expect_err("dead");
    assert!(dead.help().expect("help").contains("is the sidecar running?"));
}

#[tokio::test]
async fn nonsense_from_the_other_end_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("other.sock");
    let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
    let other = tokio::spawn(async move {
        for answer in ["hello\n", "{\"ok\":true}\n", "{\"schema\":1,\"ok\":false}\n", ""] {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut asked = [0; 19];
            stream.read_exact(&mut asked).await.expect("a request");
            stream.write_all(answer.as_bytes()).await.expect("an answer");
        }
    });
    for _ in 0..3 {
        let mut client = Client::connect(&path).await.expect("it accepts");
        let error = client.call(&Request::Ping).await.expect_err("nonsense");
        assert!(matches!(error, ControlError::Nonsense), "{error:?}");
    }
    let mut client = Client::connect(&path).await.expect("it accepts");
    let error = client.call(&Request::Ping).await.expect_err("silence");
    assert!(matches!(error, ControlError::Broken(_)), "{error:?}");
    other.await.expect("no panic");
}

#[test]
fn an_answer_of_a_newer_sidecar_is_still_understood() {
    let failure: ControlFailure =
        serde_json::from_str(r#"{"code":"too_new","message":"m","more":1}"#).expect("a failure");
    assert_eq!(failure.code, FailureCode::Unknown);
    let policy: PolicyInfo = serde_json::from_str(
        r#"{"digest":"d","valid":true,"loaded_at":"t","path":"p","more":[1]}"#,
    )
    .expect("a policy");
    assert!(policy.diagnostics.is_empty());
}

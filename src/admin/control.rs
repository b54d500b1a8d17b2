//! The operators' socket: orders in, answers out, one JSON object a line.
//!
//! Only the sidecar's own user and root are served; what they ask is passed on to whoever owns the
//! engine, over a bounded queue.
//!
//! Invariants
//! 1. A line costs at most [`LINE_MAX`] bytes, a client one of [`CLIENTS_MAX`] places, and both
//!    have a deadline.
//! 2. Whatever a client sends, the answer is one line of JSON or a closed connection.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::hub::{EventHub, Replay};
use crate::admin::protocol::{
    Answer, ControlFailure, Envelope, FailureCode, LINE_MAX, Request, Response,
};
use crate::telemetry::metric;
use crate::unix::{Access, Line, LineReader, SocketFile};

/// Clients at a time. Operators are few; a watcher keeps its place for as long as it watches.
pub const CLIENTS_MAX: usize = 32;
/// How long a client may take to say its next line.
const LINE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to read a line of ours.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the engine's owner may take; a reload of a large policy is the longest.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A request on its way to whoever can answer it.
#[derive(Debug)]
pub struct ControlRequest {
    /// What is asked; never [`Request::Watch`].
    pub request: Request,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Response>,
}

/// The bound socket.
#[derive(Debug)]
pub struct ControlSocket(SocketFile);

/// Binds the socket at `path` and serves it until `cancel`; see [`ControlSocket::bind`].
///
/// # Errors
/// When the socket cannot be bound.
pub async fn serve(
    path: &Path,
    requests: mpsc::Sender<ControlRequest>,
    hub: EventHub,
    cancel: CancellationToken,
) -> io::Result<()> {
    ControlSocket::bind(path).await?.serve(requests, hub, cancel).await;
    Ok(())
}

impl ControlSocket {
    /// Binds the socket with mode 0600, making its directory with mode 0700 where there is none.
    ///
    /// # Errors
    /// `AddrInUse` when another process accepts on it, `AlreadyExists` when the path is something
    /// other than a socket, and whatever the system says of the directory.
    pub async fn bind(path: &Path) -> io::Result<Self> {
        SocketFile::bind(path, Access { mode: 0o600, folder_mode: 0o700, owner: (None, None) })
            .await
            .map(Self)
    }

    /// Serves clients until `cancel`.
    pub async fn serve(
        self,
        requests: mpsc::Sender<ControlRequest>,
        hub: EventHub,
        cancel: CancellationToken,
    ) {
        let places = Arc::new(Semaphore::new(CLIENTS_MAX));
        let clients = TaskTracker::new();
        let door = Door { requests, hub, cancel };
        loop {
            let accepted = tokio::select! {
                () = door.cancel.cancelled() => break,
                accepted = self.0.accept() => accepted,
            };
            let Ok(stream) = accepted else {
                // Out of descriptors, most likely: give others time to close theirs.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                let busy = ControlFailure::new(FailureCode::Busy, "too many clients at once");
                clients.spawn(turn_away(stream, busy));
                continue;
            };
            let door = door.clone();
            clients.spawn(async move {
                door.attend(stream).await;
                drop(place);
            });
        }
        clients.close();
        // Clients end with `cancel`; one that does not is cut off when the runtime ends.
        timeout(WRITE_TIMEOUT, clients.wait()).await.ok();
    }
}

async fn turn_away(stream: UnixStream, failure: ControlFailure) {
    let (_, mut writer) = stream.into_split();
    send(&mut writer, &Envelope::from(Err(failure))).await.ok();
}

/// What every client is served from.
#[derive(Clone, Debug)]
struct Door {
    requests: mpsc::Sender<ControlRequest>,
    hub: EventHub,
    cancel: CancellationToken,
}

impl Door {
    async fn attend(&self, stream: UnixStream) {
        if !is_trusted(&stream) {
            let refused = ControlFailure::new(FailureCode::Refused, "not your sidecar")
                .with_help("run the command as the sidecar's user or as root");
            turn_away(stream, refused).await;
            return;
        }
        let (reader, mut writer) = stream.into_split();
        let mut reader = LineReader::new(reader, LINE_MAX);
        let ended = tokio::select! {
            () = self.cancel.cancelled() => Ok(()),
            ended = self.converse(&mut reader, &mut writer) => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a control client went away");
        }
    }

    async fn converse(
        &self,
        reader: &mut LineReader<OwnedReadHalf>,
        writer: &mut OwnedWriteHalf,
    ) -> io::Result<()> {
        loop {
            let line = match timeout(LINE_TIMEOUT, reader.next()).await {
                Err(_) | Ok(Ok(Line::End)) => return Ok(()),
                Ok(line) => line?,
            };
            let request = match parse(line) {
                Ok(request) => request,
                Err(failure) => {
                    let fatal = failure.code == FailureCode::TooLong;
                    metric::control_request("invalid", false);
                    send(writer, &Envelope::from(Err(failure))).await?;
                    if fatal {
                        return Ok(());
                    }
                    continue;
                }
            };
            if request == Request::Watch {
                metric::control_request(request.label(), true);
                return self.watch(reader, writer).await;
            }
            let label = request.label();
            let response = self.ask(request).await;
            metric::control_request(label, response.is_ok());
            send(writer, &Envelope::from(response)).await?;
        }
    }

    async fn ask(&self, request: Request) -> Response {
        let stopping = || ControlFailure::new(FailureCode::Stopping, "the sidecar is going down");
        let (reply, answer) = oneshot::channel();
        let asked = self.requests.send(ControlRequest { request, reply });
        let answered = timeout(ANSWER_TIMEOUT, async {
            // Either half is gone only when its owner is.
            match asked.await {
                Ok(()) => answer.await.unwrap_or_else(|_| Err(stopping())),
                Err(_) => Err(stopping()),
            }
        });
        answered.await.unwrap_or_else(|_| {
            Err(ControlFailure::new(FailureCode::Busy, "the sidecar did not answer in time"))
        })
    }

    async fn watch(
        &self,
        reader: &mut LineReader<OwnedReadHalf>,
        writer: &mut OwnedWriteHalf,
    ) -> io::Result<()> {
        let mut events = self.hub.subscribe(Replay::Nothing);
        send(writer, &Envelope::from(Ok(Answer::Watching))).await?;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                // A watcher has nothing more to say; the end of its stream is its farewell.
                () = reader.ended() => return Ok(()),
            };
            match event {
                Ok(record) => send(writer, &*record).await?,
                Err(ended) => {
                    if let crate::admin::hub::Ended::Lagged(lost) = ended {
                        metric::events_dropped("control", lost);
                    }
                    let failure = ControlFailure::new(FailureCode::Busy, &ended.to_string());
                    return send(writer, &Envelope::from(Err(failure))).await;
                }
            }
        }
    }
}

fn is_trusted(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

fn parse(line: Line) -> Result<Request, ControlFailure> {
    let Line::Text(text) = line else {
        let message = format!("a request is one line of at most {LINE_MAX} bytes");
        return Err(ControlFailure::new(FailureCode::TooLong, &message));
    };
    serde_json::from_slice(&text).map_err(|error| {
        // Only the place is repeated: the text of the error quotes what was sent.
        let message = format!("the line is not a request (column {})", error.column());
        ControlFailure::new(FailureCode::BadRequest, &message)
            .with_help(r#"write for example {"request":"status"}"#)
    })
}

async fn send(writer: &mut OwnedWriteHalf, line: &impl serde::Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    timeout(WRITE_TIMEOUT, writer.write_all(&text)).await?
}

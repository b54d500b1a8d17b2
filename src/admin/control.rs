//! The operators' socket: orders in, answers out, one JSON object a line.
//!
//! Only the sidecar's own user and root are served; what they ask is passed on to whoever owns the
//! engine, over a bounded queue.
//!
//! Invariants
//! 1. A live socket is never taken over: only one on which nobody accepts is replaced.
//! 2. A line costs at most [`LINE_MAX`] bytes, a client one of [`CLIENTS_MAX`] places, and both
//!    have a deadline.
//! 3. Whatever a client sends, the answer is one line of JSON or a closed connection.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::hub::{EventHub, Replay};
use crate::admin::protocol::{
    Answer, ControlFailure, Envelope, FailureCode, LINE_MAX, Request, Response,
};
use crate::telemetry::metric;

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

/// The bound socket. Its file is removed when it is dropped, if it is still the same one.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file we made.
    identity: (u64, u64),
}

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
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        clear_stale(path).await?;
        let listener = UnixListener::bind(path)?;
        // Between bind and this the umask alone guards the file, which is why each peer is asked
        // for its credentials too.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        let made = fs::symlink_metadata(path)?;
        Ok(Self { listener, path: path.to_owned(), identity: (made.dev(), made.ino()) })
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
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
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

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours {
            // What is left behind is recognised as stale by the next start.
            fs::remove_file(&self.path).ok();
        }
    }
}

/// Removes a socket on which nobody accepts.
async fn clear_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        let message = format!("{} exists and is not a socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) | Err(_) => {
            let message = format!("another process listens on {}", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, message))
        }
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
        let mut reader = BufReader::new(reader);
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
        reader: &mut BufReader<OwnedReadHalf>,
        writer: &mut OwnedWriteHalf,
    ) -> io::Result<()> {
        loop {
            let line = match timeout(LINE_TIMEOUT, read_line(reader)).await {
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
        reader: &mut BufReader<OwnedReadHalf>,
        writer: &mut OwnedWriteHalf,
    ) -> io::Result<()> {
        let mut events = self.hub.subscribe(Replay::Nothing);
        send(writer, &Envelope::from(Ok(Answer::Watching))).await?;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                // A watcher has nothing more to say; the end of its stream is its farewell.
                () = drain(reader) => return Ok(()),
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

/// What stood on a line.
enum Line {
    Text(Vec<u8>),
    TooLong,
    End,
}

async fn read_line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Line> {
    let mut text = Vec::new();
    let most = u64::try_from(LINE_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let read = reader.take(most).read_until(b'\n', &mut text).await?;
    match text.last() {
        None => Ok(Line::End),
        Some(b'\n') => Ok(Line::Text(text)),
        // The last line may lack its break; anything else of this length was cut.
        Some(_) if read <= LINE_MAX => Ok(Line::Text(text)),
        Some(_) => Ok(Line::TooLong),
    }
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

async fn drain(reader: &mut BufReader<OwnedReadHalf>) {
    loop {
        match reader.fill_buf().await {
            Ok([]) | Err(_) => return,
            Ok(bytes) => {
                let count = bytes.len();
                reader.consume(count);
            }
        }
    }
}

async fn send(writer: &mut OwnedWriteHalf, line: &impl serde::Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    timeout(WRITE_TIMEOUT, writer.write_all(&text)).await?
}

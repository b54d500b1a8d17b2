//! The other end of the operators' socket, for the command line.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::admin::protocol::{Answer, ControlFailure, Envelope, Request};
use crate::core::record::EventRecord;

/// How long to wait for the sidecar to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for an answer: longer than the sidecar itself waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);
/// Longest answer: the status of ten thousand endpoints, with room to spare.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody accepts on the socket.
    #[error("reach the sidecar at {path}")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("talk to the sidecar")]
    Broken(#[source] io::Error),
    /// The sidecar did not answer in time.
    #[error("get an answer from the sidecar in time")]
    Timeout,
    /// Whatever answers is not a sidecar that we understand.
    #[error("understand the sidecar's answer")]
    Nonsense,
    /// The sidecar answered that it would not.
    #[error(transparent)]
    Failed(#[from] ControlFailure),
}

impl ControlError {
    /// What a person can do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Unreachable { path, source } => Some(unreachable_help(path, source.kind())),
            Self::Broken(_) => Some(String::from("the sidecar may be restarting; try again")),
            Self::Timeout => {
                Some(String::from("the sidecar accepts but does not answer; its log says why"))
            }
            Self::Nonsense => {
                Some(String::from("is the sidecar of the same version as this command?"))
            }
            Self::Failed(failure) => failure.help.clone(),
        }
    }
}

fn unreachable_help(path: &Path, kind: io::ErrorKind) -> String {
    let path = path.display();
    if kind == io::ErrorKind::PermissionDenied {
        return format!("run the command as the sidecar's user or as root; socket {path}");
    }
    if kind == io::ErrorKind::NotFound {
        return format!(
            "is the sidecar running? there is no socket {path}; `--control` names another"
        );
    }
    format!("is the sidecar running? socket {path}")
}

/// A connection to a running sidecar.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Client {
    /// Connects to the sidecar's socket.
    ///
    /// # Errors
    /// [`ControlError::Unreachable`], with help, when nobody accepts there.
    pub async fn connect(path: &Path) -> Result<Self, ControlError> {
        let unreachable = |source| ControlError::Unreachable { path: path.to_owned(), source };
        let connected = timeout(CONNECT_TIMEOUT, UnixStream::connect(path)).await;
        let stream = connected
            .unwrap_or_else(|late| Err(io::Error::new(io::ErrorKind::TimedOut, late)))
            .map_err(unreachable)?;
        let (reader, writer) = stream.into_split();
        Ok(Self { reader: BufReader::new(reader), writer })
    }

    /// Asks one thing.
    ///
    /// # Errors
    /// When the sidecar refuses, or does not answer in a way and time that can be used.
    pub async fn call(&mut self, request: &Request) -> Result<Answer, ControlError> {
        let mut line =
            serde_json::to_vec(request).map_err(io::Error::from).map_err(ControlError::Broken)?;
        line.push(b'\n');
        let exchange = async {
            // A sidecar that turns us away may close before it has read: its reason comes first.
            let sent = self.writer.write_all(&line).await;
            match read_line(&mut self.reader).await {
                Ok(Some(answer)) => Ok(answer),
                Ok(None) => Err(sent.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())),
                Err(error) => Err(sent.err().unwrap_or(error)),
            }
        };
        let Ok(answer) = timeout(ANSWER_TIMEOUT, exchange).await else {
            return Err(ControlError::Timeout);
        };
        let answer = answer.map_err(ControlError::Broken)?;
        open(&answer)?.map_err(ControlError::Failed)
    }

    /// Listens to every event from now on.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn watch(mut self) -> Result<Watch, ControlError> {
        if self.call(&Request::Watch).await? != Answer::Watching {
            return Err(ControlError::Nonsense);
        }
        Ok(Watch { reader: self.reader, _writer: self.writer })
    }
}

/// Events as they come.
#[derive(Debug)]
pub struct Watch {
    reader: BufReader<OwnedReadHalf>,
    /// Closing it would end the watch.
    _writer: OwnedWriteHalf,
}

impl Watch {
    /// Waits for the next event; `None` when the sidecar goes down.
    ///
    /// # Errors
    /// When the connection breaks, or we were too slow.
    pub async fn next(&mut self) -> Result<Option<EventRecord>, ControlError> {
        let Some(line) = read_line(&mut self.reader).await.map_err(ControlError::Broken)? else {
            return Ok(None);
        };
        match serde_json::from_slice(&line) {
            Ok(record) => Ok(Some(record)),
            Err(_) => match open(&line)? {
                Ok(_) => Err(ControlError::Nonsense),
                Err(failure) => Err(ControlError::Failed(failure)),
            },
        }
    }
}

async fn read_line(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(ANSWER_MAX).read_until(b'\n', &mut line).await?;
    Ok((!line.is_empty()).then_some(line))
}

fn open(line: &[u8]) -> Result<Result<Answer, ControlFailure>, ControlError> {
    // Why the line cannot be read would quote it; that it cannot be read is all there is to say.
    let envelope: Option<Envelope> = serde_json::from_slice(line).ok();
    envelope.and_then(Envelope::open).ok_or(ControlError::Nonsense)
}

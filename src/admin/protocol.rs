//! What is said over the operators' socket.
//!
//! A request is one line, at most [`LINE_MAX`] bytes:
//! `{"request":"command","command":{"order":{"order":"pause","service":"search"}}}`.
//! The answer is one line: `{"schema":1,"ok":true,"answer":"receipt","data":{…}}`, or
//! `{"schema":1,"ok":false,"error":{"code","message","help"}}`. After the answer to `watch` each
//! event follows on a line of its own until one side closes.

use serde::{Deserialize, Serialize};

use crate::admin::document::{BackupDocument, PolicyInfo, SidecarInfo, StatusDocument};
use crate::core::action::{Receipt, Refusal};
use crate::core::id::ServiceName;
use crate::core::input::Command;
use crate::core::record::{HistoryRecord, SCHEMA};

/// Longest request, in bytes without its line break.
pub const LINE_MAX: usize = 64 * 1024;

/// What an operator asks.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Whether anybody is there, and who.
    Ping,
    /// Everything at one moment.
    Status,
    /// Why a service is where it is, and what would move it.
    Explain {
        /// The service.
        service: ServiceName,
    },
    /// An order.
    Command {
        /// It.
        command: Command,
    },
    /// Moves of the past, newest first.
    History {
        /// Which.
        #[serde(flatten)]
        query: HistoryQuery,
    },
    /// The policy in force.
    Policy,
    /// Read the policy file again now.
    Reload,
    /// Back the state up now.
    Backup,
    /// Every event from now on.
    Watch,
}

impl Request {
    /// Its name on the wire and in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Status => "status",
            Self::Explain { .. } => "explain",
            Self::Command { .. } => "command",
            Self::History { .. } => "history",
            Self::Policy => "policy",
            Self::Reload => "reload",
            Self::Backup => "backup",
            Self::Watch => "watch",
        }
    }
}

/// Which moves of the past.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HistoryQuery {
    /// Of this service only.
    #[serde(default)]
    pub service: Option<ServiceName>,
    /// At most so many.
    #[serde(default = "HistoryQuery::default_count")]
    pub n: usize,
}

impl HistoryQuery {
    /// Most records in one answer.
    pub const COUNT_MAX: usize = 10_000;

    const fn default_count() -> usize {
        50
    }
}

impl Default for HistoryQuery {
    fn default() -> Self {
        Self { service: None, n: Self::default_count() }
    }
}

/// What an operator gets.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "answer", content = "data", rename_all = "snake_case")]
pub enum Answer {
    /// To `ping`.
    Pong(SidecarInfo),
    /// To `status`.
    Status(Box<StatusDocument>),
    /// To `explain`: the document of the core, as it serializes itself.
    Explanation(serde_json::Value),
    /// To `command`: it was carried out.
    Receipt(Receipt),
    /// To `history`.
    History(Vec<HistoryRecord>),
    /// To `policy`, and to `reload` when the file compiles.
    Policy(PolicyInfo),
    /// To `backup`: the newest one is good and of the present state.
    Backup(BackupDocument),
    /// To `watch`: events follow.
    Watching,
}

/// Why a request was not carried out; nothing changed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct ControlFailure {
    /// For programs.
    pub code: FailureCode,
    /// What is wrong, for people.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// What kind of failure, for programs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The line is not a request.
    BadRequest,
    /// The line is longer than [`LINE_MAX`].
    TooLong,
    /// The order was refused by the rules.
    Refused,
    /// Something named in the request does not exist.
    NotFound,
    /// The policy file does not compile.
    PolicyInvalid,
    /// Too many clients, or the sidecar is too busy.
    Busy,
    /// The sidecar is going down.
    Stopping,
    /// The sidecar could not do its job.
    Failed,
    /// A code of a newer sidecar.
    #[serde(other)]
    Unknown,
}

impl ControlFailure {
    /// A failure without help.
    #[must_use]
    pub fn new(code: FailureCode, message: &str) -> Self {
        Self { code, message: message.to_owned(), help: None }
    }

    /// The same failure, saying what to do.
    #[must_use]
    pub fn with_help(mut self, help: &str) -> Self {
        self.help = Some(help.to_owned());
        self
    }
}

impl From<Refusal> for ControlFailure {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::UnknownService { .. } => Self::new(FailureCode::NotFound, &message)
                .with_help("`mcp-failover status` lists the services"),
            Refusal::UnknownEndpoint { service, .. } => Self::new(FailureCode::NotFound, &message)
                .with_help(&format!("`mcp-failover explain {service}` lists its endpoints")),
            Refusal::TargetUnusable { .. } => Self::new(FailureCode::Refused, &message)
                .with_help("add `--force` to move there all the same"),
            Refusal::NoOtherEndpoint { service } => Self::new(FailureCode::Refused, &message)
                .with_help(&format!(
                    "`mcp-failover explain {service}` says what is wrong with each"
                )),
            Refusal::Pinned { .. } => Self::new(FailureCode::Refused, &message)
                .with_help("`mcp-failover unpin SERVICE` first"),
        }
    }
}

/// An answer, or why there is none.
pub type Response = Result<Answer, ControlFailure>;

/// A response as it stands on its line.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Envelope {
    schema: u32,
    ok: bool,
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    answer: Option<Answer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<ControlFailure>,
}

impl From<Response> for Envelope {
    fn from(response: Response) -> Self {
        match response {
            Ok(answer) => Self { schema: SCHEMA, ok: true, answer: Some(answer), error: None },
            Err(error) => Self { schema: SCHEMA, ok: false, answer: None, error: Some(error) },
        }
    }
}

impl Envelope {
    /// The response, or `None` when the line holds neither an answer nor an error.
    pub(super) fn open(self) -> Option<Response> {
        match self {
            Self { ok: true, answer: Some(answer), .. } => Some(Ok(answer)),
            Self { ok: false, error: Some(error), .. } => Some(Err(error)),
            Self { .. } => None,
        }
    }
}

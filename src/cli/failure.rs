//! Why a command could not do what was asked, in words for a person.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::admin::control_client::ControlError;
use crate::admin::protocol::{ControlFailure, FailureCode};
use crate::chaos::lab::BookError;
use crate::cli::exit::Exit;
use crate::cli::table::counted;
use crate::daemon::RunError;
use crate::output::OutputError;
use crate::probe::ProbeSetupError;
use crate::store::StoreError;
use crate::store::backup::BackupError;
use crate::telemetry::log::LogError;
use crate::watch::ReadError;

/// Why a command failed. Each message fits behind "failed to".
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Standard output did not take the answer.
    #[error("write to standard output")]
    Output(#[source] io::Error),
    /// A document could not be written as JSON.
    #[error("encode the answer")]
    Encode(#[source] serde_json::Error),
    /// No policy was named and none lies where it is looked for.
    #[error("find a policy")]
    NoPolicy,
    /// The policy cannot be read.
    #[error(transparent)]
    ReadPolicy(ReadError),
    /// The policy does not compile; the diagnostics have been told.
    #[error("compile {}: {}", path.display(), counted(*errors, "error"))]
    InvalidPolicy {
        /// The file.
        path: PathBuf,
        /// How many errors it has.
        errors: usize,
    },
    /// The policy does not compile, and does not tell the socket otherwise.
    #[error("find the control socket: {} is not valid", path.display())]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// No diagnostic has this code.
    #[error("explain {code}: no such code")]
    UnknownCode {
        /// As asked for.
        code: String,
    },
    /// The policy has no such service.
    #[error("find service {service} in the policy")]
    UnknownService {
        /// As asked for.
        service: String,
    },
    /// The service has no such endpoint.
    #[error("find endpoint {endpoint} of service {service} in the policy")]
    UnknownEndpoint {
        /// The service.
        service: String,
        /// As asked for.
        endpoint: String,
    },
    /// The policy has no such output.
    #[error("find output {name} in the policy")]
    UnknownOutput {
        /// As asked for.
        name: String,
    },
    /// The environment names no service that we know.
    #[error("find a service in the environment")]
    NothingFound,
    /// A file could not be written.
    #[error("write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is in the way.
    #[error("write {}: it exists", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The runtime did not start.
    #[error("start the runtime")]
    Runtime(#[source] io::Error),
    /// Logs could not be set up.
    #[error(transparent)]
    Log(LogError),
    /// The sidecar did not run.
    #[error(transparent)]
    Run(RunError),
    /// Probing could not begin.
    #[error("set up probing")]
    Probing(#[source] ProbeSetupError),
    /// The sidecar could not be asked.
    #[error(transparent)]
    Control(ControlError),
    /// The sidecar said no.
    #[error("carry out the request: {0}")]
    Refused(ControlFailure),
    /// The sidecar answered something else than it was asked.
    #[error("understand the sidecar's answer")]
    OddAnswer,
    /// The sidecar did not answer in time.
    #[error("get an answer within {} s", deadline.as_secs())]
    NoAnswer {
        /// How long it had.
        deadline: Duration,
    },
    /// The sidecar went down while it was listened to.
    #[error("follow the sidecar: it went down")]
    SidecarLeft,
    /// The state directory could not be read.
    #[error("read the history in {}", dir.display())]
    State {
        /// The directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The state directory could not be used.
    #[error(transparent)]
    Store(StoreError),
    /// A state directory without state.
    #[error("find a state in {}", dir.display())]
    NoState {
        /// The directory.
        dir: PathBuf,
    },
    /// A backup could not be made, found or read.
    #[error(transparent)]
    Backup(Box<BackupError>),
    /// The policy asks for no backups.
    #[error("find out where backups go: the policy has no `[backup]`")]
    NoBackup,
    /// There is no such backup.
    #[error("find backup {name}")]
    UnknownBackup {
        /// As asked for.
        name: String,
    },
    /// No backup is there that verifies.
    #[error("find a good backup in {to}")]
    NothingGood {
        /// Where they go.
        to: String,
    },
    /// The state that would be replaced is newer.
    #[error("restore into {}: its state is newer than the backup", dir.display())]
    NewerState {
        /// The directory.
        dir: PathBuf,
    },
    /// An output could not be rendered.
    #[error("render {name}")]
    Render {
        /// The output.
        name: String,
        /// Why.
        #[source]
        source: OutputError,
    },
    /// The policy is not one to drill.
    #[error(transparent)]
    Book(BookError),
    /// No service of the policy can be played in a lab.
    #[error("find a service to drill")]
    NothingToPlay,
    /// No scenario has this name.
    #[error("find scenario {name}")]
    UnknownScenario {
        /// As asked for.
        name: String,
    },
    /// Drills could not be set up.
    #[error("set up the drills")]
    Drill(#[source] io::Error),
    /// Drills were cut short.
    #[error("complete the drills: interrupted, and everything undone")]
    Interrupted,
    /// The demo could not be set up.
    #[error("set up the demo")]
    Stage(#[source] io::Error),
    /// The demo would overwrite a policy that is not its own.
    #[error("set up the demo: {} is not a policy of the demo", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The demo did not go as it should.
    #[error("complete the demo: {missed}")]
    Demo {
        /// Which stage, and what was seen instead.
        missed: String,
    },
}

impl Failure {
    /// The exit code that tells it.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::NoPolicy
            | Self::ReadPolicy(_)
            | Self::InvalidPolicy { .. }
            | Self::Refused(ControlFailure { code: FailureCode::PolicyInvalid, .. })
            | Self::Run(RunError::PolicyInvalid { .. } | RunError::PolicyUnreadable(_)) => {
                Exit::PolicyInvalid
            }
            Self::UnknownCode { .. }
            | Self::UnknownService { .. }
            | Self::UnknownEndpoint { .. }
            | Self::UnknownOutput { .. }
            | Self::UnknownScenario { .. }
            | Self::UnknownBackup { .. }
            | Self::Log(_) => Exit::Usage,
            Self::Output(_)
            | Self::Encode(_)
            | Self::NoSocket { .. }
            | Self::NothingFound
            | Self::Write { .. }
            | Self::Exists { .. }
            | Self::Runtime(_)
            | Self::Run(_)
            | Self::Probing(_)
            | Self::Control(_)
            | Self::Refused(_)
            | Self::OddAnswer
            | Self::NoAnswer { .. }
            | Self::SidecarLeft
            | Self::State { .. }
            | Self::Store(_)
            | Self::NoState { .. }
            | Self::Backup(_)
            | Self::NoBackup
            | Self::NothingGood { .. }
            | Self::NewerState { .. }
            | Self::Render { .. }
            | Self::Book(_)
            | Self::NothingToPlay
            | Self::Drill(_)
            | Self::Interrupted
            | Self::Stage(_)
            | Self::Foreign { .. }
            | Self::Demo { .. } => Exit::Failed,
        }
    }

    /// Whether it only means that the reader of our output has seen enough.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What a person can do about it.
    pub(crate) fn help(&self) -> Option<String> {
        let help = match self {
            Self::NoPolicy => {
                "there is neither ./failover.toml nor /etc/mcp-failover/failover.toml; \
                 name one with --policy FILE, or write one with `mcp-failover init`"
            }
            Self::ReadPolicy(error) | Self::Run(RunError::PolicyUnreadable(error)) => error.help(),
            Self::NoSocket { .. } => "name the socket with --control PATH",
            Self::UnknownCode { .. } => "codes look like MF0201 and stand beside each diagnostic",
            Self::UnknownService { .. }
            | Self::UnknownEndpoint { .. }
            | Self::UnknownOutput { .. } => "the names are those of the policy",
            Self::Render { source: OutputError::Template { .. }, .. } => {
                "a template that computes with a value needs it: try --show-secrets"
            }
            Self::NothingFound => {
                "set variables such as PINECONE_HOST and PINECONE_API_KEY, NEO4J_URI, \
                 GRAPHLIT_* or TAVILY_API_KEY, or start from a file in policies/"
            }
            Self::Exists { .. } => "pass --force to replace it",
            Self::Book(_) => "`mcp-failover check` says what is wrong with it",
            Self::NothingToPlay => {
                "a lab plays services with two endpoints or more and an http or tcp probe; \
                 without --policy there is one of our own"
            }
            Self::UnknownScenario { .. } => "`mcp-failover chaos list` names them",
            Self::Foreign { .. } => "name another directory with --dir",
            Self::Store(StoreError::Locked { .. }) => {
                "stop the sidecar first: it would write over what is restored"
            }
            Self::Store(error) => error.help(),
            Self::NoState { .. } => "start the sidecar once, or name its policy with --policy FILE",
            Self::Backup(error) => error.help(),
            Self::NoBackup => "add `[backup]` with `to = \"…\"` to failover.toml",
            Self::UnknownBackup { .. } => "`mcp-failover backup list` shows what is there",
            Self::NothingGood { .. } => "`mcp-failover backup verify` says what is wrong with each",
            Self::NewerState { .. } => {
                "--dry-run shows both; --force restores all the same, and keeps the newer state aside"
            }
            Self::OddAnswer => "is the sidecar of the same version as this command?",
            Self::Control(error) => return error.help(),
            Self::Refused(failure) => return failure.help.clone(),
            Self::Output(_)
            | Self::Encode(_)
            | Self::InvalidPolicy { .. }
            | Self::Write { .. }
            | Self::Runtime(_)
            | Self::Log(_)
            | Self::Run(_)
            | Self::Probing(_)
            | Self::NoAnswer { .. }
            | Self::SidecarLeft
            | Self::State { .. }
            | Self::Render { .. }
            | Self::Drill(_)
            | Self::Interrupted
            | Self::Stage(_)
            | Self::Demo { .. } => return None,
        };
        Some(help.to_owned())
    }

    /// The message and its sources on one line, none of them twice.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            let part = error.to_string();
            if !text.contains(&part) {
                text.push_str(": ");
                text.push_str(&part);
            }
            source = error.source();
        }
        text
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Failed(failure) => Self::Refused(failure),
            ControlError::Unreachable { .. }
            | ControlError::Broken(_)
            | ControlError::Timeout
            | ControlError::Nonsense => Self::Control(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_told_once() {
        let source = io::Error::other("disk full");
        let failure = Failure::Write { path: PathBuf::from("x"), source };
        assert_eq!(failure.chain(), "write x: disk full");
    }

    #[test]
    fn only_a_broken_pipe_is_one() {
        assert!(Failure::Output(io::ErrorKind::BrokenPipe.into()).is_broken_pipe());
        assert!(!Failure::Output(io::ErrorKind::StorageFull.into()).is_broken_pipe());
    }
}

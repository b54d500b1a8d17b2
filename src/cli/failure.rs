//! Why a command could not do what was asked, in words for a person.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use crate::cli::exit::Exit;

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
    #[error("find a policy: {} does not exist", searched.display())]
    NoPolicy {
        /// The last place looked at.
        searched: PathBuf,
    },
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
}

impl Failure {
    /// The exit code that tells it.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::NoPolicy { .. } => Exit::PolicyInvalid,
            Self::Output(_)
            | Self::Encode(_)
            | Self::Write { .. }
            | Self::Exists { .. }
            | Self::Runtime(_) => Exit::Failed,
        }
    }

    /// Whether it only means that the reader of our output has seen enough.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What a person can do about it.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::NoPolicy { .. } => {
                Some("name one with --policy FILE, or write one with `mcp-failover init`".into())
            }
            Self::Exists { .. } => Some("pass --force to replace it".into()),
            Self::Output(_) | Self::Encode(_) | Self::Write { .. } | Self::Runtime(_) => None,
        }
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

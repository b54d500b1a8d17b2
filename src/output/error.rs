//! Why an output could not be written.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};

use crate::policy::template::Fault;

/// Why an output could not be written. No message holds the value of a variable.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The format has no way to write the value so that its readers get it back.
    #[error("write {name} in the {format} format: its value {why}")]
    Uncarriable {
        /// The variable.
        name: Box<str>,
        /// The format's name in the policy.
        format: &'static str,
        /// What about the value.
        why: &'static str,
    },
    /// A name that no environment can hold.
    #[error("write {name:?}: not a variable name")]
    Name {
        /// The name.
        name: Box<str>,
    },
    /// Two services publish the same variable with different values.
    #[error("write {name}: more than one service sets it")]
    Clash {
        /// The variable.
        name: Box<str>,
    },
    /// The template cannot be filled in with what is active now.
    #[error("fill in the template, {fault}")]
    Template {
        /// Where and why.
        fault: Fault,
    },
    /// The check did not find the new file good.
    #[error("put the new file in the place of {}: its check {why}", path.display())]
    Refused {
        /// The path.
        path: Box<Path>,
        /// Why, and what the command said, without values.
        why: Box<str>,
    },
    /// A newer configuration came while the check was looking at this one.
    #[error("finish the check of {}: a newer revision takes its place", path.display())]
    Superseded {
        /// The path.
        path: Box<Path>,
    },
    /// The file to merge into cannot be understood well enough to keep what is in it.
    #[error("merge into the existing file: {why}")]
    Foreign {
        /// What about it.
        why: &'static str,
    },
    /// A system call failed.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: Box<Path>,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Something other than a file has the name.
    #[error("replace {}: it is {kind}, not a regular file", path.display())]
    NotRegular {
        /// The path.
        path: Box<Path>,
        /// What it is.
        kind: &'static str,
    },
    /// The file is not what was written to it a moment ago.
    #[error("keep {}: somebody else wrote to it at the same time", path.display())]
    Contended {
        /// The path.
        path: Box<Path>,
    },
    /// The write was cut off from within.
    #[error("write {}: the writer broke off", path.display())]
    Aborted {
        /// The path.
        path: PathBuf,
    },
}

impl OutputError {
    /// What a person can do about it, where there is something.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Uncarriable { .. } => Some("choose another format, such as json"),
            Self::Name { .. } => Some("use letters, digits and underscores, not a digit first"),
            Self::Clash { .. } => Some("rename it in one of them, or give each an output"),
            Self::Template { .. } => Some("`mcp-failover check` shows it; the old file stays"),
            Self::Refused { .. } => Some(
                "the old file stays; repair the template, the endpoint's variables or the check",
            ),
            Self::Foreign { .. } => Some("repair the file, or let the output own it"),
            Self::NotRegular { .. } => Some("name another path"),
            Self::Contended { .. } => Some("let only one program write it"),
            Self::Io { source, .. } => io_help(source),
            Self::Superseded { .. } | Self::Aborted { .. } => None,
        }
    }

    /// Whether the new file may be in place all the same, as after a flush that failed. A refusal
    /// comes before anything is put in place.
    #[must_use]
    pub const fn leaves_doubt(&self) -> bool {
        match self {
            Self::Template { .. } | Self::Refused { .. } | Self::Superseded { .. } => false,
            Self::Uncarriable { .. }
            | Self::Name { .. }
            | Self::Clash { .. }
            | Self::Foreign { .. }
            | Self::Io { .. }
            | Self::NotRegular { .. }
            | Self::Contended { .. }
            | Self::Aborted { .. } => true,
        }
    }

    /// The message with its causes and the help, in one line.
    #[must_use]
    pub fn explain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        if let Some(help) = self.help() {
            text.push_str("; help: ");
            text.push_str(help);
        }
        text
    }

    pub(super) fn io(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { doing, path: path.into(), source: source.into() }
    }
}

/// Only answers whose remedy is known get one.
fn io_help(error: &io::Error) -> Option<&'static str> {
    let remedies = [
        (io::ErrorKind::NotFound, "create the directory; it must exist before the file can"),
        (
            io::ErrorKind::PermissionDenied,
            "let the sidecar's user write the directory, not only the file",
        ),
        (io::ErrorKind::StorageFull, "free some space; the old file is untouched"),
        (io::ErrorKind::ReadOnlyFilesystem, "mount the directory writable"),
    ];
    remedies.iter().find(|(kind, _)| *kind == error.kind()).map(|(_, remedy)| *remedy)
}

//! Where the active configuration goes.

use std::path::PathBuf;
use std::time::Duration;

use crate::core::id::ServiceName;

/// Where the active configuration goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// A file of variables.
    EnvFile(EnvFile),
}

impl Output {
    /// The output's name in status, metrics and logs.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::EnvFile(file) => &file.name,
        }
    }
}

/// A file of variables.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EnvFile {
    /// The output's name: as given, else `env_file:` and the path.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// How it is escaped.
    pub format: EnvFormat,
    /// Whether foreign lines are kept.
    pub mode: EnvMode,
    /// Permission bits.
    pub permissions: u32,
    /// Owner and group by number, when they are to be set.
    pub owner: (Option<u32>, Option<u32>),
    /// The services written to it; all when empty.
    pub services: Vec<ServiceName>,
    /// What to do when it changed.
    pub on_change: Vec<Hook>,
}

/// How an env file is escaped.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EnvFormat {
    /// For dotenv readers: python-dotenv, node's dotenv.
    #[default]
    Dotenv,
    /// For `docker run --env-file`.
    Docker,
    /// For systemd's `EnvironmentFile=`.
    Systemd,
    /// For `. file` in a POSIX shell; exported.
    Shell,
    /// One JSON object.
    Json,
}

/// Whether foreign lines of an env file are kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EnvMode {
    /// The file is ours.
    #[default]
    Own,
    /// Only our variables are ours.
    Merge,
}

/// What to do when an output changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hook {
    /// The effect.
    pub run: HookRun,
    /// How long it may take.
    pub timeout: Duration,
    /// Changes closer together than this run it once. A failover never waits for it.
    pub debounce: Duration,
}

/// A hook's effect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HookRun {
    /// Signal the process whose number stands in a file.
    SignalPidFile {
        /// Signal number.
        signal: i32,
        /// The file.
        pid_file: PathBuf,
    },
    /// Signal every process of this name.
    SignalProcess {
        /// Signal number.
        signal: i32,
        /// The process name, as in `/proc/PID/comm` or the base name of its first argument.
        process: String,
    },
    /// Run a command; never a shell line.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
    },
}

//! What the caller of the command learns from its exit code.

use std::process::ExitCode;

/// How a command ended. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// It did what was asked.
    Fine,
    /// It could not, and said why.
    Failed,
    /// The arguments make no sense.
    Usage,
    /// It did, and what it found is not healthy.
    Unhealthy,
    /// The policy is not valid, or there is none (`EX_CONFIG` of sysexits).
    PolicyInvalid,
    /// The server that was run ended so.
    Server(u8),
}

impl Exit {
    /// The number seen by the caller.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unhealthy => 3,
            Self::PolicyInvalid => 78,
            Self::Server(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

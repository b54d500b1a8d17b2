//! What is found wrong, each sort with a name that stays.

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Severity {
    /// A switch will not be effective, or cannot be written.
    Error,
    /// It works, and will surprise somebody.
    Warning,
}

impl Severity {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Finding {
    /// Its name in JSON and in scripts.
    pub(super) name: &'static str,
    pub(super) severity: Severity,
    /// What was found; no value of a variable is in it.
    pub(super) message: String,
    /// What a person can do.
    pub(super) help: String,
}

impl Finding {
    pub(super) fn error(name: &'static str, message: String, help: &str) -> Self {
        Self { name, severity: Severity::Error, message, help: help.to_owned() }
    }

    pub(super) fn warning(name: &'static str, message: String, help: &str) -> Self {
        Self { name, severity: Severity::Warning, message, help: help.to_owned() }
    }
}

//! What can go wrong with a Redis server.

use std::fmt;
use std::sync::Arc;

/// Why an exchange with Redis failed. Its display fits behind "failed to" and is free of secrets
/// and of anything that the peer said beyond the code of its error.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RedisError {
    place: Arc<str>,
    reason: Reason,
    /// The server's code, where it is one that we do not know.
    code: String,
}

/// Why, in kinds that have a meaning for whoever is to mend it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// No connection: refused, no route, no such name.
    Unreachable,
    /// The TLS handshake failed.
    Tls,
    /// No answer in time.
    Timeout,
    /// The connection ended in between.
    Closed,
    /// User or password is wrong, or one is wanted.
    Auth,
    /// The user may not do this.
    Permission,
    /// It still reads its data.
    Loading,
    /// It is a replica.
    ReadOnly,
    /// It is full.
    Memory,
    /// It cannot save its data, and refuses writes for that.
    Misconf,
    /// Another node of the cluster has our keys, or the cluster is incomplete.
    Moved,
    /// A script of somebody else holds it up, or it has too many clients.
    Busy,
    /// One of our keys is of another type: somebody else's.
    Foreign,
    /// It does not know a command: too old, or none of Redis.
    Unsupported,
    /// What answers is not Redis.
    Protocol,
    /// It refused in a way that is not known here.
    Refused,
}

impl Reason {
    /// Every label; the bound of the metric label `reason`.
    pub const LABELS: [&'static str; 16] = [
        "unreachable",
        "tls",
        "timeout",
        "closed",
        "auth",
        "permission",
        "loading",
        "readonly",
        "memory",
        "misconf",
        "moved",
        "busy",
        "foreign",
        "unsupported",
        "protocol",
        "refused",
    ];

    /// Its name in JSON, metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Auth => "auth",
            Self::Permission => "permission",
            Self::Loading => "loading",
            Self::ReadOnly => "readonly",
            Self::Memory => "memory",
            Self::Misconf => "misconf",
            Self::Moved => "moved",
            Self::Busy => "busy",
            Self::Foreign => "foreign",
            Self::Unsupported => "unsupported",
            Self::Protocol => "protocol",
            Self::Refused => "refused",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::Unreachable => "it cannot be connected to",
            Self::Tls => "the TLS handshake failed",
            Self::Timeout => "no answer in time",
            Self::Closed => "it ended the connection",
            Self::Auth => "it refuses the login, or wants one",
            Self::Permission => "the user may not do what is needed",
            Self::Loading => "it is still loading its data",
            Self::ReadOnly => "it is a replica, and takes no writes",
            Self::Memory => "it is full (maxmemory)",
            Self::Misconf => "it cannot save its data, and takes no writes for that",
            Self::Moved => "another node of the cluster has the keys, or none has",
            Self::Busy => "it is held up by a script, or has too many clients",
            Self::Foreign => "a key of ours is of another type",
            Self::Unsupported => "it does not know a command that is needed",
            Self::Protocol => "what answers is not Redis",
            Self::Refused => "it refused",
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub const fn help(self) -> &'static str {
        match self {
            Self::Unreachable => "check redis.url, and that it can be reached from here",
            Self::Tls => "check redis.url (the name in the certificate) and redis.ca_file",
            Self::Timeout => "is it hung, or further away than redis.timeout?",
            Self::Closed => "look at its log: it may have restarted",
            Self::Auth => "check redis.username and redis.password",
            Self::Permission => "docs/redis.md has the ACL that is needed",
            Self::Loading | Self::Busy => "it is tried again",
            Self::ReadOnly => "set redis.url to the master",
            Self::Memory => "raise maxmemory, or let it evict the keys of others",
            Self::Misconf => "look at its disk and its log",
            Self::Moved => "set redis.url to the node that has the slot of the keys",
            Self::Foreign => "set redis.prefix to one that nobody else uses",
            Self::Unsupported => "Redis 5 or later is needed, or a server like it",
            Self::Protocol => "does redis.url name a Redis server, and is TLS as it wants it?",
            Self::Refused => "look at its log",
        }
    }
}

/// What the codes of errors mean.
const CODES: [(&str, Reason); 20] = [
    ("NOAUTH", Reason::Auth),
    ("WRONGPASS", Reason::Auth),
    ("DENIED", Reason::Auth),
    ("NOPERM", Reason::Permission),
    ("LOADING", Reason::Loading),
    ("READONLY", Reason::ReadOnly),
    ("MASTERDOWN", Reason::ReadOnly),
    ("NOREPLICAS", Reason::ReadOnly),
    ("OOM", Reason::Memory),
    ("MISCONF", Reason::Misconf),
    ("MOVED", Reason::Moved),
    ("ASK", Reason::Moved),
    ("TRYAGAIN", Reason::Moved),
    ("CLUSTERDOWN", Reason::Moved),
    ("CROSSSLOT", Reason::Moved),
    ("BUSY", Reason::Busy),
    ("UNKILLABLE", Reason::Busy),
    ("WRONGTYPE", Reason::Foreign),
    ("EXECABORT", Reason::Refused),
    ("NOPROTO", Reason::Unsupported),
];

/// What errors mean by their words. Some have only the general code, and what a script meets is
/// told in a sentence of the script's in older releases.
const WORDS: [(&str, Reason); 12] = [
    // Said of a long command of somebody who has not logged in.
    ("Protocol error: unauthenticated", Reason::Auth),
    ("invalid password", Reason::Auth),
    ("Client sent AUTH", Reason::Auth),
    ("AUTH <password>", Reason::Auth),
    ("operation not permitted", Reason::Auth),
    ("executing the script can't", Reason::Permission),
    ("max number of clients", Reason::Busy),
    ("unknown command", Reason::Unsupported),
    ("Unknown Redis command", Reason::Unsupported),
    ("Write commands not allowed after", Reason::Unsupported),
    ("DB index is out of range", Reason::Refused),
    ("wrong number of arguments", Reason::Unsupported),
];

impl RedisError {
    pub(super) const fn new(place: Arc<str>, reason: Reason) -> Self {
        Self { place, reason, code: String::new() }
    }

    /// What an error that the server sent means.
    pub(super) fn refusal(place: Arc<str>, error: &[u8]) -> Self {
        let text = String::from_utf8_lossy(error);
        let (reason, known) = reason(&text);
        let code = if known { String::new() } else { plain_code(&text) };
        Self { place, reason, code }
    }

    /// The kind.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }
}

/// The meaning, and whether it is known.
fn reason(text: &str) -> (Reason, bool) {
    let code = text.split(' ').next().unwrap_or_default();
    let coded = CODES.iter().find(|(known, _)| *known == code);
    // What a script met, in releases before 7: the code stands behind these words.
    let inner = text.split("@user_script: ").last().unwrap_or_default();
    let inner = inner.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':' || c == ' ');
    let inner = inner.trim_start_matches('-');
    let within = || CODES.iter().find(|(known, _)| inner.split(' ').next() == Some(known));
    let worded = || WORDS.iter().find(|(known, _)| text.contains(known));
    let found = coded.or_else(within).or_else(worded);
    found.map_or((Reason::Refused, false), |(_, reason)| (*reason, true))
}

/// A code as Redis writes them; empty for anything else, for that may be anything.
fn plain_code(text: &str) -> String {
    let code = text.split(' ').next().unwrap_or_default();
    let fits = (2..=16).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_uppercase());
    if fits { format!(": {code}") } else { String::new() }
}

impl fmt::Display for RedisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "use {}: {}{}", self.place, self.reason.sentence(), self.code)
    }
}

impl std::error::Error for RedisError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Reason {
        RedisError::refusal(Arc::from("redis://h:1/0"), text.as_bytes()).reason()
    }

    #[test]
    fn every_code_has_its_meaning_and_a_sentence() {
        for (code, meant) in CODES {
            assert_eq!(of(&format!("{code} and words")), meant, "{code}");
            assert!(Reason::LABELS.contains(&meant.label()));
            assert!(!meant.sentence().is_empty() && !meant.help().is_empty());
        }
        assert_eq!(of("OOM command not allowed when used memory > 'maxmemory'."), Reason::Memory);
        assert_eq!(of("ERR max number of clients reached"), Reason::Busy);
        let older = "ERR Error running script (call to f_0): @user_script:49: @user_script: 49: \
                     -OOM command not allowed when used memory > 'maxmemory'.";
        assert_eq!(of(older), Reason::Memory);
        let inside = "ERR The user executing the script can't run this command or subcommand";
        assert_eq!(of(inside), Reason::Permission);
    }

    #[test]
    fn what_a_peer_says_is_never_repeated_beyond_a_code() {
        let shown = |text: &str| {
            RedisError::refusal(Arc::from("redis://h:1/0"), text.as_bytes()).to_string()
        };
        assert_eq!(shown("STRANGE the canary"), "use redis://h:1/0: it refused: STRANGE");
        assert_eq!(shown("the canary"), "use redis://h:1/0: it refused");
        assert_eq!(shown(""), "use redis://h:1/0: it refused");
        assert!(shown("NOAUTH the canary").contains("login"));
    }
}

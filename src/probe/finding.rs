//! Why an attempt ended: the error type inside this room.

use std::borrow::Cow;
use std::io;

use rustix::io::Errno;

use crate::core::outcome::Outcome;

/// An outcome worth telling, with what was seen.
///
/// Inside this room `Ok` means "as expected so far" and `Err(Finding)` ends the attempt, also
/// when the finding is no failure: a `degraded` is one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Finding {
    pub(super) outcome: Outcome,
    pub(super) detail: Cow<'static, str>,
}

/// A part of an attempt.
pub(super) type Step<T = ()> = Result<T, Finding>;

/// Failures of our own machine, and how to say them.
const LOCAL: [(Errno, &str); 13] = [
    (Errno::MFILE, "too many open files in this process"),
    (Errno::NFILE, "too many open files on this host"),
    (Errno::NOBUFS, "no buffer space"),
    (Errno::NOMEM, "out of memory"),
    (Errno::AGAIN, "out of processes or memory"),
    (Errno::ADDRNOTAVAIL, "no local address or port left"),
    (Errno::NETUNREACH, "no route to the network"),
    (Errno::NETDOWN, "network is down"),
    (Errno::AFNOSUPPORT, "address family not supported here"),
    (Errno::ACCESS, "forbidden by this host"),
    (Errno::PERM, "forbidden by this host"),
    (Errno::NODEV, "no network device"),
    (Errno::INTR, "interrupted"),
];

impl Finding {
    pub(super) fn new(outcome: Outcome, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome, detail: detail.into() }
    }

    /// Our own fault, which says nothing about the endpoint.
    pub(super) fn local(detail: &'static str) -> Self {
        Self::new(Outcome::Local, detail)
    }

    /// Something else answered, or the answer breaks an expectation.
    pub(super) fn protocol(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Outcome::Protocol, detail)
    }

    /// The probe itself is wrong.
    pub(super) fn misconfigured(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Outcome::ClientError, detail)
    }

    /// The peer went away.
    pub(super) fn cut(detail: &'static str) -> Self {
        Self::new(Outcome::Reset, detail)
    }

    /// Sorts what the kernel says about a connection.
    pub(super) fn from_io(error: &io::Error) -> Self {
        let Some(errno) = Errno::from_io_error(error) else {
            return Self::cut("connection closed early");
        };
        if let Some((_, detail)) = LOCAL.iter().find(|(local, _)| *local == errno) {
            return Self::local(detail);
        }
        match errno {
            Errno::CONNREFUSED => Self::new(Outcome::Refused, "connection refused"),
            Errno::TIMEDOUT => Self::new(Outcome::Timeout, "connection timed out"),
            Errno::HOSTUNREACH | Errno::HOSTDOWN => Self::new(Outcome::Timeout, "host unreachable"),
            Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED => Self::cut("connection reset"),
            other => {
                let detail = format!("connection failed with os error {}", other.raw_os_error());
                Self::new(Outcome::Reset, detail)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(errno: Errno) -> Outcome {
        Finding::from_io(&io::Error::from_raw_os_error(errno.raw_os_error())).outcome
    }

    #[test]
    fn our_own_faults_are_not_the_endpoints() {
        for (errno, detail) in LOCAL {
            assert_eq!(outcome(errno), Outcome::Local, "{detail}");
        }
    }

    #[test]
    fn what_the_peer_did_is_told_apart() {
        assert_eq!(outcome(Errno::CONNREFUSED), Outcome::Refused);
        assert_eq!(outcome(Errno::CONNRESET), Outcome::Reset);
        assert_eq!(outcome(Errno::PIPE), Outcome::Reset);
        assert_eq!(outcome(Errno::TIMEDOUT), Outcome::Timeout);
        assert_eq!(outcome(Errno::PROTO), Outcome::Reset);
        let eof = Finding::from_io(&io::ErrorKind::UnexpectedEof.into());
        assert_eq!(eof.outcome, Outcome::Reset);
    }
}

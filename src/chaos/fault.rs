//! The catalogue of faults: what can be done to whoever talks to an endpoint.
//!
//! Pure. How each is carried out is the proxy's business.

use std::time::Duration;

/// What an endpoint does to those who connect.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Fault {
    /// Nothing: it serves.
    #[default]
    None,
    /// The process is gone: connections are refused, and those it had are reset.
    Killed,
    /// The network is cut: packets vanish, and connections that were open fall silent.
    Partitioned,
    /// It is out of resources: it takes one connection a second, answers that one with 503, and
    /// lets the others wait in a queue that is soon full.
    Exhausted,
    /// It answers as ever, but so late.
    Slow(Duration),
    /// Each answer comes late by a random time of at most this: within what clients bear.
    Jitter(Duration),
    /// It answers with 429 and names a time to stay away.
    RateLimited(Duration),
    /// It answers with 200 and a login page.
    Lying,
    /// It cuts its answers short, and the connection with them.
    Truncating,
    /// It answers byte by byte, without end.
    Dripping,
}

impl Fault {
    /// Its name in reports.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Killed => "killed",
            Self::Partitioned => "partitioned",
            Self::Exhausted => "exhausted",
            Self::Slow(_) => "slow",
            Self::Jitter(_) => "jitter",
            Self::RateLimited(_) => "rate_limited",
            Self::Lying => "lying",
            Self::Truncating => "truncating",
            Self::Dripping => "dripping",
        }
    }

    /// In words that follow the endpoint's name.
    #[must_use]
    pub fn sentence(self) -> String {
        let millis = |span: Duration| format!("{} ms", span.as_millis());
        match self {
            Self::None => "serves".into(),
            Self::Killed => "refuses connections, and resets those it had".into(),
            Self::Partitioned => "is cut off: packets to it vanish".into(),
            Self::Exhausted => "takes one connection a second and answers it with 503".into(),
            Self::Slow(delay) => format!("answers after {}", millis(delay)),
            Self::Jitter(most) => format!("answers late by up to {}", millis(most)),
            Self::RateLimited(stay) => {
                format!("answers with 429 and Retry-After: {}", stay.as_secs())
            }
            Self::Lying => "answers with 200 and a login page".into(),
            Self::Truncating => "cuts its answers short".into(),
            Self::Dripping => "answers byte by byte, without end".into(),
        }
    }

    /// Whether those who wait for an answer run into their deadline.
    #[must_use]
    pub const fn is_silent(self) -> bool {
        match self {
            Self::Partitioned | Self::Exhausted | Self::Slow(_) | Self::Dripping => true,
            Self::None
            | Self::Killed
            | Self::Jitter(_)
            | Self::RateLimited(_)
            | Self::Lying
            | Self::Truncating => false,
        }
    }

    /// Whether a probe must not pass while it is in force.
    #[must_use]
    pub const fn is_harmful(self) -> bool {
        !matches!(self, Self::None | Self::Jitter(_))
    }
}

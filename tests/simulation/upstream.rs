//! Upstreams that serve, and that fail in every way the engine tells apart.

use std::time::Duration;

use mcp_failover::core::outcome::{Observation, Outcome};
use mcp_failover::core::rng::Rng;

/// How an upstream behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Behaviour {
    /// It serves.
    Serves,
    /// Nobody listens.
    Dead,
    /// It swallows everything.
    BlackHole,
    /// It serves, slowly.
    Slow,
    /// It comes and goes, each for this long.
    Flaps(Duration),
    /// It answers half of the calls with an error.
    Grey,
    /// It answers every call with an error.
    Broken,
    /// It asks to be left alone.
    Throttles(Option<Duration>),
    /// It refuses our credential.
    Revoked,
    /// It serves as a replica.
    Replica,
    /// It finds our request malformed.
    Baffled,
    /// It serves with a warning.
    Warns,
}

impl Behaviour {
    /// A fault by the weights of how often such a thing happens.
    pub(crate) fn draw(rng: &mut Rng, unit: Duration) -> Self {
        match rng.below(24) {
            0..=5 => Self::Dead,
            6..=10 => Self::BlackHole,
            11 | 12 => Self::Slow,
            13..=15 => Self::Flaps(unit * u32::try_from(1 + rng.below(40)).unwrap()),
            16 => Self::Grey,
            17 | 18 => Self::Broken,
            19 => Self::Throttles((rng.below(2) == 0).then(|| unit * 20)),
            20 => Self::Revoked,
            21 => Self::Replica,
            22 => Self::Baffled,
            _ => Self::Warns,
        }
    }

    /// Whether every call fails, and fails as an outage: what detection is measured by.
    pub(crate) const fn is_outage(self) -> bool {
        matches!(self, Self::Dead | Self::BlackHole | Self::Broken)
    }

    /// What a call that starts now will find, and after how long. `cut` is our own network.
    pub(crate) fn call(self, rng: &mut Rng, call: Call) -> Observation {
        let quick = Duration::from_millis(1 + rng.below(40));
        if call.cut {
            let local = rng.below(8) == 0;
            let outcome = if local { Outcome::Local } else { Outcome::Timeout };
            return Observation::new(outcome, if local { quick } else { call.timeout });
        }
        let (outcome, latency) = match self {
            Self::Dead => (Outcome::Refused, quick),
            Self::BlackHole => (Outcome::Timeout, call.timeout),
            Self::Slow => (Outcome::Ok, call.timeout * 9 / 10),
            Self::Flaps(period) if (call.now.as_nanos() / period.as_nanos()).is_multiple_of(2) => {
                (Outcome::Reset, quick)
            }
            Self::Grey if rng.below(2) == 0 => (Outcome::ServerError, quick),
            Self::Serves | Self::Flaps(_) | Self::Grey => (Outcome::Ok, quick),
            Self::Broken => (Outcome::ServerError, quick),
            Self::Throttles(retry_after) => (Outcome::Throttled { retry_after }, quick),
            Self::Revoked => (Outcome::Auth, quick),
            Self::Replica => (Outcome::WrongRole, quick),
            Self::Baffled => (Outcome::ClientError, quick),
            Self::Warns => (Outcome::Degraded, quick),
        };
        Observation::new(outcome, latency)
    }
}

/// The circumstances of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// The moment it starts, in the world's time.
    pub(crate) now: Duration,
    /// Its deadline.
    pub(crate) timeout: Duration,
    /// Whether our own network is cut.
    pub(crate) cut: bool,
}

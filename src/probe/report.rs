//! What an attempt found, and how long each part of it took.

use std::net::SocketAddr;
use std::time::Duration;

use crate::core::outcome::Observation;

/// How long each part of an attempt took; a part is absent when it was not completed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Phases {
    /// Name to address; absent for an IP literal.
    pub resolve: Option<Duration>,
    /// Address to TCP connection.
    pub connect: Option<Duration>,
    /// TCP connection to finished TLS handshake.
    pub tls: Option<Duration>,
    /// Ready connection to the first byte of the answer.
    pub first_byte: Option<Duration>,
    /// Start to verdict.
    pub total: Duration,
}

/// How much of a service may still be used, as far as it said.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Quota {
    /// How much there is in one period.
    pub limit: Option<u64>,
    /// How much of it is left.
    pub remaining: Option<u64>,
    /// When the period ends.
    pub resets_in: Option<Duration>,
}

/// What one attempt found. Free of secrets, `Debug` included.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// The outcome, for the engine.
    pub observation: Observation,
    /// Where the time went.
    pub phases: Phases,
    /// The address tried; absent when no name was resolved or none is needed.
    pub address: Option<SocketAddr>,
    /// How long the server's certificate is still valid; zero when it has ended, absent when
    /// none was seen.
    pub certificate_expires_in: Option<Duration>,
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// What the server said about a quota or a rate limit, if anything.
    pub quota: Option<Quota>,
}

//! Numbers that nobody can guess, for those who must not be able to answer for others.

use rustls::crypto::ring::default_provider;

use crate::probe::finding::{Finding, Step};

/// Fresh bytes of the system's generator.
pub(super) fn bytes<const N: usize>() -> Step<[u8; N]> {
    let mut bytes = [0; N];
    let filled = default_provider().secure_random.fill(&mut bytes);
    filled.map_err(|_failed| Finding::local("no random numbers"))?;
    Ok(bytes)
}

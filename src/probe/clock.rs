//! The time of day, for what others date: certificates and tokens. Nothing else here may ask.

use std::time::Duration;

use rustls::pki_types::UnixTime;

/// Since 1970, by the same clock that certificates are verified with.
pub(super) fn since_1970() -> Duration {
    Duration::from_secs(UnixTime::now().as_secs())
}

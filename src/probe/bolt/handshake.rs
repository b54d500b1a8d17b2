//! The handshake: which version of Bolt is spoken.
//!
//! | answer | means |
//! |---|---|
//! | `00 00 minor major` | the version picked, of those offered |
//! | `00 00 01 FF`, ranges, capabilities | a manifest (5.7 on): we pick, and say so |
//! | `00 00 00 00` | none in common: the endpoint is of another age, not down |
//! | `HTTP` | a web server, or a proxy in front |
//! | anything else | something else |

use crate::probe::bolt::talk::Talk;
use crate::probe::finding::{Finding, Step};

/// What the official driver says first: the magic, then a manifest, 5.8 to 5.0, 4.4 to 4.2, and
/// 3.0, the best first.
pub(super) const GREETING: [u8; 20] = [
    0x60, 0x60, 0xB0, 0x17, 0x00, 0x00, 0x01, 0xFF, 0x00, 0x08, 0x08, 0x05, 0x00, 0x02, 0x04, 0x04,
    0x00, 0x00, 0x00, 0x03,
];

/// Ranges in a manifest. One for each major version would be a handful.
const RANGES_MAX: u64 = 32;

/// A version of Bolt that we speak.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Version {
    major: u8,
    minor: u8,
}

impl Version {
    /// Every version that we speak. 6.0 is offered by a manifest only; its messages are 5.8's.
    const SPOKEN: [Self; 14] = [
        Self::new(3, 0),
        Self::new(4, 2),
        Self::new(4, 3),
        Self::new(4, 4),
        Self::new(5, 0),
        Self::new(5, 1),
        Self::new(5, 2),
        Self::new(5, 3),
        Self::new(5, 4),
        Self::new(5, 5),
        Self::new(5, 6),
        Self::new(5, 7),
        Self::new(5, 8),
        Self::new(6, 0),
    ];

    pub(super) const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor }
    }

    /// Whether the credential has a message of its own.
    pub(super) fn has_logon(self) -> bool {
        self >= Self::new(5, 1)
    }

    /// Whether HELLO must name the driver.
    pub(super) fn names_the_driver(self) -> bool {
        self >= Self::new(5, 3)
    }

    /// Whether there are databases to choose from.
    pub(super) fn has_databases(self) -> bool {
        self >= Self::new(4, 0)
    }

    /// Whether results come all at once only.
    pub(super) fn pulls_all(self) -> bool {
        self < Self::new(4, 0)
    }

    /// Whether there is a ROUTE message.
    pub(super) fn has_route(self) -> bool {
        self >= Self::new(4, 3)
    }

    /// Whether ROUTE names the database in a map.
    pub(super) fn routes_with_extras(self) -> bool {
        self >= Self::new(4, 4)
    }

    fn offered(self) -> bool {
        Self::SPOKEN.contains(&self) && self < Self::new(6, 0)
    }
}

/// Agrees on a version.
pub(super) async fn negotiate(talk: &mut Talk<'_>) -> Step<Version> {
    talk.send(&GREETING).await?;
    let answer = talk.exact().await?;
    if answer == *b"HTTP" {
        return Err(Finding::protocol("answer is HTTP"));
    }
    match answer {
        [0, 0, 0, 0] => Err(none_in_common()),
        [0, 0, 1, 0xFF] => pick(talk).await,
        [0, 0, _, 0xFF] => Err(Finding::protocol("answer is a manifest of an unknown version")),
        [0, 0, minor, major] if Version::new(major, minor).offered() => {
            Ok(Version::new(major, minor))
        }
        [0, 0, _, 0..10] => Err(Finding::protocol("answer picks a version that was not offered")),
        [0x15 | 0x16, 0x03, ..] => {
            Err(Finding::protocol("answer is TLS, and plain text was asked"))
        }
        _ => Err(Finding::protocol("answer is not Bolt")),
    }
}

/// Reads a manifest, takes the best version of it, and says so.
async fn pick(talk: &mut Talk<'_>) -> Step<Version> {
    let ranges = varint(talk).await?;
    if ranges > RANGES_MAX {
        return Err(Finding::protocol("manifest is too long"));
    }
    let mut best = None;
    for _ in 0..ranges {
        let [_, below, minor, major] = talk.exact().await?;
        best = best.max(best_within(major, minor, below));
    }
    let _capabilities = varint(talk).await?;
    let version = best.ok_or_else(none_in_common)?;
    // Of the capabilities, none.
    talk.send(&[0, 0, version.minor, version.major, 0]).await?;
    Ok(version)
}

fn best_within(major: u8, minor: u8, below: u8) -> Option<Version> {
    let minors = minor.saturating_sub(below)..=minor;
    let within = |version: &&Version| version.major == major && minors.contains(&version.minor);
    Version::SPOKEN.iter().filter(within).max().copied()
}

/// Seven bits a byte, the lowest first.
async fn varint(talk: &mut Talk<'_>) -> Step<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = talk.exact().await?;
        value |= u64::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Finding::protocol("manifest is malformed"))
}

fn none_in_common() -> Finding {
    Finding::misconfigured("no version of Bolt in common")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_version_of_a_range_is_taken() {
        assert_eq!(best_within(5, 8, 8), Some(Version::new(5, 8)));
        assert_eq!(best_within(5, 12, 12), Some(Version::new(5, 8)));
        assert_eq!(best_within(5, 12, 2), None);
        assert_eq!(best_within(4, 1, 1), None);
        assert_eq!(best_within(4, 4, 255), Some(Version::new(4, 4)));
        assert_eq!(best_within(6, 0, 0), Some(Version::new(6, 0)));
        assert_eq!(best_within(255, 255, 255), None);
    }

    #[test]
    fn what_a_version_can_do_is_known() {
        let abilities = |major, minor| {
            let version = Version::new(major, minor);
            let logon = version.has_logon();
            (logon, version.names_the_driver(), version.has_route(), version.routes_with_extras())
        };
        assert_eq!(abilities(3, 0), (false, false, false, false));
        assert_eq!(abilities(4, 2), (false, false, false, false));
        assert_eq!(abilities(4, 3), (false, false, true, false));
        assert_eq!(abilities(4, 4), (false, false, true, true));
        assert_eq!(abilities(5, 0), (false, false, true, true));
        assert_eq!(abilities(5, 1), (true, false, true, true));
        assert_eq!(abilities(5, 3), (true, true, true, true));
        assert_eq!(abilities(5, 8), (true, true, true, true));
    }

    #[test]
    fn only_what_was_offered_can_be_picked() {
        let offered = |major, minor| Version::new(major, minor).offered();
        assert!(offered(3, 0) && offered(4, 2) && offered(4, 4) && offered(5, 0) && offered(5, 8));
        assert!(!offered(1, 0) && !offered(4, 1) && !offered(5, 9) && !offered(6, 0));
    }
}

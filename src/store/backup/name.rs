//! The name of a backup: when, at which revision, and of what state.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

/// What every name begins with.
pub(super) const BEGIN: &str = "mcp-failover-";

const END: &str = ".backup";

/// A name such as `mcp-failover-20251123T121320000Z-r42-1a2b3c4d.backup`; names sort by time.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name {
    /// Milliseconds since 1970; later than that of any backup that was there before.
    pub stamp_ms: u64,
    /// The revision.
    pub revision: u64,
    /// Checksum of what the backup is made for: equal ones need no second backup.
    pub facts: u32,
}

/// The text is no name of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("read a name of a backup")]
pub struct ParseNameError;

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.stamp_ms).unwrap_or(i64::MAX);
        let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
        let stamp = format!("{at:.3}").replace(['-', ':', '.'], "");
        let Self { revision, facts, .. } = self;
        write!(f, "{BEGIN}{stamp}-r{revision}-{facts:08x}{END}")
    }
}

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        // Whatever is not exactly what we would write is somebody else's.
        parse(text).filter(|name| name.to_string() == text).ok_or(ParseNameError)
    }
}

fn parse(text: &str) -> Option<Name> {
    let inner = text.strip_prefix(BEGIN)?.strip_suffix(END)?;
    let mut parts = inner.split('-');
    let (stamp, revision, facts) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Name {
        stamp_ms: stamped(stamp)?,
        revision: revision.strip_prefix('r')?.parse().ok()?,
        facts: u32::from_str_radix(facts, 16).ok()?,
    })
}

/// Milliseconds since 1970 of `20251123T121320123Z`.
fn stamped(stamp: &str) -> Option<u64> {
    let mut rest = stamp;
    let mut spread = String::with_capacity(24);
    for (length, mark) in [(4, "-"), (2, "-"), (5, ":"), (2, ":"), (2, ".")] {
        let (part, left) = rest.split_at_checked(length)?;
        spread.push_str(part);
        spread.push_str(mark);
        rest = left;
    }
    spread.push_str(rest);
    let at: Timestamp = spread.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_as_it_was_written() {
        let name = Name { stamp_ms: 1_763_900_000_123, revision: 42, facts: 0x1a2b };
        let text = name.to_string();
        assert_eq!(text, "mcp-failover-20251123T121320123Z-r42-00001a2b.backup");
        assert_eq!(text.parse(), Ok(name));
    }

    #[test]
    fn names_sort_by_time() {
        let text = |ms| Name { stamp_ms: ms, revision: u64::MAX - ms, facts: 0 }.to_string();
        let times = [0, 999, 1_000, 999_999_999_999, 1_000_000_000_000, 4_102_444_800_000];
        let names: Vec<_> = times.into_iter().map(text).collect();
        assert!(names.is_sorted(), "{names:?}");
    }

    #[test]
    fn the_names_of_others_are_not_ours() {
        let ours = "mcp-failover-20251123T121320123Z-r42-00001a2b.backup";
        assert!(ours.parse::<Name>().is_ok());
        for other in [
            "",
            "latest",
            "backup.tar",
            "mcp-failover-20251123T121320123Z-r42-00001a2b.backup.old",
            "mcp-failover-20251123T121320123Z-r042-00001a2b.backup",
            "mcp-failover-20251123T121320123Z-r42-1a2b.backup",
            "mcp-failover-20251323T121320123Z-r42-00001a2b.backup",
            "mcp-failover-20251123T121320Z-r42-00001a2b.backup",
            "../mcp-failover-20251123T121320123Z-r42-00001a2b.backup",
            "mcp-failover-2025\u{661}123T121320123Z-r42-00001a2b.backup",
        ] {
            assert!(other.parse::<Name>().is_err(), "{other}");
        }
    }
}

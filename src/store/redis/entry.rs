//! A decision as an entry of the stream.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::core::record::HistoryRecord;
use crate::store::history;

/// The id of an entry: the revision of the decision, and which one of that revision it is. So
/// writing a decision twice is refused by the stream itself.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Id {
    /// The revision.
    pub revision: u64,
    /// Its place among the decisions of this revision.
    pub place: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.revision, self.place)
    }
}

/// A text that is not the id of an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ParseIdError;

impl FromStr for Id {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let (revision, place) = text.split_once('-').ok_or(ParseIdError)?;
        let number = |text: &str| text.parse().ok().ok_or(ParseIdError);
        Ok(Self { revision: number(revision)?, place: number(place)? })
    }
}

/// A decision, as it lies in the history on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Its id.
    pub id: Id,
    /// The line, without its line break.
    pub line: Vec<u8>,
}

/// The decisions in lines of the history, with their ids, oldest first. What does not verify is
/// passed over. Where lines may be missing before the first one, decisions of its revision are left
/// out, for their places cannot be known.
#[must_use]
pub fn entries(lines: &[u8], whole: bool) -> Vec<Entry> {
    // By revision, and in the order of the lines within one.
    let mut known: BTreeMap<(u64, usize), &[u8]> = BTreeMap::new();
    for (at, line) in lines.split(|byte| *byte == b'\n').enumerate() {
        if let Some((_, revision, _)) = history::parse(line) {
            known.insert((revision, at), line);
        }
    }
    let first = known.first_key_value().map(|((revision, _), _)| *revision).filter(|_| !whole);
    let mut before: Option<Id> = None;
    let mut found = Vec::with_capacity(known.len());
    for ((revision, _), line) in known {
        let place = match before {
            Some(id) if id.revision == revision => id.place + 1,
            _ => 0,
        };
        let id = Id { revision, place };
        before = Some(id);
        // Zero is no revision of a decision, and no id of a stream.
        if first != Some(revision) && revision > 0 {
            found.push(Entry { id, line: line.to_vec() });
        }
    }
    found
}

/// The fields of an entry: what follows its id.
pub(super) const FIELDS: [&str; 7] = ["at_ms", "service", "kind", "from", "to", "record", "crc"];

impl Entry {
    /// The values of [`FIELDS`]; `None` for a line that makes no sense.
    pub(super) fn values(&self) -> Option<[Vec<u8>; 7]> {
        let (at_ms, _, json) = history::parse(&self.line)?;
        let crc = self.line.split(|byte| *byte == b' ').next()?;
        let record: HistoryRecord = serde_json::from_slice(json).ok()?;
        let decision = record.decision;
        let name = |name: Option<&crate::core::id::EndpointName>| {
            name.map_or_else(Vec::new, |name| name.as_str().as_bytes().to_vec())
        };
        Some([
            at_ms.to_string().into_bytes(),
            decision.service.as_str().as_bytes().to_vec(),
            decision.kind.label().as_bytes().to_vec(),
            name(decision.from.as_ref()),
            name(decision.to.as_ref()),
            json.to_vec(),
            crc.to_vec(),
        ])
    }
}

/// The line that an entry was made from; `None` when it does not verify.
pub(super) fn line(id: Id, fields: &[(&[u8], &[u8])]) -> Option<Vec<u8>> {
    let field = |wanted: &str| {
        fields.iter().find(|(name, _)| *name == wanted.as_bytes()).map(|(_, value)| *value)
    };
    let (at_ms, record, crc) = (field("at_ms")?, field("record")?, field("crc")?);
    let mut line = Vec::with_capacity(record.len() + 64);
    line.extend_from_slice(crc);
    line.push(b' ');
    line.extend_from_slice(at_ms);
    line.extend(format!(" {} ", id.revision).bytes());
    line.extend_from_slice(record);
    let sound = !line.contains(&b'\n') && history::verifies(&line);
    sound.then_some(line)
}

#[cfg(test)]
mod tests {
    use crate::core::action::{Decision, MoveKind};
    use crate::core::id::{EndpointName, Revision, ServiceName};

    use super::*;

    fn history(revisions: &[u64]) -> Vec<u8> {
        let line = |revision: &u64| {
            let decision = Decision {
                revision: Revision::new(*revision),
                service: ServiceName::new("search"),
                from: None,
                to: Some(EndpointName::new("backup")),
                kind: MoveKind::Failover,
                cause: "it is down".to_owned(),
                evidence: Vec::new(),
            };
            let record = HistoryRecord { schema: 1, at: "2025-11-23".to_owned(), decision };
            history::line(&record, 1_763_900_000_000).unwrap()
        };
        revisions.iter().map(line).collect::<String>().into_bytes()
    }

    fn ids(entries: &[Entry]) -> Vec<String> {
        entries.iter().map(|entry| entry.id.to_string()).collect()
    }

    #[test]
    fn decisions_of_one_revision_have_places_of_their_own() {
        let lines = history(&[3, 5, 5, 5, 9]);
        assert_eq!(ids(&entries(&lines, true)), ["3-0", "5-0", "5-1", "5-2", "9-0"]);
        assert_eq!(ids(&entries(&lines, false)), ["5-0", "5-1", "5-2", "9-0"]);
        assert!(entries(&history(&[5, 5]), false).is_empty());
        assert!(entries(b"", true).is_empty() && entries(b"junk\n\n", true).is_empty());
    }

    #[test]
    fn an_entry_gives_its_line_back_and_a_changed_one_none() {
        let lines = history(&[7]);
        let [entry] = entries(&lines, true).try_into().unwrap();
        let values = entry.values().unwrap();
        let mut fields: Vec<(&[u8], &[u8])> =
            FIELDS.iter().map(|name| name.as_bytes()).zip(values.iter().map(|v| &**v)).collect();
        assert_eq!(line(entry.id, &fields), Some(entry.line.clone()));
        assert_eq!(line(Id { revision: 8, place: 0 }, &fields), None, "of another revision");
        fields[5].1 = b"{}";
        assert_eq!(line(entry.id, &fields), None);
        fields.truncate(3);
        assert_eq!(line(entry.id, &fields), None);
    }

    #[test]
    fn ids_sort_as_the_stream_sorts_them() {
        let id = |text: &str| text.parse::<Id>().unwrap();
        assert!(id("9-1") < id("10-0") && id("9-0") < id("9-1"));
        assert!(
            ["", "9", "9-", "-1", "a-0", "1-2-3"].iter().all(|text| text.parse::<Id>().is_err())
        );
    }
}

//! One JSON object, every value a string.
//!
//! Merged into, it keeps the members of others in their order and their values byte for byte;
//! the layout between members is ours.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::output::OutputError;
use crate::output::env_file::merge::names;
use crate::output::env_file::seal::CHECKSUM;
use crate::output::env_file::{Assignments, REVISION, Variables, escape};
use crate::policy::model::EnvFormat;
use crate::policy::secret::Secret;

pub(super) const MANAGES: &str = "MCP_FAILOVER_KEYS";

/// Adds everything but the last member to `text`.
pub(super) fn compose(
    text: &mut Vec<u8>,
    variables: &Variables,
    foreign: Option<&[u8]>,
) -> Result<(), OutputError> {
    text.extend_from_slice(b"{\n");
    let Some(foreign) = foreign else {
        return add(text, &variables.0, &BTreeSet::new());
    };
    let members = members(foreign)?;
    let managed = managed(&members);
    let mut written = BTreeSet::new();
    for (name, value) in &members {
        let ours = matches!(name.as_str(), REVISION | MANAGES | CHECKSUM);
        match variables.get(name) {
            _ if ours => {}
            Some(value) => {
                if written.insert(name.as_str()) {
                    let line = escape::line(EnvFormat::Json, name, value.expose())?;
                    text.extend_from_slice(line.as_bytes());
                }
            }
            None if managed.contains(name) => {}
            None => {
                let line = format!("  {}: {},\n", escape::json(name), value.get());
                text.extend_from_slice(line.as_bytes());
            }
        }
    }
    // The list stands before the revision, so that the next merge finds every member in place.
    let (revision, rest) = variables.0.split_last().unzip();
    add(text, rest.unwrap_or_default(), &written)?;
    let keys = escape::line(EnvFormat::Json, MANAGES, &names(variables))?;
    text.extend_from_slice(keys.as_bytes());
    add(text, revision.map_or(&[], std::slice::from_ref), &written)
}

fn add(
    text: &mut Vec<u8>,
    variables: &[(String, Secret)],
    written: &BTreeSet<&str>,
) -> Result<(), OutputError> {
    let missing = variables.iter().filter(|(name, _)| !written.contains(name.as_str()));
    for (name, value) in missing {
        text.extend_from_slice(escape::line(EnvFormat::Json, name, value.expose())?.as_bytes());
    }
    Ok(())
}

fn managed(members: &[(String, &RawValue)]) -> BTreeSet<String> {
    let list = members.iter().find(|(name, _)| name == MANAGES);
    let list = list.and_then(|(_, raw)| serde_json::from_str::<String>(raw.get()).ok());
    list.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

pub(super) fn assignments(text: &[u8]) -> Result<Assignments<'_>, OutputError> {
    let members = members(text)?;
    let managed = managed(&members);
    let all = members.into_iter().map(|(name, raw)| (name.into(), raw.get().as_bytes()));
    Ok(Assignments { all: all.collect(), managed })
}

fn members(text: &[u8]) -> Result<Vec<(String, &RawValue)>, OutputError> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    let members = reader.deserialize_map(Members).and_then(|members| {
        reader.end()?;
        Ok(members)
    });
    // The parser's message may quote the file, which holds secrets.
    members.ok().ok_or(OutputError::Foreign { why: "it is not a JSON object" })
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

//! The keys of the first prototype, for dashboards that read them. Best effort: they are written
//! after the rest, what becomes of that is not asked, and they are never read back.
//!
//! | Key | Holds | Expires |
//! |---|---|---|
//! | `mcp:state:SERVICE` | the state as JSON, with `timestamp` and `version` | after an hour |
//! | `mcp:failover:SERVICE:MILLISECONDS` | a move as JSON, with `currentEndpoint` | after 7 days |
//! | `mcp:current:SERVICE` | the name of the active endpoint | never |

use std::time::Duration;

use serde_json::{Value, json};

use crate::core::record::HistoryRecord;
use crate::store::history;
use crate::store::redis::entry::Entry;

/// How often the state is written again, before it expires.
pub const SEED_REFRESH: Duration = Duration::from_secs(15 * 60);

const HOUR: &str = "3600";
const WEEK: &str = "604800";

/// What is to be written under those keys.
#[derive(Clone, Copy, Debug)]
pub struct Seed<'a> {
    /// JSON for each service.
    pub services: &'a [(String, String)],
    /// Moves.
    pub entries: &'a [Entry],
    /// The time of day, in milliseconds since 1970.
    pub now_ms: u64,
    /// Our revision.
    pub revision: u64,
}

impl Seed<'_> {
    /// The commands.
    #[must_use]
    pub fn commands(&self) -> Vec<Vec<Vec<u8>>> {
        let states = self.services.iter().flat_map(|(service, json)| self.state(service, json));
        let moves = self.entries.iter().filter_map(moved);
        states.chain(moves).collect()
    }

    fn state(&self, service: &str, text: &str) -> Vec<Vec<Vec<u8>>> {
        let mut state: Value = serde_json::from_str(text).unwrap_or_else(|_| json!({}));
        let active = state.get("active").and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Some(fields) = state.as_object_mut() {
            fields.insert("timestamp".to_owned(), self.now_ms.into());
            fields.insert("version".to_owned(), self.revision.to_string().into());
        }
        vec![
            words(&["SET", &format!("mcp:state:{service}"), &state.to_string(), "EX", HOUR]),
            words(&["SET", &format!("mcp:current:{service}"), &active]),
        ]
    }
}

fn moved(entry: &Entry) -> Option<Vec<Vec<u8>>> {
    let (at_ms, _, json) = history::parse(&entry.line)?;
    let HistoryRecord { decision, .. } = serde_json::from_slice(json).ok()?;
    let name =
        |name: Option<&crate::core::id::EndpointName>| name.map(|name| name.as_str().to_owned());
    let event = json!({
        "service": decision.service.as_str(),
        "previousEndpoint": name(decision.from.as_ref()),
        "currentEndpoint": name(decision.to.as_ref()),
        "kind": decision.kind.label(),
        "reason": decision.cause,
        "revision": decision.revision.get(),
        "timestamp": at_ms,
    });
    let key = format!("mcp:failover:{}:{at_ms}", decision.service);
    Some(words(&["SET", &key, &event.to_string(), "EX", WEEK]))
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_expires_and_where_a_service_is_does_not() {
        let services = [("search".to_owned(), r#"{"active":"backup"}"#.to_owned())];
        let seed = Seed { services: &services, entries: &[], now_ms: 5, revision: 7 };
        let lines: Vec<String> = seed
            .commands()
            .iter()
            .map(|words| {
                words.iter().map(|w| String::from_utf8_lossy(w)).collect::<Vec<_>>().join(" ")
            })
            .collect();
        let state = r#"{"active":"backup","timestamp":5,"version":"7"}"#;
        assert_eq!(lines[0], format!("SET mcp:state:search {state} EX 3600"));
        assert_eq!(lines[1], "SET mcp:current:search backup");
    }
}

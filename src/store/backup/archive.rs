//! The bytes of a backup.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::core::health::Health;
use crate::core::id::Revision;
use crate::core::ordered::Gather as _;
use crate::core::rules::Rules;
use crate::core::snapshot::{EndpointSnapshot, Snapshot, VERSION};
use crate::store::document::{decode, encode};
use crate::store::history;
use crate::store::slots::RESERVE;

const KIND: &str = "backup";

/// Largest backup, in bytes.
pub const LIMIT: usize = 32 * 1024 * 1024;

/// Most of the history that goes into a backup, in bytes: the newest records.
pub const HISTORY_BYTES: usize = 8 * 1024 * 1024;

/// Longest word of a first line: a digest fits.
const WORD: usize = 64;

/// What a backup is made from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The snapshot as the store keeps it.
    pub snapshot: Vec<u8>,
    /// When it was saved, in milliseconds since 1970.
    pub at_ms: u64,
    /// Lines of the history, oldest first, as the store keeps them.
    pub history: Vec<u8>,
    /// The name of the sidecar.
    pub sidecar: String,
    /// The digest of its policy, in hexadecimal.
    pub policy: String,
}

/// A backup whose every part verifies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backup {
    at_ms: u64,
    sidecar: String,
    policy: String,
    records: usize,
    snapshot: Snapshot,
    history: Vec<u8>,
    /// One fingerprint over all endpoints.
    seal: u64,
    facts: u32,
}

impl Backup {
    /// Makes a backup.
    ///
    /// # Errors
    /// In words, when the snapshot makes no sense: what cannot be read back is no backup.
    pub fn new(parts: Parts) -> Result<Self, String> {
        let snapshot = read_snapshot(&parts.snapshot)?;
        let seal = seal(endpoints_of(&snapshot));
        let records = count(&parts.history).ok_or("the history does not verify")?;
        Ok(Self {
            at_ms: parts.at_ms,
            sidecar: plain(&parts.sidecar),
            policy: plain(&parts.policy),
            records,
            snapshot: without_identities(snapshot),
            history: parts.history,
            seal,
            facts: 0,
        }
        .weighed())
    }

    /// When its snapshot was saved, in milliseconds since 1970.
    #[must_use]
    pub const fn at_ms(&self) -> u64 {
        self.at_ms
    }

    /// Who made it, as far as its name is plain letters.
    #[must_use]
    pub fn sidecar(&self) -> &str {
        &self.sidecar
    }

    /// Digest of the policy in force then.
    #[must_use]
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Records of the history in it.
    #[must_use]
    pub const fn records(&self) -> usize {
        self.records
    }

    /// The revision.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.snapshot.revision
    }

    /// The snapshot without the endpoints' fingerprints: fit to be shown.
    #[must_use]
    pub const fn shown(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The history, as the store keeps it.
    pub(super) fn history(&self) -> &[u8] {
        &self.history
    }

    /// The snapshot for a start under these rules.
    ///
    /// Endpoints get their fingerprints back when all are what they were; else what is known of
    /// breakers and health is not taken up, for it may be true of other addresses or credentials.
    /// Where services are, pins, pauses and drains are taken up in any case.
    #[must_use]
    pub fn snapshot(&self, rules: &Rules) -> Snapshot {
        let now: BTreeMap<(&str, &str), u64> = rules
            .services
            .iter()
            .flat_map(|(service, rules)| {
                let name = service.as_str();
                rules.endpoints.iter().map(move |one| ((name, one.name.as_str()), one.identity))
            })
            .gather_map();
        let mut snapshot = self.snapshot.clone();
        if seal(now.iter().map(|((service, endpoint), identity)| (*service, *endpoint, *identity)))
            != self.seal
        {
            return snapshot;
        }
        for (service, kept) in &mut snapshot.services {
            for (endpoint, kept) in &mut kept.endpoints {
                kept.identity =
                    now.get(&(service.as_str(), endpoint.as_str())).copied().unwrap_or_default();
            }
        }
        snapshot
    }

    /// Checksum of what a backup is made for: where services are, what people ordered, what is
    /// broken, and the latest decision. Counts and ages change all the time and are not in it.
    #[must_use]
    pub const fn facts(&self) -> u32 {
        self.facts
    }

    fn weighed(mut self) -> Self {
        let mut hash = crc32fast::Hasher::new();
        let facts = serde_json::to_vec(&essence(self.snapshot.clone())).unwrap_or_default();
        hash.update(&facts);
        // A revision alone is no change: each start raises it, and a restore leaps over many.
        hash.update(&(self.revision().get() / (RESERVE / 2)).to_le_bytes());
        hash.update(&self.seal.to_le_bytes());
        hash.update(self.policy.as_bytes());
        let newest = self.history.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
        hash.update(newest.unwrap_or_default());
        self.facts = hash.finalize();
        self
    }

    /// The bytes.
    ///
    /// # Errors
    /// In words, when they would be more than [`LIMIT`].
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        let mut body = serde_json::to_vec(&self.snapshot).map_err(|error| error.to_string())?;
        let fields = [
            ("revision", self.revision().to_string()),
            ("at", self.at_ms.to_string()),
            ("sidecar", self.sidecar.clone()),
            ("policy", self.policy.clone()),
            ("seal", format!("{:016x}", self.seal)),
            ("records", self.records.to_string()),
        ];
        body.push(b'\n');
        body.extend_from_slice(&self.history);
        let bytes = encode(KIND, &fields, &body);
        if LIMIT < bytes.len() {
            return Err(format!("{} bytes are more than the {LIMIT} of a backup", bytes.len()));
        }
        Ok(bytes)
    }

    /// Reads a backup.
    ///
    /// # Errors
    /// In words after "it", when it does not verify, is not ours, or a newer program wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (head, body) = decode(KIND, bytes).map_err(|damage| damage.why())?;
        let line = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if bytes.len() != line + body.len() {
            return Err("goes on after its end".to_owned());
        }
        let end = body.iter().position(|byte| *byte == b'\n').ok_or("has no history")?;
        let (json, history) = body.split_at(end);
        let history = history.get(1..).unwrap_or_default().to_vec();
        let snapshot = read_snapshot(json)?;
        let records = count(&history).ok_or("has a history that does not verify")?;
        let word = |name| head.word(name).unwrap_or_default().to_owned();
        let told = (head.number("revision"), head.number("records"));
        if told != (Some(snapshot.revision.get()), u64::try_from(records).ok()) {
            return Err("does not hold what its first line says".to_owned());
        }
        Ok(Self {
            at_ms: head.number("at").ok_or("does not say when it was made")?,
            sidecar: word("sidecar"),
            policy: word("policy"),
            records,
            seal: u64::from_str_radix(&word("seal"), 16).unwrap_or_default(),
            snapshot,
            history,
            facts: 0,
        }
        .weighed())
    }
}

fn read_snapshot(json: &[u8]) -> Result<Snapshot, String> {
    // Why it cannot be read would quote it.
    let snapshot: Option<Snapshot> = serde_json::from_slice(json).ok();
    let snapshot = snapshot.ok_or("has a snapshot that makes no sense")?;
    if VERSION < snapshot.version {
        let version = snapshot.version;
        return Err(format!("has a snapshot of format {version}, written by a newer mcp-failover"));
    }
    Ok(snapshot)
}

/// Lines of a history; `None` when one does not verify.
fn count(history: &[u8]) -> Option<usize> {
    let mut lines = history.split(|byte| *byte == b'\n').collect::<Vec<_>>();
    let rest = lines.pop();
    (rest == Some(&[]) && lines.iter().all(|line| history::verifies(line))).then_some(lines.len())
}

fn endpoints_of(snapshot: &Snapshot) -> impl Iterator<Item = (&str, &str, u64)> {
    snapshot.services.iter().flat_map(|(service, kept)| {
        let name = service.as_str();
        kept.endpoints.iter().map(move |(one, kept)| (name, one.as_str(), kept.identity))
    })
}

/// One number over all endpoints and what they are.
fn seal<'a>(endpoints: impl Iterator<Item = (&'a str, &'a str, u64)>) -> u64 {
    let mut hash = Sha256::new_with_prefix(b"mcp-failover backup");
    for (service, endpoint, identity) in endpoints {
        hash.update(service.as_bytes());
        hash.update([0]);
        hash.update(endpoint.as_bytes());
        hash.update([0]);
        hash.update(identity.to_le_bytes());
    }
    hash.finalize().iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

fn without_identities(mut snapshot: Snapshot) -> Snapshot {
    for endpoint in snapshot.services.values_mut().flat_map(|kept| kept.endpoints.values_mut()) {
        endpoint.identity = 0;
    }
    snapshot
}

/// The snapshot without what changes while nothing happens.
fn essence(mut snapshot: Snapshot) -> Snapshot {
    snapshot.revision = Revision::default();
    for service in snapshot.services.values_mut() {
        service.active_for = None;
        service.moves.clear();
        if let Some(pin) = &mut service.pin {
            pin.left = pin.left.map(|_| std::time::Duration::ZERO);
        }
        service.endpoints.values_mut().for_each(settle);
    }
    snapshot
}

fn settle(endpoint: &mut EndpointSnapshot) {
    let down = endpoint.shallow.base == Health::Unhealthy;
    let (drained, rolled_back) = (endpoint.drained, endpoint.rolled_back);
    let (forced, trips) = (endpoint.breaker.forced, endpoint.breaker.trips.min(1));
    *endpoint = EndpointSnapshot { drained, rolled_back, ..EndpointSnapshot::default() };
    (endpoint.breaker.forced, endpoint.breaker.trips) = (forced, trips);
    if down {
        endpoint.shallow.base = Health::Unhealthy;
    }
}

/// A word for a first line: letters, digits and little else.
fn plain(text: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    text.chars().take(WORD).map(fit).collect()
}

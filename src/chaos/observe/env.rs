//! A reader of the env file that never rests: about a thousand looks a second.
//!
//! It trusts nothing: every new content must end with its own checksum, must not be of a lower
//! revision than the one before, must not differ from what the same revision was before, and must
//! hold the address and the key of the one endpoint that it names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::chaos::lab::{SEAL, URL};
use crate::chaos::observe::{Notebook, Written};
use crate::core::id::{EndpointName, Revision, ServiceName};
use crate::core::ordered::Gather as _;
use crate::output::verify;
use crate::policy::model::Policy;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(1);

/// What a file may say, by the policy.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The variable with the endpoint's name.
    variable: String,
    /// The variables of each endpoint.
    endpoints: BTreeMap<EndpointName, BTreeMap<String, String>>,
}

/// What the client needs of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Published {
    pub(super) endpoint: EndpointName,
    pub(super) url: String,
    pub(super) key: String,
}

impl Expected {
    /// What the files of this policy may say of a service.
    #[must_use]
    pub fn of(policy: &Policy, service: &ServiceName) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let upper: String = service.as_str().chars().map(plain).collect();
        let endpoints = policy.services.get(service).map(|service| Arc::clone(&service.endpoints));
        // Nothing in a lab is a secret: its variables have values of its own.
        let env = |env: &BTreeMap<String, crate::policy::secret::Secret>| {
            env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).gather_map()
        };
        let endpoints = endpoints.iter().flat_map(|map| map.iter());
        let endpoints = endpoints.map(|(name, endpoint)| (name.clone(), env(&endpoint.env)));
        Self {
            variable: format!("MCP_FAILOVER_{upper}_ENDPOINT"),
            endpoints: endpoints.gather_map(),
        }
    }

    /// The revision and the endpoint that a content names, or why nobody can use it.
    ///
    /// # Errors
    /// When it is torn, edited, or mixes endpoints.
    pub fn read(&self, bytes: &[u8]) -> Result<(Revision, Option<EndpointName>), &'static str> {
        let verified = verify(bytes).map_err(|_torn| "it does not end with its checksum")?;
        if !verified.checksum_ok {
            return Err("its checksum is not that of its bytes");
        }
        let text = std::str::from_utf8(bytes).map_err(|_odd| "it is not text")?;
        let found = variables(text);
        let Some(name) = found.get(&*self.variable).copied().filter(|name| !name.is_empty()) else {
            return Ok((verified.revision, None));
        };
        let Some((name, wanted)) = self.endpoints.get_key_value(name) else {
            return Err("it names an endpoint that there is not");
        };
        let whole = wanted.iter().filter(|(_, value)| simple(value));
        let mut whole = whole.map(|(key, value)| found.get(&**key) == Some(&&**value));
        if whole.all(|same| same) {
            Ok((verified.revision, Some(name.clone())))
        } else {
            Err("it holds variables of another endpoint than it names")
        }
    }

    /// What a client takes from a content.
    pub(super) fn published(&self, text: &str) -> Option<Published> {
        let found = variables(text);
        Some(Published {
            endpoint: EndpointName::new(found.get(&*self.variable)?),
            url: (*found.get(URL)?).to_owned(),
            key: (*found.get(SEAL)?).to_owned(),
        })
    }
}

/// The variables of a file whose values need no escape.
fn variables(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name, value.trim_matches(['"', '\'']))).gather_map()
}

/// Whether a value stands in the file as it is.
fn simple(value: &str) -> bool {
    value.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:".contains(c))
}

/// A running reader; stops when dropped.
#[derive(Debug)]
pub struct EnvReader {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EnvReader {
    /// Starts to read a file.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(path: PathBuf, expected: Expected, notes: Notebook) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let reading = Reading { expected, notes, last: Vec::new(), contents: BTreeMap::new() };
        let thread = thread::Builder::new().name("env-reader".into());
        let thread = thread.spawn(move || reading.run(&path, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for EnvReader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been told by the panic hook.
            drop(thread.join());
        }
    }
}

struct Reading {
    expected: Expected,
    notes: Notebook,
    last: Vec<u8>,
    /// What each revision was when it was first seen.
    contents: BTreeMap<Revision, Vec<u8>>,
}

impl Reading {
    fn run(mut self, path: &Path, stopped: &AtomicBool) {
        while !stopped.load(Ordering::Relaxed) {
            self.look(path);
            thread::sleep(LOOK);
        }
    }

    fn look(&mut self, path: &Path) {
        let read = fs::read(path);
        // After the look: whoever read an older file began before this.
        let now = self.notes.now();
        let Ok(bytes) = read else {
            // Before the first revision there is none.
            if !self.last.is_empty() {
                self.notes.with(|log| log.note_bad(now, "there is no file"));
            }
            return;
        };
        if bytes == self.last {
            self.notes.with(|log| log.reads += 1);
            return;
        }
        let judged = self.judge(&bytes);
        self.last = bytes;
        self.notes.with(|log| {
            log.reads += 1;
            match judged {
                Ok((revision, active)) => log.files.push(Written { at: now, revision, active }),
                Err(why) => log.note_bad(now, why),
            }
        });
    }

    fn judge(&mut self, bytes: &[u8]) -> Result<(Revision, Option<EndpointName>), &'static str> {
        let (revision, active) = self.expected.read(bytes)?;
        let known = self.contents.entry(revision).or_insert_with(|| bytes.to_vec());
        if known != bytes {
            return Err("one revision with two contents");
        }
        if self.contents.last_key_value().is_some_and(|(latest, _)| *latest > revision) {
            return Err("the revision went back");
        }
        Ok((revision, active))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::chaos::lab::Book;
    use crate::policy::model::Digest;

    fn expected() -> Expected {
        let book = Book::built_in().expect("our own policy");
        let part = book.services.into_iter().next().expect("a service").part.expect("playable");
        let places: Vec<SocketAddr> =
            ["127.0.0.1:1", "127.0.0.2:2"].map(|one| one.parse().expect("an address")).into();
        let staged = part.stage(&places, Path::new("/nonexistent")).expect("a policy");
        Expected::of(&staged.policy, &part.name)
    }

    /// A file as the sidecar would end it.
    fn sealed(body: &str, revision: u32) -> String {
        let digest = Digest(Sha256::digest(body.as_bytes()).into());
        format!("{body}# mcp-failover revision={revision} sha256={digest}\n")
    }

    fn body(url: &str, seal: &str, endpoint: &str) -> String {
        format!("LAB_SEAL={seal}\nLAB_URL={url}\nMCP_FAILOVER_SEARCH_ENDPOINT={endpoint}\n")
    }

    #[test]
    fn a_whole_file_of_one_endpoint_is_read() {
        let text = sealed(&body("http://127.0.0.1:1", "seal-of-primary", "primary"), 7);
        let read = expected().read(text.as_bytes()).expect("a whole file");
        assert_eq!(read, (Revision::new(7), Some(EndpointName::new("primary"))));
        let published = expected().published(&text).expect("what a client needs");
        assert_eq!(published.url, "http://127.0.0.1:1");
        assert_eq!(published.key, "seal-of-primary");
    }

    #[test]
    fn host_and_key_of_two_endpoints_are_refused_however_well_they_are_sealed() {
        let mixed = sealed(&body("http://127.0.0.1:1", "seal-of-secondary", "primary"), 7);
        expected().read(mixed.as_bytes()).expect_err("mixed");
        let unknown = sealed(&body("http://127.0.0.1:1", "seal-of-primary", "third"), 7);
        expected().read(unknown.as_bytes()).expect_err("unknown");
    }

    #[test]
    fn no_part_of_a_file_is_taken_for_a_whole_one() {
        let text = sealed(&body("http://127.0.0.1:1", "seal-of-primary", "primary"), 7);
        let whole = text.trim_end().len();
        for length in 0..whole {
            let part = text.as_bytes().get(..length).expect("a part");
            assert!(expected().read(part).is_err(), "{length} bytes of {whole}");
        }
        let edited = text.replace("127.0.0.1:1", "127.0.0.1:9");
        expected().read(edited.as_bytes()).expect_err("edited");
    }
}

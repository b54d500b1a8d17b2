//! Fingerprints that tell one configuration from another without revealing it.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::policy::interpolate::Value;
use crate::policy::model::{BackupPlace, Content, Digest, Endpoint, File, Output, Policy, Probe};

/// Gathers what is to be hashed: formatting writes many small pieces, and hashing each of them
/// costs more than hashing them together.
#[derive(Default)]
struct Feed(Zeroizing<Vec<u8>>);

impl Write for Feed {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl Feed {
    /// Adds one part; its length keeps neighbours apart.
    fn part(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&bytes.len().to_le_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// Adds the debug form of something without secrets, which it names completely.
    fn shape(&mut self, shape: &dyn Debug) {
        // Hashing cannot fail; the error type is that of the trait.
        let _never: Result<(), std::fmt::Error> = write!(self, "{shape:?}");
        self.0.push(0);
    }

    fn probe(&mut self, probe: &Probe) {
        self.shape(&probe);
        probe.check.secrets(&mut |secret| self.part(secret.expose().as_bytes()));
    }

    fn endpoint(&mut self, endpoint: &Endpoint) {
        self.part(endpoint.name.as_str().as_bytes());
        self.shape(&endpoint.url);
        for (name, value) in &endpoint.env {
            self.part(name.as_bytes());
            self.part(value.expose().as_bytes());
        }
        self.probe(&endpoint.probe);
        endpoint.deep_probe.iter().for_each(|probe| self.probe(probe));
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::digest(&*self.0).into()
    }

    fn short(&self) -> u64 {
        self.digest().iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
    }
}

/// The fingerprint of some parts.
pub(super) fn of<'a, I: IntoIterator<Item = &'a [u8]>>(parts: I) -> u64 {
    let mut feed = Feed::default();
    parts.into_iter().for_each(|part| feed.part(part));
    feed.short()
}

/// The fingerprint of an endpoint's address, credential and probes.
pub(super) fn identity(endpoint: &Endpoint, address: &str) -> u64 {
    let mut feed = Feed::default();
    feed.part(address.as_bytes());
    feed.endpoint(endpoint);
    feed.short()
}

/// The fingerprint of everything that an attempt depends on.
pub(super) fn of_probe(probe: &Probe) -> u64 {
    let mut feed = Feed::default();
    feed.probe(probe);
    feed.short()
}

/// The fingerprint of variables and whatever else is named.
pub(super) fn of_values<'a>(values: impl IntoIterator<Item = (&'a String, &'a Value)>) -> u64 {
    let values: BTreeMap<_, _> = values.into_iter().collect();
    let mut feed = Feed::default();
    for (name, value) in values {
        feed.part(name.as_bytes());
        feed.part(value.expose().as_bytes());
    }
    feed.short()
}

/// The digest of the whole policy, secrets included.
pub(super) fn digest(policy: &Policy) -> Digest {
    let mut feed = Feed::default();
    feed.shape(&(&policy.sidecar, &policy.admin, &policy.control, &policy.rules));
    for (name, service) in &policy.services {
        feed.part(name.as_str().as_bytes());
        feed.shape(&service.preset);
        service.endpoints.values().for_each(|endpoint| feed.endpoint(endpoint));
    }
    feed.shape(&policy.references.interval);
    for reference in &policy.references.targets {
        feed.part(reference.name.as_bytes());
        feed.probe(&reference.probe);
    }
    feed.shape(&(&policy.outputs, &policy.child, &policy.alerts, &policy.secret_files));
    for output in &policy.outputs {
        match output {
            Output::Proxy(proxy) => {
                let headers = proxy.headers.values().flatten();
                headers.for_each(|(_, value)| feed.part(value.expose().as_bytes()));
            }
            Output::File(File { content: Content::Template(template), .. }) => {
                feed.part(template.text.expose().as_bytes());
            }
            Output::File(_) | Output::Socket(_) => {}
        }
    }
    for alert in &policy.alerts {
        feed.part(alert.url.expose().as_bytes());
        alert.headers.iter().for_each(|(_, value)| feed.part(value.expose().as_bytes()));
    }
    if let Some(backup) = &policy.backup {
        feed.shape(backup);
        if let BackupPlace::Bucket(bucket) = &backup.to {
            let token = bucket.session_token.iter();
            let secrets = [&bucket.access_key, &bucket.secret_key].into_iter().chain(token);
            secrets.for_each(|secret| feed.part(secret.expose().as_bytes()));
        }
    }
    if let Some(redis) = &policy.redis {
        feed.shape(redis);
        for secret in redis.login.iter().flat_map(|login| [&login.username, &login.password]) {
            feed.part(secret.expose().as_bytes());
        }
    }
    Digest(feed.digest())
}

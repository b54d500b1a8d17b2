//! The compiled policy: what the rest of the sidecar works from.
//!
//! Every value in here has been checked by `policy::compile`; nobody downstream validates again.

mod backup;
mod output;
mod probe;
mod redis;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::core::id::{EndpointName, ServiceName};
use crate::core::rules::Rules;
use crate::policy::secret::Secret;

pub use backup::*;
pub use output::*;
pub use probe::*;
pub use redis::*;

/// A SHA-256 digest, printed as lower-case hexadecimal.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The whole policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Digest of the canonical form, secrets included: equal digests need no reload.
    pub digest: Digest,
    /// Who we are and where our state lives.
    pub sidecar: Sidecar,
    /// The read-only HTTP surface.
    pub admin: Admin,
    /// The operators' socket.
    pub control: Control,
    /// What the engine decides by.
    pub rules: Arc<Rules>,
    /// Who is asked whether we are cut off ourselves.
    pub references: References,
    /// The services by name.
    pub services: BTreeMap<ServiceName, Service>,
    /// Where the active configuration goes, in the order of the file.
    pub outputs: Vec<Output>,
    /// How the MCP server that the sidecar starts itself follows a switch.
    pub child: Child,
    /// Who is told of events.
    pub alerts: Vec<Alert>,
    /// Where copies of state and history go; `None` without one.
    pub backup: Option<Arc<Backup>>,
    /// The Redis server that is told the state and every decision; `None` without one.
    pub redis: Option<Arc<Redis>>,
    /// Every file the policy reads a secret from; a change of one is a reload.
    pub secret_files: Vec<PathBuf>,
}

/// Targets that have nothing to do with any service: when none of them answers, it is us.
#[derive(Clone, Debug, Default)]
pub struct References {
    /// The targets, in the order of the file; empty when the policy names none.
    pub targets: Vec<Reference>,
    /// Gap between two rounds while nothing is suspected.
    pub interval: Duration,
}

/// One reference target.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Its address as written, without user info and query: for display only.
    pub name: Arc<str>,
    /// How it is asked; whatever answers, in whatever way, proves that we are not cut off.
    pub probe: Arc<Probe>,
}

/// Who we are and where our state lives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sidecar {
    /// Shown in status and alerts.
    pub name: String,
    /// Where state is kept; already defaulted.
    pub state_dir: PathBuf,
}

/// The read-only HTTP surface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admin {
    /// Where to listen; `None` when switched off.
    pub listen: Option<SocketAddr>,
    /// Values of `Host` accepted besides the loopback names and `listen` itself.
    pub allowed_hosts: Vec<String>,
}

/// The operators' socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Control {
    /// Its path; created with mode 0600.
    pub socket: PathBuf,
}

/// One logical upstream.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// The preset it was made from.
    pub preset: Option<String>,
    /// Its endpoints by name; the order of preference is in [`Rules`].
    pub endpoints: Arc<BTreeMap<EndpointName, Endpoint>>,
}

/// Where the calls to an endpoint go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    /// The scheme of its address, in lower case.
    pub scheme: &'static str,
    /// Host and port.
    pub target: Target,
    /// TLS, when the scheme asks for it.
    pub tls: Option<Trust>,
    /// Path and query before the caller's own; empty without one. May hold a secret.
    pub path: Secret,
}

/// One address and credential.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its name.
    pub name: EndpointName,
    /// Its address as written, without user info and query: for display only.
    pub url: Option<String>,
    /// Where calls go, when it has an address.
    pub upstream: Option<Upstream>,
    /// What is published when it is active.
    pub env: BTreeMap<String, Secret>,
    /// The frequent, cheap check.
    pub probe: Arc<Probe>,
    /// The rarer, dearer one.
    pub deep_probe: Option<Arc<Probe>>,
}

/// Who is told of events.
#[derive(Clone, Debug)]
pub struct Alert {
    /// The alert's name in status, metrics and logs.
    pub name: String,
    /// Where to; may hold a secret.
    pub url: Secret,
    /// Request headers.
    pub headers: Vec<(String, Secret)>,
    /// Which events; all that alert by default when empty.
    pub events: Vec<String>,
    /// Deadline of one delivery.
    pub timeout: Duration,
}

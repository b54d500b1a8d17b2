//! The compiled policy: what the rest of the sidecar works from.
//!
//! Every value in here has been checked by `policy::compile`; nobody downstream validates again.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::core::id::{EndpointName, ServiceName};
use crate::core::rules::Rules;
use crate::policy::secret::Secret;

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
    /// The services by name.
    pub services: BTreeMap<ServiceName, Service>,
    /// Where the active configuration goes, in the order of the file.
    pub outputs: Vec<Output>,
    /// Who is told of events.
    pub alerts: Vec<Alert>,
    /// Every file the policy reads a secret from; a change of one is a reload.
    pub secret_files: Vec<PathBuf>,
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
    pub endpoints: BTreeMap<EndpointName, Endpoint>,
}

/// One address and credential.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its name.
    pub name: EndpointName,
    /// Its address as written, without user info and query: for display only.
    pub url: Option<String>,
    /// What is published when it is active.
    pub env: BTreeMap<String, Secret>,
    /// The frequent, cheap check.
    pub probe: Arc<Probe>,
    /// The rarer, dearer one.
    pub deep_probe: Option<Arc<Probe>>,
}

/// A configured check of one endpoint.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Deadline of one attempt.
    pub timeout: Duration,
    /// What to do.
    pub check: Check,
}

/// What a probe does.
#[derive(Clone, Debug)]
pub enum Check {
    /// One HTTP request with assertions on the answer.
    Http(Box<HttpCheck>),
    /// A TCP connection.
    Tcp(TcpCheck),
    /// A TLS handshake.
    Tls(TlsCheck),
    /// A command; exit code 0 is a pass.
    Exec(ExecCheck),
}

impl Check {
    /// The probe kind's name in the policy and in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Tcp(_) => "tcp",
            Self::Tls(_) => "tls",
            Self::Exec(_) => "exec",
        }
    }
}

/// Where to connect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// A name or an IP literal without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How TLS is verified. Verification itself cannot be switched off.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsOptions {
    /// The name asked for and verified, when it is not the host.
    pub server_name: Option<String>,
    /// Roots to trust instead of the platform's: PEM text.
    pub ca_pem: Option<String>,
    /// A certificate that ends sooner than this makes a pass `degraded`.
    pub expiry_warning: Duration,
}

/// One HTTP request with assertions on the answer.
#[derive(Clone, Debug)]
pub struct HttpCheck {
    /// Where to connect.
    pub target: Target,
    /// TLS, when the scheme is `https`.
    pub tls: Option<TlsOptions>,
    /// The request method, in upper case.
    pub method: String,
    /// Path and query; may hold a secret.
    pub path: Secret,
    /// Request headers beyond `Host`, `User-Agent` and `Accept`.
    pub headers: Vec<(String, Secret)>,
    /// Request body.
    pub body: Option<Secret>,
    /// What the answer must be.
    pub expect: HttpExpect,
}

/// What an HTTP answer must be.
#[derive(Clone, Debug, Default)]
pub struct HttpExpect {
    /// Accepted statuses, as inclusive ranges; never empty.
    pub status: Vec<(u16, u16)>,
    /// Statuses that mean something other than their class says.
    pub outcomes: BTreeMap<u16, MappedOutcome>,
    /// Headers that must be present, and what each must contain (empty: anything).
    pub headers: BTreeMap<String, String>,
    /// Texts that the body must contain.
    pub body_contains: Vec<String>,
    /// Texts that it must not contain.
    pub body_excludes: Vec<String>,
    /// A pattern that it must match.
    pub body_matches: Option<regex_lite::Regex>,
    /// JSON pointers (RFC 6901) and the value that each must have; `None`: it must exist.
    pub json: BTreeMap<String, Option<serde_json::Value>>,
    /// Whether a GraphQL `errors` member fails the check.
    pub graphql: bool,
    /// An answer slower than this is `degraded`.
    pub slow: Option<Duration>,
}

/// What a status is mapped to by the policy or a preset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MappedOutcome {
    /// A pass.
    Ok,
    /// A pass with a warning.
    Degraded,
    /// A failure.
    ServerError,
    /// Slow down, or a quota used up.
    Throttled,
    /// Credential refused.
    Auth,
    /// The request is wrong.
    ClientError,
    /// Not in the wanted role.
    WrongRole,
}

/// A TCP connection.
#[derive(Clone, Debug)]
pub struct TcpCheck {
    /// Where to connect.
    pub target: Target,
    /// Bytes to send once connected.
    pub send: Option<Secret>,
    /// Bytes that the answer must contain.
    pub expect: Option<String>,
}

/// A TLS handshake.
#[derive(Clone, Debug)]
pub struct TlsCheck {
    /// Where to connect.
    pub target: Target,
    /// How to verify.
    pub tls: TlsOptions,
}

/// A command; exit code 0 is a pass.
#[derive(Clone, Debug)]
pub struct ExecCheck {
    /// Program and arguments; never a shell line. The endpoint's `env` is set for it.
    pub argv: Vec<String>,
    /// Environment of the command, besides `PATH`.
    pub env: BTreeMap<String, Secret>,
}

/// Where the active configuration goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// A file of variables.
    EnvFile(EnvFile),
}

impl Output {
    /// The output's name in status, metrics and logs.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::EnvFile(file) => &file.name,
        }
    }
}

/// A file of variables.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EnvFile {
    /// The output's name: as given, else `env_file:` and the path.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// How it is escaped.
    pub format: EnvFormat,
    /// Whether foreign lines are kept.
    pub mode: EnvMode,
    /// Permission bits.
    pub permissions: u32,
    /// Owner and group by number, when they are to be set.
    pub owner: (Option<u32>, Option<u32>),
    /// The services written to it; all when empty.
    pub services: Vec<ServiceName>,
    /// What to do when it changed.
    pub on_change: Vec<Hook>,
}

/// How an env file is escaped.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EnvFormat {
    /// For dotenv readers: python-dotenv, node's dotenv.
    #[default]
    Dotenv,
    /// For `docker run --env-file`.
    Docker,
    /// For systemd's `EnvironmentFile=`.
    Systemd,
    /// For `. file` in a POSIX shell; exported.
    Shell,
    /// One JSON object.
    Json,
}

/// Whether foreign lines of an env file are kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EnvMode {
    /// The file is ours.
    #[default]
    Own,
    /// Only our variables are ours.
    Merge,
}

/// What to do when an output changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hook {
    /// The effect.
    pub run: HookRun,
    /// How long it may take.
    pub timeout: Duration,
    /// Changes closer together than this run it once. A failover never waits for it.
    pub debounce: Duration,
}

/// A hook's effect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HookRun {
    /// Signal the process whose number stands in a file.
    SignalPidFile {
        /// Signal number.
        signal: i32,
        /// The file.
        pid_file: PathBuf,
    },
    /// Signal every process of this name.
    SignalProcess {
        /// Signal number.
        signal: i32,
        /// The process name, as in `/proc/PID/comm` or the base name of its first argument.
        process: String,
    },
    /// Run a command; never a shell line.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
    },
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

//! Where the active configuration goes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::core::id::{EndpointName, ServiceName};
use crate::policy::model::TlsOptions;
use crate::policy::secret::Secret;

/// Where the active configuration goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// A file.
    File(File),
    /// A unix socket that servers ask.
    Socket(ConfigSocket),
    /// A local address that never changes.
    Proxy(Box<Proxy>),
}

impl Output {
    /// The output's name in status, metrics and logs.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::File(file) => &file.name,
            Self::Socket(socket) => &socket.name,
            Self::Proxy(proxy) => &proxy.name,
        }
    }

    /// Whether it chooses an endpoint for each call, as strategies other than `priority` need.
    #[must_use]
    pub fn balances(&self, service: &ServiceName) -> bool {
        match self {
            Self::File(_) => false,
            Self::Socket(socket) => socket.services.is_empty() || socket.services.contains(service),
            Self::Proxy(proxy) => proxy.service == *service,
        }
    }
}

/// A file that holds what is active.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File {
    /// The output's name: as given, else its type and the path.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What stands in it.
    pub content: Content,
    /// Permission bits.
    pub permissions: u32,
    /// Owner and group by number, when they are to be set.
    pub owner: (Option<u32>, Option<u32>),
    /// The services written to it; all when empty.
    pub services: Vec<ServiceName>,
    /// What must find a new file good before it takes the old one's place.
    pub check: Option<FileCheck>,
    /// What to do when it changed.
    pub on_change: Vec<Hook>,
    /// Who reads it when it starts.
    pub reader: Option<Reader>,
    /// What is expected of the reader.
    pub uptake: Option<Uptake>,
}

impl File {
    /// Whether nobody else is meant to write in it.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        match &self.content {
            Content::Env(env) => matches!(env.mode, EnvMode::Own),
            Content::Template(_) => true,
        }
    }

    /// Whether it speaks of a service.
    #[must_use]
    pub fn wants(&self, service: &ServiceName) -> bool {
        self.services.is_empty() || self.services.contains(service)
    }
}

/// What stands in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// Variables.
    Env(Env),
    /// Whatever its template says.
    Template(Template),
}

/// Variables, one a line or member.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Env {
    /// How they are escaped.
    pub format: EnvFormat,
    /// Whether foreign lines are kept.
    pub mode: EnvMode,
}

/// A text with places to fill in; it can be filled in for every endpoint of the policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    /// The text. It may hold a credential that its author wrote into it.
    pub text: Secret,
    /// How a value is written into it.
    pub quoting: Quoting,
}

/// How a value is written into a template's text.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Quoting {
    /// As it is.
    #[default]
    Plain,
    /// As a whole JSON value, quotes included.
    Json,
    /// As a whole YAML value, quotes included.
    Yaml,
    /// As a whole TOML value, quotes included.
    Toml,
}

/// A command that looks at a file before it takes the old one's place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileCheck {
    /// Program and arguments; [`FileCheck::STAGED`] stands for the path of the new file.
    pub argv: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

impl FileCheck {
    /// Stands for the path of the new file.
    pub const STAGED: &'static str = "{staged}";
}

/// A unix socket that servers ask.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigSocket {
    /// The output's name: as given, else `socket:` and the path.
    pub name: String,
    /// The socket.
    pub path: PathBuf,
    /// Permission bits.
    pub permissions: u32,
    /// Owner and group by number, when they are to be set.
    pub owner: (Option<u32>, Option<u32>),
    /// The services it speaks of; all when empty.
    pub services: Vec<ServiceName>,
    /// Who may connect besides root and the sidecar's own user.
    pub allow: Peers,
    /// Whether the variables themselves are sent, and not only names and addresses.
    pub expose_env: bool,
    /// Connections at a time.
    pub max_clients: usize,
    /// What is expected of the clients.
    pub uptake: Option<Uptake>,
}

/// What is expected of whoever reads an output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Uptake {
    /// How long after a decision it may use what it used before.
    pub timeout: Duration,
    /// Whether the service moves back then, besides people being told.
    pub roll_back: bool,
}

/// The process that reads a file when it starts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reader {
    /// The one whose number stands in a file.
    PidFile(PathBuf),
    /// The ones of this name, as in `/proc/PID/comm` or the base name of the first argument.
    Process(String),
}

/// Users and groups by number; everybody whom the socket's mode lets in when both are empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Peers {
    /// Users.
    pub uids: Vec<u32>,
    /// Groups.
    pub gids: Vec<u32>,
}

/// A local address that never changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proxy {
    /// The output's name: as given, else `proxy:` and the address.
    pub name: String,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The service behind it.
    pub service: ServiceName,
    /// What it speaks.
    pub mode: ProxyMode,
    /// How the upstream's certificate is verified, where its scheme asks for TLS.
    pub tls: TlsOptions,
    /// Request headers set for each endpoint, in place of the client's own.
    pub headers: BTreeMap<EndpointName, Vec<(String, Secret)>>,
    /// How long a connection to an upstream may take.
    pub connect_timeout: Duration,
    /// How long an upstream may take to begin its answer.
    pub first_byte_timeout: Duration,
    /// How long a connection may be silent.
    pub idle_timeout: Duration,
    /// How long old connections may live on after a planned switch.
    pub drain: Duration,
    /// Connections, or requests, at a time.
    pub max_connections: usize,
    /// When a request is tried again on another endpoint.
    pub retry: ProxyRetry,
}

impl Proxy {
    /// Whether it can go on as `other` without a break: what it speaks, and whom it is for others,
    /// must stay.
    #[must_use]
    pub fn becomes(&self, other: &Self) -> bool {
        match (&self.mode, &other.mode) {
            (ProxyMode::Http, ProxyMode::Http) | (ProxyMode::Tcp, ProxyMode::Tcp) => true,
            (ProxyMode::Connect(old), ProxyMode::Connect(new)) => {
                (&old.ca_file, &old.ca_key_file) == (&new.ca_file, &new.ca_key_file)
            }
            (ProxyMode::Http | ProxyMode::Tcp | ProxyMode::Connect(_), _) => false,
        }
    }
}

/// What a proxy speaks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProxyMode {
    /// HTTP, request by request.
    Http,
    /// Bytes: Bolt, Redis, `PostgreSQL`.
    Tcp,
    /// CONNECT, for servers with hard-coded hosts.
    Connect(Intercept),
}

/// Which hosts a CONNECT proxy opens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Intercept {
    /// The hosts opened with a certificate of the local authority.
    pub hosts: Vec<String>,
    /// Where the authority's certificate is written; its key is not.
    pub ca_file: PathBuf,
    /// Where the authority's key is kept over a restart, if it is to be kept at all.
    pub ca_key_file: Option<PathBuf>,
    /// Whether other hosts are passed through untouched, rather than refused.
    pub passthrough: bool,
}

/// When a request is tried again on another endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProxyRetry {
    /// Attempts of one request at most; 1 never tries again.
    pub attempts: u32,
    /// Statuses that are tried again, where that is safe.
    pub statuses: Vec<u16>,
    /// Retries allowed in per mille of the requests.
    pub budget_permille: u32,
    /// Retries a second that are always allowed.
    pub budget_min: u32,
}

/// How the MCP server that the sidecar starts itself follows a switch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Child {
    /// What a switch does to it.
    pub on_switch: OnSwitch,
    /// What it speaks on its standard streams.
    pub stdio: ChildStdio,
    /// How long a new one may take to answer.
    pub start_timeout: Duration,
    /// From SIGTERM to SIGKILL.
    pub stop_timeout: Duration,
    /// How long the old one may finish what it holds.
    pub drain_timeout: Duration,
    /// First wait before a crashed one is started again.
    pub backoff: Duration,
    /// Longest such wait.
    pub backoff_max: Duration,
    /// Whether it keeps state between calls: it is then replaced only while nothing is in flight.
    pub stateful: bool,
    /// Tools that may be called again after a crash, besides those that say so themselves.
    pub retry_tools: Vec<String>,
    /// Bytes of one message.
    pub message_max: usize,
    /// The services whose variables it gets; all when empty.
    pub services: Vec<ServiceName>,
    /// What is expected of it.
    pub uptake: Uptake,
}

impl Default for Child {
    fn default() -> Self {
        Self {
            on_switch: OnSwitch::Warm,
            stdio: ChildStdio::Auto,
            start_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_millis(1_500),
            drain_timeout: Duration::from_secs(60),
            backoff: Duration::from_millis(250),
            backoff_max: Duration::from_secs(30),
            stateful: false,
            retry_tools: Vec::new(),
            message_max: 16 * 1024 * 1024,
            services: Vec::new(),
            uptake: Uptake { timeout: Duration::from_secs(60), roll_back: false },
        }
    }
}

/// What a switch does to the child.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnSwitch {
    /// A new one is started and proven before the old one goes. Cold where it speaks no MCP.
    Warm,
    /// The old one ends, then a new one starts.
    Restart,
    /// It is sent this signal.
    Signal(i32),
    /// Nothing.
    Nothing,
}

/// What the child speaks on its standard streams.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ChildStdio {
    /// MCP if our standard input is a pipe or a socket, as an MCP host gives it.
    #[default]
    Auto,
    /// MCP.
    Mcp,
    /// Something else, or nothing: its streams are those of the sidecar.
    Inherit,
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

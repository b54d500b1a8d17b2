//! The tables of outputs. The comments here become the descriptions in the JSON Schema.

use crate::policy::raw::Text;
use crate::policy::raw::macros::{choices, tables};
use crate::policy::raw::{
    At, Int, List, Map, Need, NonNegative, OneOrMany, Positive, Ratio, Status,
};

tables! {
    /// Where the active configuration goes.
    struct Output {
        /// What kind of output.
        r#type: Need<At<OutputKind>>,
        /// Its name in status, metrics and logs; the type and the path by default.
        name: Option<Text>,
        /// Env file, template: the file. socket: the socket.
        path: Option<Text>,
        /// Template: the file that holds it.
        source: Option<Text>,
        /// Template: the template itself, in place of `source`.
        text: Option<Text>,
        /// Template: how a value is written into it; by the ending of `path` by default: "json",
        /// "yaml" or "toml" as a whole value with its quotes, "plain" as it is.
        quoting: Option<At<Quoting>>,
        /// Env file: how values are escaped; "dotenv" by default.
        format: Option<At<Format>>,
        /// Env file, template, socket: permission bits as octal text; "0600" by default, "0660" for
        /// a socket. proxy: "http" (the default), "tcp" or "connect".
        mode: Option<Text>,
        /// Owner by number.
        uid: Option<Int<0, 4_294_967_294>>,
        /// Group by number.
        gid: Option<Int<0, 4_294_967_294>>,
        /// Env file: whether lines that are not ours are kept; false by default.
        merge: Option<At<bool>>,
        /// The services written to it; all by default. Not for proxy.
        services: Option<List<Text>>,
        /// Env file, template: program and arguments that must find a new file good before it takes the
        /// old one's place; "{staged}" stands for its path.
        check: Option<List<Text>>,
        /// Env file, template: how long `check` may take; "10s" by default.
        check_timeout: Option<Positive>,
        /// Env file, template: what to do when it changed.
        on_change: Option<OneOrMany<OnChange>>,
        /// Env file, template: the process that reads the file when it starts, so that its start proves
        /// that what was written before is in use.
        reader: Option<Reader>,
        /// Env file and template with `reader`, socket: how long after a decision its reader may use what
        /// it used before; unset, nobody is told.
        effective_timeout: Option<Positive>,
        /// What happens then; "alert" by default.
        on_ineffective: Option<At<OnIneffective>>,
        /// Socket: who may connect besides root and the sidecar's own user; by default all whom the mode lets in.
        allow: Option<Allow>,
        /// Socket: whether the variables themselves are sent; true by default.
        expose_env: Option<At<bool>>,
        /// Socket: connections at a time; 1024 by default.
        max_clients: Option<Int<1, 65_535>>,
        /// Proxy: IP address and port on which it listens.
        listen: Option<Text>,
        /// Proxy: the service behind it.
        service: Option<Text>,
        /// Proxy: request headers set in place of the client's own.
        headers: Option<Map<Text>>,
        /// Proxy: the name verified in the upstream's certificate, when it is not the host.
        server_name: Option<Text>,
        /// Proxy: PEM file of the roots to trust instead of the platform's.
        ca_file: Option<Text>,
        /// Proxy: how long a connection to an upstream may take; "2s" by default.
        connect_timeout: Option<Positive>,
        /// Proxy: how long an upstream may take to begin its answer; "60s" by default.
        first_byte_timeout: Option<Positive>,
        /// Proxy: how long a connection may be silent; "1h" by default.
        idle_timeout: Option<Positive>,
        /// Proxy: how long old connections may live on after a planned switch; "30s" by default.
        drain: Option<NonNegative>,
        /// Proxy: connections or requests at a time; 1024 by default.
        max_connections: Option<Int<1, 65_535>>,
        /// Proxy: when a request is tried again on another endpoint.
        retry: Option<Retry>,
        /// Proxy with mode "connect": which hosts are opened, and the local authority.
        intercept: Option<Intercept>,
    }

    /// A process, by one of the two.
    struct Reader {
        /// File with the number of the process.
        pid_file: Option<Text>,
        /// Name of the process.
        process: Option<Text>,
    }

    /// Who may connect to a socket.
    struct Allow {
        /// Users by number.
        uids: Option<List<Int<0, 4_294_967_294>>>,
        /// Groups by number.
        gids: Option<List<Int<0, 4_294_967_294>>>,
    }

    /// When a request is tried again on another endpoint.
    struct Retry {
        /// Attempts of one request at most; 2 by default, 1 never tries again.
        attempts: Option<Int<1, 10>>,
        /// Statuses that are tried again, where that is safe; 502, 503 and 504 by default.
        statuses: Option<OneOrMany<Status>>,
        /// Retries allowed as a part of the requests; 0.2 by default.
        budget: Option<Ratio<1000>>,
        /// Retries a second that are always allowed; 10 by default.
        budget_min: Option<Int<0, 10_000>>,
    }

    /// Which hosts a CONNECT proxy opens, and the local authority that it opens them with.
    struct Intercept {
        /// The hosts opened; the service's endpoints stand behind them.
        hosts: Option<List<Text>>,
        /// Where the authority's certificate is written, for `NODE_EXTRA_CA_CERTS` and `SSL_CERT_FILE`.
        ca_file: Option<Text>,
        /// Where the authority's key is kept over a restart; by default it is never written.
        ca_key_file: Option<Text>,
        /// Whether other hosts are passed through untouched; true by default.
        passthrough: Option<At<bool>>,
    }

    /// How the MCP server that the sidecar starts itself follows a switch.
    struct Child {
        /// What a switch does to it; "warm" by default.
        on_switch: Option<At<OnSwitch>>,
        /// The signal for `on_switch = "signal"`; "SIGHUP" by default.
        signal: Option<Text>,
        /// What it speaks on its standard streams; "auto" by default.
        stdio: Option<At<ChildStdio>>,
        /// How long a new one may take to answer; "30s" by default.
        start_timeout: Option<Positive>,
        /// From SIGTERM to SIGKILL; "1500ms" by default.
        stop_timeout: Option<Positive>,
        /// How long the old one may finish what it holds; "60s" by default.
        drain_timeout: Option<NonNegative>,
        /// First wait before a crashed one is started again; "250ms" by default.
        backoff: Option<Positive>,
        /// Longest such wait; "30s" by default.
        backoff_max: Option<Positive>,
        /// Whether it keeps state between calls: it is then replaced only while nothing is in flight; false by default.
        stateful: Option<At<bool>>,
        /// Tools that may be called again after a crash, besides those that say so themselves.
        retry_tools: Option<List<Text>>,
        /// MiB of one message at most; 16 by default.
        message_max: Option<Int<1, 1024>>,
        /// The services whose variables it gets; all by default.
        services: Option<List<Text>>,
        /// How long after a decision it may use what it used before; "60s" by default.
        effective_timeout: Option<Positive>,
        /// What happens then; "alert" by default.
        on_ineffective: Option<At<OnIneffective>>,
    }

    /// What to do when an output changed: a signal or a command.
    struct OnChange {
        /// Signal to send, such as "SIGHUP"; needs `pid_file` or `process`.
        signal: Option<Text>,
        /// File with the number of the process to signal.
        pid_file: Option<Text>,
        /// Name of the processes to signal.
        process: Option<Text>,
        /// Program and arguments to run, never a shell line.
        command: Option<List<Text>>,
        /// How long it may take; "10s" by default.
        timeout: Option<Positive>,
        /// Changes closer together than this run it once; "500ms" by default.
        debounce: Option<NonNegative>,
    }
}

choices! {
    /// A kind of output.
    enum OutputKind or UnknownValue {
        /// A file of variables.
        EnvFile = "env_file",
        /// Any text file, from a template.
        Template = "template",
        /// A unix socket that servers ask.
        Socket = "socket",
        /// A local address that never changes.
        Proxy = "proxy",
    }

    /// What a switch does to the child.
    enum OnSwitch or UnknownValue {
        /// A new one is started and proven before the old one goes.
        Warm = "warm",
        /// The old one ends, then a new one starts.
        Restart = "restart",
        /// It is sent a signal.
        Signal = "signal",
        /// Nothing.
        Nothing = "none",
    }

    /// What the child speaks on its standard streams.
    enum ChildStdio or UnknownValue {
        /// MCP if our standard input is a pipe or a socket, as an MCP host gives it.
        Auto = "auto",
        /// MCP.
        Mcp = "mcp",
        /// Something else, or nothing.
        Inherit = "inherit",
    }

    /// How a value is written into a template.
    enum Quoting or UnknownValue {
        /// As it is.
        Plain = "plain",
        /// As a whole JSON value.
        Json = "json",
        /// As a whole YAML value.
        Yaml = "yaml",
        /// As a whole TOML value.
        Toml = "toml",
    }

    /// What happens when a reader does not take up a move in time.
    enum OnIneffective or UnknownValue {
        /// People are told.
        Alert = "alert",
        /// And the service moves back, if that is possible.
        RollBack = "roll_back",
    }

    /// How an env file is escaped.
    enum Format or UnknownValue {
        /// For dotenv readers.
        Dotenv = "dotenv",
        /// For `docker run --env-file`.
        Docker = "docker",
        /// For systemd's `EnvironmentFile=`.
        Systemd = "systemd",
        /// For `. file` in a POSIX shell.
        Shell = "shell",
        /// One JSON object.
        Json = "json",
    }
}

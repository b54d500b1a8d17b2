//! The tables of outputs. The comments here become the descriptions in the JSON Schema.

use crate::policy::raw::macros::{choices, tables};
use crate::policy::raw::{At, Int, List, Need, NonNegative, OneOrMany, Positive, Text};

tables! {
    /// Where the active configuration goes.
    struct Output {
        /// What kind of output.
        r#type: Need<At<OutputKind>>,
        /// Its name in status, metrics and logs; the type and the path by default.
        name: Option<Text>,
        /// The file.
        path: Need<Text>,
        /// How values are escaped; "dotenv" by default.
        format: Option<At<Format>>,
        /// Permission bits as octal text; "0600" by default.
        mode: Option<Text>,
        /// Owner by number.
        uid: Option<Int<0, 4_294_967_294>>,
        /// Group by number.
        gid: Option<Int<0, 4_294_967_294>>,
        /// Whether lines that are not ours are kept; false by default.
        merge: Option<At<bool>>,
        /// The services written to it; all by default.
        services: Option<List<Text>>,
        /// What to do when it changed.
        on_change: Option<OneOrMany<OnChange>>,
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

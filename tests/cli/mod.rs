//! The command line, seen from outside: arguments and environment in, output and exit code out.

mod check;
mod control;
mod demo;
mod doctor;
mod help;
mod history;
mod init;
mod probe;
mod render;
mod run;
mod shell;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_mcp-failover");

/// A directory of its own to run commands in, and an environment with nothing in it.
#[derive(Debug)]
struct Place {
    dir: tempfile::TempDir,
    env: Vec<(String, String)>,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory"), env: Vec::new() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The same place with a variable set.
    fn with(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts a file into the place.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// The command, ready to be started here.
    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).current_dir(self.path()).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the command to its end.
    fn run(&self, args: &[&str]) -> Ran {
        Ran::from(self.command(args).output().expect("the binary starts"))
    }
}

/// What became of a command.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

impl Ran {
    /// Insists on an exit code.
    #[track_caller]
    fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// The JSON document on standard output.
    #[track_caller]
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A policy with one service, two endpoints at these addresses, and one env file.
fn policy(primary: &str, secondary: &str) -> String {
    format!(
        r#"version = 1
[sidecar]
state_dir = "state"
[control]
socket = "control.sock"
[services.search]
critical = true
[services.search.probe]
type = "http"
path = "/health"
timeout = "5s"
[[services.search.endpoints]]
name = "primary"
url = "http://{primary}"
priority = 0
env = {{ SEARCH_URL = "http://{primary}", SEARCH_KEY = "${{KEY:-canary-of-the-primary}}" }}
[[services.search.endpoints]]
name = "secondary"
url = "http://{secondary}"
priority = 1
env = {{ SEARCH_URL = "http://{secondary}", SEARCH_KEY = "${{KEY:-canary-of-the-secondary}}" }}
[[outputs]]
type = "env_file"
path = "out.env"
"#
    )
}

/// A policy whose endpoints nobody connects to.
fn quiet_policy() -> String {
    policy("192.0.2.1:80", "192.0.2.2:80")
}

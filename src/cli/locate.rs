//! Finds the policy and compiles it.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::terminal::Terminal;
use crate::policy::diagnostic::render_text;
use crate::policy::model::Policy;
use crate::policy::{Source, compile};
use crate::watch::{SystemLookup, read_once};

/// Where a policy is looked for when none is named, in this order.
const PLACES: [&str; 2] = ["failover.toml", "/etc/mcp-failover/failover.toml"];

/// Which policy.
#[derive(Args, Clone, Debug)]
pub(crate) struct PolicyArgs {
    /// The policy [default: ./failover.toml, else /etc/mcp-failover/failover.toml].
    #[arg(
        long = "policy",
        value_name = "FILE",
        env = "MCP_FAILOVER_POLICY",
        hide_env_values = true
    )]
    policy: Option<PathBuf>,
}

impl PolicyArgs {
    /// The file named, else the first default that exists.
    ///
    /// # Errors
    /// When none is named and none exists.
    pub(crate) fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = self.policy.as_ref().filter(|path| !path.as_os_str().is_empty()) {
            return Ok(path.clone());
        }
        let found = PLACES.iter().map(Path::new).find(|path| path.exists());
        found.map(Path::to_owned).ok_or(Failure::NoPolicy)
    }

    /// The control socket of the sidecar that runs on it, or that would run without any.
    ///
    /// # Errors
    /// When it cannot be read, or not so much as the socket can be made out.
    pub(crate) fn control_socket(&self) -> Result<PathBuf, Failure> {
        let (path, text) = match self.path() {
            Ok(path) => {
                let loaded = read_once(&path).map_err(Failure::ReadPolicy)?;
                (path, loaded.text)
            }
            Err(_) => (PathBuf::new(), "".into()),
        };
        let policy = homestead(&text).ok_or(Failure::NoSocket { path })?;
        Ok(policy.control.socket)
    }

    /// Compiles it, telling errors beside the answer; `check` tells warnings too.
    ///
    /// # Errors
    /// When there is none, or it is not valid.
    pub(crate) fn load(&self, terminal: Terminal) -> Result<Policy, Failure> {
        let path = self.path()?;
        let text = read_once(&path).map_err(Failure::ReadPolicy)?.text;
        let name = path.display().to_string();
        let source = Source { name: &name, text: &text };
        match compile(&source, &SystemLookup::new()) {
            Ok(compiled) => Ok(compiled.policy),
            Err(found) => {
                terminal.say(&render_text(&found.0, &source, terminal.error_colour()));
                Err(Failure::InvalidPolicy { path, errors: found.errors() })
            }
        }
    }
}

/// A policy that says no more than where the sidecar lives.
///
/// An operator's shell seldom has the variables that the sidecar has, and a policy that has just
/// been spoilt is no reason not to talk to the sidecar that still runs on the one before.
fn homestead(text: &str) -> Option<Policy> {
    let table: toml::Table =
        if text.is_empty() { toml::Table::new() } else { text.parse().ok()? };
    let word = |section: &str, key: &str| {
        let value = table.get(section)?.get(key)?.as_str()?;
        let value = serde_json::to_string(value).ok()?;
        Some(format!("[{section}]\n{key} = {value}\n"))
    };
    let state = word("sidecar", "state_dir").unwrap_or_default();
    let socket = word("control", "socket").unwrap_or_default();
    let text = format!(
        "version = 1\n{state}{socket}[services.any]\npreset = \"tcp\"\n\
         [[services.any.endpoints]]\nname = \"any\"\nurl = \"tcp://127.0.0.1:1\"\n"
    );
    let source = Source { name: "control", text: &text };
    compile(&source, &SystemLookup::new()).ok().map(|compiled| compiled.policy)
}

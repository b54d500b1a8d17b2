//! How the server is run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::FileTypeExt as _;
use std::time::Duration;

use crate::output::ActiveConfig;
use crate::output::child::session::SessionRules;
use crate::output::child::way;
use crate::output::door::Door;
use crate::output::env_file::endpoint_variable;
use crate::policy::model::{Child, ChildStdio};
use crate::policy::secret::Secret;

/// How long to wait for the first configuration before the server is started without.
pub const CONFIG_WAIT: Duration = Duration::from_secs(10);
/// A process that lived this long was well: the waits between starts begin anew.
pub(super) const STEADY: Duration = Duration::from_secs(30);

/// What is run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Command {
    /// The program.
    pub program: OsString,
    /// What it is given.
    pub arguments: Vec<OsString>,
}

impl Command {
    /// The command that words stand for; `None` without any.
    #[must_use]
    pub fn new(words: Vec<OsString>) -> Option<Self> {
        let mut words = words.into_iter();
        let program = words.next()?;
        Some(Self { program, arguments: words.collect() })
    }
}

/// Whether the server speaks MCP over its standard streams.
///
/// Left to us, it does when our standard input is a pipe or a socket, as an MCP host gives it. What
/// comes is not waited for: that would delay the start of a server whose client waits for it.
pub(super) fn speaks_mcp(stdio: ChildStdio) -> bool {
    match stdio {
        ChildStdio::Mcp => true,
        ChildStdio::Inherit => false,
        ChildStdio::Auto => std::fs::metadata("/proc/self/fd/0")
            .is_ok_and(|input| input.file_type().is_fifo() || input.file_type().is_socket()),
    }
}

/// By what its session is kept.
pub(super) fn session_rules(child: &Child) -> SessionRules {
    SessionRules {
        start_timeout: child.start_timeout,
        drain_timeout: child.drain_timeout,
        stateful: child.stateful,
        safe_tools: child.retry_tools.iter().cloned().collect(),
        ..SessionRules::default()
    }
}

/// What the server is to be started with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Given {
    /// What is active.
    pub config: ActiveConfig,
    /// The ways through proxies that a process must be told of.
    pub doors: Vec<Door>,
}

/// The variables that it gets of a configuration.
pub(super) fn variables(child: &Child, given: &Given) -> BTreeMap<String, Secret> {
    let mut variables = way::told(child, &given.doors);
    let config = &given.config;
    for (name, service) in &config.services {
        if !child.services.is_empty() && !child.services.contains(name) {
            continue;
        }
        variables.extend(service.env.iter().map(|(key, value)| (key.clone(), value.clone())));
        if let Some(endpoint) = &service.endpoint {
            variables.insert(endpoint_variable(name.as_str()), Secret::from(endpoint.as_str()));
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::{EndpointName, Revision, ServiceName};
    use crate::output::ActiveService;

    #[test]
    fn the_server_gets_the_variables_of_its_services_and_of_no_other() {
        let service = |endpoint: &str, key: &str| ActiveService {
            url: None,
            endpoint: Some(EndpointName::new(endpoint)),
            env: BTreeMap::from([(key.to_owned(), Secret::from("value"))]),
            moved: None,
        };
        let services = BTreeMap::from([
            (ServiceName::new("web-search"), service("backup", "SEARCH_KEY")),
            (ServiceName::new("graph"), service("primary", "GRAPH_KEY")),
        ]);
        let config = ActiveConfig { revision: Revision::new(3), services };
        let config = Given { config, doors: Vec::new() };
        let child = Child { services: vec![ServiceName::new("web-search")], ..Child::default() };
        let names: Vec<_> = variables(&child, &config).into_keys().collect();
        assert_eq!(names, ["MCP_FAILOVER_WEB_SEARCH_ENDPOINT", "SEARCH_KEY"]);
        assert_eq!(variables(&Child::default(), &config).len(), 4);
    }

    #[test]
    fn a_command_has_a_program() {
        assert_eq!(Command::new(Vec::new()), None);
        let words = ["server", "--flag"].map(OsString::from).to_vec();
        let wanted = Command { program: "server".into(), arguments: vec!["--flag".into()] };
        assert_eq!(Command::new(words), Some(wanted));
    }
}

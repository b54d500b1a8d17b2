//! What is wrong with a policy for a server: looks at both, and at the system around them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use crate::cli::doctor::files;
use crate::cli::doctor::finding::{Finding, Severity};
use crate::cli::doctor::modes::{Facts, Mode, NODE_WITH_PROXY, Works, depends_on_node, judge};
use crate::cli::doctor::servers::{Reach, Server};
use crate::cli::doctor::started::Started;
use crate::policy::model::{
    File, HookRun, Intercept, OnSwitch, Output, Policy, Proxy, ProxyMode, Service,
};

/// How long `node --version` may take.
const NODE_PATIENCE: Duration = Duration::from_secs(3);
/// The signal that servers die of.
const HANGUP: i32 = 1;

/// Everything that is wrong, the worst first.
pub(super) fn look(
    policy: &Policy,
    path: &Path,
    started: &Started,
    node: Option<u32>,
) -> Vec<Finding> {
    let mounts = files::mounts();
    let mut found: Vec<Finding> = files::policy(path, &mounts).into_iter().collect();
    found.extend(files::socket(&policy.control.socket));
    for output in &policy.outputs {
        match output {
            Output::File(file) => found.extend(files::output(file, &mounts)),
            Output::Socket(socket) => found.extend(files::socket(&socket.path)),
            Output::Proxy(proxy) => found.extend(intercept(proxy).and_then(files::authority)),
        }
    }
    if let Some(server) = started.server {
        found.extend(unread(policy, server));
        found.extend(hangup(policy, server));
        found.extend(routing_table(policy, server, started));
        found.extend(old_node(policy, server, node));
        found.extend(no_effect(policy, server, started, node));
    }
    found.sort_by_key(|finding| finding.severity);
    found
}

/// Whether any of it is an error.
pub(super) fn is_ill(found: &[Finding]) -> bool {
    found.iter().any(|finding| finding.severity == Severity::Error)
}

const fn intercept(proxy: &Proxy) -> Option<&Intercept> {
    match &proxy.mode {
        ProxyMode::Connect(intercept) => Some(intercept),
        ProxyMode::Http | ProxyMode::Tcp => None,
    }
}

/// What the policy calls the service of a server, as far as its preset tells.
pub(super) fn service_of<'a>(policy: &'a Policy, server: &Server) -> Option<&'a str> {
    let mut services = policy.services.values();
    let found = services.find(|one| one.preset.as_deref() == Some(server.preset));
    found.map(|service| service.name.as_str())
}

/// The services that are this server's, as far as their preset tells; else all that it is given.
fn services<'a>(policy: &'a Policy, server: &Server) -> Vec<&'a Service> {
    let given = &policy.child.services;
    let all = policy.services.values().filter(|one| given.is_empty() || given.contains(&one.name));
    let all: Vec<&Service> = all.collect();
    let is_its = |one: &&&Service| {
        one.preset.as_deref().is_some_and(|preset| preset.starts_with(server.preset))
    };
    let its: Vec<&Service> = all.iter().filter(is_its).copied().collect();
    if its.is_empty() { all } else { its }
}

/// Variables that are published and that the server does not read.
fn unread(policy: &Policy, server: &Server) -> Option<Finding> {
    let services = services(policy, server);
    let endpoints = services.iter().flat_map(|service| service.endpoints.values());
    let mut names: Vec<&str> =
        endpoints.flat_map(|endpoint| endpoint.env.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    // What only the sidecar's own proxies use is not meant for the server.
    let only_for_proxies = policy.child.on_switch == OnSwitch::Nothing
        && !policy.outputs.iter().any(|output| matches!(output, Output::File(_)));
    names.retain(|name| !server.reads(name));
    (!names.is_empty() && !only_for_proxies).then(|| {
        Finding::warning(
            "unread-variables",
            format!("{} does not read {}", server.name, names.join(", ")),
            &format!("it reads {}", server.variables.join(", ")),
        )
    })
}

/// SIGHUP for a server that dies of it.
fn hangup(policy: &Policy, server: &Server) -> Vec<Finding> {
    let hooks = policy.outputs.iter().filter_map(|output| match output {
        Output::File(file) => file.on_change.iter().any(hangs_up).then_some(file.name.as_str()),
        Output::Socket(_) | Output::Proxy(_) => None,
    });
    let child = matches!(policy.child.on_switch, OnSwitch::Signal(HANGUP)).then_some("[child]");
    let say = |place: &str| {
        Finding::error(
            "hangup-kills",
            format!("{place} sends SIGHUP, and {} dies of it", server.name),
            "start it with `run -- CMD` and on_switch = \"warm\", which replaces it",
        )
    };
    hooks.chain(child).map(say).collect()
}

const fn hangs_up(hook: &crate::policy::model::Hook) -> bool {
    match &hook.run {
        HookRun::SignalPidFile { signal, .. } | HookRun::SignalProcess { signal, .. } => {
            *signal == HANGUP
        }
        HookRun::Command { .. } => false,
    }
}

/// An address with a routing table, which leads past a proxy.
fn routing_table(policy: &Policy, server: &Server, started: &Started) -> Option<Finding> {
    let Reach::Bolt(variable) = server.reach else { return None };
    let proxied = policy.outputs.iter().find_map(|output| match output {
        Output::Proxy(proxy) if proxy.mode == ProxyMode::Tcp => Some(proxy),
        Output::File(_) | Output::Socket(_) | Output::Proxy(_) => None,
    })?;
    let routes = |value: &str| {
        value
            .split_once("://")
            .is_some_and(|(scheme, _)| scheme.to_ascii_lowercase().starts_with("neo4j"))
    };
    let is_address = |name: &str| matches!(name, "NEO4J_URI" | "NEO4J_URL");
    let in_command = started.env.iter().any(|(name, value)| is_address(name) && routes(value));
    let around = ["NEO4J_URI", "NEO4J_URL"];
    let around = around.iter().any(|name| std::env::var(name).is_ok_and(|value| routes(&value)));
    let service = policy.services.get(&proxied.service);
    let endpoints = service.into_iter().flat_map(|service| service.endpoints.values());
    let published = endpoints
        .flat_map(|endpoint| &endpoint.env)
        .any(|(name, value)| is_address(name) && routes(value.expose()));
    (in_command || around || published).then(|| {
        Finding::error(
            "routing-table",
            format!(
                "{} is given a neo4j:// address while {} stands before its database: the routing \
                 table leads past the proxy",
                server.name, proxied.name
            ),
            &format!("give it {variable}=bolt://{}", proxied.listen),
        )
    })
}

/// A Node that ignores the variables of a CONNECT proxy.
fn old_node(policy: &Policy, server: &Server, node: Option<u32>) -> Option<Finding> {
    let version = node.filter(|version| *version < NODE_WITH_PROXY)?;
    let connects = policy.outputs.iter().any(
        |output| matches!(output, Output::Proxy(proxy) if matches!(proxy.mode, ProxyMode::Connect(_))),
    );
    (connects && depends_on_node(Some(server))).then(|| {
        Finding::error(
            "node-too-old",
            format!(
                "Node {version} ignores NODE_USE_ENV_PROXY, so {} goes past the proxy",
                server.name
            ),
            &format!("run it with Node {NODE_WITH_PROXY} or later, or rely on `run -- CMD`"),
        )
    })
}

/// Nothing in the policy makes a switch effective for the server.
fn no_effect(
    policy: &Policy,
    server: &'static Server,
    started: &Started,
    node: Option<u32>,
) -> Option<Finding> {
    if server.reach == Reach::Nothing {
        return None;
    }
    let verdicts = judge(Facts { server: Some(server), node });
    let can = |mode: Mode| {
        verdicts.iter().any(|verdict| verdict.mode == mode && verdict.works != Works::No)
    };
    let replaced = started.ours && policy.child.on_switch != OnSwitch::Nothing;
    let written = |file: &File| file.on_change.iter().any(|hook| !hangs_up(hook));
    let serves = |output: &Output| match output {
        Output::File(file) => written(file) && can(Mode::EnvFile),
        Output::Socket(_) => can(Mode::Socket),
        Output::Proxy(proxy) => match proxy.mode {
            ProxyMode::Connect(_) => can(Mode::Connect) && (started.ours || is_told(started)),
            ProxyMode::Http | ProxyMode::Tcp => can(Mode::Proxy),
        },
    };
    (!replaced && !policy.outputs.iter().any(serves)).then(|| {
        Finding::error(
            "no-effect",
            format!("nothing in this policy makes a switch effective for {}", server.name),
            "start it as `mcp-failover run -- CMD`, or take the part of a policy shown above",
        )
    })
}

/// Whether somebody else tells the server of the proxy.
fn is_told(started: &Started) -> bool {
    let spelled = |name: &str| name.eq_ignore_ascii_case("HTTPS_PROXY");
    started.env.iter().any(|(name, _)| spelled(name))
        || std::env::vars_os().any(|(name, _)| name.to_str().is_some_and(spelled))
}

/// The major version of the Node that runs the server, where it matters.
pub(super) fn node_version(started: &Started) -> Option<u32> {
    let node = started.node.as_ref().filter(|_| depends_on_node(started.server))?;
    let mut command = Command::new(node);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let until = Instant::now() + NODE_PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => {
                // It may have ended in this very moment.
                child.kill().ok();
                child.wait().ok();
                return None;
            }
        }
    }
    let mut said = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(child.stdout.take()?, 64), &mut said)
        .ok()?;
    let said = String::from_utf8(said).ok()?;
    said.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

//! How a server is run, as arguments: what `[child]` says where there is a policy.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::core::id::ServiceName;
use crate::policy::duration;
use crate::policy::model::{Child, ChildStdio, OnSwitch};

/// What a switch does to the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Switched {
    /// A new process takes over the client's session before the old one goes.
    Warm,
    /// The old process goes first; the client's session is kept.
    Restart,
    /// The process is sent the signal of --signal.
    Signal,
    /// Nothing.
    None,
}

/// What the server speaks on its standard streams.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Speaks {
    /// MCP if our standard input is a pipe or a socket.
    Auto,
    /// MCP.
    Mcp,
    /// Something else, or nothing: it has our streams.
    Inherit,
}

/// How the server is run.
#[derive(Args, Debug)]
pub(crate) struct ServerArgs {
    /// What a switch does to the server.
    #[arg(long, value_name = "HOW", value_enum, default_value = "warm", help_heading = "Server")]
    on_switch: Switched,
    /// The signal that a switch sends with `--on-switch signal`.
    #[arg(long, value_name = "NAME", default_value = "SIGHUP", value_parser = signal, help_heading = "Server")]
    signal: i32,
    /// What the server speaks on its standard streams.
    #[arg(long, value_name = "WHAT", value_enum, default_value = "auto", help_heading = "Server")]
    stdio: Speaks,
    /// A service whose variables the server gets; may be repeated [default: all].
    #[arg(long = "service", value_name = "SERVICE", help_heading = "Server")]
    services: Vec<String>,
    /// A tool that may be called a second time when a process ends in the middle of it, besides
    /// those that say so themselves; may be repeated.
    #[arg(long = "retry-tool", value_name = "TOOL", help_heading = "Server")]
    retry_tools: Vec<String>,
    /// Replace the process only while it is idle: it holds what no other can take over.
    #[arg(long, help_heading = "Server")]
    stateful: bool,
    /// How long a new process may take to take over.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = span, help_heading = "Server")]
    start_timeout: Duration,
    /// How long a replaced process may take for what it still has.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = span, help_heading = "Server")]
    drain_timeout: Duration,
    /// How long a process that is told to end may take before it is killed.
    #[arg(long, value_name = "DURATION", default_value = "1500ms", value_parser = span, help_heading = "Server")]
    stop_timeout: Duration,
    /// The longest message between client and server, in MiB.
    #[arg(long, value_name = "MIB", default_value = "16", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Server")]
    message_max: u16,
}

impl ServerArgs {
    /// What they ask for.
    pub(crate) fn child(&self) -> Child {
        Child {
            stdio: match self.stdio {
                Speaks::Auto => ChildStdio::Auto,
                Speaks::Mcp => ChildStdio::Mcp,
                Speaks::Inherit => ChildStdio::Inherit,
            },
            on_switch: match self.on_switch {
                Switched::Warm => OnSwitch::Warm,
                Switched::Restart => OnSwitch::Restart,
                Switched::Signal => OnSwitch::Signal(self.signal),
                Switched::None => OnSwitch::Nothing,
            },
            start_timeout: self.start_timeout,
            stop_timeout: self.stop_timeout,
            drain_timeout: self.drain_timeout,
            stateful: self.stateful,
            retry_tools: self.retry_tools.clone(),
            message_max: usize::from(self.message_max) * 1024 * 1024,
            services: self.services.iter().map(|name| ServiceName::new(name)).collect(),
            ..Child::default()
        }
    }
}

/// A duration as policies have it.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| error.to_string())
}

/// A signal by its name.
fn signal(text: &str) -> Result<i32, String> {
    use rustix::process::Signal;
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = [
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("TERM", Signal::TERM),
        ("WINCH", Signal::WINCH),
        ("CONT", Signal::CONT),
    ];
    let found = known.iter().find(|(known, _)| *known == name);
    found.map(|(_, signal)| signal.as_raw()).ok_or_else(|| format!("no signal is called {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names() {
        assert_eq!(signal("SIGHUP"), Ok(1));
        assert_eq!(signal("usr1"), Ok(10));
        assert!(signal("SIGNONE").is_err());
    }
}

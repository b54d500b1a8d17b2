//! Builds hooks: what to do when an output changed.

use std::time::Duration;

use crate::policy::code::Code;
use crate::policy::compile::check;
use crate::policy::interpolate::Scope;
use crate::policy::model::{Hook, HookRun};
use crate::policy::raw::{Ctx, OnChange, OneOrMany, Text};

/// Signals by name, with their numbers on Linux.
const SIGNALS: [(&str, i32); 9] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGTERM", 15),
    ("SIGCONT", 18),
    ("SIGWINCH", 28),
];

/// Builds every hook that can be built.
pub(super) fn build_all(raw: Option<&OneOrMany<OnChange>>, ctx: &mut Ctx<'_>) -> Vec<Hook> {
    let hooks = raw.iter().flat_map(|list| &list.items);
    hooks.filter_map(|raw| hook(raw, ctx)).collect()
}

fn hook(raw: &OnChange, ctx: &mut Ctx<'_>) -> Option<Hook> {
    let has = |key: &str| raw.at.has(key);
    let effects = [("signal", "pid_file"), ("signal", "process"), ("command", "command")];
    let said: Vec<_> = effects.iter().filter(|(a, b)| has(a) && has(b)).collect();
    let aimless = has("signal") && !has("pid_file") && !has("process");
    let undirected = !has("signal") && (has("pid_file") || has("process"));
    if said.len() != 1 || aimless || undirected {
        let help = "`signal` with `pid_file`, `signal` with `process`, or `command`";
        ctx.error(Code::AmbiguousHook, raw.at.span, "`on_change` needs exactly one effect", help);
        return None;
    }
    let signal = raw.signal.as_ref().and_then(|signal| self::signal(signal, ctx));
    let run = if let Some(path) = &raw.pid_file {
        let pid_file = check::path(path, ctx)?;
        HookRun::SignalPidFile { signal: signal?, pid_file }
    } else if let Some(process) = &raw.process {
        if process.value.trim().is_empty() {
            ctx.error(Code::EmptyValue, process.span, "an empty process name", "");
        }
        HookRun::SignalProcess { signal: signal?, process: process.value.clone() }
    } else {
        let argv = check::argv(raw.command.as_ref()?, Scope::Global, ctx)?;
        HookRun::Command { argv }
    };
    let timeout = raw.timeout.map_or(Duration::from_secs(10), |span| span.value);
    let debounce = raw.debounce.map_or(Duration::from_millis(500), |span| span.value);
    Some(Hook { run, timeout, debounce })
}

/// The number of a signal.
pub(super) fn signal(raw: &Text, ctx: &mut Ctx<'_>) -> Option<i32> {
    let number = SIGNALS.iter().find(|(name, _)| *name == raw.value).map(|(_, number)| *number);
    if number.is_none() {
        let known: Vec<_> = SIGNALS.iter().map(|(name, _)| *name).collect();
        let upper = raw.value.to_ascii_uppercase();
        let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        let help = match known.iter().find(|name| **name == full) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("known: {}", known.join(", ")),
        };
        ctx.error(Code::UnknownSignal, raw.span, "an unknown signal", help);
    }
    number
}

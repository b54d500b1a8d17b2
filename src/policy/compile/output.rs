//! Builds outputs and checks that what is written to one file fits together.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::core::id::ServiceName;
use crate::policy::code::Code;
use crate::policy::compile::check;
use crate::policy::compile::service::Built;
use crate::policy::escape;
use crate::policy::model::{EnvFile, EnvFormat, EnvMode, Hook, HookRun, Output};
use crate::policy::raw::{self, Ctx, Format, List, OnChange, Span, Text, nearest};
use crate::policy::secret::Secret;

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

/// Builds every output that can be built.
pub(super) fn build_all(
    raw: Option<&List<raw::Output>>,
    services: &[Built],
    ctx: &mut Ctx<'_>,
) -> Vec<Output> {
    let list = raw.map(|list| list.items.as_slice()).unwrap_or_default();
    if raw.is_none_or(|list| list.empty) {
        let help = "add `[[outputs]]` with `type = \"env_file\"` and a `path`";
        ctx.error(Code::NoOutput, Span::NONE, "nothing learns of a switch: no output", help);
    }
    let mut outputs: Vec<(EnvFile, Span)> = Vec::new();
    for raw in list {
        let Some(file) = build(raw, services, ctx) else { continue };
        unique(&file, raw, &outputs, ctx);
        contents(&file, raw, services, ctx);
        outputs.push((file, raw.path.0.as_ref().map_or(raw.at.span, |path| path.span)));
    }
    outputs.into_iter().map(|(file, _)| Output::EnvFile(file)).collect()
}

fn build(raw: &raw::Output, services: &[Built], ctx: &mut Ctx<'_>) -> Option<EnvFile> {
    let path = raw.path.0.as_ref().and_then(|path| check::path(path, ctx));
    let named = raw.name.as_ref().map(|name| check::name(name, ctx));
    let permissions = raw.mode.as_ref().map_or(Some(0o600), |mode| permissions(mode, ctx));
    let chosen = chosen(raw.services.as_ref(), services, ctx);
    let hooks = raw.on_change.iter().flat_map(|list| &list.items);
    let on_change: Vec<_> = hooks.filter_map(|hook| self::hook(hook, ctx)).collect();
    raw.r#type.0.as_ref()?;
    let path = path?;
    // As written: a path may hold a variable, and this name is shown everywhere.
    let written = raw.path.0.as_ref().map(|path| path.value.as_str()).unwrap_or_default();
    let name = named.flatten().unwrap_or_else(|| format!("env_file:{written}"));
    Some(EnvFile {
        name,
        format: format(raw.format.map(|format| format.value)),
        mode: if raw.merge.is_some_and(|merge| merge.value) {
            EnvMode::Merge
        } else {
            EnvMode::Own
        },
        permissions: permissions?,
        owner: (raw.uid.map(|uid| uid.value), raw.gid.map(|gid| gid.value)),
        services: chosen,
        on_change,
        path,
    })
}

const fn format(raw: Option<Format>) -> EnvFormat {
    match raw {
        Some(Format::Dotenv) | None => EnvFormat::Dotenv,
        Some(Format::Docker) => EnvFormat::Docker,
        Some(Format::Systemd) => EnvFormat::Systemd,
        Some(Format::Shell) => EnvFormat::Shell,
        Some(Format::Json) => EnvFormat::Json,
    }
}

fn permissions(raw: &Text, ctx: &mut Ctx<'_>) -> Option<u32> {
    let digits = matches!(raw.value.len(), 3 | 4) && raw.value.bytes().all(|b| b.is_ascii_digit());
    let mode = digits.then(|| u32::from_str_radix(&raw.value, 8).ok()).flatten();
    let mode = mode.filter(|mode| mode & !0o666 == 0 && mode & 0o600 == 0o600);
    if mode.is_none() {
        let help =
            "octal text such as \"0600\" or \"0640\": owner reads and writes, nobody executes";
        ctx.error(Code::BadMode, raw.span, "not a usable file mode", help);
    }
    mode
}

fn chosen(raw: Option<&List<Text>>, services: &[Built], ctx: &mut Ctx<'_>) -> Vec<ServiceName> {
    let mut out = Vec::new();
    if let Some(list) = raw.filter(|list| list.empty) {
        let help = "leave `services` out to write all of them";
        ctx.error(Code::EmptyValue, list.span, "an empty list of services", help);
    }
    for text in raw.iter().flat_map(|list| &list.items) {
        match services.iter().find(|one| one.rules.name.as_str() == text.value) {
            Some(one) if out.contains(&one.rules.name) => {
                ctx.error(Code::DuplicateName, text.span, "a service named twice", "");
            }
            Some(one) => out.push(one.rules.name.clone()),
            None => {
                let known: Vec<_> = services.iter().map(|one| one.rules.name.as_str()).collect();
                let help = if known.is_empty() {
                    String::new()
                } else {
                    nearest(&text.value, &known, "services")
                };
                ctx.error(Code::UnknownService, text.span, "an unknown service", help);
            }
        }
    }
    out
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
        let argv =
            check::argv(raw.command.as_ref()?, crate::policy::interpolate::Scope::Global, ctx)?;
        HookRun::Command { argv }
    };
    let timeout = raw.timeout.map_or(Duration::from_secs(10), |span| span.value);
    let debounce = raw.debounce.map_or(Duration::from_millis(500), |span| span.value);
    Some(Hook { run, timeout, debounce })
}

fn signal(raw: &Text, ctx: &mut Ctx<'_>) -> Option<i32> {
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

/// Two outputs must differ in path and name.
fn unique(file: &EnvFile, raw: &raw::Output, others: &[(EnvFile, Span)], ctx: &mut Ctx<'_>) {
    let plain = |path: &Path| path.components().collect::<std::path::PathBuf>();
    for (other, span) in others {
        if plain(&other.path) == plain(&file.path) {
            let place = raw.at.of("path");
            ctx.error(Code::DuplicatePath, place, "two outputs write the same file", "");
            ctx.reporter.also(*span, "first written here");
        } else if other.name == file.name {
            let place = raw.at.of("name");
            ctx.error(Code::DuplicateName, place, "an output name used twice", "");
        }
    }
}

/// Every variable of a file has one writer, and every value fits the file's format.
fn contents(file: &EnvFile, raw: &raw::Output, services: &[Built], ctx: &mut Ctx<'_>) {
    let mut writers: BTreeMap<String, (&str, Span)> = BTreeMap::new();
    let written =
        |one: &&Built| file.services.is_empty() || file.services.contains(&one.rules.name);
    for one in services.iter().filter(written) {
        let service = one.rules.name.as_str();
        let status = (status_variable(service), one.span);
        let places =
            one.variables.iter().filter_map(|(name, at)| Some((name.clone(), at.first()?.0)));
        for (name, span) in places.chain([status]) {
            if let Some((first, at)) = writers.insert(name.clone(), (service, span)) {
                let message = format!("`{name}` is written by `{first}` and by `{service}`");
                let help = "rename one, or write the services to different files with `services`";
                ctx.error(Code::DuplicateVariable, span, message, help);
                ctx.reporter.also(at, "also here");
            }
        }
        carried(file.format, one, raw, ctx);
    }
}

/// Every value comes back unchanged from the format's own reader.
fn carried(format: EnvFormat, service: &Built, raw: &raw::Output, ctx: &mut Ctx<'_>) {
    for (name, values) in &service.variables {
        for (span, value) in values {
            let value = value.as_ref().map(Secret::expose).unwrap_or_default();
            if let Err(why) = escape::line(format, name, value) {
                let message =
                    format!("`{name}` {why}: `{}` cannot carry it", escape::label(format));
                ctx.error(Code::FormatCannotCarry, *span, message, "choose another `format`");
                ctx.reporter.also(raw.at.of("format"), "written here");
            }
        }
    }
}

/// The variable in which an output names a service's active endpoint.
fn status_variable(service: &str) -> String {
    format!("MCP_FAILOVER_{}_ENDPOINT", service.to_ascii_uppercase().replace('-', "_"))
}

//! Builds outputs and checks that they fit together.

mod child;
mod file;
mod hook;
mod proxy;
mod quotes;
mod socket;
mod template;
mod uptake;

use std::path::{Path, PathBuf};

use crate::core::id::ServiceName;
use crate::core::rules::Strategy;
use crate::policy::code::Code;
use crate::policy::compile::check;
use crate::policy::compile::service::Built;
use crate::policy::model::Output;
use crate::policy::raw::{self, Ctx, List, OutputKind, Span, Text, nearest};

pub(super) use child::child;

/// Builds every output that can be built; without a child, one is needed.
pub(super) fn build_all(raw: &raw::File, services: &[Built], ctx: &mut Ctx<'_>) -> Vec<Output> {
    let list = raw.outputs.as_ref().map(|list| list.items.as_slice()).unwrap_or_default();
    if raw.child.is_none() && raw.outputs.as_ref().is_none_or(|list| list.empty) {
        let help = "add `[[outputs]]` with `type = \"env_file\"` and a `path`";
        ctx.error(Code::NoOutput, Span::NONE, "nothing learns of a switch: no output", help);
    }
    let sound = !ctx.reporter.failed();
    let mut outputs: Vec<(Output, Span)> = Vec::new();
    for raw in list {
        let Some(kind) = raw.r#type.0.map(|at| at.value) else { continue };
        applicable(raw, kind, ctx);
        let output = match kind {
            OutputKind::EnvFile => file::env_file(raw, services, ctx).map(Output::File),
            OutputKind::Template => template::build(raw, services, sound, ctx).map(Output::File),
            OutputKind::Socket => socket::build(raw, services, ctx).map(Output::Socket),
            OutputKind::Proxy => {
                proxy::build(raw, services, ctx).map(|proxy| Output::Proxy(Box::new(proxy)))
            }
        };
        let Some(output) = output else { continue };
        unique(&output, raw, &outputs, ctx);
        outputs.push((output, place(raw)));
    }
    let outputs: Vec<_> = outputs.into_iter().map(|(output, _)| output).collect();
    for one in services {
        balanced(one, &outputs, ctx);
    }
    outputs
}

/// Where an output says what it writes or listens on.
fn place(raw: &raw::Output) -> Span {
    let given = raw.path.as_ref().or(raw.listen.as_ref());
    given.map_or(raw.at.span, |text| text.span)
}

/// Refuses keys that mean nothing to this kind of output.
fn applicable(raw: &raw::Output, kind: OutputKind, ctx: &mut Ctx<'_>) {
    const FILE: [&str; 10] = [
        "path",
        "mode",
        "uid",
        "gid",
        "services",
        "on_change",
        "name",
        "check",
        "check_timeout",
        "reader",
    ];
    const UPTAKE: [&str; 2] = ["effective_timeout", "on_ineffective"];
    let (label, keys): (_, &[&[&str]]) = match kind {
        OutputKind::EnvFile => ("an env_file", &[&FILE, &UPTAKE, &["format", "merge"]]),
        OutputKind::Template => ("a template", &[&FILE, &UPTAKE, &["source", "text", "quoting"]]),
        OutputKind::Socket => (
            "a socket",
            &[&[
                "name",
                "path",
                "mode",
                "uid",
                "gid",
                "services",
                "allow",
                "expose_env",
                "max_clients",
                "effective_timeout",
                "on_ineffective",
            ]],
        ),
        OutputKind::Proxy => (
            "a proxy",
            &[&[
                "name",
                "mode",
                "listen",
                "service",
                "headers",
                "server_name",
                "ca_file",
                "connect_timeout",
                "first_byte_timeout",
                "idle_timeout",
                "drain",
                "max_connections",
                "retry",
                "intercept",
            ]],
        ),
    };
    for (key, span) in raw.at.keys.iter().filter(|(key, _)| *key != "type") {
        if !keys.iter().any(|keys| keys.contains(key)) {
            let message = format!("`{key}` means nothing to {label} output");
            ctx.error(Code::NotApplicable, *span, message, "");
        }
    }
}

/// A strategy that chooses anew for each call needs an output that is asked for each call.
fn balanced(one: &Built, outputs: &[Output], ctx: &mut Ctx<'_>) {
    let Some(span) = one.strategy_at.filter(|_| one.rules.strategy != Strategy::Priority) else {
        return;
    };
    if outputs.iter().any(|output| output.balances(&one.rules.name)) {
        return;
    }
    let message = format!("no output can serve the strategy `{}`", one.rules.strategy.label());
    let help = "an env file names one endpoint for everybody, so it serves `priority` only; the \
                other strategies need a `socket` or `proxy` output";
    ctx.error(Code::StrategyNotServed, span, message, help);
}

/// The path that a file or a socket must have.
fn path(raw: &raw::Output, ctx: &mut Ctx<'_>) -> Option<PathBuf> {
    if let Some(path) = &raw.path {
        return check::path(path, ctx);
    }
    missing("path", raw, "add `path = \"…\"`", ctx);
    None
}

pub(super) fn missing(key: &str, raw: &raw::Output, help: &str, ctx: &mut Ctx<'_>) {
    if !raw.at.has(key) {
        ctx.error(Code::MissingKey, raw.at.span, format!("missing key `{key}`"), help);
    }
}

/// The name as given, else the kind and the place as written: a place may hold a variable, and
/// the name is shown everywhere.
fn name(kind: &str, place: Option<&Text>, raw: &raw::Output, ctx: &mut Ctx<'_>) -> String {
    let named = raw.name.as_ref().and_then(|name| check::name(name, ctx));
    let written = place.map(|place| place.value.as_str()).unwrap_or_default();
    named.unwrap_or_else(|| format!("{kind}:{written}"))
}

fn owner(raw: &raw::Output) -> (Option<u32>, Option<u32>) {
    (raw.uid.map(|uid| uid.value), raw.gid.map(|gid| gid.value))
}

fn permissions(raw: &raw::Output, default: u32, ctx: &mut Ctx<'_>) -> Option<u32> {
    let Some(raw) = &raw.mode else { return Some(default) };
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

/// The services an output is for; all when the list is empty.
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

/// Two outputs must differ in what they write or listen on, and in their names.
fn unique(output: &Output, raw: &raw::Output, others: &[(Output, Span)], ctx: &mut Ctx<'_>) {
    let plain = |path: &Path| path.components().collect::<PathBuf>();
    let file = |output: &Output| match output {
        Output::File(file) => Some(plain(&file.path)),
        Output::Socket(socket) => Some(plain(&socket.path)),
        Output::Proxy(_) => None,
    };
    let listen = |output: &Output| match output {
        Output::Proxy(proxy) => Some(proxy.listen).filter(|listen| listen.port() != 0),
        Output::File(_) | Output::Socket(_) => None,
    };
    for (other, span) in others {
        if file(output).is_some() && file(output) == file(other) {
            let place = raw.at.of("path");
            ctx.error(Code::DuplicatePath, place, "two outputs write the same file", "");
            ctx.reporter.also(*span, "first written here");
        } else if listen(output).is_some() && listen(output) == listen(other) {
            let place = raw.at.of("listen");
            ctx.error(Code::DuplicatePath, place, "two outputs listen on the same address", "");
            ctx.reporter.also(*span, "first used here");
        } else if other.name() == output.name() {
            let place = raw.at.of("name");
            ctx.error(Code::DuplicateName, place, "an output name used twice", "");
        }
    }
}

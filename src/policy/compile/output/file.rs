//! Builds files, and what stands in those of variables.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::policy::code::Code;
use crate::policy::compile::check;
use crate::policy::compile::output::{self, hook, uptake};
use crate::policy::compile::service::Built;
use crate::policy::escape;
use crate::policy::interpolate::Scope;
use crate::policy::model::{Content, Env, EnvFormat, EnvMode, File, FileCheck};
use crate::policy::raw::{self, Ctx, Format, Span};
use crate::policy::secret::Secret;

/// How long a check may take unless told otherwise.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Builds a file of variables.
pub(super) fn env_file(raw: &raw::Output, services: &[Built], ctx: &mut Ctx<'_>) -> Option<File> {
    let format = format(raw.format.map(|format| format.value));
    let merge = raw.merge.is_some_and(|merge| merge.value);
    let mode = if merge { EnvMode::Merge } else { EnvMode::Own };
    let content = Some(Content::Env(Env { format, mode }));
    let file = file("env_file", content, raw, services, ctx)?;
    contents(&file, format, raw, services, ctx);
    Some(file)
}

/// Builds what every file has, around what stands in it.
pub(super) fn file(
    kind: &str,
    content: Option<Content>,
    raw: &raw::Output,
    services: &[Built],
    ctx: &mut Ctx<'_>,
) -> Option<File> {
    let path = output::path(raw, ctx);
    let name = output::name(kind, raw.path.as_ref(), raw, ctx);
    let permissions = output::permissions(raw, 0o600, ctx);
    let chosen = output::chosen(raw.services.as_ref(), services, ctx);
    let check = check(raw, ctx);
    let on_change = hook::build_all(raw.on_change.as_ref(), ctx);
    let (reader, expected) = (uptake::reader(raw, ctx), uptake::of_output(raw, ctx));
    Some(File {
        name,
        path: path?,
        content: content?,
        permissions: permissions?,
        owner: output::owner(raw),
        services: chosen,
        check,
        on_change,
        reader,
        uptake: expected,
    })
}

/// Builds the check of a file, which must be told where the file is.
fn check(raw: &raw::Output, ctx: &mut Ctx<'_>) -> Option<FileCheck> {
    let Some(command) = &raw.check else {
        if raw.at.has("check_timeout") && !raw.at.has("check") {
            let place = raw.at.of("check_timeout");
            let message = "`check_timeout` means nothing without `check`";
            ctx.error(Code::NotApplicable, place, message, "");
        }
        return None;
    };
    let argv = check::argv(command, Scope::Global, ctx)?;
    if !argv.iter().skip(1).any(|argument| argument.contains(FileCheck::STAGED)) {
        let help = "write `{staged}` where the command takes the path of the file";
        ctx.error(Code::BlindCheck, command.span, "a check that does not look at the file", help);
    }
    let timeout = raw.check_timeout.map_or(CHECK_TIMEOUT, |span| span.value);
    Some(FileCheck { argv, timeout })
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

/// Every variable of a file has one writer, and every value fits the file's format.
fn contents(
    file: &File,
    format: EnvFormat,
    raw: &raw::Output,
    services: &[Built],
    ctx: &mut Ctx<'_>,
) {
    let mut writers: BTreeMap<String, (&str, Span)> = BTreeMap::new();
    for one in services.iter().filter(|one| file.wants(&one.rules.name)) {
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
        carried(format, one, raw, ctx);
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

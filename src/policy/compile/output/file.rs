//! Builds files of variables.

use std::collections::BTreeMap;

use crate::policy::code::Code;
use crate::policy::compile::output::{self, hook};
use crate::policy::compile::service::Built;
use crate::policy::escape;
use crate::policy::model::{EnvFile, EnvFormat, EnvMode};
use crate::policy::raw::{self, Ctx, Format, Span};
use crate::policy::secret::Secret;

/// Builds a file of variables.
pub(super) fn env_file(
    raw: &raw::Output,
    services: &[Built],
    ctx: &mut Ctx<'_>,
) -> Option<EnvFile> {
    let path = output::path(raw, ctx);
    let name = output::name("env_file", raw.path.as_ref(), raw, ctx);
    let permissions = output::permissions(raw, 0o600, ctx);
    let chosen = output::chosen(raw.services.as_ref(), services, ctx);
    let on_change = hook::build_all(raw.on_change.as_ref(), ctx);
    let file = EnvFile {
        name,
        format: format(raw.format.map(|format| format.value)),
        mode: if raw.merge.is_some_and(|merge| merge.value) {
            EnvMode::Merge
        } else {
            EnvMode::Own
        },
        permissions: permissions?,
        owner: output::owner(raw),
        services: chosen,
        on_change,
        path: path?,
    };
    contents(&file, raw, services, ctx);
    Some(file)
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

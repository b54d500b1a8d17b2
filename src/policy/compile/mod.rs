//! Checks what the tables mean together and builds the compiled policy.
//!
//! Goes on after an error: a part that cannot be built is reported and left out, and the parts
//! beside it are still checked. Whether the result may be used is decided once, at the end.

mod address;
mod backup;
mod cadence;
mod check;
mod credential;
mod endpoint;
mod fingerprint;
mod output;
mod probe;
mod quota;
mod redis;
mod reference;
mod service;
mod surface;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::core::id::ServiceName;
use crate::core::ordered::Gather as _;
use crate::core::rules::{IsolationRules, Rules};
use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostic, Diagnostics};
use crate::policy::model::{Digest, Policy};
use crate::policy::raw::{Ctx, File, Isolation, Map, Node, Read, Service, Span};
use crate::policy::{Compiled, Lookup, MAX_BYTES, Source};

/// Most services of one policy.
const MAX_SERVICES: usize = 1024;
/// Most endpoints of one policy.
const MAX_ENDPOINTS: usize = 16_384;

/// Compiles a policy.
///
/// # Errors
/// Every error at once, with the warnings, in the order of the file.
pub fn compile(source: &Source<'_>, lookup: &dyn Lookup) -> Result<Compiled, Diagnostics> {
    let mut ctx = Ctx::new(source.text, lookup);
    let policy = read(source.text, &mut ctx).map(|file| build(&file, &mut ctx));
    let failed = ctx.reporter.failed();
    let warnings: Vec<Diagnostic> = ctx.reporter.finish();
    match policy {
        Some(policy) if !failed => Ok(Compiled { policy, warnings }),
        Some(_) | None => Err(Diagnostics(warnings)),
    }
}

/// Where a policy keeps its state, as far as that can be told even if it does not compile.
///
/// A start with a broken policy needs it to find the last good one.
#[must_use]
pub fn state_dir_hint(text: &str, lookup: &dyn Lookup) -> PathBuf {
    let mut ctx = Ctx::new(text, lookup);
    let (table, _errors) = DeTable::parse_recoverable(text);
    let value = DeValue::Table(table.into_inner());
    let file = File::read(Node { value: &value, span: Span::NONE }, &mut ctx);
    surface::sidecar(file.and_then(|file| file.sidecar).as_ref(), &mut ctx).state_dir
}

/// Reads the tables; `None` when there is nothing to build from.
fn read(text: &str, ctx: &mut Ctx<'_>) -> Option<File> {
    if text.len() > MAX_BYTES {
        let message = format!("the policy has {} bytes; {MAX_BYTES} are allowed", text.len());
        ctx.error(Code::TooLarge, Span::NONE, message, "");
        return None;
    }
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.trim_start_matches('\u{feff}').lines().all(blank) {
        let help = "`mcp-failover init` writes a policy to start from";
        ctx.error(Code::Empty, Span::NONE, "the policy is empty", help);
        return None;
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            let span = error.span().map_or(Span::NONE, |range| ctx.span(range));
            let mut lines = error.message().lines();
            let message = lines.next().unwrap_or("not valid TOML").to_owned();
            ctx.error(Code::Syntax, span, message, lines.next().unwrap_or(""));
        }
        return None;
    }
    version(table.get_ref(), ctx)?;
    let value = DeValue::Table(table.into_inner());
    File::read(Node { value: &value, span: Span::NONE }, ctx)
}

/// Checks the version; `None` when it is another one, whose tables we cannot judge.
fn version(table: &DeTable<'_>, ctx: &mut Ctx<'_>) -> Option<()> {
    let Some(version) = table.get("version") else {
        let message = "the policy does not say its version";
        ctx.error(Code::MissingVersion, Span::NONE, message, "begin the file with `version = 1`");
        return Some(());
    };
    let other = version.get_ref().as_integer().is_some_and(|number| number.as_str() != "1");
    if other {
        let (span, message) = (ctx.span(version.span()), "a version that is not known");
        ctx.error(Code::UnsupportedVersion, span, message, "this release reads `version = 1`");
        return None;
    }
    Some(())
}

/// Builds everything that can be built.
fn build(file: &File, ctx: &mut Ctx<'_>) -> Policy {
    let sidecar = surface::sidecar(file.sidecar.as_ref(), ctx);
    let admin = surface::admin(file.admin.as_ref(), ctx);
    let control = surface::control(file.control.as_ref(), &sidecar.state_dir, ctx);
    let empty = Map::default();
    let raw_services = file.services.as_ref().unwrap_or(&empty);
    check_counts(raw_services, ctx);
    let built = service::build_all(raw_services, file.defaults.as_ref(), ctx);
    quota::check(&built, ctx);
    let outputs = output::build_all(file, &built, ctx);
    let child = output::child(file.child.as_ref(), &built, ctx);
    let alerts = surface::alerts(file.alerts.as_ref(), ctx);
    let backup = backup::build(file.backup.as_ref(), &sidecar.state_dir, ctx);
    let redis = redis::build(file.redis.as_ref(), ctx);
    let rules = Rules {
        services: built
            .iter()
            .map(|one| (one.rules.name.clone(), Arc::clone(&one.rules)))
            .gather_map(),
        isolation: isolation(file.isolation.as_ref()),
        instance: fingerprint::of([sidecar.name.as_bytes()]),
    };
    let services: BTreeMap<ServiceName, _> =
        built.into_iter().map(|one| (one.rules.name.clone(), one.service)).gather_map();
    let mut policy = Policy {
        digest: Digest::default(),
        sidecar,
        admin,
        control,
        rules: Arc::new(rules),
        references: reference::build(file.isolation.as_ref(), ctx),
        services,
        outputs,
        child,
        alerts,
        backup,
        redis,
        secret_files: std::mem::take(&mut ctx.files).into_keys().collect(),
    };
    policy.digest = fingerprint::digest(&policy);
    policy
}

fn check_counts(services: &Map<Service>, ctx: &mut Ctx<'_>) {
    if services.0.is_empty() {
        let help = "add `[services.NAME]` with `[[services.NAME.endpoints]]`";
        ctx.error(Code::NoServices, Span::NONE, "the policy has no service", help);
    }
    let endpoints = services
        .0
        .values()
        .filter_map(|(_, one)| one.endpoints.as_ref())
        .map(|list| list.items.len());
    let endpoints: usize = endpoints.sum();
    if services.0.len() > MAX_SERVICES || endpoints > MAX_ENDPOINTS {
        let message =
            format!("{} services with {endpoints} endpoints are too many", services.0.len());
        let help = format!("at most {MAX_SERVICES} services and {MAX_ENDPOINTS} endpoints");
        ctx.error(Code::TooMany, Span::NONE, message, help);
    }
}

fn isolation(raw: Option<&Isolation>) -> IsolationRules {
    let default = IsolationRules::default();
    let Some(raw) = raw else { return default };
    IsolationRules {
        min_hosts: raw.min_hosts.map_or(default.min_hosts, |count| count.value),
        window: raw.window.map_or(default.window, |span| span.value),
        tilt: raw.tilt.map_or(default.tilt, |span| span.value),
    }
}

//! Builds endpoints: variables, address, probes and the fingerprints the engine compares.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::id::EndpointName;
use crate::core::ordered::Gather as _;
use crate::core::rules::EndpointRules;
use crate::policy::code::Code;
use crate::policy::compile::address::{self, Located};
use crate::policy::compile::credential::{self, Sources};
use crate::policy::compile::probe::{self, Site};
use crate::policy::compile::service::Layers;
use crate::policy::compile::{check, fingerprint};
use crate::policy::interpolate::{self, Control, Scope, Value};
use crate::policy::model::{Check, Endpoint, Target, Trust, Upstream};
use crate::policy::raw::{Ctx, Map, Over, Probe, Span, Text};
use crate::policy::secret::Secret;

/// What endpoints of one service have in common.
pub(super) struct Context<'a> {
    pub(super) service: &'a str,
    pub(super) layers: &'a Layers<'a>,
    /// Deadlines of the frequent and the rare probe.
    pub(super) timeout: (Duration, Option<Duration>),
}

/// An endpoint, and what the later checks need to know of it.
pub(super) struct Built {
    pub(super) endpoint: Endpoint,
    pub(super) rules: EndpointRules,
    pub(super) span: Span,
    /// Fingerprint of address and variables alone.
    pub(super) same: u64,
    /// What it publishes.
    pub(super) env: BTreeMap<String, Value>,
    /// Each variable with its place, and its value unless that could not be told.
    pub(super) variables: Vec<(String, Span, Option<Secret>)>,
}

impl Built {
    /// The names of its variables.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|(name, _, _)| name.as_str())
    }
}

/// Builds one endpoint.
pub(super) fn build(
    raw: &crate::policy::raw::Endpoint,
    tier: u32,
    context: &Context<'_>,
    ctx: &mut Ctx<'_>,
) -> Option<Built> {
    let name = raw.name.0.as_ref().and_then(|name| check::name(name, ctx));
    let shown = name.as_deref().unwrap_or("?");
    let env = env(raw.env.as_ref(), shown, ctx);
    let address = address(raw, shown, &env, context, ctx);
    let merged = own_probe(raw.probe.as_ref(), context.layers, ctx);
    let layers = context.layers;
    let (span, over_http) = (raw.at.span, layers.over_http());
    let site = Site { name: shown, span, env: &env, address: address.as_ref().ok(), over_http };
    let own = [layers.own.probe.as_ref(), raw.probe.as_ref()];
    let probe = merged.as_ref().unwrap_or(&layers.probe);
    let known = !matches!(address, Err(NoAddress::Bad));
    let probe = known.then(|| probe::build(probe, &own, context.timeout.0, &site, ctx)).flatten();
    let deep = match (&layers.deep_probe, context.timeout.1) {
        (Some(deep), Some(timeout)) if known => {
            Some(probe::build(deep, &[layers.own.deep_probe.as_ref()], timeout, &site, ctx)?)
        }
        _ => None,
    };
    let account = raw.account.as_ref();
    let account = account.and_then(|account| check::text(account, Scope::Naming(shown), ctx));
    let (name, probe) = (name?, probe?);
    let target = address.as_ref().ok();
    let endpoint = Endpoint {
        name: EndpointName::new(&name),
        url: target.map(|one| one.shown.clone()),
        upstream: target.map(upstream),
        env: env.iter().map(|(name, value)| (name.clone(), value.text.clone())).gather_map(),
        probe: Arc::new(probe),
        deep_probe: deep.map(Arc::new),
    };
    let full = target.map(|one| one.full.expose().to_owned()).unwrap_or_default();
    let preset = layers.preset;
    let sources = Sources { preset, env: &env, address: target, endpoint: &endpoint };
    let credential = credential::of(&sources, context.service);
    let account = account.map_or(credential, |account| {
        fingerprint::of([b"account".as_slice(), account.expose().as_bytes()])
    });
    let rules = EndpointRules {
        name: endpoint.name.clone(),
        tier,
        weight: raw.weight.map_or(1, |weight| weight.value),
        identity: fingerprint::identity(&endpoint, &full),
        credential,
        account,
        host: fingerprint::of([sources.place(context.service).as_bytes()]),
    };
    let same = fingerprint::of([
        full.as_bytes(),
        &fingerprint::of_values(&env).to_le_bytes(),
        command(&endpoint),
    ]);
    let variables = variables(raw.env.as_ref(), &env);
    Some(Built { endpoint, rules, span, same, env, variables })
}

/// Where calls go.
fn upstream(located: &Located) -> Upstream {
    let address = &located.address;
    let trust = if address.scheme.ends_with("+ssc") { Trust::SelfSigned } else { Trust::Verified };
    let query = address.query.as_deref().map(|query| format!("?{query}")).unwrap_or_default();
    Upstream {
        scheme: address.scheme,
        target: Target { host: address.host.clone(), port: address.port },
        tls: address.wants_tls().then_some(trust),
        path: Secret::new(format!("{}{query}", address.path)),
    }
}

/// The first argument of a command distinguishes endpoints that have neither address nor variables.
fn command(endpoint: &Endpoint) -> &[u8] {
    if matches!(endpoint.probe.check, Check::Exec(_) | Check::McpStdio(_)) {
        endpoint.name.as_str().as_bytes()
    } else {
        &[]
    }
}

fn variables(
    raw: Option<&Map<Text>>,
    env: &BTreeMap<String, Value>,
) -> Vec<(String, Span, Option<Secret>)> {
    let value = |name: &str| env.get(name).map(|value| value.text.clone());
    let entries = raw.iter().flat_map(|map| &map.0);
    entries.map(|(name, (span, _))| (name.clone(), *span, value(name))).collect()
}

/// Expands and checks what an endpoint publishes.
fn env(raw: Option<&Map<Text>>, endpoint: &str, ctx: &mut Ctx<'_>) -> BTreeMap<String, Value> {
    let mut env = BTreeMap::new();
    for (name, (span, raw)) in raw.iter().flat_map(|map| &map.0) {
        if !interpolate::is_variable_name(name) {
            let help = "letters, digits and `_`, no digit first";
            ctx.error(Code::BadVariableName, *span, "not a variable name", help);
        } else if name.starts_with("MCP_FAILOVER_") {
            let help = "names that start with `MCP_FAILOVER_` are written by the sidecar itself";
            ctx.error(Code::ReservedVariable, *span, "a reserved variable name", help);
        }
        check::literal_credential(name, raw, ctx);
        if let Some(value) = interpolate::expand(raw, Scope::Naming(endpoint), Control::Lines, ctx)
        {
            env.insert(name.clone(), value);
        }
    }
    env
}

/// The probe of this endpoint alone, when it differs from the service's.
fn own_probe(raw: Option<&Probe>, layers: &Layers<'_>, ctx: &mut Ctx<'_>) -> Option<Probe> {
    let raw = raw?;
    for (key, span) in &raw.at.keys {
        if probe::keys::TIMED.contains(key) {
            let message = format!("`{key}` cannot differ between the endpoints of a service");
            ctx.error(Code::NotApplicable, *span, message, "set it in the service's probe");
        }
    }
    Some(raw.clone().over(layers.probe.clone()))
}

/// Why there is no address.
pub(super) enum NoAddress {
    /// None is given.
    Absent,
    /// It is wrong, which has been reported.
    Bad,
}

fn address(
    raw: &crate::policy::raw::Endpoint,
    endpoint: &str,
    env: &BTreeMap<String, Value>,
    context: &Context<'_>,
    ctx: &mut Ctx<'_>,
) -> Result<Located, NoAddress> {
    let preset = context.layers.preset;
    let scheme = preset.and_then(|preset| preset.scheme);
    let variable = preset
        .into_iter()
        .flat_map(|preset| preset.url_variables)
        .find_map(|name| Some((*name, env.get(*name)?)));
    let (full, written, span) = if let Some(url) = &raw.url {
        let full = check::text(url, Scope::Naming(endpoint), ctx).ok_or(NoAddress::Bad)?;
        (full, url.value.clone(), url.span)
    } else if raw.at.has("url") {
        return Err(NoAddress::Bad);
    } else if let Some((name, value)) = variable {
        let span = raw.env.as_ref().and_then(|map| map.0.get(name)).map(|(_, text)| text.span);
        (value.clone(), format!("${{endpoint.env.{name}}}"), span.unwrap_or(raw.at.span))
    } else if preset.is_some_and(|preset| missing_variable(preset.url_variables, raw)) {
        return Err(NoAddress::Bad);
    } else if let Some(url) = preset.and_then(|preset| preset.default_url) {
        (Value { text: url.into(), secret: false }, url.to_owned(), raw.at.span)
    } else {
        return Err(NoAddress::Absent);
    };
    address::locate(full, &written, span, scheme, ctx).ok_or(NoAddress::Bad)
}

/// Whether a variable that holds the address was given but could not be expanded.
fn missing_variable(names: &[&str], raw: &crate::policy::raw::Endpoint) -> bool {
    raw.env.as_ref().is_some_and(|map| names.iter().any(|name| map.0.contains_key(*name)))
}

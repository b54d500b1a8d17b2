//! Builds services: lays the layers over each other and gathers the endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::id::{EndpointName, ServiceName};
use crate::core::ordered::Gather as _;
use crate::core::rules::{Cadence, ServiceRules, Strategy};
use crate::policy::code::Code;
use crate::policy::compile::endpoint::{self, Context};
use crate::policy::compile::quota::{self, Load};
use crate::policy::compile::{cadence, check};
use crate::policy::interpolate::Value;
use crate::policy::model::{Check, Service};
use crate::policy::preset::{self, Preset};
use crate::policy::raw::{
    self, Cost, Ctx, Defaults, Map, Over, PresetName, Probe, ProbeKind, Span,
};
use crate::policy::secret::Secret;

/// A service, and what the later checks need to know of it.
pub(super) struct Built {
    pub(super) service: Service,
    pub(super) rules: Arc<ServiceRules>,
    /// Where its table stands.
    pub(super) span: Span,
    /// The variables it publishes: their places and values, one an endpoint.
    pub(super) variables: BTreeMap<String, Vec<(Span, Option<Secret>)>>,
    /// What its probes cost.
    pub(super) loads: Vec<Load>,
    /// Where its strategy is chosen, if it is.
    pub(super) strategy_at: Option<Span>,
    /// What `${endpoint.…}` stands for at each endpoint.
    pub(super) scopes: BTreeMap<EndpointName, BTreeMap<String, Value>>,
}

/// Presets that were already read.
type Presets = BTreeMap<&'static str, raw::Service>;

/// Builds every service that can be built.
pub(super) fn build_all(
    services: &Map<raw::Service>,
    defaults: Option<&Defaults>,
    ctx: &mut Ctx<'_>,
) -> Vec<Built> {
    let mut presets = Presets::new();
    let mut built = Vec::with_capacity(services.0.len());
    for (name, (span, raw)) in &services.0 {
        let named = check::service_name(name, *span, ctx);
        let fallback = raw.preset.map_or(*span, |preset| preset.span);
        let outer = std::mem::replace(&mut ctx.fallback, fallback);
        let layers = layers(raw, defaults, &mut presets, ctx);
        let one = build(name, *span, &layers, ctx);
        ctx.fallback = outer;
        built.extend(one.filter(|_| named));
    }
    built
}

/// A service's settings after all layers, beside what its author wrote.
pub(super) struct Layers<'a> {
    pub(super) own: &'a raw::Service,
    pub(super) preset: Option<&'static Preset>,
    pub(super) probe: Probe,
    pub(super) deep_probe: Option<Probe>,
    pub(super) cost: Option<Cost>,
    breaker: raw::Breaker,
    failover: raw::Failover,
}

fn layers<'a>(
    own: &'a raw::Service,
    defaults: Option<&Defaults>,
    presets: &mut Presets,
    ctx: &mut Ctx<'_>,
) -> Layers<'a> {
    let preset = own.preset.and_then(|chosen| preset::get(chosen.value.word()));
    let below = preset
        .map(|preset| presets.entry(preset.name).or_insert_with(|| preset.settings(ctx)).clone());
    let below = below.unwrap_or_default();
    let defaults = defaults.cloned().unwrap_or_default();
    let left_out = own.deep_probe.as_ref().is_some_and(Probe::is_none);
    let deep = own.deep_probe.is_some() || below.deep_probe.is_some();
    let deep_probe = (deep && !left_out)
        .then(|| merge(own.deep_probe.clone(), below.deep_probe, defaults.deep_probe));
    Layers {
        own,
        preset,
        probe: merge(own.probe.clone(), below.probe, defaults.probe),
        deep_probe,
        cost: own.cost.clone().or(below.cost).map(|cost| cost.value),
        breaker: own.breaker.clone().over(below.breaker).over(defaults.breaker).unwrap_or_default(),
        failover: own
            .failover
            .clone()
            .over(below.failover)
            .over(defaults.failover)
            .unwrap_or_default(),
    }
}

impl Layers<'_> {
    /// The kind of check that an HTTP address calls for.
    pub(super) fn over_http(&self) -> ProbeKind {
        let word = self.preset.map_or("http", |preset| preset.over_http);
        ProbeKind::from_word(word).unwrap_or(ProbeKind::Http)
    }
}

/// Lays probe settings over each other. A layer of another type gives its cadence only.
fn merge(own: Option<Probe>, preset: Option<Probe>, defaults: Option<Probe>) -> Probe {
    let below = lay(preset, defaults);
    lay(own, below).unwrap_or_default()
}

fn lay(above: Option<Probe>, below: Option<Probe>) -> Option<Probe> {
    let kind =
        |probe: &Option<Probe>| probe.as_ref().and_then(|probe| probe.r#type).map(|at| at.value);
    let other = kind(&above).is_some() && kind(&below).is_some() && kind(&above) != kind(&below);
    let below = if other { below.map(Probe::cadence_only) } else { below };
    above.over(below)
}

impl Probe {
    /// Whether it says that there is to be no check.
    fn is_none(&self) -> bool {
        self.r#type.is_some_and(|kind| kind.value == ProbeKind::None)
    }

    /// The keys that say when, without those that say what.
    fn cadence_only(self) -> Self {
        Self {
            interval: self.interval,
            fast_interval: self.fast_interval,
            down_interval: self.down_interval,
            down_interval_max: self.down_interval_max,
            standby_interval: self.standby_interval,
            timeout: self.timeout,
            rise: self.rise,
            fall: self.fall,
            jitter: self.jitter,
            cost: self.cost,
            at: self.at,
            ..Self::default()
        }
    }
}

impl PresetName {
    /// The word in the policy.
    const fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Pinecone => "pinecone",
            Self::Neo4j => "neo4j",
            Self::Graphlit => "graphlit",
            Self::Tavily => "tavily",
            Self::Neo4jCluster => "neo4j-cluster",
            Self::Mcp => "mcp",
            Self::McpStdio => "mcp-stdio",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::Grpc => "grpc",
            Self::Dns => "dns",
        }
    }
}

fn build(name: &str, span: Span, layers: &Layers<'_>, ctx: &mut Ctx<'_>) -> Option<Built> {
    let cost = |probe: &Probe| probe.cost.clone().map(|cost| cost.value).or(layers.cost.clone());
    let probe_cost = cost(&layers.probe);
    let cadence = cadence::cadence(&layers.probe, probe_cost.as_ref(), false, ctx);
    let deep_cost = layers.deep_probe.as_ref().and_then(cost);
    let deep = layers
        .deep_probe
        .as_ref()
        .map(|probe| cadence::cadence(probe, deep_cost.as_ref(), true, ctx));
    let breaker = cadence::breaker(&layers.breaker, ctx);
    let failover = cadence::failover(&layers.failover, &cadence, ctx);
    let strategy = strategy(layers.own);
    let timeout = (cadence.timeout, deep.as_ref().map(|deep| deep.timeout));
    let context = Context { service: name, layers, timeout };
    let endpoints = endpoints(&context, span, ctx);
    if endpoints.is_empty() {
        return None;
    }
    let place = |probe: Option<&Probe>| probe.map_or(span, |probe| probe.at.span).or(span);
    let mut loads = vec![Load::new(name, &cadence, probe_cost, place(layers.own.probe.as_ref()))];
    loads.extend(deep.as_ref().map(|deep: &Cadence| {
        Load::new(name, deep, deep_cost, place(layers.own.deep_probe.as_ref())).deep()
    }));
    for load in &mut loads {
        load.accounts = endpoints.iter().map(|one| one.rules.account).collect();
        let checks = endpoints.iter().filter_map(|one| load.check(&one.endpoint));
        load.each = checks.map(quota::calls).max().unwrap_or(1);
    }
    compare(&endpoints, ctx);
    needs_tls(layers.own.probe.as_ref(), &endpoints, ctx);
    let mut variables: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (name, span, value) in endpoints.iter().flat_map(|one| &one.variables) {
        variables.entry(name.clone()).or_default().push((*span, value.clone()));
    }
    let name = ServiceName::new(name);
    let rules = ServiceRules {
        name: name.clone(),
        critical: layers.own.critical.is_some_and(|critical| critical.value),
        strategy,
        probe: cadence,
        deep_probe: deep,
        breaker,
        failover,
        endpoints: endpoints.iter().map(|one| one.rules.clone()).collect(),
    };
    let mut endpoints = endpoints;
    let scope = |one: &mut endpoint::Built| (one.rules.name.clone(), std::mem::take(&mut one.env));
    let scopes = endpoints.iter_mut().map(scope).gather_map();
    let service = Service {
        name,
        preset: layers.preset.map(|preset| preset.name.to_owned()),
        endpoints: Arc::new(
            endpoints.into_iter().map(|one| (one.rules.name, one.endpoint)).gather_map(),
        ),
    };
    let strategy_at = layers.own.strategy.map(|at| at.span);
    let rules = Arc::new(rules);
    Some(Built { service, rules, span, variables, loads, strategy_at, scopes })
}

fn strategy(own: &raw::Service) -> Strategy {
    match own.strategy.map(|at| at.value) {
        Some(raw::Strategy::Priority) | None => Strategy::Priority,
        Some(raw::Strategy::RoundRobin) => Strategy::RoundRobin,
        Some(raw::Strategy::LeastConnections) => Strategy::LeastConnections,
        Some(raw::Strategy::HealthWeighted) => Strategy::HealthWeighted,
    }
}

fn endpoints(context: &Context<'_>, span: Span, ctx: &mut Ctx<'_>) -> Vec<endpoint::Built> {
    let own = context.layers.own;
    let list = own.endpoints.as_ref().map(|list| list.items.as_slice()).unwrap_or_default();
    let empty = own.endpoints.as_ref().map_or(!own.at.has("endpoints"), |list| list.empty);
    if empty {
        let message = format!("service `{}` has no endpoints", context.service);
        let help = format!("add `[[services.{}.endpoints]]`", context.service);
        ctx.error(Code::NoEndpoints, span, message, help);
    }
    if let [only] = list {
        let message = format!("service `{}` has nothing to fail over to", context.service);
        ctx.error(Code::NoBackup, only.at.span, message, "add a second endpoint");
    }
    let tiers = list.iter().any(|endpoint| endpoint.at.has("priority"));
    let mut names: BTreeMap<&str, Span> = BTreeMap::new();
    let mut built = Vec::with_capacity(list.len());
    for (position, raw) in (0..).zip(list) {
        if let Some(name) = &raw.name.0 {
            if let Some(first) = names.get(name.value.as_str()) {
                let first = *first;
                ctx.error(Code::DuplicateName, name.span, "an endpoint name used twice", "");
                ctx.reporter.also(first, "first used here");
                continue;
            }
            names.insert(&name.value, name.span);
        }
        let tier = raw.priority.map_or(if tiers { 0 } else { position }, |tier| tier.value);
        built.extend(endpoint::build(raw, tier, context, ctx));
    }
    built
}

/// Warns of endpoints that are the same, and of variables that only some of them publish.
fn compare(endpoints: &[endpoint::Built], ctx: &mut Ctx<'_>) {
    let mut seen: BTreeMap<u64, Span> = BTreeMap::new();
    for one in endpoints {
        if let Some(first) = seen.insert(one.same, one.span) {
            let message = "an endpoint that is the same as another";
            let help = "moving between them would change nothing";
            ctx.error(Code::SameEndpoint, one.span, message, help);
            ctx.reporter.also(first, "the same as this one");
        }
    }
    let all: BTreeSet<&str> = endpoints.iter().flat_map(endpoint::Built::names).collect();
    for one in endpoints {
        let own: BTreeSet<&str> = one.names().collect();
        let missing: Vec<_> = all.difference(&own).map(|name| format!("`{name}`")).collect();
        if !missing.is_empty() {
            let message = format!("this endpoint does not publish {}", missing.join(", "));
            let help = "another endpoint of the service does: a move would make it disappear";
            ctx.error(Code::UnevenVariables, one.span, message, help);
        }
    }
}

/// Refuses keys that say how TLS is verified when no endpoint uses it.
fn needs_tls(own: Option<&Probe>, endpoints: &[endpoint::Built], ctx: &mut Ctx<'_>) {
    let plain = |one: &endpoint::Built| {
        let check = &one.endpoint.probe.check;
        !matches!(check, Check::Tcp(_) | Check::Exec(_)) && check.tls().is_none()
    };
    if !endpoints.iter().all(plain) {
        return;
    }
    for (key, span) in own.iter().flat_map(|probe| &probe.at.keys) {
        if matches!(*key, "server_name" | "ca_file" | "expiry_warning") {
            let message = format!("`{key}` means nothing without TLS");
            ctx.error(Code::NotApplicable, *span, message, "no address of the service is https");
        }
    }
}

//! Builds local addresses that never change.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::core::id::EndpointName;
use crate::core::ordered::Gather as _;
use crate::policy::code::Code;
use crate::policy::compile::service::Built;
use crate::policy::compile::{check, output, probe};
use crate::policy::interpolate::Scope;
use crate::policy::model::{Intercept, Proxy, ProxyMode, ProxyRetry, TlsOptions, Trust};
use crate::policy::raw::{self, Ctx, Positive, Retry, Text, nearest};
use crate::policy::secret::Secret;
use crate::policy::url;

/// Connections or requests at a time unless told otherwise.
const MAX_CONNECTIONS: usize = 1024;

type Headers = BTreeMap<EndpointName, Vec<(String, Secret)>>;

pub(super) fn build(raw: &raw::Output, services: &[Built], ctx: &mut Ctx<'_>) -> Option<Proxy> {
    let name = output::name("proxy", raw.listen.as_ref(), raw, ctx);
    let listen = listen(raw, ctx);
    let service = service(raw, services, ctx);
    let mode = mode(raw, ctx);
    let headers = service.map(|service| headers(raw, service, ctx));
    let tls = tls(raw, ctx);
    let connections = raw.max_connections.and_then(|max| usize::try_from(max.value).ok());
    let (service, mode) = (service?, mode?);
    reachable(raw, service, &mode, ctx);
    let millis = |span: Option<Positive>, default: u64| {
        span.map_or(Duration::from_millis(default), |span| span.value)
    };
    Some(Proxy {
        name,
        listen: listen?,
        service: service.rules.name.clone(),
        mode,
        tls: tls?,
        headers: headers.unwrap_or_default(),
        connect_timeout: millis(raw.connect_timeout, 2_000),
        first_byte_timeout: millis(raw.first_byte_timeout, 60_000),
        idle_timeout: millis(raw.idle_timeout, 3_600_000),
        drain: raw.drain.map_or(Duration::from_secs(30), |span| span.value),
        max_connections: connections.unwrap_or(MAX_CONNECTIONS),
        retry: retry(raw.retry.as_ref()),
    })
}

fn listen(raw: &raw::Output, ctx: &mut Ctx<'_>) -> Option<SocketAddr> {
    let Some(text) = &raw.listen else {
        output::missing("listen", raw, "add `listen = \"127.0.0.1:PORT\"`", ctx);
        return None;
    };
    let value = check::text(text, Scope::Global, ctx)?;
    let Ok(address) = value.expose().parse::<SocketAddr>() else {
        let help = "an IP address with a port, such as \"127.0.0.1:7687\"";
        ctx.error(Code::BadListen, text.span, "not an address to listen on", help);
        return None;
    };
    if !address.ip().is_loopback() {
        let message = "the proxy is reachable from other machines";
        let help = "it has no login and adds credentials; listen on a loopback address";
        ctx.error(Code::PublicListen, text.span, message, help);
    }
    Some(address)
}

fn service<'a>(raw: &raw::Output, services: &'a [Built], ctx: &mut Ctx<'_>) -> Option<&'a Built> {
    let Some(text) = &raw.service else {
        output::missing("service", raw, "add `service = \"NAME\"`, the service behind it", ctx);
        return None;
    };
    let found = services.iter().find(|one| one.rules.name.as_str() == text.value);
    if found.is_none() {
        let known: Vec<_> = services.iter().map(|one| one.rules.name.as_str()).collect();
        let help = nearest(&text.value, &known, "services");
        ctx.error(Code::UnknownService, text.span, "an unknown service", help);
    }
    found
}

fn mode(raw: &raw::Output, ctx: &mut Ctx<'_>) -> Option<ProxyMode> {
    let word = raw.mode.as_ref().map_or("http", |mode| mode.value.as_str());
    let mode = match word {
        "http" => Some(ProxyMode::Http),
        "tcp" => Some(ProxyMode::Tcp),
        "connect" => return intercept(raw, ctx).map(ProxyMode::Connect),
        _ => None,
    };
    if mode.is_none() {
        let help = nearest(word, &["http", "tcp", "connect"], "known");
        ctx.error(Code::UnknownValue, raw.at.of("mode"), "an unknown mode of a proxy", help);
    }
    if raw.at.has("intercept") {
        let message = "`intercept` means nothing to this mode";
        ctx.error(Code::NotApplicable, raw.at.of("intercept"), message, "it goes with \"connect\"");
    }
    if mode == Some(ProxyMode::Tcp) {
        for key in ["headers", "retry", "first_byte_timeout"] {
            if raw.at.has(key) {
                let message = format!("`{key}` means nothing to bytes that are not looked into");
                ctx.error(Code::NotApplicable, raw.at.of(key), message, "it goes with \"http\"");
            }
        }
    }
    mode
}

fn intercept(raw: &raw::Output, ctx: &mut Ctx<'_>) -> Option<Intercept> {
    let Some(table) = &raw.intercept else {
        let help = "add `intercept = { hosts = [\"api.example.com\"], ca_file = \"PATH\" }`";
        output::missing("intercept", raw, help, ctx);
        return None;
    };
    let hosts = hosts(table, ctx);
    let ca_file = if let Some(path) = &table.ca_file {
        check::path(path, ctx)
    } else {
        let help = "where the authority's certificate is written";
        ctx.error(Code::MissingKey, table.at.span, "missing key `ca_file`", help);
        None
    };
    let ca_key_file: Option<PathBuf> = match &table.ca_key_file {
        Some(path) => Some(check::path(path, ctx)?),
        None => None,
    };
    Some(Intercept {
        hosts,
        ca_file: ca_file?,
        ca_key_file,
        passthrough: table.passthrough.is_none_or(|pass| pass.value),
    })
}

fn hosts(table: &raw::Intercept, ctx: &mut Ctx<'_>) -> Vec<String> {
    let mut out = Vec::new();
    for host in table.hosts.iter().flat_map(|list| &list.items) {
        let Some(value) = check::text(host, Scope::Global, ctx) else { continue };
        let name = value.expose().to_ascii_lowercase();
        if url::check_name(&name).is_err() {
            ctx.error(Code::BadUrl, host.span, "not a host name", "such as \"api.example.com\"");
        }
        out.push(name);
    }
    if table.hosts.as_ref().is_none_or(|list| list.empty) {
        let help = "name the hosts that the server has hard-coded";
        ctx.error(Code::EmptyValue, table.at.of("hosts"), "no host to open", help);
    }
    out
}

/// The headers of each endpoint, whose variables they may use.
fn headers(raw: &raw::Output, service: &Built, ctx: &mut Ctx<'_>) -> Headers {
    let scopes = service.scopes.iter();
    scopes
        .map(|(name, env)| {
            let scope = Scope::Endpoint(name.as_str(), env);
            let headers = check::headers(raw.headers.as_ref(), scope, ctx);
            let headers = headers.into_iter().map(|(name, value)| (name, value.text));
            (name.clone(), headers.collect())
        })
        .gather_map()
}

fn tls(raw: &raw::Output, ctx: &mut Ctx<'_>) -> Option<TlsOptions> {
    let server_name = match &raw.server_name {
        Some(name) => Some(probe::tls::server_name(name, Scope::Global, ctx)?),
        None => None,
    };
    let ca_pem = match &raw.ca_file {
        Some(file) => Some(probe::tls::ca_file(file, ctx)?),
        None => None,
    };
    Some(TlsOptions { trust: Trust::Verified, server_name, ca_pem, expiry_warning: Duration::ZERO })
}

/// Every endpoint behind a proxy has an address that the proxy can speak to.
fn reachable(raw: &raw::Output, service: &Built, mode: &ProxyMode, ctx: &mut Ctx<'_>) {
    let place = raw.service.as_ref().map_or(raw.at.span, |text: &Text| text.span);
    for endpoint in service.service.endpoints.values() {
        let fits = endpoint.upstream.as_ref().is_some_and(|upstream| match mode {
            ProxyMode::Tcp => true,
            ProxyMode::Http | ProxyMode::Connect(_) => {
                matches!(upstream.scheme, "http" | "https")
            }
        });
        if !fits {
            let name = endpoint.name.as_str();
            let message = format!("endpoint `{name}` has no address that this proxy can speak to");
            let help = match mode {
                ProxyMode::Tcp => "give it a `url`",
                ProxyMode::Http | ProxyMode::Connect(_) => {
                    "an http proxy needs `http` or `https` addresses; `mode = \"tcp\"` takes any"
                }
            };
            ctx.error(Code::WrongScheme, place, message, help);
        }
    }
}

fn retry(raw: Option<&Retry>) -> ProxyRetry {
    let statuses = raw.and_then(|raw| raw.statuses.as_ref()).map_or_else(
        || vec![502, 503, 504],
        |list| list.items.iter().flat_map(|status| status.range.0..=status.range.1).collect(),
    );
    ProxyRetry {
        attempts: raw.and_then(|raw| raw.attempts).map_or(2, |attempts| attempts.value),
        statuses,
        budget_permille: raw.and_then(|raw| raw.budget).map_or(200, |budget| budget.permille),
        budget_min: raw.and_then(|raw| raw.budget_min).map_or(10, |min| min.value),
    }
}

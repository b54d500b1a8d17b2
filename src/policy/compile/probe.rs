//! Builds what one probe does to one endpoint.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value as Json;

use crate::policy::code::Code;
use crate::policy::compile::check;
use crate::policy::compile::endpoint::Located;
use crate::policy::interpolate::{self, Control, Scope, Value};
use crate::policy::model::{
    Check, ExecCheck, HttpCheck, HttpExpect, MappedOutcome, Probe, Target, TcpCheck, TlsCheck,
    TlsOptions, Trust,
};
use crate::policy::raw::{self, Ctx, Expect, Mapped, OneOrMany, ProbeKind, Span, Status, Text};
use crate::policy::secret::Secret;
use crate::policy::url;

/// A certificate that ends sooner than this makes a pass `degraded`.
const EXPIRY_WARNING: Duration = Duration::from_secs(48 * 3600);

/// The endpoint being probed.
pub(super) struct Site<'a> {
    pub(super) name: &'a str,
    pub(super) span: Span,
    pub(super) env: &'a BTreeMap<String, Value>,
    pub(super) address: Option<&'a Located>,
}

impl<'a> Site<'a> {
    fn scope(&self) -> Scope<'a> {
        Scope::Endpoint(self.name, self.env)
    }
}

/// Builds a probe from its merged layers; `own` are the layers that the author wrote.
pub(super) fn build(
    raw: &raw::Probe,
    own: &[Option<&raw::Probe>],
    timeout: Duration,
    site: &Site<'_>,
    ctx: &mut Ctx<'_>,
) -> Option<Probe> {
    let unreadable =
        own.iter().flatten().any(|probe| probe.r#type.is_none() && probe.at.has("type"));
    if unreadable {
        return None;
    }
    let kind = raw.r#type.map(|at| at.value).or_else(|| site.address.map(natural));
    let Some(kind) = kind else {
        missing_url(site, ctx);
        return None;
    };
    own.iter().flatten().for_each(|probe| applicable(probe, kind, ctx));
    let check = match kind {
        ProbeKind::Http => Check::Http(Box::new(http(raw, site, ctx)?)),
        ProbeKind::Tcp => Check::Tcp(tcp(raw, site, ctx)?),
        ProbeKind::Tls => Check::Tls(TlsCheck {
            target: target(raw, site, ctx)?,
            tls: tls_options(raw, site, ctx)?,
        }),
        ProbeKind::Exec => Check::Exec(exec(raw, site, ctx)?),
    };
    Some(Probe::new(timeout, check))
}

/// The kind that an address calls for. A self-signed certificate cannot be verified, so such an
/// address is tried by connection only.
fn natural(located: &Located) -> ProbeKind {
    let address = &located.address;
    if address.is_http() {
        ProbeKind::Http
    } else if address.tls && !address.scheme.ends_with("+ssc") {
        ProbeKind::Tls
    } else {
        ProbeKind::Tcp
    }
}

fn missing_url(site: &Site<'_>, ctx: &mut Ctx<'_>) {
    let message = format!("endpoint `{}` has no address to probe", site.name);
    ctx.error(Code::MissingUrl, site.span, message, "give it a `url`");
}

/// Refuses keys that mean nothing to this kind of probe.
fn applicable(raw: &raw::Probe, kind: ProbeKind, ctx: &mut Ctx<'_>) {
    const TIMED: [&str; 11] = [
        "type",
        "interval",
        "fast_interval",
        "down_interval",
        "down_interval_max",
        "standby_interval",
        "timeout",
        "rise",
        "fall",
        "jitter",
        "cost",
    ];
    let (label, keys): (_, &[&str]) = match kind {
        ProbeKind::Http => (
            "an http",
            &[
                "port",
                "path",
                "method",
                "headers",
                "body",
                "expect",
                "server_name",
                "ca_file",
                "expiry_warning",
            ],
        ),
        ProbeKind::Tcp => ("a tcp", &["port", "send", "expect"]),
        ProbeKind::Tls => ("a tls", &["port", "server_name", "ca_file", "expiry_warning"]),
        ProbeKind::Exec => ("an exec", &["command", "env"]),
    };
    let expect = raw.expect.iter().flat_map(|expect| &expect.at.keys);
    let wrong = expect.filter(|(key, _)| (*key == "reply") != (kind == ProbeKind::Tcp));
    let foreign = raw.at.keys.iter().filter(|(key, _)| !TIMED.contains(key) && !keys.contains(key));
    for (key, span) in foreign.chain(wrong) {
        let message = format!("`{key}` means nothing to {label} probe");
        ctx.error(Code::NotApplicable, *span, message, "");
    }
}

fn target(raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<Target> {
    let Some(located) = site.address else {
        missing_url(site, ctx);
        return None;
    };
    let port = raw.port.and_then(|port| u16::try_from(port.value).ok());
    let address = &located.address;
    Some(Target { host: address.host.clone(), port: port.unwrap_or(address.port) })
}

/// Expands an optional text to a secret; `Err` when it was wrong.
fn secret(
    raw: Option<&Text>,
    control: Control,
    site: &Site<'_>,
    ctx: &mut Ctx<'_>,
) -> Result<Option<Secret>, ()> {
    let Some(raw) = raw else { return Ok(None) };
    let value = interpolate::expand(raw, site.scope(), control, ctx).ok_or(())?;
    Ok(Some(value.text))
}

fn http(raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<HttpCheck> {
    let target = target(raw, site, ctx);
    let located = site.address;
    if let Some(located) = located {
        http_address(located, ctx);
    }
    let tls = located.is_some_and(|located| located.address.tls);
    let tls = if tls { Some(tls_options(raw, site, ctx)) } else { None };
    let path = path(raw.path.as_ref(), site, ctx);
    let method = method(raw, ctx);
    let headers = check::headers(raw.headers.as_ref(), site.scope(), ctx);
    let body = secret(raw.body.as_ref(), Control::Any, site, ctx);
    let expect = expect(raw.expect.as_ref(), ctx);
    Some(HttpCheck {
        tls: match tls {
            Some(options) => Some(options?),
            None => None,
        },
        method: method?,
        path: path?,
        headers: headers.into_iter().map(|(name, value)| (name, value.text)).collect(),
        body: body.ok()?,
        expect,
        ..HttpCheck::new(target?)
    })
}

fn http_address(located: &Located, ctx: &mut Ctx<'_>) {
    if !located.address.is_http() {
        let message = "the address is not an http or https address, which this probe needs";
        ctx.error(
            Code::WrongScheme,
            located.span,
            message,
            "or choose `type = \"tcp\"` or `\"tls\"`",
        );
    } else if located.address.userinfo {
        let message = "user info in an http address would not be sent";
        ctx.error(Code::WrongScheme, located.span, message, "use an `Authorization` header");
    }
}

/// The request's path: the address's own, then the probe's, then the queries of both.
fn path(raw: Option<&Text>, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<Secret> {
    let (base, query) = site.address.map_or(("", None), |located| {
        (located.address.path.as_str(), located.address.query.as_deref())
    });
    let Some(raw) = raw else {
        let path = if base.is_empty() { "/" } else { base };
        return Some(Secret::new(with_query(path, query)));
    };
    let own = check::text(raw, site.scope(), ctx)?;
    let text = own.expose();
    if !text.starts_with('/') || text.contains([' ', '#']) || !text.is_ascii() {
        let help = "start with `/`; blanks and other characters are written `%20`";
        ctx.error(Code::BadPath, raw.span, "not a request path", help);
        return None;
    }
    Some(Secret::new(with_query(&format!("{}{text}", base.trim_end_matches('/')), query)))
}

fn with_query(path: &str, query: Option<&str>) -> String {
    match query {
        None => path.to_owned(),
        Some(query) => format!("{path}{}{query}", if path.contains('?') { '&' } else { '?' }),
    }
}

fn method(raw: &raw::Probe, ctx: &mut Ctx<'_>) -> Option<String> {
    let Some(method) = &raw.method else {
        return Some(if raw.body.is_some() { "POST" } else { "GET" }.to_owned());
    };
    let word = method.value.as_str();
    let good = (1..=20).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        && word != "CONNECT";
    if !good {
        let help = "a word in upper case, such as GET, HEAD or POST";
        ctx.error(Code::BadMethod, method.span, "not an HTTP method", help);
    }
    good.then(|| word.to_owned())
}

fn tls_options(raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<TlsOptions> {
    let server_name = match &raw.server_name {
        Some(name) => Some(server_name(name, site, ctx)?),
        None => None,
    };
    let ca_pem = match &raw.ca_file {
        Some(file) => Some(ca_file(file, ctx)?),
        None => None,
    };
    let expiry_warning = raw.expiry_warning.map_or(EXPIRY_WARNING, |span| span.value);
    Some(TlsOptions { server_name, ca_pem, expiry_warning, trust: Trust::Verified })
}

fn server_name(raw: &Text, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<String> {
    verified_name(raw, site.scope(), ctx)
}

/// The name to be verified in a certificate, where there is no endpoint.
pub(super) fn global_server_name(raw: &Text, ctx: &mut Ctx<'_>) -> Option<String> {
    verified_name(raw, Scope::Global, ctx)
}

fn verified_name(raw: &Text, scope: Scope<'_>, ctx: &mut Ctx<'_>) -> Option<String> {
    let name = check::text(raw, scope, ctx)?.expose().to_owned();
    if url::check_name(&name).is_err() {
        ctx.error(Code::BadUrl, raw.span, "not a server name", "write the name in the certificate");
        return None;
    }
    Some(name)
}

/// Reads a file of roots.
pub(super) fn ca_file(raw: &Text, ctx: &mut Ctx<'_>) -> Option<String> {
    let path = check::path(raw, ctx)?;
    let pem = interpolate::file(&path, raw.span, ctx)?;
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        ctx.error(Code::BadCertificate, raw.span, "not a PEM certificate file", "");
        return None;
    }
    Some(pem)
}

fn tcp(raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<TcpCheck> {
    let target = target(raw, site, ctx);
    let send = secret(raw.send.as_ref(), Control::Any, site, ctx);
    let expect = raw.expect.as_ref().and_then(|expect| expect.reply.as_ref());
    Some(TcpCheck {
        target: target?,
        send: send.ok()?,
        expect: expect.map(|text| text.value.clone()),
    })
}

fn exec(raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<ExecCheck> {
    let Some(command) = &raw.command else {
        if !raw.at.has("command") {
            let help = "add `command = [\"program\", \"argument\"]`";
            ctx.error(Code::MissingKey, raw.at.span, "missing key `command`", help);
        }
        return None;
    };
    let argv = check::argv(command, site.scope(), ctx);
    let mut env: BTreeMap<String, Secret> =
        site.env.iter().map(|(name, value)| (name.clone(), value.text.clone())).collect();
    for (name, (span, raw)) in raw.env.iter().flat_map(|map| &map.0) {
        if !interpolate::is_variable_name(name) {
            let help = "letters, digits and `_`, no digit first";
            ctx.error(Code::BadVariableName, *span, "not a variable name", help);
        }
        check::literal_credential(name, raw, ctx);
        let value = interpolate::expand(raw, site.scope(), Control::Lines, ctx);
        env.extend(value.map(|value| (name.clone(), value.text)));
    }
    Some(ExecCheck { argv: argv?, env })
}

fn expect(raw: Option<&Expect>, ctx: &mut Ctx<'_>) -> HttpExpect {
    let default = Expect::default();
    let raw = raw.unwrap_or(&default);
    let texts = |list: Option<&OneOrMany<Text>>| {
        list.iter().flat_map(|list| &list.items).map(|text| text.value.clone()).collect()
    };
    HttpExpect {
        status: statuses(raw.status.as_ref(), ctx),
        outcomes: outcomes(raw, ctx),
        headers: expected_headers(raw, ctx),
        body_contains: texts(raw.body_contains.as_ref()),
        body_excludes: texts(raw.body_excludes.as_ref()),
        body_matches: raw.body_matches.as_ref().and_then(|pattern| regex(pattern, ctx)),
        json: json(raw, ctx),
        graphql: raw.graphql.is_some_and(|graphql| graphql.value),
        quota_used: None,
        quota_limit: None,
        slow: raw.slow.map(|slow| slow.value),
    }
}

fn statuses(raw: Option<&OneOrMany<Status>>, ctx: &mut Ctx<'_>) -> Vec<(u16, u16)> {
    let Some(raw) = raw else { return vec![(200, 299)] };
    if raw.empty {
        ctx.error(Code::EmptyValue, raw.span, "an empty list of statuses", "no answer could pass");
    }
    raw.items.iter().map(|status| status.range).collect()
}

fn outcomes(raw: &Expect, ctx: &mut Ctx<'_>) -> BTreeMap<u16, MappedOutcome> {
    let mut out = BTreeMap::new();
    for (pattern, (span, mapped)) in raw.outcomes.iter().flat_map(|map| &map.0) {
        let Some((low, high)) = Status::parse(pattern) else {
            let help = "such as 402, \"4xx\" or \"500-503\"";
            ctx.error(Code::BadStatus, *span, "not a status pattern", help);
            continue;
        };
        let outcome = match mapped.value {
            Mapped::Ok => MappedOutcome::Ok,
            Mapped::Degraded => MappedOutcome::Degraded,
            Mapped::ServerError => MappedOutcome::ServerError,
            Mapped::Throttled => MappedOutcome::Throttled,
            Mapped::Auth => MappedOutcome::Auth,
            Mapped::ClientError => MappedOutcome::ClientError,
            Mapped::WrongRole => MappedOutcome::WrongRole,
        };
        // A single status says more than a class, whatever their order.
        for status in low..=high {
            if low == high {
                out.insert(status, outcome);
            } else {
                out.entry(status).or_insert(outcome);
            }
        }
    }
    out
}

fn expected_headers(raw: &Expect, ctx: &mut Ctx<'_>) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (name, (span, text)) in raw.headers.iter().flat_map(|map| &map.0) {
        if !check::header_name(name) {
            ctx.error(Code::BadHeader, *span, "not a header name", "letters, digits and `-`");
        }
        out.insert(name.to_ascii_lowercase(), text.value.clone());
    }
    out
}

fn regex(pattern: &Text, ctx: &mut Ctx<'_>) -> Option<regex_lite::Regex> {
    match regex_lite::Regex::new(&pattern.value) {
        Ok(regex) => Some(regex),
        Err(error) => {
            let help = error.to_string();
            ctx.error(Code::BadPattern, pattern.span, "not a regular expression", help);
            None
        }
    }
}

fn json(raw: &Expect, ctx: &mut Ctx<'_>) -> BTreeMap<String, Option<Json>> {
    let mut out = BTreeMap::new();
    for (pointer, (span, value)) in raw.json.iter().flat_map(|map| &map.0) {
        if !is_pointer(pointer) {
            let help = "start with `/`; `~` is written `~0`, `/` within a name `~1`";
            ctx.error(Code::BadPointer, *span, "not a JSON pointer", help);
        }
        let exists = value.0 == Json::Bool(true);
        out.insert(pointer.clone(), (!exists).then(|| value.0.clone()));
    }
    out
}

/// Whether a text is a JSON pointer (RFC 6901).
fn is_pointer(text: &str) -> bool {
    let escapes = || text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    (text.is_empty() || text.starts_with('/')) && escapes()
}

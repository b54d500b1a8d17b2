//! Builds what one probe does to one endpoint.
//!
//! Owns the choice of the kind, by the policy or by the scheme of the address, and what all kinds
//! share; each family of kinds has a file of its own. [`keys`] knows which keys belong to which.

mod expect;
mod http;
pub(super) mod keys;
mod mcp;
mod server;
mod several;
pub(super) mod tls;
mod token;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::ordered::Gather as _;
use crate::policy::code::Code;
use crate::policy::compile::address::{self, Located};
use crate::policy::compile::{check, fingerprint};
use crate::policy::interpolate::{self, Control, Scope, Value};
use crate::policy::model::{Addresses, Check, ExecCheck, Probe, Target, TcpCheck, TlsCheck};
use crate::policy::raw::{self, AddressChoice, AddressWord, Ctx, ProbeKind, Span, Text};
use crate::policy::secret::Secret;

/// The endpoint being probed.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) name: &'a str,
    pub(super) span: Span,
    pub(super) env: &'a BTreeMap<String, Value>,
    pub(super) address: Option<&'a Located>,
    /// The kind that an HTTP address calls for.
    pub(super) over_http: ProbeKind,
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
    for span in own.iter().flatten().filter(|probe| probe.at.has("name")).map(|p| p.at.of("name")) {
        let message = "`name` means nothing to a check that stands alone";
        ctx.error(Code::NotApplicable, span, message, "it tells the `checks` of one probe apart");
    }
    let check = check(raw, own, site, ctx);
    let addresses = addresses(raw, ctx);
    let mut probe = Probe { addresses: addresses?, ..Probe::new(timeout, check?) };
    probe.fingerprint = fingerprint::of_probe(&probe);
    Some(probe)
}

/// Builds one check; those of a combination come through here too.
fn check(
    raw: &raw::Probe,
    own: &[Option<&raw::Probe>],
    site: &Site<'_>,
    ctx: &mut Ctx<'_>,
) -> Option<Check> {
    let mut own = own.iter().flatten().copied();
    let unreadable = |probe: &raw::Probe| {
        let at = &probe.at;
        (probe.r#type.is_none() && at.has("type")) || (probe.url.is_none() && at.has("url"))
    };
    if own.clone().any(unreadable) {
        return None;
    }
    let elsewhere = match &raw.url {
        Some(url) => {
            let full = check::text(url, site.scope(), ctx)?;
            Some(address::locate(full, &url.value, url.span, None, ctx)?)
        }
        None => None,
    };
    let site = Site { address: elsewhere.as_ref().or(site.address), ..*site };
    let kind = raw.r#type.map(|at| at.value).or_else(|| natural(&site));
    let Some(kind) = kind else {
        missing_url(&site, ctx);
        return None;
    };
    own.by_ref().for_each(|probe| keys::applicable(probe, kind, ctx));
    of_kind(kind, raw, &site, ctx)
}

fn of_kind(kind: ProbeKind, raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<Check> {
    Some(match kind {
        ProbeKind::Http => Check::Http(Box::new(http::http(raw, site, ctx)?)),
        ProbeKind::Graphql => Check::Http(Box::new(http::graphql(raw, site, ctx)?)),
        ProbeKind::Neo4j => Check::Neo4j(Box::new(http::neo4j(raw, site, ctx)?)),
        ProbeKind::Mcp => Check::Mcp(Box::new(mcp::http(raw, site, ctx)?)),
        ProbeKind::McpStdio => Check::McpStdio(Box::new(mcp::stdio(raw, site, ctx)?)),
        ProbeKind::Tcp => Check::Tcp(tcp(raw, site, ctx)?),
        ProbeKind::Tls => {
            let (target, tls) = (target(raw, kind, site, ctx), tls::options(raw, site, ctx));
            Check::Tls(TlsCheck { target: target?, tls: tls? })
        }
        ProbeKind::Exec => Check::Exec(exec(raw, site, ctx)?),
        ProbeKind::Bolt => Check::Bolt(Box::new(server::bolt(raw, site, ctx)?)),
        ProbeKind::Redis => Check::Redis(Box::new(server::redis(raw, site, ctx)?)),
        ProbeKind::Postgres => Check::Postgres(Box::new(server::postgres(raw, site, ctx)?)),
        ProbeKind::Grpc => Check::Grpc(Box::new(server::grpc(raw, site, ctx)?)),
        ProbeKind::Dns => Check::Dns(Box::new(server::dns(raw, site, ctx)?)),
        ProbeKind::All | ProbeKind::Any | ProbeKind::KOfN => {
            Check::Several(Box::new(several::several(kind, raw, site, ctx)?))
        }
        ProbeKind::None => {
            let span = raw.r#type.map_or(raw.at.span, |kind| kind.span);
            let message = "only the deep probe can be left out";
            ctx.error(Code::NotApplicable, span, message, "choose another `type`");
            return None;
        }
    })
}

/// The kind that an address calls for.
fn natural(site: &Site<'_>) -> Option<ProbeKind> {
    let address = &site.address?.address;
    Some(match address.scheme {
        _ if address.is_http() => site.over_http,
        "bolt" | "bolt+s" | "bolt+ssc" | "neo4j" | "neo4j+s" | "neo4j+ssc" => ProbeKind::Bolt,
        "redis" | "rediss" => ProbeKind::Redis,
        "postgres" | "postgresql" => ProbeKind::Postgres,
        "grpc" | "grpcs" => ProbeKind::Grpc,
        "dns" => ProbeKind::Dns,
        _ if address.tls => ProbeKind::Tls,
        _ => ProbeKind::Tcp,
    })
}

fn missing_url(site: &Site<'_>, ctx: &mut Ctx<'_>) {
    let message = format!("endpoint `{}` has no address to probe", site.name);
    ctx.error(Code::MissingUrl, site.span, message, "give it a `url`");
}

/// Where to connect, if the address is one that the kind can use.
fn target(raw: &raw::Probe, kind: ProbeKind, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<Target> {
    let Some(located) = site.address else {
        missing_url(site, ctx);
        return None;
    };
    if !keys::speaks(kind, located, ctx) {
        return None;
    }
    let port = raw.port.and_then(|port| u16::try_from(port.value).ok());
    let address = &located.address;
    Some(Target { host: address.host.clone(), port: port.unwrap_or(address.port) })
}

fn addresses(raw: &raw::Probe, ctx: &mut Ctx<'_>) -> Option<Addresses> {
    let Some(chosen) = &raw.addresses else { return Some(Addresses::One) };
    Some(match &chosen.value {
        AddressChoice::Word(AddressWord::One) => Addresses::One,
        AddressChoice::Word(AddressWord::All) => Addresses::All { min_permille: 1000 },
        AddressChoice::Share(share) => {
            let min_permille = share.all.0?.permille;
            if min_permille == 0 {
                let message = "a number out of range";
                ctx.error(Code::OutOfRange, chosen.span, message, "above 0.0 up to 1.0");
                return None;
            }
            Addresses::All { min_permille }
        }
    })
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

/// Expands an optional text that is no secret; an empty one is none, `Err` when it was wrong.
fn plain(raw: Option<&Text>, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Result<Option<String>, ()> {
    let value = secret(raw, Control::Refused, site, ctx)?;
    Ok(value.map(|value| value.expose().to_owned()).filter(|value| !value.is_empty()))
}

/// Reports a key that the kind cannot do without.
fn missing_key(key: &str, raw: &raw::Probe, help: &str, ctx: &mut Ctx<'_>) {
    if !raw.at.has(key) {
        ctx.error(Code::MissingKey, raw.at.span, format!("missing key `{key}`"), help);
    }
}

fn tcp(raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<TcpCheck> {
    let target = target(raw, ProbeKind::Tcp, site, ctx);
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
        missing_key("command", raw, "add `command = [\"program\", \"argument\"]`", ctx);
        return None;
    };
    let argv = check::argv(command, site.scope(), ctx);
    let mut env: BTreeMap<String, Secret> =
        site.env.iter().map(|(name, value)| (name.clone(), value.text.clone())).gather_map();
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

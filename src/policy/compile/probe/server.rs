//! Checks of servers by their own protocol: Bolt, Redis, `PostgreSQL`, gRPC, DNS.
//!
//! A user and a password come from the probe's keys, else from the address. An empty text is
//! none, so that a preset can refer to variables that an endpoint need not have.

use std::time::Duration;

use crate::policy::code::Code;
use crate::policy::compile::check;
use crate::policy::compile::probe::{Site, expect, missing_key, plain, secret, target, tls};
use crate::policy::interpolate::Control;
use crate::policy::model::{
    BoltCheck, BoltDepth, DnsCheck, DnsRecord, GrpcCheck, Login, PostgresCheck, RedisCheck, Role,
};
use crate::policy::raw::{self, Ctx, Depth, ProbeKind, Record, RoleChoice, Span, Text};
use crate::policy::secret::Secret;
use crate::policy::url;

/// Who asks a `PostgreSQL` server when no user is given: a user that nearly every server has.
const POSTGRES_USER: &str = "postgres";
/// Metadata that belongs to the protocol.
const OWN_METADATA: [&str; 3] = ["te", "content-type", "user-agent"];

/// A Neo4j server by Bolt.
pub(super) fn bolt(raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<BoltCheck> {
    let target = target(raw, ProbeKind::Bolt, site, ctx);
    let tls = tls::by_scheme(raw, site, ctx);
    let login = user_and_password(raw, site, ctx);
    let database = plain(raw.database.as_ref(), site, ctx);
    let (role, server, database_id) = (role(raw), name(raw), database_id(raw));
    let login = login.ok()?;
    let least = if database_id.is_some() {
        BoltDepth::Query
    } else if login.is_some() || role != Role::Any || server.is_some() {
        BoltDepth::Login
    } else {
        BoltDepth::Handshake
    };
    let depth = raw.depth.map(|depth| match depth.value {
        Depth::Handshake => BoltDepth::Handshake,
        Depth::Login => BoltDepth::Login,
        Depth::Query => BoltDepth::Query,
    });
    if let (Some(at), Some(BoltDepth::Handshake)) = (raw.depth, depth)
        && (role != Role::Any || server.is_some())
    {
        let message = "a handshake tells neither role nor server";
        ctx.error(Code::NotApplicable, at.span, message, "they need `depth = \"login\"`");
        return None;
    }
    if let (Some(at), Some(BoltDepth::Handshake | BoltDepth::Login), true) =
        (raw.depth, depth, database_id.is_some())
    {
        let message = "only a query tells which database answers";
        ctx.error(Code::NotApplicable, at.span, message, "it needs `depth = \"query\"`");
        return None;
    }
    Some(BoltCheck {
        target: target?,
        tls: tls.ok()?,
        depth: depth.unwrap_or(least),
        login,
        database: database.ok()?,
        role,
        server,
        database_id,
        slow: slow(raw),
    })
}

/// A Redis server.
pub(super) fn redis(raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<RedisCheck> {
    let target = target(raw, ProbeKind::Redis, site, ctx);
    let tls = tls::by_scheme(raw, site, ctx);
    let credentials = credentials(raw, site, ctx).ok()?;
    let login = match credentials {
        (username, Some(password)) => {
            Some(Login { username: username.unwrap_or_else(|| "".into()), password })
        }
        (Some(_), None) => return incomplete("a user without a password", raw, site, ctx),
        (None, None) => None,
    };
    let (role, max_lag) = (role(raw), raw.max_lag.map(|span| span.value));
    Some(RedisCheck { target: target?, tls: tls.ok()?, login, role, max_lag, slow: slow(raw) })
}

/// A `PostgreSQL` server.
pub(super) fn postgres(
    raw: &raw::Probe,
    site: &Site<'_>,
    ctx: &mut Ctx<'_>,
) -> Option<PostgresCheck> {
    let target = target(raw, ProbeKind::Postgres, site, ctx);
    let located = site.address?;
    let tls = if raw.tls.map_or(located.address.wants_tls(), |tls| tls.value) {
        tls::options(raw, site, ctx).map(Some).ok_or(())
    } else {
        Ok(None)
    };
    let (username, password) = credentials(raw, site, ctx).ok()?;
    let database = plain(raw.database.as_ref(), site, ctx);
    let of_address = located.address.path.trim_matches('/');
    let of_address = url::unescape(of_address).ok().filter(|name| !name.is_empty());
    let (role, max_lag) = (role(raw), raw.max_lag.map(|span| span.value));
    Some(PostgresCheck {
        target: target?,
        tls: tls.ok()?,
        authenticate: password.is_some() || role != Role::Any || max_lag.is_some(),
        login: Login {
            username: username.unwrap_or_else(|| POSTGRES_USER.into()),
            password: password.unwrap_or_else(|| "".into()),
        },
        database: database.ok()?.or(of_address),
        role,
        max_lag,
        slow: slow(raw),
    })
}

/// A gRPC server's health service.
pub(super) fn grpc(raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<GrpcCheck> {
    let target = target(raw, ProbeKind::Grpc, site, ctx);
    let tls = tls::by_scheme(raw, site, ctx);
    let service = plain(raw.service.as_ref(), site, ctx);
    let metadata = check::headers(raw.metadata.as_ref(), site.scope(), ctx);
    for (name, (span, _)) in raw.metadata.iter().flat_map(|map| &map.0) {
        let folded = name.to_ascii_lowercase();
        if folded.starts_with("grpc-") || OWN_METADATA.contains(&folded.as_str()) {
            let message = "metadata that belongs to the protocol";
            ctx.error(Code::BadHeader, *span, message, "leave it out");
        }
    }
    let folded = |(name, value): (String, _)| (name.to_ascii_lowercase(), value);
    Some(GrpcCheck {
        target: target?,
        tls: tls.ok()?,
        service: service.ok()?.unwrap_or_default(),
        metadata: metadata.into_iter().map(|(name, value)| folded((name, value.text))).collect(),
        watch: raw.watch.is_some_and(|watch| watch.value),
        slow: slow(raw),
    })
}

/// A DNS server; the name is the probe's, else the path of the address (RFC 4501).
pub(super) fn dns(raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<DnsCheck> {
    let target = target(raw, ProbeKind::Dns, site, ctx);
    let query = plain(raw.query.as_ref(), site, ctx).ok()?;
    let located = site.address?;
    let of_address = located.address.path.trim_matches('/');
    let Some(name) = query.or_else(|| Some(of_address.to_owned()).filter(|one| !one.is_empty()))
    else {
        let help = "the name to ask for, such as `query = \"www.example.com\"`";
        missing_key("query", raw, help, ctx);
        return None;
    };
    if url::check_name(&name).is_err() {
        let span = raw.query.as_ref().map_or(located.span, |query| query.span);
        ctx.error(Code::BadUrl, span, "not a name to ask for", "such as `www.example.com`");
        return None;
    }
    let record = match raw.record.map(|record| record.value) {
        Some(Record::Aaaa) => DnsRecord::Aaaa,
        Some(Record::Cname) => DnsRecord::Cname,
        Some(Record::Txt) => DnsRecord::Txt,
        Some(Record::Srv) => DnsRecord::Srv,
        Some(Record::A) | None => DnsRecord::A,
    };
    let expect = expect::texts(raw.expect.as_ref().and_then(|expect| expect.values.as_ref()));
    Some(DnsCheck { target: target?, name, record, expect, slow: slow(raw) })
}

/// What an answer may take before it is slow.
pub(super) fn slow(raw: &raw::Probe) -> Option<Duration> {
    raw.expect.as_ref().and_then(|expect| expect.slow).map(|slow| slow.value)
}

/// What the server must call itself.
pub(super) fn name(raw: &raw::Probe) -> Option<String> {
    raw.expect.as_ref().and_then(|expect| expect.server.as_ref()).map(|text| text.value.clone())
}

/// The id that the database must have.
pub(super) fn database_id(raw: &raw::Probe) -> Option<String> {
    raw.expect.as_ref().and_then(|expect| expect.database_id.as_ref()).map(|id| id.value.clone())
}

fn role(raw: &raw::Probe) -> Role {
    match raw.role.map(|role| role.value) {
        Some(RoleChoice::Writer | RoleChoice::Primary) => Role::Writer,
        Some(RoleChoice::Reader | RoleChoice::Replica) => Role::Reader,
        Some(RoleChoice::Any) | None => Role::Any,
    }
}

/// User and password together, or neither.
pub(super) fn user_and_password(
    raw: &raw::Probe,
    site: &Site<'_>,
    ctx: &mut Ctx<'_>,
) -> Result<Option<Login>, ()> {
    match credentials(raw, site, ctx)? {
        (Some(username), Some(password)) => Ok(Some(Login { username, password })),
        (None, None) => Ok(None),
        (Some(_), None) => incomplete("a user without a password", raw, site, ctx).ok_or(()),
        (None, Some(_)) => incomplete("a password without a user", raw, site, ctx).ok_or(()),
    }
}

fn incomplete<T>(message: &str, raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<T> {
    let keys = [&raw.username, &raw.password].into_iter().flatten().map(|text| text.span);
    let span = keys.reduce(Span::or).unwrap_or(Span::NONE);
    let span = span.or(site.address.map_or(Span::NONE, |located| located.span));
    let help = "give both `username` and `password`, in the probe or in the address";
    ctx.error(Code::IncompleteLogin, span, message, help);
    None
}

/// User and password, each from the probe's key, else from the address.
fn credentials(
    raw: &raw::Probe,
    site: &Site<'_>,
    ctx: &mut Ctx<'_>,
) -> Result<(Option<Secret>, Option<Secret>), ()> {
    let mut of_key = |name: &str, text: Option<&Text>| {
        if let Some(text) = text {
            check::literal_credential(name, text, ctx);
        }
        let value = secret(text, Control::Refused, site, ctx)?;
        Ok(value.filter(|value| !value.expose().is_empty()))
    };
    let username = of_key("username", raw.username.as_ref());
    let password = of_key("password", raw.password.as_ref());
    let user = site.address.and_then(|located| located.address.user.as_ref());
    let given = |value: &&Secret| !value.expose().is_empty();
    let of_address = user.map(|user| &user.name).filter(given).cloned();
    let and_password = user.and_then(|user| user.password.as_ref()).filter(given).cloned();
    Ok((username?.or(of_address), password?.or(and_password)))
}

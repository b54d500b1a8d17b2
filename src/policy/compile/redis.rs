//! Builds the Redis server that is told the state and every decision.

use std::sync::Arc;
use std::time::Duration;

use crate::policy::code::Code;
use crate::policy::compile::{check, probe};
use crate::policy::interpolate::Scope;
use crate::policy::model::{Login, Redis, RedisTls, Target};
use crate::policy::raw::{self, Ctx, Text};
use crate::policy::secret::Secret;
use crate::policy::url::{self, Address};

const PREFIX: &str = "mcpf";

/// Longest prefix, in bytes.
const PREFIX_MAX: usize = 64;

const HISTORY: u32 = 1_000;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const HISTORY_AGE: Duration = DAY.saturating_mul(7);

const HISTORY_AGE_MAX: Duration = DAY.saturating_mul(30);

const TIMEOUT: Duration = Duration::from_secs(2);

/// A start may wait for it, so it is short.
const TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// Largest number of a database.
const DATABASE_MAX: u32 = 65_535;

const KNOWN: &str =
    "write \"redis://[user[:password]@]host[:port][/db]\", or \"rediss://…\" for TLS";

/// The Redis server that is told the state and every decision.
pub(super) fn build(raw: Option<&raw::Redis>, ctx: &mut Ctx<'_>) -> Option<Arc<Redis>> {
    let raw = raw?;
    let (prefix, history_age) = (prefix(raw.prefix.as_ref(), ctx), history_age(raw, ctx));
    let timeout = timeout(raw, ctx);
    let ca = match &raw.ca_file {
        Some(file) => probe::tls::ca_file(file, ctx).map(|pem| Some(Arc::from(pem))),
        None => Some(None),
    };
    let text = raw.url.0.as_ref()?;
    let address = address(text, ctx);
    let login = login(raw, address.as_ref(), ctx);
    let address = address?;
    if let (Some(file), false) = (&raw.ca_file, address.tls) {
        let message = "certificates for an address without TLS";
        ctx.error(Code::NotApplicable, file.span, message, "write `rediss://`, or leave it out");
    }
    let database = database(&address, text, ctx)?;
    let history = raw.history.map_or(HISTORY, |count| count.value);
    Some(Arc::new(Redis {
        target: Target { host: address.host, port: address.port },
        login: login.ok()?,
        database,
        tls: if address.tls { Some(RedisTls { ca: ca? }) } else { None },
        prefix: prefix?,
        history: usize::try_from(history).unwrap_or(usize::MAX),
        history_age,
        recover: raw.recover.is_none_or(|recover| recover.value),
        timeout,
        compat: raw.compat.is_some_and(|compat| compat.value),
    }))
}

fn address(text: &Text, ctx: &mut Ctx<'_>) -> Option<Address> {
    let value = check::text(text, Scope::Global, ctx)?;
    match url::parse(value.expose(), None) {
        Err(error) => {
            ctx.error(Code::BadUrl, text.span, error.to_string(), KNOWN);
            None
        }
        Ok(address) if !matches!(address.scheme, "redis" | "rediss") => {
            ctx.error(Code::WrongScheme, text.span, "not the address of a Redis server", KNOWN);
            None
        }
        Ok(address) if address.query.is_some() => {
            let help = "`timeout`, `username` and the like are keys of `[redis]`";
            ctx.error(Code::BadUrl, text.span, "the address has a query", help);
            None
        }
        Ok(address) => {
            // The whole may come from a variable; what is written out is a credential in a file.
            if address.user.as_ref().is_some_and(|user| user.password.is_some()) {
                check::literal_credential("password", text, ctx);
            }
            Some(address)
        }
    }
}

fn database(address: &Address, text: &Text, ctx: &mut Ctx<'_>) -> Option<u32> {
    let path = address.path.strip_prefix('/').unwrap_or_default();
    if path.is_empty() {
        return Some(0);
    }
    let digits = path.bytes().all(|byte| byte.is_ascii_digit());
    let number = path.parse().ok().filter(|number| digits && *number <= DATABASE_MAX);
    if number.is_none() {
        let message = "the path of the address is not the number of a database";
        ctx.error(Code::BadUrl, text.span, message, "such as `redis://host:6379/2`");
    }
    number
}

/// Who we are; `Err` when that is wrong.
fn login(
    raw: &raw::Redis,
    address: Option<&Address>,
    ctx: &mut Ctx<'_>,
) -> Result<Option<Login>, ()> {
    let user = address.and_then(|address| address.user.as_ref());
    let mut wrong = false;
    for text in [&raw.username, &raw.password].into_iter().flatten().filter(|_| user.is_some()) {
        let message = "the address has a user or a password already";
        ctx.error(Code::BadLogin, text.span, message, "leave one of them out");
        wrong = true;
    }
    let mut given = |text: &Text| {
        let value = check::text(text, Scope::Global, ctx).ok_or(())?;
        if value.expose().is_empty() {
            ctx.error(Code::EmptyValue, text.span, "an empty value", "leave it out");
            return Err(());
        }
        Ok(value.text)
    };
    let username = raw.username.as_ref().map(&mut given).transpose();
    let password = raw.password.as_ref().map(&mut given).transpose();
    if let Some(text) = &raw.password {
        check::literal_credential("password", text, ctx);
    }
    let (username, password) = match user {
        Some(user) => (Some(user.name.clone()), user.password.clone()),
        None => (username?, password?),
    };
    let named = username.as_ref().is_some_and(|name| !name.expose().is_empty());
    match (username, password) {
        _ if wrong => Err(()),
        (username, Some(password)) => {
            Ok(Some(Login { username: username.unwrap_or_else(|| Secret::from("")), password }))
        }
        (_, None) if named => {
            let at = raw.username.as_ref().or(raw.url.0.as_ref());
            if let Some(text) = at {
                let message = "a user without a password";
                ctx.error(Code::BadLogin, text.span, message, "give `password` too");
            }
            Err(())
        }
        (_, None) => Ok(None),
    }
}

fn prefix(raw: Option<&Text>, ctx: &mut Ctx<'_>) -> Option<String> {
    let Some(text) = raw else { return Some(PREFIX.to_owned()) };
    let value = check::text(text, Scope::Global, ctx)?.expose().to_owned();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
    if !(1..=PREFIX_MAX).contains(&value.len()) || !value.chars().all(fits) {
        let help = "letters, digits, `.`, `_`, `-` and `:`; 1 to 64";
        ctx.error(Code::BadName, text.span, "not a usable prefix of keys", help);
        return None;
    }
    Some(value)
}

fn history_age(raw: &raw::Redis, ctx: &mut Ctx<'_>) -> Duration {
    let Some(span) = raw.history_age else { return HISTORY_AGE };
    if span.value > HISTORY_AGE_MAX {
        let message = "decisions are kept for 30 days at most";
        ctx.error(Code::OutOfRange, span.span, message, "a week is usual");
    }
    span.value
}

fn timeout(raw: &raw::Redis, ctx: &mut Ctx<'_>) -> Duration {
    let Some(span) = raw.timeout else { return TIMEOUT };
    if span.value > TIMEOUT_MAX {
        let message = "an exchange with Redis may take 10 s at most";
        ctx.error(Code::OutOfRange, span.span, message, "a second or two are usual");
    }
    span.value
}

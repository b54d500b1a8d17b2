//! Bearer tokens that are made for an attempt.

use std::time::Duration;

use serde_json::{Map, Value as Json};

use crate::policy::code::Code;
use crate::policy::compile::probe::{Site, tls};
use crate::policy::compile::{address, check};
use crate::policy::interpolate::Scope;
use crate::policy::model::{JwtSigner, OAuthClient, Target, TokenSource};
use crate::policy::raw::{self, Ctx, Jwt, OAuth, Span, Text};
use crate::policy::secret::Secret;

/// How long a signed token is valid: longer than any attempt and any usual difference of clocks.
const LIFETIME: Duration = Duration::from_secs(300);

/// Where the token comes from, if there is to be one; `Err` when it was wrong.
///
/// Of two layers the upper one decides: a policy that asks for OAuth replaces a preset's JWT.
pub(super) fn source(
    raw: &raw::Probe,
    site: &Site<'_>,
    ctx: &mut Ctx<'_>,
) -> Result<Option<TokenSource>, ()> {
    let Some(token) = &raw.token else { return Ok(None) };
    let ambiguous = |message: &str, help: &str, ctx: &mut Ctx<'_>| {
        ctx.error(Code::AmbiguousToken, token.at.span, message, help);
        Err(())
    };
    let header = raw.headers.iter().flat_map(|map| map.0.keys());
    if header.into_iter().any(|name| name.eq_ignore_ascii_case("authorization")) {
        let message = "a token beside an `Authorization` header";
        return ambiguous(message, "only one of them can be sent", ctx);
    }
    match (token.at.has("jwt"), token.at.has("oauth")) {
        (true, true) => ambiguous("two sources of one token", "give `jwt` or `oauth`", ctx),
        (false, false) => ambiguous("a token without a source", "give `jwt` or `oauth`", ctx),
        (true, false) => {
            let jwt = token.jwt.as_ref().ok_or(())?;
            let jwt = signer(jwt, site, ctx).ok_or(())?;
            Ok(Some(TokenSource::Jwt(Box::new(jwt))))
        }
        (false, true) => {
            let oauth = token.oauth.as_ref().ok_or(())?;
            let oauth = client(oauth, site, ctx).ok_or(())?;
            Ok(Some(TokenSource::OAuth(Box::new(oauth))))
        }
    }
}

/// A text that must not be empty; the name tells whether it should stand in the file.
fn needed(name: &str, raw: &Text, scope: Scope<'_>, ctx: &mut Ctx<'_>) -> Option<Secret> {
    check::literal_credential(name, raw, ctx);
    let value = check::text(raw, scope, ctx)?;
    if value.expose().is_empty() {
        ctx.error(Code::EmptyValue, raw.span, format!("an empty `{name}`"), "");
        return None;
    }
    Some(value.text)
}

fn signer(raw: &Jwt, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<JwtSigner> {
    let secret = raw.secret.0.as_ref().and_then(|one| needed("secret", one, site.scope(), ctx));
    let mut claims = Map::new();
    let mut good = true;
    for (name, (span, value)) in raw.claims.iter().flat_map(|map| &map.0) {
        if matches!(name.as_str(), "iat" | "exp") {
            let message = format!("the claim `{name}` is set for each token");
            ctx.error(Code::NotApplicable, *span, message, "`lifetime` says how long it is valid");
        }
        match filled(&value.0, *span, site.scope(), ctx) {
            Some(value) => drop(claims.insert(name.clone(), value)),
            None => good = false,
        }
    }
    let claims = Secret::new(Json::Object(claims).to_string());
    let lifetime = raw.lifetime.map_or(LIFETIME, |span| span.value);
    Some(JwtSigner { secret: secret?, claims: good.then_some(claims)?, lifetime })
}

/// The value with every text in it filled in.
fn filled(value: &Json, span: Span, scope: Scope<'_>, ctx: &mut Ctx<'_>) -> Option<Json> {
    Some(match value {
        Json::String(text) => {
            let text = Text { value: text.clone(), span, inner: None };
            Json::String(check::text(&text, scope, ctx)?.expose().to_owned())
        }
        Json::Array(items) => {
            let items = items.iter().map(|item| filled(item, span, scope, ctx));
            Json::Array(items.collect::<Option<_>>()?)
        }
        Json::Object(entries) => {
            let entry = |(name, value): (&String, &Json)| {
                Some((name.clone(), filled(value, span, scope, ctx)?))
            };
            Json::Object(entries.iter().map(entry).collect::<Option<_>>()?)
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => value.clone(),
    })
}

fn client(raw: &OAuth, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<OAuthClient> {
    let scope = site.scope();
    let url = raw.token_url.0.as_ref().and_then(|url| {
        let full = check::text(url, scope, ctx)?;
        address::locate(full, &url.value, url.span, None, ctx)
    });
    let client_id = raw.client_id.0.as_ref().and_then(|id| needed("client_id", id, scope, ctx));
    let client_secret = raw.client_secret.0.as_ref();
    let client_secret = client_secret.and_then(|one| needed("client_secret", one, scope, ctx));
    let asked_for = super::plain(raw.scope.as_ref(), site, ctx);
    let resource = super::plain(raw.resource.as_ref(), site, ctx);
    let roots = tls::of_roots(raw.ca_file.as_ref(), ctx);
    let located = url?;
    let address = &located.address;
    if !matches!(address.scheme, "http" | "https") || address.user.is_some() {
        let message = "a token endpoint needs an http or https address without user info";
        ctx.error(Code::WrongScheme, located.span, message, "");
        return None;
    }
    let path = if address.path.is_empty() { "/" } else { &address.path };
    let query = address.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    Some(OAuthClient {
        target: Target { host: address.host.clone(), port: address.port },
        tls: if address.tls { Some(roots?) } else { None },
        path: Secret::new(format!("{path}{query}")),
        client_id: client_id?,
        client_secret: client_secret?,
        scope: asked_for.ok()?,
        resource: resource.ok()?,
    })
}

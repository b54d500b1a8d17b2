//! Checks that are HTTP requests: plain ones, GraphQL, and Neo4j's.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::policy::code::Code;
use crate::policy::compile::check;
use crate::policy::compile::probe::{Site, expect, secret, server, target, tls, token};
use crate::policy::interpolate::Control;
use crate::policy::model::{
    HttpCheck, HttpExpect, HttpVersion, Login, Neo4jCheck, Neo4jQuestion, Target,
};
use crate::policy::raw::{self, Ctx, ProbeKind, Question, Text};
use crate::policy::secret::Secret;
use crate::policy::url;

/// What a GraphQL check asks unless told otherwise: every server answers it.
const TYPENAME: &str = "{ __typename }";
/// Neo4j's own default database.
const NEO4J_DATABASE: &str = "neo4j";

/// One HTTP request with assertions on the answer.
pub(super) fn http(raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<HttpCheck> {
    let request = request(ProbeKind::Http, raw, site, ctx);
    let method = method(raw, ctx);
    let body = secret(raw.body.as_ref(), Control::Any, site, ctx);
    let expect = expect::http(raw.expect.as_ref(), ctx);
    Some(HttpCheck { method: method?, body: body.ok()?, expect, ..request? })
}

/// A GraphQL query: POST, and `errors` in the answer fail it.
pub(super) fn graphql(raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<HttpCheck> {
    let request = request(ProbeKind::Graphql, raw, site, ctx);
    let query = secret(raw.query.as_ref(), Control::Lines, site, ctx);
    let expect = expect::http(raw.expect.as_ref(), ctx);
    let (mut request, query) = (request?, query.ok()?);
    if let (Some(text), Some(query)) = (&raw.query, &query)
        && query.expose().trim().is_empty()
    {
        ctx.error(Code::EmptyValue, text.span, "an empty query", "such as `{ __typename }`");
        return None;
    }
    let query = query.as_ref().map_or(TYPENAME, Secret::expose);
    if !request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        request.headers.push(("Content-Type".to_owned(), "application/json".into()));
    }
    Some(HttpCheck {
        method: "POST".to_owned(),
        body: Some(Secret::new(json!({ "query": query }).to_string())),
        expect: HttpExpect { graphql: true, ..expect },
        ..request
    })
}

/// A question to a Neo4j server.
pub(super) fn neo4j(raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Option<Neo4jCheck> {
    let request = request(ProbeKind::Neo4j, raw, site, ctx);
    let login = server::user_and_password(raw, site, ctx);
    let database = super::plain(raw.database.as_ref(), site, ctx);
    let (mut http, login) = (request?, login.ok()?);
    if let Some(login) = login {
        http.headers.push(("Authorization".to_owned(), basic(&login)));
    }
    http.expect.slow = server::slow(raw);
    let ask = match raw.ask.map(|ask| ask.value) {
        Some(Question::Query) => Neo4jQuestion::Query,
        Some(Question::Writable) => Neo4jQuestion::Writable,
        Some(Question::ReadOnly) => Neo4jQuestion::ReadOnly,
        Some(Question::Available) => Neo4jQuestion::Available,
        Some(Question::Discovery) | None => Neo4jQuestion::Discovery,
    };
    let database = database.ok()?.unwrap_or_else(|| NEO4J_DATABASE.to_owned());
    let database_id = server::database_id(raw);
    if let (Some(expect), Some(_)) = (&raw.expect, &database_id)
        && ask != Neo4jQuestion::Query
    {
        let message = "only a query tells which database answers";
        let place = expect.at.of("database_id");
        ctx.error(Code::NotApplicable, place, message, "it needs `ask = \"query\"`");
        return None;
    }
    Some(Neo4jCheck { http, ask, database, database_id })
}

/// The value of an `Authorization` header (RFC 7617).
fn basic(login: &Login) -> Secret {
    let pair = Secret::new(format!("{}:{}", login.username.expose(), login.password.expose()));
    Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())))
}

/// What all checks over HTTP share: where, how, and by which credential.
pub(super) fn request(
    kind: ProbeKind,
    raw: &raw::Probe,
    site: &Site<'_>,
    ctx: &mut Ctx<'_>,
) -> Option<HttpCheck> {
    let target = target(raw, kind, site, ctx);
    let tls = if target.is_some() { tls::by_scheme(raw, site, ctx) } else { Err(()) };
    let path = path(raw.path.as_ref(), site, ctx);
    let headers = check::headers(raw.headers.as_ref(), site.scope(), ctx);
    let socket = socket(raw, site, ctx);
    let token = token::source(raw, site, ctx);
    let (target, tls, socket, token): (Target, _, _, _) =
        (target?, tls.ok()?, socket.ok()?, token.ok()?);
    let headers = headers.into_iter().map(|(name, value)| (name, value.text)).collect();
    let version = match raw.http_version.map(|version| version.value) {
        Some(raw::HttpVersion::Http2) => HttpVersion::Http2,
        Some(raw::HttpVersion::Http1) | None => HttpVersion::Http1,
    };
    let reuse = raw.reuse.is_some_and(|reuse| reuse.value);
    let path = path?;
    Some(HttpCheck { tls, path, headers, version, socket, reuse, token, ..HttpCheck::new(target) })
}

/// The unix socket to connect to: the probe's, else the address's.
fn socket(raw: &raw::Probe, site: &Site<'_>, ctx: &mut Ctx<'_>) -> Result<Option<PathBuf>, ()> {
    let Some(text) = &raw.socket else {
        let of_address = site.address.and_then(|located| located.address.socket.as_ref());
        return Ok(of_address.map(PathBuf::from));
    };
    let value = check::text(text, site.scope(), ctx).ok_or(())?;
    let path = value.expose();
    if !path.starts_with('/') || path.len() > url::MAX_SOCKET_PATH {
        let help = "an absolute path of at most 107 bytes";
        ctx.error(Code::BadPath, text.span, "not a usable path of a socket", help);
        return Err(());
    }
    Ok(Some(PathBuf::from(path)))
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

//! Checks over HTTP, what they expect, and the tokens they bring.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::policy::model::probe::{Target, TlsOptions};
use crate::policy::secret::Secret;

/// One HTTP request with assertions on the answer.
#[derive(Clone, Debug)]
pub struct HttpCheck {
    /// Where to connect.
    pub target: Target,
    /// TLS, when the scheme is `https`.
    pub tls: Option<TlsOptions>,
    /// The request method, in upper case.
    pub method: String,
    /// Path and query; may hold a secret.
    pub path: Secret,
    /// Request headers beyond `Host`, `User-Agent` and `Accept`.
    pub headers: Vec<(String, Secret)>,
    /// Request body.
    pub body: Option<Secret>,
    /// What the answer must be.
    pub expect: HttpExpect,
    /// The protocol spoken.
    pub version: HttpVersion,
    /// Connect to this unix socket instead of `target`, which then only names the host.
    pub socket: Option<PathBuf>,
    /// Keep the connection for the next attempt. A kept one hides a dead listener.
    pub reuse: bool,
    /// A bearer token made anew for each attempt.
    pub token: Option<TokenSource>,
}

impl HttpCheck {
    /// `GET /` in plain text, with any 2xx as the answer.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            target,
            tls: None,
            method: "GET".to_owned(),
            path: Secret::from("/"),
            headers: Vec::new(),
            body: None,
            expect: HttpExpect { status: vec![(200, 299)], ..HttpExpect::default() },
            version: HttpVersion::Http1,
            socket: None,
            reuse: false,
            token: None,
        }
    }

    pub(super) fn secrets<'a>(&'a self, visit: &mut dyn FnMut(&'a Secret)) {
        visit(&self.path);
        self.headers.iter().for_each(|(_, value)| visit(value));
        self.body.iter().for_each(&mut *visit);
        match &self.token {
            Some(TokenSource::Jwt(jwt)) => [&jwt.secret, &jwt.claims].into_iter().for_each(visit),
            Some(TokenSource::OAuth(oauth)) => {
                [&oauth.path, &oauth.client_id, &oauth.client_secret].into_iter().for_each(visit);
            }
            None => {}
        }
    }
}

/// The HTTP version spoken.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HttpVersion {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by ALPN over TLS, with prior knowledge in plain text.
    Http2,
}

/// Where a bearer token comes from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// Signed here.
    Jwt(Box<JwtSigner>),
    /// Asked for with client credentials (RFC 6749, section 4.4), kept until shortly before it ends.
    OAuth(Box<OAuthClient>),
}

/// Signs a JSON Web Token with HMAC-SHA-256; the secret itself never leaves.
#[derive(Clone, Debug)]
pub struct JwtSigner {
    /// The key.
    pub secret: Secret,
    /// The claims, without `iat` and `exp`; a JSON object, which may hold identifiers of an account.
    pub claims: Secret,
    /// How long a token is valid.
    pub lifetime: Duration,
}

/// Client credentials for a token endpoint.
#[derive(Clone, Debug)]
pub struct OAuthClient {
    /// Where the token endpoint connects.
    pub target: Target,
    /// TLS, when its scheme is `https`.
    pub tls: Option<TlsOptions>,
    /// Its path and query.
    pub path: Secret,
    /// The client's identifier.
    pub client_id: Secret,
    /// The client's secret.
    pub client_secret: Secret,
    /// The scope asked for.
    pub scope: Option<String>,
    /// The resource that the token is for (RFC 8707).
    pub resource: Option<String>,
}

/// What an HTTP answer must be.
#[derive(Clone, Debug, Default)]
pub struct HttpExpect {
    /// Accepted statuses, as inclusive ranges; never empty.
    pub status: Vec<(u16, u16)>,
    /// Statuses that mean something other than their class says.
    pub outcomes: BTreeMap<u16, MappedOutcome>,
    /// Headers that must be present, and what each must contain (empty: anything).
    pub headers: BTreeMap<String, String>,
    /// Texts that the body must contain.
    pub body_contains: Vec<String>,
    /// Texts that it must not contain.
    pub body_excludes: Vec<String>,
    /// A pattern that it must match.
    pub body_matches: Option<regex_lite::Regex>,
    /// JSON pointers (RFC 6901) and the value that each must have; `None`: it must exist.
    pub json: BTreeMap<String, Option<serde_json::Value>>,
    /// Whether a GraphQL `errors` member fails the check.
    pub graphql: bool,
    /// JSON pointer to how much of a quota is used up. All of it is `throttled`.
    pub quota_used: Option<String>,
    /// JSON pointer to how much the quota is.
    pub quota_limit: Option<String>,
    /// An answer slower than this is `degraded`.
    pub slow: Option<Duration>,
}

/// What a status is mapped to by the policy or a preset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MappedOutcome {
    /// A pass.
    Ok,
    /// A pass with a warning.
    Degraded,
    /// A failure.
    ServerError,
    /// Slow down, or a quota used up.
    Throttled,
    /// Credential refused.
    Auth,
    /// The request is wrong.
    ClientError,
    /// Not in the wanted role.
    WrongRole,
}

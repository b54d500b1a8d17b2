//! Backups as objects of a bucket.
//!
//! [`sign`] signs, [`list`] reads what is there, reqwest sends.
//!
//! Invariants
//! 1. An object is stored by one `PUT` with `If-None-Match: *`: whole or not at all, and never over
//!    another.
//! 2. A redirect is not followed: it would take the signature elsewhere.
//! 3. Of an answer no more than a bounded part is read, and of an error no more is repeated than
//!    its status and its code.

mod list;
mod sign;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url, redirect};

use crate::policy::model;
use crate::store::backup::name::BEGIN;
use crate::store::backup::{BackupError, LIMIT, LISTED_MAX, Listed, Name, Now};
use crate::tls::{self, Roots};
use list::element;
use sign::{Request, Signer, digest, query};

/// How long one request may take, unless the caller is less patient.
const PATIENCE: Duration = Duration::from_secs(60);

/// Largest page of a list.
const PAGE: usize = 4 * 1024 * 1024;

/// Keys on a page.
const PAGE_KEYS: usize = 1000;

/// How much of a refusal is read.
const REFUSAL: usize = 8 * 1024;

/// Clocks that differ by more than this are worth a word.
const SKEW: i64 = 60;

/// Only if there is nothing of that name.
const ALONE: (&str, &str) = ("if-none-match", "*");

/// A bucket of an S3 server.
#[derive(Clone)]
pub(super) struct S3 {
    client: reqwest::Client,
    signer: Signer,
    /// Scheme and host.
    origin: String,
    /// The host as it is signed and sent.
    host: String,
    /// Where the bucket is: begins and ends with a slash.
    root: String,
    prefix: String,
    shown: String,
    now: Now,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("shown", &self.shown).finish_non_exhaustive()
    }
}

/// What is asked for.
#[derive(Default)]
struct Call<'a> {
    key: &'a str,
    query: String,
    header: Option<(&'static str, &'static str)>,
    body: Option<Bytes>,
}

impl S3 {
    pub(super) fn new(policy: &model::Bucket, shown: &str, now: Now) -> Result<Self, BackupError> {
        let unfit = |why: String| BackupError::Setup { place: shown.to_owned(), why };
        let roots = policy.ca.as_deref().map_or(Roots::Platform, Roots::Given);
        let tls = tls::client(roots).map_err(|error| unfit(error.to_string()))?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.with_no_client_auth())
            .redirect(redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(1)
            .timeout(PATIENCE)
            .user_agent(concat!("mcp-failover/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| unfit(error.without_url().to_string()))?;
        let endpoint = Url::from_str(&policy.endpoint).map_err(|error| unfit(error.to_string()))?;
        let host = endpoint.host_str().ok_or_else(|| unfit("there is no host".to_owned()))?;
        let port = endpoint.port().map(|port| format!(":{port}")).unwrap_or_default();
        let base = endpoint.path().trim_end_matches('/');
        let (host, root) = if policy.path_style {
            (format!("{host}{port}"), format!("{base}/{}/", policy.name))
        } else {
            (format!("{}.{host}{port}", policy.name), format!("{base}/"))
        };
        let signer = Signer {
            access_key: policy.access_key.clone(),
            secret_key: policy.secret_key.clone(),
            session_token: policy.session_token.clone(),
            region: policy.region.clone(),
        };
        let origin = format!("{}://{host}", endpoint.scheme());
        let (prefix, shown) = (policy.prefix.clone(), shown.to_owned());
        Ok(Self { client, signer, origin, host, root, prefix, shown, now })
    }

    pub(super) async fn list(&self) -> Result<Vec<Listed>, BackupError> {
        let (mut found, mut token) = (Vec::new(), None::<String>);
        for _ in 0..LISTED_MAX / PAGE_KEYS {
            let prefix = format!("{}{BEGIN}", self.prefix);
            let mut parameters =
                vec![("delimiter", "/"), ("list-type", "2"), ("prefix", prefix.as_str())];
            // They are signed in the order of their names.
            parameters.splice(0..0, token.as_deref().map(|token| ("continuation-token", token)));
            let call = Call { query: query(&parameters), ..Call::default() };
            let answer = self.send("list", &Method::GET, call).await?;
            let text = self.body(answer, PAGE).await?;
            let page = std::str::from_utf8(&text).ok().and_then(list::read);
            let page = page.ok_or_else(|| self.garbled("its list cannot be read"))?;
            for (key, bytes) in page.objects {
                let name = key.strip_prefix(&self.prefix).and_then(|key| key.parse().ok());
                found.extend(name.map(|name| Listed { name, bytes }));
            }
            token = page.next;
            if token.is_none() {
                return Ok(found);
            }
        }
        Err(self.garbled("its list has no end"))
    }

    pub(super) async fn get(&self, name: Name) -> Result<Bytes, BackupError> {
        let call = Call { key: &self.key(&name), ..Call::default() };
        match self.send("read", &Method::GET, call).await {
            Err(BackupError::Refused { status: 404, code, .. }) if code != "NoSuchBucket" => {
                Err(BackupError::Missing { name })
            }
            Err(error) => Err(error),
            Ok(answer) => self.body(answer, LIMIT).await,
        }
    }

    pub(super) async fn put(&self, name: Name, bytes: Bytes) -> Result<(), BackupError> {
        match self.put_once(name, bytes.clone(), Some(ALONE)).await {
            // A server that does not know the condition: the name is nobody else's all the same.
            Err(BackupError::Refused { status: 501, .. }) => self.put_once(name, bytes, None).await,
            done => done,
        }
    }

    async fn put_once(
        &self,
        name: Name,
        bytes: Bytes,
        header: Option<(&'static str, &'static str)>,
    ) -> Result<(), BackupError> {
        let key = self.key(&name);
        let call = Call { key: &key, header, body: Some(bytes), ..Call::default() };
        match self.send("store in", &Method::PUT, call).await {
            Err(BackupError::Refused { status: 412, .. }) => Err(BackupError::Exists { name }),
            done => done.map(drop),
        }
    }

    pub(super) async fn remove(&self, name: Name) -> Result<(), BackupError> {
        let call = Call { key: &self.key(&name), ..Call::default() };
        self.send("remove from", &Method::DELETE, call).await.map(drop)
    }

    fn key(&self, name: &Name) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn send(
        &self,
        doing: &'static str,
        method: &Method,
        call: Call<'_>,
    ) -> Result<Response, BackupError> {
        let Call { key, query, header, body } = call;
        let (path, at_ms) = (format!("{}{key}", self.root), (self.now)());
        let hashed = body.clone().unwrap_or_default();
        let hashed = tokio::task::spawn_blocking(move || digest(&hashed)).await.unwrap_or_default();
        let signed = self.signer.headers(&Request {
            method: method.as_str(),
            host: &self.host,
            path: &path,
            query: &query,
            header,
            body: &hashed,
            at: &stamp(at_ms),
        });
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("{}{path}{mark}{query}", self.origin);
        let mut request = self.client.request(method.clone(), url).headers(headers(signed));
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/octet-stream").body(body);
        }
        let answer = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let ahead =
            (status == StatusCode::FORBIDDEN).then(|| ahead(at_ms, answer.headers())).flatten();
        let text = self.some(answer, REFUSAL).await;
        Err(BackupError::Refused {
            doing,
            place: self.shown.clone(),
            status: status.as_u16(),
            code: code(&text),
            ahead: ahead.filter(|seconds| seconds.abs() > SKEW),
        })
    }

    /// A body that must be whole.
    async fn body(&self, mut answer: Response, limit: usize) -> Result<Bytes, BackupError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unreachable(error))? {
            body.extend_from_slice(&chunk);
            if limit < body.len() {
                return Err(self.garbled("its answer is too large"));
            }
        }
        Ok(body.freeze())
    }

    /// As much of a body as there is, up to a limit.
    async fn some(&self, mut answer: Response, limit: usize) -> Bytes {
        let mut body = BytesMut::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            body.extend_from_slice(&chunk);
            if limit < body.len() {
                break;
            }
        }
        body.freeze()
    }

    fn unreachable(&self, error: reqwest::Error) -> BackupError {
        BackupError::Unreachable { place: self.shown.clone(), why: chain(&error.without_url()) }
    }

    fn garbled(&self, why: &'static str) -> BackupError {
        BackupError::Garbled { place: self.shown.clone(), why }
    }
}

/// Headers that are secrets, and say so.
fn headers(signed: Vec<(&'static str, String)>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in signed {
        // Keys with control characters do not come through the policy.
        if let Ok(mut value) = HeaderValue::try_from(value) {
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// The code of a refusal: one word, or nothing.
fn code(xml: &[u8]) -> String {
    let text = String::from_utf8_lossy(xml);
    let word = element(&text, "Code").unwrap_or_default();
    let plain = word.len() <= 64 && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain { word.to_owned() } else { String::new() }
}

/// The time of day as it is signed: `20130524T000000Z`.
fn stamp(at_ms: u64) -> String {
    let second = i64::try_from(at_ms / 1000).unwrap_or(i64::MAX);
    let at = Timestamp::from_second(second).unwrap_or(Timestamp::MAX);
    at.to_string().replace(['-', ':'], "")
}

/// How many seconds our clock, by which the request was signed, is ahead of the server's.
fn ahead(at_ms: u64, headers: &HeaderMap) -> Option<i64> {
    let theirs = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let theirs = theirs.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    Some(i64::try_from(at_ms / 1000).ok()? - i64::try_from(theirs).ok()?)
}

/// The error and its causes: the outermost alone says nearly nothing.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_refusal_only_a_plain_code_is_repeated() {
        let xml = |code: &str| format!("<?xml?><Error><Code>{code}</Code><Key>k</Key></Error>");
        assert_eq!(code(xml("AccessDenied").as_bytes()), "AccessDenied");
        for other in ["", "a b", "<b>", "\u{1b}[31m", &"a".repeat(65)] {
            assert_eq!(code(xml(other).as_bytes()), "");
        }
        assert_eq!(code(b"<Code>never closed"), "");
        assert_eq!(code(&[0xff; 16]), "");
    }

    #[test]
    fn a_clock_that_is_ahead_is_seen_by_the_servers_answer() {
        let at_ms = 1_763_900_000_999;
        assert_eq!(stamp(at_ms), "20251123T121320Z");
        let at = |date: &str| HeaderMap::from_iter([(DATE, date.parse().expect("a value"))]);
        assert_eq!(ahead(at_ms, &at("Sun, 23 Nov 2025 12:13:20 GMT")), Some(0));
        assert_eq!(ahead(at_ms, &at("Sun, 23 Nov 2025 11:13:20 GMT")), Some(3600));
        assert_eq!(ahead(at_ms, &at("Sun, 23 Nov 2025 12:13:50 GMT")), Some(-30));
        assert_eq!(ahead(at_ms, &at("yesterday")), None);
        assert_eq!(ahead(at_ms, &HeaderMap::new()), None);
    }
}

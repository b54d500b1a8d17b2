//! A Neo4j server by HTTP: what it is, whether it answers a query, its role in a cluster.
//!
//! | asked | request | a pass |
//! |---|---|---|
//! | discovery | `GET /`; needs no credential | it names its version of Neo4j |
//! | query | `POST /db/{db}/query/v2`, or `/db/{db}/tx/commit` before 5.19 | `RETURN 1` returns 1 |
//! | writable, read-only, available | `GET /db/{db}/cluster/…` | 200 and `true` |
//!
//! The failure of a query comes in a body whose status may well be a 2xx: the code in it counts, as
//! by Bolt. A cluster's 404 with `false` is the answer of a member that has another role; one that
//! says anything else comes from a server that has no such address.

use hyper::StatusCode;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::http::response::Parts;
use serde_json::Value;

use crate::core::outcome::Outcome;
use crate::policy::model::{HttpCheck, Neo4jCheck, Neo4jQuestion};
use crate::policy::secret::Secret;
use crate::probe::channel::{Channel, Outgoing};
use crate::probe::dial::Dialler;
use crate::probe::expect::Body;
use crate::probe::finding::{Finding, Step};
use crate::probe::trace::Trace;
use crate::probe::{expect, http, neo4j_code, retry_after, tls};

/// The query API: how it is asked, and where the answer stands.
const QUERY: Api =
    Api { path: "query/v2", around: (r#"{"statement":""#, r#""}"#), one: "/data/values/0/0" };
/// The transaction API, the only one before 5.19.
const TRANSACTION: Api = Api {
    path: "tx/commit",
    around: (r#"{"statements":[{"statement":""#, r#""}]}"#),
    one: "/results/0/data/0/row/0",
};
/// What any database answers.
const ANYTHING: &str = "RETURN 1";
/// What tells one database from every other one.
pub(super) const WHICH: &str = "CALL db.info() YIELD id RETURN id";

struct Api {
    path: &'static str,
    around: (&'static str, &'static str),
    one: &'static str,
}

/// The database is there, but it is not the one wanted.
pub(super) fn another() -> Finding {
    Finding::protocol("another database answers: its id differs")
}

pub(super) async fn run(
    dialler: &Dialler,
    check: &Neo4jCheck,
    token: Option<&Secret>,
    trace: &mut Trace,
) -> Step {
    let asker = Asker { dialler, check, token };
    let mut channel = http::open(dialler, &check.http, trace).await?;
    match check.ask {
        Neo4jQuestion::Query => asker.query(&mut channel, trace).await?,
        Neo4jQuestion::Discovery => {
            let answer = ask(&mut channel, asker.get("/")?, trace).await?;
            discovery(&answer, &check.http)?;
        }
        Neo4jQuestion::Writable => asker.role(&mut channel, "writable", trace).await?,
        Neo4jQuestion::ReadOnly => asker.role(&mut channel, "read-only", trace).await?,
        Neo4jQuestion::Available => asker.role(&mut channel, "available", trace).await?,
    }
    expect::speed(check.http.expect.slow, trace.elapsed())?;
    check.http.tls.as_ref().map_or(Ok(()), |options| tls::expiry(options, trace))
}

/// Words the requests of one attempt.
struct Asker<'a> {
    dialler: &'a Dialler,
    check: &'a Neo4jCheck,
    token: Option<&'a Secret>,
}

impl Asker<'_> {
    async fn query(&self, channel: &mut Channel, trace: &mut Trace) -> Step {
        let http = &self.check.http;
        let answer = ask(channel, self.post(&QUERY)?, trace).await?;
        if !answer.has_no_such_address() {
            return one(&answer, &QUERY, self.check);
        }
        let answer = match ask(channel, self.post(&TRANSACTION)?, trace).await {
            // Some leave after an answer that is not a good one.
            Err(finding) if finding.outcome == Outcome::Reset => {
                let mut fresh = http::open(self.dialler, http, trace).await?;
                ask(&mut fresh, self.post(&TRANSACTION)?, trace).await?
            }
            answer => answer?,
        };
        one(&answer, &TRANSACTION, self.check)
    }

    async fn role(&self, channel: &mut Channel, which: &str, trace: &mut Trace) -> Step {
        let path = format!("/db/{}/cluster/{which}", encoded(&self.check.database));
        let answer = ask(channel, self.get(&path)?, trace).await?;
        member(&answer, self.check)
    }

    fn get(&self, path: &str) -> Step<Outgoing> {
        self.request("GET", path, None)
    }

    fn post(&self, api: &Api) -> Step<Outgoing> {
        let path = format!("/db/{}/{}", encoded(&self.check.database), api.path);
        let statement = if self.check.database_id.is_some() { WHICH } else { ANYTHING };
        let (before, after) = api.around;
        self.request("POST", &path, Some(&format!("{before}{statement}{after}")))
    }

    /// On a connection that stays open: there may be a second request.
    fn request(&self, method: &str, path: &str, body: Option<&str>) -> Step<Outgoing> {
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        let http = HttpCheck {
            method: method.to_owned(),
            path: Secret::from(path),
            body: body.map(Secret::from),
            ..self.check.http.clone()
        };
        let mut request = http::request(&http, self.token)?;
        let headers = request.headers_mut();
        headers.remove(CONNECTION);
        headers.insert(ACCEPT, JSON);
        if body.is_some() {
            headers.insert(CONTENT_TYPE, JSON);
        }
        Ok(request)
    }
}

/// A database's name as a part of a path.
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let part = |byte: u8| match char::from(byte) {
        char if plain(byte) => char.to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(part).collect()
}

async fn ask(channel: &mut Channel, request: Outgoing, trace: &mut Trace) -> Step<Answer> {
    let (head, body) = http::ask(channel, request, trace).await?;
    Ok(Answer::new(head, body))
}

/// An answer, and what it says as JSON.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Body,
    said: Option<Value>,
}

impl Answer {
    fn new(head: Parts, body: Body) -> Self {
        let said = if body.whole { serde_json::from_slice(&body.bytes).ok() } else { None };
        Self { status: head.status, headers: head.headers, body, said }
    }

    /// The code of the first failure told.
    fn code(&self) -> Option<&str> {
        self.said.as_ref()?.pointer("/errors/0/code")?.as_str()
    }

    /// A failure told, sorted.
    fn failure(&self) -> Step {
        let told = |errors: &Vec<Value>| !errors.is_empty();
        let errors = self.said.as_ref().and_then(|said| said.get("errors")?.as_array());
        if !errors.is_some_and(told) {
            return Ok(());
        }
        let mut finding = neo4j_code::sort(self.code().unwrap_or_default());
        if let Outcome::Throttled { retry_after } = &mut finding.outcome {
            *retry_after = retry_after::read(&self.headers);
        }
        Err(finding)
    }

    /// Whether it is the path that is not there, and not the database.
    fn has_no_such_address(&self) -> bool {
        let missing = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
        let of_database = |code: &str| code.starts_with("Neo.ClientError.Database.");
        missing.contains(&self.status) && !self.code().is_some_and(of_database)
    }

    fn is(&self, word: &[u8]) -> bool {
        self.body.whole && self.body.bytes.trim_ascii() == word
    }
}

/// Holds a discovery document against the policy's expectations, and against what Neo4j sends.
fn discovery(answer: &Answer, http: &HttpCheck) -> Step {
    answer.failure()?;
    expect::status(&http.expect, answer.status, &answer.headers)?;
    let version = answer.said.as_ref().and_then(|said| said.get("neo4j_version"));
    if version.and_then(Value::as_str).is_none() {
        return Err(Finding::protocol("answer is not Neo4j's discovery document"));
    }
    expect::body(&http.expect, &answer.headers, &answer.body)
}

/// The answer to the one question asked.
fn one(answer: &Answer, api: &Api, check: &Neo4jCheck) -> Step {
    answer.failure()?;
    expect::status(&check.http.expect, answer.status, &answer.headers)?;
    let Some(said) = &answer.said else {
        return Err(Finding::protocol("body is not JSON"));
    };
    let told = said.pointer(api.one);
    match &check.database_id {
        Some(wanted) if told.and_then(Value::as_str) == Some(wanted) => Ok(()),
        Some(_) => Err(another()),
        None if told.and_then(Value::as_i64) == Some(1) => Ok(()),
        None => Err(Finding::protocol("RETURN 1 did not return 1")),
    }
}

/// The answer of a cluster's member about its role.
fn member(answer: &Answer, check: &Neo4jCheck) -> Step {
    answer.failure()?;
    if answer.status == StatusCode::NOT_FOUND {
        return Err(if answer.is(b"false") || answer.is(b"") {
            Finding::new(Outcome::WrongRole, lacks(check.ask))
        } else {
            Finding::misconfigured("HTTP 404: no address for the role of a member")
        });
    }
    expect::status(&check.http.expect, answer.status, &answer.headers)?;
    if answer.is(b"true") {
        Ok(())
    } else {
        Err(Finding::protocol("answer does not tell the role of a member"))
    }
}

fn lacks(question: Neo4jQuestion) -> &'static str {
    match question {
        Neo4jQuestion::ReadOnly => "server does not serve reads only",
        Neo4jQuestion::Available => "server takes no part in the cluster",
        Neo4jQuestion::Writable | Neo4jQuestion::Query | Neo4jQuestion::Discovery => {
            "server takes no writes"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_named_safely_in_a_path() {
        assert_eq!(encoded("neo4j"), "neo4j");
        assert_eq!(encoded("my-db.v1"), "my-db.v1");
        assert_eq!(encoded("a/b?c d\u{e9}"), "a%2Fb%3Fc%20d%C3%A9");
    }
}

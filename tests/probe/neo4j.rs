//! Neo4j by HTTP, against the documents that its manual shows.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{
    Check, HttpCheck, JwtSigner, MappedOutcome, Neo4jCheck, Neo4jQuestion, TokenSource,
};
use mcp_failover::policy::secret::Secret;
use mcp_failover::probe::Report;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{PATIENT, SHORT, assert_end, attempt, outcome, target};
use crate::common::upstream::{Behaviour, Upstream};

const DISCOVERY: &str = r#"{
  "bolt_routing": "neo4j://localhost:7687",
  "query": "http://localhost:7474/db/{databaseName}/query/v2",
  "transaction": "http://localhost:7474/db/{databaseName}/tx",
  "bolt_direct": "bolt://localhost:7687",
  "neo4j_version": "5.26.0",
  "neo4j_edition": "enterprise"
}"#;
const ONE: &str = r#"{"data":{"fields":["1"],"values":[[1]]},"bookmarks":["FB:kcwQ"]}"#;
const OLD_ONE: &str = r#"{
  "results": [{"columns": ["1"], "data": [{"row": [1], "meta": [null]}]}],
  "errors": [],
  "lastBookmarks": ["FB:kcwQ"]
}"#;
const QUERY: &str = "POST /db/neo4j/query/v2";
const TRANSACTION: &str = "POST /db/neo4j/tx/commit";

fn failure(code: &str) -> String {
    format!(r#"{{"errors":[{{"code":"{code}","message":"what went wrong"}}]}}"#)
}

/// A server that has one answer for each request line; 404 and nothing for others.
struct Documents {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Documents {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Answers = BTreeMap<&'static str, (u16, String)>;

impl Documents {
    async fn serve(answers: &[(&'static str, u16, &str)]) -> Self {
        Self::start(answers, true).await
    }

    async fn start(answers: &[(&'static str, u16, &str)], keep: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let entry = |&(line, status, body): &(_, u16, &str)| (line, (status, body.to_owned()));
        let answers: Answers = answers.iter().map(entry).collect();
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                converse(stream, &answers, &seen, keep).await.ok();
            }
        });
        Self { port, asked, task }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// The lines of the requests, and so their number.
    fn lines(&self) -> Vec<String> {
        let line = |request: String| request.split(" HTTP/").next().unwrap().to_owned();
        self.asked().into_iter().map(line).collect()
    }

    fn check(&self, ask: Neo4jQuestion) -> Neo4jCheck {
        let http = HttpCheck::new(target(self.port));
        Neo4jCheck { http, ask, database: "neo4j".to_owned(), database_id: None }
    }
}

async fn converse(
    mut stream: TcpStream,
    answers: &Answers,
    asked: &Mutex<Vec<String>>,
    keep: bool,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    while stream.read_buf(&mut bytes).await? > 0 {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase();
        let length = length.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() < length.map_or(0, |length| length.parse().unwrap()) {
            continue;
        }
        bytes.clear();
        let line = text.split(" HTTP/").next().unwrap();
        let (status, body) = answers.get(line).cloned().unwrap_or((404, String::new()));
        asked.lock().unwrap().push(text);
        let answer = format!(
            "HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nRetry-After: 7\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        if !keep {
            break;
        }
    }
    Ok(())
}

async fn neo4j(check: Neo4jCheck) -> Report {
    attempt(Check::Neo4j(Box::new(check)), PATIENT).await
}

/// One attempt against a server that has this answer only.
async fn answer(ask: Neo4jQuestion, line: &'static str, status: u16, body: &str) -> Report {
    let server = Documents::serve(&[(line, status, body)]).await;
    neo4j(server.check(ask)).await
}

#[tokio::test]
async fn a_discovery_document_passes_without_a_credential() {
    let server = Documents::serve(&[("GET /", 200, DISCOVERY)]).await;
    let mut check = server.check(Neo4jQuestion::Discovery);
    let report = neo4j(check.clone()).await;
    assert_end(&report, Outcome::Ok, "");
    assert_eq!(report.status, Some(200));
    assert!(report.phases.first_byte.is_some());
    assert!(server.asked()[0].to_ascii_lowercase().contains("accept: application/json\r\n"));
    check.http.expect.json = super::pointer("/neo4j_edition", "\"enterprise\"");
    assert_end(&neo4j(check.clone()).await, Outcome::Ok, "");
    check.http.expect.json = super::pointer("/neo4j_edition", "\"community\"");
    assert_end(&neo4j(check).await, Outcome::Protocol, "JSON /neo4j_edition differs");
}

#[tokio::test]
async fn something_else_is_no_discovery_document() {
    let wanted = "answer is not Neo4j's discovery document";
    for body in ["{}", "[]", "<html>", r#"{"neo4j_version":5}"#, ""] {
        let report = answer(Neo4jQuestion::Discovery, "GET /", 200, body).await;
        assert_end(&report, Outcome::Protocol, wanted);
    }
    for (status, outcome) in
        [(401, Outcome::Auth), (404, Outcome::ClientError), (503, Outcome::ServerError)]
    {
        let report = answer(Neo4jQuestion::Discovery, "GET /", status, "").await;
        assert_end(&report, outcome, &format!("HTTP {status}"));
    }
}

#[tokio::test]
async fn a_query_is_asked_of_the_query_api() {
    for status in [200, 202] {
        let server = Documents::serve(&[(QUERY, status, ONE)]).await;
        let mut check = server.check(Neo4jQuestion::Query);
        let credential = Secret::from("Basic bmVvNGo6c2VjcmV0");
        check.http.headers = vec![("Authorization".to_owned(), credential)];
        assert_end(&neo4j(check).await, Outcome::Ok, "");
        let asked = server.asked();
        assert!(asked[0].ends_with(r#"{"statement":"RETURN 1"}"#), "{asked:?}");
        assert!(asked[0].contains("Basic bmVvNGo6c2VjcmV0"), "{asked:?}");
        assert_eq!(server.lines(), [QUERY]);
    }
}

#[tokio::test]
async fn a_bearer_token_goes_with_either_request() {
    let server = Documents::serve(&[(QUERY, 404, ""), (TRANSACTION, 200, OLD_ONE)]).await;
    let mut check = server.check(Neo4jQuestion::Query);
    check.http.token = Some(TokenSource::Jwt(Box::new(JwtSigner {
        secret: Secret::from("a key of tests"),
        claims: Secret::from("{}"),
        lifetime: Duration::from_secs(60),
    })));
    assert_end(&neo4j(check).await, Outcome::Ok, "");
    for request in server.asked() {
        assert!(request.to_ascii_lowercase().contains("\nauthorization: bearer "), "{request}");
    }
}

#[tokio::test]
async fn an_older_server_is_asked_by_the_transaction_api() {
    for status in [404, 405] {
        for keep in [true, false] {
            let answers = [(QUERY, status, ""), (TRANSACTION, 200, OLD_ONE)];
            let server = Documents::start(&answers, keep).await;
            assert_end(&neo4j(server.check(Neo4jQuestion::Query)).await, Outcome::Ok, "");
            assert_eq!(server.lines(), [QUERY, TRANSACTION]);
            let wanted = r#"{"statements":[{"statement":"RETURN 1"}]}"#;
            assert!(server.asked()[1].ends_with(wanted));
        }
    }
}

#[tokio::test]
async fn a_server_without_either_is_ours_to_configure() {
    let report = answer(Neo4jQuestion::Query, "GET /", 200, DISCOVERY).await;
    assert_end(&report, Outcome::ClientError, "HTTP 404");
}

#[tokio::test]
async fn the_code_of_a_failure_counts_and_not_the_status_that_it_comes_with() {
    let throttled = Outcome::Throttled { retry_after: Some(Duration::from_secs(7)) };
    for (code, statuses, outcome) in [
        ("Neo.ClientError.Security.Unauthorized", [401, 401], Outcome::Auth),
        ("Neo.ClientError.Security.AuthenticationRateLimit", [401, 429], throttled),
        ("Neo.ClientError.Security.CredentialsExpired", [403, 403], Outcome::Auth),
        ("Neo.TransientError.General.DatabaseUnavailable", [202, 503], Outcome::ServerError),
        ("Neo.DatabaseError.General.UnknownError", [202, 500], Outcome::ServerError),
        ("Neo.ClientError.Cluster.NotALeader", [202, 400], Outcome::WrongRole),
        ("Neo.ClientError.Database.DatabaseNotFound", [202, 404], Outcome::ClientError),
        ("Neo.ClientError.Statement.SyntaxError", [202, 400], Outcome::ClientError),
    ] {
        for status in statuses {
            let report = answer(Neo4jQuestion::Query, QUERY, status, &failure(code)).await;
            assert_end(&report, outcome, code);
        }
        // The older way: a 200, and empty results beside it.
        let old = failure(code).replacen('{', r#"{"results":[],"#, 1);
        let report = answer(Neo4jQuestion::Query, TRANSACTION, 200, &old).await;
        assert_end(&report, outcome, code);
    }
}

#[tokio::test]
async fn an_answer_that_is_no_result_is_another_protocol() {
    for (body, detail) in [
        ("<html>", "body is not JSON"),
        ("{}", "RETURN 1 did not return 1"),
        (r#"{"data":{"fields":["1"],"values":[[2]]}}"#, "RETURN 1 did not return 1"),
        (r#"{"data":{"fields":[],"values":[]},"errors":[]}"#, "RETURN 1 did not return 1"),
        (r#"{"errors":[{}]}"#, "failure with a code that is not one"),
        (r#"{"errors":[1]}"#, "failure with a code that is not one"),
    ] {
        let report = answer(Neo4jQuestion::Query, QUERY, 202, body).await;
        assert_end(&report, Outcome::Protocol, detail);
    }
}

/// What leader and others answer, as the manual's table of cluster endpoints has it.
#[tokio::test]
async fn a_members_role_is_not_its_health() {
    let (writable, read_only, available) = (
        "GET /db/neo4j/cluster/writable",
        "GET /db/neo4j/cluster/read-only",
        "GET /db/neo4j/cluster/available",
    );
    let yes = (200, "true");
    let no = (404, "false");
    for (ask, line, leader, follower) in [
        (Neo4jQuestion::Writable, writable, yes, no),
        (Neo4jQuestion::ReadOnly, read_only, no, yes),
        (Neo4jQuestion::Available, available, yes, yes),
    ] {
        for (status, body) in [leader, follower] {
            let wanted = if status == 200 { Outcome::Ok } else { Outcome::WrongRole };
            assert_eq!(outcome(&answer(ask, line, status, body).await), wanted, "{line} {body}");
        }
        let report = answer(ask, line, 404, "<html>Not Found</html>").await;
        let detail = "HTTP 404: no address for the role of a member";
        assert_end(&report, Outcome::ClientError, detail);
        let missing = "Neo.ClientError.Database.DatabaseNotFound";
        let report = answer(ask, line, 404, &failure(missing)).await;
        assert_end(&report, Outcome::ClientError, missing);
        assert_end(&answer(ask, line, 401, "").await, Outcome::Auth, "HTTP 401");
        assert_end(&answer(ask, line, 503, "").await, Outcome::ServerError, "HTTP 503");
        let report = answer(ask, line, 200, "maybe").await;
        let detail = "answer does not tell the role of a member";
        assert_end(&report, Outcome::Protocol, detail);
    }
}

#[tokio::test]
async fn the_policys_own_reading_of_a_status_comes_first() {
    let server = Documents::serve(&[("GET /", 418, "")]).await;
    let mut check = server.check(Neo4jQuestion::Discovery);
    check.http.expect.outcomes = BTreeMap::from([(418, MappedOutcome::Throttled)]);
    let wanted = Outcome::Throttled { retry_after: Some(Duration::from_secs(7)) };
    assert_end(&neo4j(check).await, wanted, "HTTP 418");
}

#[tokio::test]
async fn servers_that_mean_harm() {
    for (behaviour, timeout, outcome) in [
        (Behaviour::Refuse, PATIENT, Outcome::Refused),
        (Behaviour::Hang, SHORT, Outcome::Timeout),
        (Behaviour::Drip(Duration::from_secs(1)), SHORT, Outcome::Timeout),
        (Behaviour::Flood, PATIENT, Outcome::Protocol),
        (Behaviour::garbage(), PATIENT, Outcome::Protocol),
        (Behaviour::Truncate, PATIENT, Outcome::Reset),
        (Behaviour::Json("[".repeat(60_000)), PATIENT, Outcome::Protocol),
    ] {
        for ask in [Neo4jQuestion::Discovery, Neo4jQuestion::Query, Neo4jQuestion::Writable] {
            let upstream = Upstream::start(behaviour.clone());
            let http = HttpCheck::new(target(upstream.port()));
            let check = Neo4jCheck { http, ask, database: "neo4j".to_owned(), database_id: None };
            let report = attempt(Check::Neo4j(Box::new(check)), timeout).await;
            assert_eq!(report.observation.outcome, outcome, "{ask:?} {behaviour:?} {report:?}");
        }
    }
}

#[tokio::test]
async fn nothing_that_a_server_says_is_quoted() {
    const CANARY: &str = "canary-5f3a";
    for body in [failure(&format!("Neo.ClientError.Security.{CANARY}")), CANARY.to_owned()] {
        for status in [200, 400, 404] {
            for ask in [Neo4jQuestion::Discovery, Neo4jQuestion::Query, Neo4jQuestion::Writable] {
                let json = Behaviour::Answer(status, Vec::new(), body.clone());
                let upstream = Upstream::start(json);
                let mut http = HttpCheck::new(target(upstream.port()));
                http.headers = vec![("Authorization".to_owned(), Secret::from(CANARY))];
                let check =
                    Neo4jCheck { http, ask, database: CANARY.to_owned(), database_id: None };
                let report = attempt(Check::Neo4j(Box::new(check)), PATIENT).await;
                assert!(!format!("{report:?}").contains(CANARY), "{report:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_database_is_known_by_its_id_whichever_api_answers() {
    let query = r#"{"data":{"fields":["id"],"values":[["7B3A"]]}}"#;
    let transaction = r#"{"results":[{"columns":["id"],"data":[{"row":["7B3A"]}]}],"errors":[]}"#;
    let apis: [&[(&'static str, u16, &str)]; 2] = [
        &[("POST /db/neo4j/query/v2", 202, query)],
        &[("POST /db/neo4j/tx/commit", 200, transaction)],
    ];
    for answers in apis {
        let server = Documents::start(answers, true).await;
        let asking = |id: &str| {
            let check = server.check(Neo4jQuestion::Query);
            neo4j(Neo4jCheck { database_id: Some(id.to_owned()), ..check })
        };
        assert_end(&asking("7B3A").await, Outcome::Ok, "");
        let another = "another database answers: its id differs";
        assert_end(&asking("0000").await, Outcome::Protocol, another);
        assert!(server.asked()[0].contains("CALL db.info() YIELD id RETURN id"));
    }
}

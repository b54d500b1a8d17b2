//! The whole table of replies: what each service may say, and what the presets make of it.
//!
//! A row is a service's policy as a user would write it, the bytes that the service sends one
//! answer after the other, and the one right verdict. A verdict that differs is a false alarm or a
//! missed outage.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use mcp_failover::core::id::ServiceName;
use mcp_failover::core::outcome::Outcome::{
    self, Auth, ClientError, Ok as Pass, Protocol, Reset, ServerError, Throttled, WrongRole,
};
use mcp_failover::policy::model::Probe;
use mcp_failover::probe::Prober;

use super::PATIENT;
use crate::policy::given::{Given, compiled};

/// Sends these answers, one for each time that it is sent something.
struct Recorded(SocketAddr);

impl Recorded {
    fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        // Ends with the test's process; each row has one, and none is asked after its row.
        std::thread::spawn(move || {
            let left = Arc::new(Mutex::new(answers.into_iter()));
            while let Ok((peer, _)) = listener.accept() {
                let left = Arc::clone(&left);
                std::thread::spawn(move || answer(peer, &left));
            }
        });
        Self(address)
    }
}

fn answer(mut peer: TcpStream, left: &Mutex<std::vec::IntoIter<Vec<u8>>>) {
    let mut asked = vec![0; 64 * 1024];
    while peer.read(&mut asked).is_ok_and(|count| count > 0) {
        let next = left.lock().expect("no row panics").next();
        // After the last answer it is silent; one without a byte is a hang-up.
        let Some(next) = next else { continue };
        if next.is_empty() || peer.write_all(&addressed(next, &asked)).is_err() {
            return;
        }
    }
}

/// The answer with the number of the request in place of [`ID`].
fn addressed(answer: Vec<u8>, asked: &[u8]) -> Vec<u8> {
    let asked = String::from_utf8_lossy(asked);
    let id = asked.split_once("\"id\":").map_or("", |(_, rest)| rest);
    let digits: String = id.chars().take_while(char::is_ascii_digit).collect();
    match String::from_utf8(answer) {
        Ok(text) => text.replace(ID, &format!("{digits:>width$}", width = ID.len())).into_bytes(),
        Err(binary) => binary.into_bytes(),
    }
}

/// Stands for the number of a JSON-RPC request; as long as the longest that comes up.
const ID: &str = "{request}";

/// Which of a service's probes a row is about.
#[derive(Clone, Copy, Debug)]
enum Depth {
    Frequent,
    Deep,
}

/// A service in the words of its policy, in which `PORT` stands for the server's.
struct Kind {
    name: &'static str,
    depth: Depth,
    policy: &'static str,
}

const fn kind(name: &'static str, depth: Depth, policy: &'static str) -> Kind {
    Kind { name, depth, policy }
}

static KINDS: [Kind; 13] = [
    kind("pinecone", Depth::Frequent, PINECONE),
    kind("tavily", Depth::Deep, TAVILY),
    kind("graphlit", Depth::Deep, GRAPHLIT),
    kind("neo4j http", Depth::Frequent, NEO4J_HTTP),
    kind("neo4j query", Depth::Deep, NEO4J_HTTP),
    kind("neo4j writer", Depth::Frequent, NEO4J_CLUSTER),
    kind("bolt", Depth::Frequent, NEO4J_BOLT),
    kind("bolt login", Depth::Deep, NEO4J_BOLT),
    kind("mcp modern", Depth::Frequent, MCP_MODERN),
    kind("mcp legacy", Depth::Frequent, MCP_LEGACY),
    kind("redis", Depth::Frequent, REDIS),
    kind("postgres", Depth::Frequent, POSTGRES),
    kind("http", Depth::Frequent, HTTP),
];

const PINECONE: &str = r#"preset = "pinecone"
probe = { expect = { json = { "/dimension" = 1536 } } }
endpoints = [{ name = "a", url = "http://127.0.0.1:PORT", env = { PINECONE_API_KEY = "k" } }]"#;
const TAVILY: &str = r#"preset = "tavily"
probe = { type = "tcp" }
endpoints = [{ name = "a", url = "http://127.0.0.1:PORT", env = { TAVILY_API_KEY = "k" } }]"#;
const GRAPHLIT: &str = r#"preset = "graphlit"
probe = { type = "tcp" }
[[services.a.endpoints]]
name = "a"
url = "http://127.0.0.1:PORT/api/v1/graphql"
env = { GRAPHLIT_JWT_SECRET = "s", GRAPHLIT_ORGANIZATION_ID = "o", GRAPHLIT_ENVIRONMENT_ID = "e" }"#;
const NEO4J_HTTP: &str = r#"preset = "neo4j"
endpoints = [{ name = "a", url = "http://127.0.0.1:PORT", env = { NEO4J_PASSWORD = "p" } }]"#;
const NEO4J_CLUSTER: &str = r#"preset = "neo4j-cluster"
endpoints = [{ name = "a", url = "http://127.0.0.1:PORT", env = { NEO4J_PASSWORD = "p" } }]"#;
const NEO4J_BOLT: &str = r#"preset = "neo4j"
endpoints = [{ name = "a", url = "bolt://127.0.0.1:PORT", env = { NEO4J_PASSWORD = "p" } }]"#;
const MCP_MODERN: &str = r#"preset = "mcp"
probe = { era = "modern" }
endpoints = [{ name = "a", url = "http://127.0.0.1:PORT/mcp" }]"#;
const MCP_LEGACY: &str = r#"preset = "mcp"
probe = { era = "legacy" }
endpoints = [{ name = "a", url = "http://127.0.0.1:PORT/mcp" }]"#;
const REDIS: &str = r#"preset = "redis"
endpoints = [{ name = "a", url = "redis://127.0.0.1:PORT" }]"#;
const POSTGRES: &str = r#"preset = "postgres"
endpoints = [{ name = "a", url = "postgres://127.0.0.1:PORT", env = { PGUSER = "u" } }]"#;
const HTTP: &str = r#"preset = "http"
endpoints = [{ name = "a", url = "http://127.0.0.1:PORT" }]"#;

/// The probe of a kind against a server.
fn probe(kind: &Kind, address: SocketAddr) -> Arc<Probe> {
    let tables = kind.policy.replace("PORT", &address.port().to_string());
    let text = format!(
        "version = 1\n[services.a]\n{tables}\n[[outputs]]\ntype = \"env_file\"\npath = \"/run/env\"\n"
    );
    let policy = compiled(&text, &Given::default()).policy;
    let service = &policy.services[&ServiceName::new("a")];
    let endpoint = service.endpoints.values().next().expect("one endpoint");
    match kind.depth {
        Depth::Frequent => Arc::clone(&endpoint.probe),
        Depth::Deep => Arc::clone(endpoint.deep_probe.as_ref().expect("the preset has one")),
    }
}

/// An answer in HTTP.
fn http(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
        .into_bytes()
}

fn json(status: u16, body: &str) -> Vec<u8> {
    http(status, "Content-Type: application/json\r\n", body)
}

/// Bolt's agreement on 5.4, then these messages.
fn bolt(messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    [vec![0, 0, 4, 5]].into_iter().chain(messages.iter().cloned()).collect()
}

const SUCCESS: [u8; 7] = [0, 3, 0xB1, 0x70, 0xA0, 0, 0];

/// Bolt's `FAILURE`.
fn failure(code: &str) -> Vec<u8> {
    let mut message = vec![0xB1, 0x7F, 0xA2, 0x84];
    message.extend(b"code");
    message.extend([0xD0, u8::try_from(code.len()).expect("short")]);
    message.extend(code.bytes());
    message.extend([0x87]);
    message.extend(b"message\x82no");
    let mut out = vec![0, u8::try_from(message.len()).expect("short")];
    out.extend(message);
    out.extend([0, 0]);
    out
}

/// `PostgreSQL`'s error with this code.
fn pg_error(code: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{code}\0Mno\0\0");
    let length = u32::try_from(fields.len() + 4).expect("short").to_be_bytes();
    [b"E".as_slice(), &length, fields.as_bytes()].concat()
}

fn rpc(status: u16, members: &str) -> Vec<u8> {
    json(status, &format!("{{\"jsonrpc\":\"2.0\",\"id\":{ID},{members}}}"))
}

type Row = (&'static str, &'static str, Vec<Vec<u8>>, Outcome);

fn pinecone() -> Vec<Row> {
    let serves = r#"{"dimension":1536,"namespaces":{},"totalVectorCount":7}"#;
    let other = r#"{"dimension":768,"namespaces":{},"totalVectorCount":7}"#;
    vec![
        ("pinecone", "an index", vec![json(200, serves)], Pass),
        ("pinecone", "another index", vec![json(200, other)], Protocol),
        ("pinecone", "no JSON", vec![http(200, "", "<html>")], Protocol),
        ("pinecone", "no key", vec![json(401, "{}")], Auth),
        ("pinecone", "billing", vec![json(402, "{}")], THROTTLED),
        ("pinecone", "quota", vec![json(403, "{}")], THROTTLED),
        ("pinecone", "rate", vec![json(429, "{}")], THROTTLED),
        ("pinecone", "no such index", vec![json(404, "{}")], ClientError),
        ("pinecone", "a bad request", vec![json(400, "{}")], ClientError),
        ("pinecone", "broken", vec![json(500, "{}")], ServerError),
        ("pinecone", "away", vec![json(503, "{}")], ServerError),
    ]
}

fn tavily_and_graphlit() -> Vec<Row> {
    let usage = r#"{"key":{"usage":150,"limit":1000},"account":{"current_plan":"Bootstrap"}}"#;
    let project = r#"{"data":{"project":{"id":"a","state":"ENABLED"}}}"#;
    let errors = r#"{"errors":[{"message":"no"}],"data":null}"#;
    let wait = http(429, "Retry-After: 60\r\n", "");
    vec![
        ("tavily", "usage", vec![json(200, usage)], Pass),
        ("tavily", "something else", vec![json(200, "{}")], Protocol),
        ("tavily", "no key", vec![json(401, "{}")], Auth),
        ("tavily", "rate", vec![wait.clone()], THROTTLED),
        ("tavily", "plan used up", vec![json(432, "{}")], THROTTLED),
        ("tavily", "pay-as-you-go used up", vec![json(433, "{}")], THROTTLED),
        ("tavily", "broken", vec![json(500, "{}")], ServerError),
        ("graphlit", "a project", vec![json(200, project)], Pass),
        ("graphlit", "errors in a 200", vec![json(200, errors)], Protocol),
        ("graphlit", "no project", vec![json(200, r#"{"data":{"project":null}}"#)], Protocol),
        ("graphlit", "a token refused", vec![json(401, "{}")], Auth),
        ("graphlit", "rate", vec![wait], THROTTLED),
        ("graphlit", "away", vec![json(502, "{}")], ServerError),
    ]
}

fn neo4j_over_http() -> Vec<Row> {
    let discovery = r#"{"bolt_routing":"neo4j://a:7687","transaction":"http://a/db/{databaseName}/tx",
        "bolt_direct":"bolt://a:7687","neo4j_version":"5.26.0","neo4j_edition":"community"}"#;
    let row = r#"{"data":{"fields":["1"],"values":[[1]]}}"#;
    let failed = |status, code| {
        json(status, &format!(r#"{{"errors":[{{"code":"{code}","message":"no"}}]}}"#))
    };
    let query = |what, answer, outcome| ("neo4j query", what, vec![answer], outcome);
    vec![
        ("neo4j http", "discovery", vec![json(200, discovery)], Pass),
        ("neo4j http", "something else", vec![json(200, r#"{"hello":1}"#)], Protocol),
        ("neo4j http", "away", vec![http(503, "", "")], ServerError),
        query("a row", json(202, row), Pass),
        query("a row, 200", json(200, row), Pass),
        query("not logged in", failed(401, "Neo.ClientError.Security.Unauthorized"), Auth),
        query("the same in a 202", failed(202, "Neo.ClientError.Security.Unauthorized"), Auth),
        query(
            "guessing",
            failed(429, "Neo.ClientError.Security.AuthenticationRateLimit"),
            THROTTLED,
        ),
        query(
            "unavailable",
            failed(202, "Neo.TransientError.General.DatabaseUnavailable"),
            ServerError,
        ),
        query(
            "out of memory",
            failed(202, "Neo.TransientError.General.OutOfMemoryError"),
            ServerError,
        ),
        query(
            "no such database",
            failed(404, "Neo.ClientError.Database.DatabaseNotFound"),
            ClientError,
        ),
        query("a follower", failed(202, "Neo.ClientError.Cluster.NotALeader"), WrongRole),
        query("broken", failed(500, "Neo.DatabaseError.General.UnknownError"), ServerError),
        ("neo4j writer", "leader", vec![json(200, "true")], Pass),
        ("neo4j writer", "follower", vec![json(404, "false")], WrongRole),
        ("neo4j writer", "not logged in", vec![json(401, "{}")], Auth),
        ("neo4j writer", "away", vec![http(503, "", "")], ServerError),
    ]
}

fn neo4j_over_bolt() -> Vec<Row> {
    let record = vec![0, 4, 0xB1, 0x71, 0x91, 1, 0, 0];
    let all = [SUCCESS.to_vec(), SUCCESS.to_vec(), SUCCESS.to_vec(), record, SUCCESS.to_vec()];
    let refused = |code| bolt(&[[SUCCESS.to_vec(), failure(code)].concat()]);
    let login = |what, answers, outcome| ("bolt login", what, answers, outcome);
    vec![
        ("bolt", "a version", bolt(&[]), Pass),
        ("bolt", "no version in common", vec![vec![0; 4]], ClientError),
        ("bolt", "a web server", vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()], Protocol),
        ("bolt", "a hang-up", vec![vec![]], Reset),
        login("a row", bolt(&[all.concat()]), Pass),
        login("a wrong password", refused("Neo.ClientError.Security.Unauthorized"), Auth),
        login("guessing", refused("Neo.ClientError.Security.AuthenticationRateLimit"), THROTTLED),
        login(
            "unavailable",
            refused("Neo.TransientError.General.DatabaseUnavailable"),
            ServerError,
        ),
        login("a follower", refused("Neo.ClientError.Cluster.NotALeader"), WrongRole),
        login(
            "no such database",
            refused("Neo.ClientError.Database.DatabaseNotFound"),
            ClientError,
        ),
        login("broken", refused("Neo.DatabaseError.General.UnknownError"), ServerError),
    ]
}

fn mcp() -> Vec<Row> {
    let discovered = r#""result":{"resultType":"complete","supportedVersions":["2026-07-28"],
        "capabilities":{"tools":{}},"serverInfo":{"name":"a","version":"1"}}"#;
    let opened = r#""result":{"protocolVersion":"2025-06-18","capabilities":{},
        "serverInfo":{"name":"a","version":"1"}}"#;
    let guard = http(401, "WWW-Authenticate: Bearer\r\n", "");
    let open = |last: Vec<u8>| vec![rpc(200, opened), http(202, "", ""), last, http(200, "", "")];
    let modern = |what, answer, outcome| ("mcp modern", what, vec![answer], outcome);
    let legacy = |what, answers, outcome| ("mcp legacy", what, answers, outcome);
    let error = |code| format!(r#""error":{{"code":{code},"message":"no"}}"#);
    vec![
        modern("discovered", rpc(200, discovered), Pass),
        modern("guarded", guard.clone(), Auth),
        modern("rate", http(429, "", ""), THROTTLED),
        modern("a gateway without its server", http(502, "", ""), ServerError),
        modern("away", http(503, "", ""), ServerError),
        legacy("ping", open(rpc(200, r#""result":{}"#)), Pass),
        legacy("ping is not known", open(rpc(200, &error(-32_601))), Pass),
        legacy("an error in a 200", open(rpc(200, &error(-32_603))), ServerError),
        legacy("guarded", vec![guard], Auth),
        legacy("a web page", vec![http(200, "Content-Type: text/html\r\n", "<html>")], Protocol),
        legacy("away", vec![http(503, "", "")], ServerError),
    ]
}

fn stores() -> Vec<Row> {
    let redis = |line: &str| vec![format!("{line}\r\n").into_bytes()];
    let password = b"R\0\0\0\x08\0\0\0\x03".to_vec();
    let postgres = |what, answer, outcome| ("postgres", what, vec![answer], outcome);
    vec![
        ("redis", "pong", redis("+PONG"), Pass),
        ("redis", "no password", redis("-NOAUTH Authentication required."), Auth),
        ("redis", "a wrong password", redis("-WRONGPASS invalid username-password pair"), Auth),
        ("redis", "loading", redis("-LOADING Redis is loading the dataset in memory"), ServerError),
        ("redis", "a stale replica", redis("-MASTERDOWN Link with MASTER is down"), WrongRole),
        ("redis", "a script that does not end", redis("-BUSY Redis is busy"), ServerError),
        ("redis", "full", redis("-ERR max number of clients reached"), ServerError),
        ("redis", "a web server", redis("HTTP/1.1 400 Bad Request"), Protocol),
        postgres("asks for a password", password, Pass),
        postgres("full", pg_error("53300"), ServerError),
        postgres("starts or stops", pg_error("57P03"), ServerError),
        postgres("a wrong password", pg_error("28P01"), Auth),
        postgres("a user it does not know", pg_error("28000"), Auth),
        postgres("a database it does not know", pg_error("3D000"), ClientError),
        postgres("a web server", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Protocol),
    ]
}

fn plain_http() -> Vec<Row> {
    let by_status = [
        (200, Pass),
        (204, Pass),
        (400, ClientError),
        (401, Auth),
        (403, Auth),
        (404, ClientError),
        (405, ClientError),
        (406, ClientError),
        (422, ClientError),
        (429, THROTTLED),
        (500, ServerError),
        (502, ServerError),
        (503, ServerError),
        (504, ServerError),
    ];
    let rows = by_status
        .map(|(status, outcome)| ("http", "a status", vec![http(status, "", "")], outcome));
    let foreign = ("http", "another protocol", vec![b"SSH-2.0-x\r\n".to_vec()], Protocol);
    let gone = ("http", "a hang-up", vec![vec![]], Reset);
    rows.into_iter().chain([foreign, gone]).collect()
}

const THROTTLED: Outcome = Throttled { retry_after: None };

/// Until when is looked at elsewhere.
const fn of_a_kind(outcome: Outcome) -> Outcome {
    match outcome {
        Throttled { .. } => THROTTLED,
        other => other,
    }
}

#[tokio::test]
async fn no_reply_of_the_table_gets_a_false_verdict() {
    let prober = Prober::new().expect("TLS works");
    let tables = [
        pinecone(),
        tavily_and_graphlit(),
        neo4j_over_http(),
        neo4j_over_bolt(),
        mcp(),
        stores(),
        plain_http(),
    ];
    let (mut count, mut wrong) = (0, Vec::new());
    for (kind, what, answers, expected) in tables.into_iter().flatten() {
        let server = Recorded::start(answers);
        let known = KINDS.iter().find(|known| known.name == kind).expect(kind);
        let probe = probe(known, server.0);
        let seen = Box::pin(prober.run(&probe, PATIENT)).await.observation;
        count += 1;
        if of_a_kind(seen.outcome) != expected {
            wrong.push(format!(
                "{kind}, {what}: {expected:?}, not {:?}: {:?}",
                seen.outcome, seen.detail
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} verdicts are false:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(count, 94, "rows must not get lost");
}

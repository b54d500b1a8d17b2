//! CPU time that a probe of each kind costs this process, the server's not counted, and the bytes
//! that it sends and gets (of a connection's payload, so TLS counts and TCP's own headers do not).
//!
//! Run with `cargo bench --bench probe`. The first line is the floor: tokio and hyper doing one
//! request on a fresh connection, with nothing of ours around it. Compare within one run only:
//! what the kernel charges for a connection differs between machines and moments.

mod server;

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{
    BoltCheck, BoltDepth, Check, DnsCheck, DnsRecord, ExecCheck, GrpcCheck, HttpCheck, HttpVersion,
    Login, McpCheck, McpEra, McpExpect, Neo4jCheck, Neo4jQuestion, PostgresCheck, Probe,
    RedisCheck, Role, Target, TcpCheck, TlsCheck, TlsOptions,
};
use mcp_failover::policy::secret::Secret;
use mcp_failover::probe::Prober;
use rustix::time::{ClockId, clock_gettime};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use server::{canned, canned_datagrams, serve, serve_http2, serve_local, traffic};

type Failure = Box<dyn std::error::Error>;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts before counting: first-time costs are not a probe's.
const WARM_UP: u32 = 200;
/// Attempts in one sample.
const SAMPLE: u32 = 500;
/// Samples, of which the median is shown.
const SAMPLES: usize = 9;

fn main() -> Result<(), Failure> {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let plain = serve(None)?;
    let secure = serve(Some(acceptor(&key)?))?;
    let modern = serve_http2()?;
    let files = tempfile::tempdir()?;
    let socket = files.path().join("http.sock");
    serve_local(&socket)?;
    let local = HttpCheck { socket: Some(socket), ..http(plain, None) };
    let two = HttpCheck { version: HttpVersion::Http2, ..http(modern, None) };
    let tls = TlsOptions {
        server_name: Some("localhost".to_owned()),
        ca_pem: Some(key.cert.pem()),
        ..TlsOptions::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let prober = Prober::new()?;
    show("floor: tokio + hyper", &runtime, || async { floor(plain).await.is_ok() });
    let checks = [
        ("http", Check::Http(Box::new(http(plain, None)))),
        ("http, json looked at", Check::Http(Box::new(expecting_json(http(plain, None))))),
        ("http, kept", kept(http(plain, None))),
        ("http, local socket", Check::Http(Box::new(local))),
        ("http/2", Check::Http(Box::new(two.clone()))),
        ("http/2, kept", kept(two)),
        ("grpc", Check::Grpc(Box::new(grpc(modern, false)))),
        ("grpc, watched", Check::Grpc(Box::new(grpc(modern, true)))),
        ("tcp", Check::Tcp(TcpCheck { target: target(plain), send: None, expect: None })),
        ("https", Check::Http(Box::new(http(secure, Some(tls.clone()))))),
        ("https, kept", kept(http(secure, Some(tls.clone())))),
        ("tls", Check::Tls(TlsCheck { target: target(secure), tls })),
        ("exec /bin/true", Check::Exec(ExecCheck { argv: vec!["true".into()], env: [].into() })),
    ];
    for (name, check) in checks.into_iter().chain(services()?) {
        let probe = Probe::new(TIMEOUT, check);
        show(name, &runtime, || async {
            prober.run(&probe, TIMEOUT).await.observation.outcome == Outcome::Ok
        });
    }
    Ok(())
}

/// The kinds that know a service, each against answers as that service gives them.
fn services() -> Result<Vec<(&'static str, Check)>, Failure> {
    let graphql = canned(&[json(r#"{"data":{"project":{"id":"a","state":"ENABLED"}}}"#)])?;
    let discovery = canned(&[json(
        r#"{"bolt_routing":"neo4j://a:7687","transaction":"http://a/db/{databaseName}/tx","neo4j_version":"5.26.0","neo4j_edition":"community"}"#,
    )])?;
    let query = canned(&[json(r#"{"data":{"fields":["1"],"values":[[1]]}}"#)])?;
    let pick = vec![0, 0, 4, 5];
    let success = [0, 3, 0xB1, 0x70, 0xA0, 0, 0];
    let record = [0, 4, 0xB1, 0x71, 0x91, 1, 0, 0];
    let row = [&success[..], &record, &success].concat();
    let bolt = canned(std::slice::from_ref(&pick))?;
    let bolt_query = canned(&[pick, [&success[..], &success, &row].concat()])?;
    let redis = canned(&[b"+PONG\r\n".to_vec()])?;
    let role = b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
    let redis_login = canned(&[[&b"+OK\r\n+PONG\r\n"[..], role].concat()])?;
    let postgres = canned(&[b"R\0\0\0\x08\0\0\0\x03".to_vec()])?;
    let dns = canned_datagrams()?;
    let discovered = r#"{"jsonrpc":"2.0","id":{request},"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"a","version":"1"}}}"#;
    let modern = canned(&[json(discovered)])?;
    let opened = r#"{"jsonrpc":"2.0","id":{request},"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"a","version":"1"}}}"#;
    let opened =
        String::from_utf8(json(opened))?.replace("\r\n\r\n", "\r\nMcp-Session-Id: 5\r\n\r\n");
    let taken = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_vec();
    let pong = json(r#"{"jsonrpc":"2.0","id":{request},"result":{}}"#);
    let legacy = canned(&[opened.into_bytes(), taken.clone(), pong, taken])?;
    Ok(vec![
        ("graphql", Check::Http(Box::new(question(http(graphql, None))))),
        ("neo4j, discovery", neo4j(discovery, Neo4jQuestion::Discovery)),
        ("neo4j, query", neo4j(query, Neo4jQuestion::Query)),
        ("bolt, handshake", bolt_check(bolt, BoltDepth::Handshake)),
        ("bolt, query", bolt_check(bolt_query, BoltDepth::Query)),
        ("redis, ping", redis_check(redis, None, Role::Any)),
        ("redis, login and role", redis_check(redis_login, Some(login()), Role::Writer)),
        ("postgres", Check::Postgres(Box::new(postgres_check(postgres)))),
        ("dns", Check::Dns(Box::new(dns_check(dns)))),
        ("mcp, modern", mcp(modern, McpEra::Modern)),
        ("mcp, legacy session", mcp(legacy, McpEra::Legacy)),
    ])
}

fn json(body: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn login() -> Login {
    Login { username: Secret::from("user"), password: Secret::from("password") }
}

fn question(mut check: HttpCheck) -> HttpCheck {
    "POST".clone_into(&mut check.method);
    check.body = Some(Secret::from(r#"{"query":"{ project { id state } }"}"#));
    check.headers.push(("Content-Type".to_owned(), Secret::from("application/json")));
    check.expect.graphql = true;
    check.expect.json = [("/data/project/id".to_owned(), None)].into();
    check
}

fn neo4j(address: SocketAddr, ask: Neo4jQuestion) -> Check {
    Check::Neo4j(Box::new(Neo4jCheck {
        http: http(address, None),
        ask,
        database: "neo4j".to_owned(),
        database_id: None,
    }))
}

fn bolt_check(address: SocketAddr, depth: BoltDepth) -> Check {
    Check::Bolt(Box::new(BoltCheck {
        target: target(address),
        tls: None,
        depth,
        login: (depth > BoltDepth::Handshake).then(login),
        database: None,
        role: Role::Any,
        server: None,
        database_id: None,
        slow: None,
    }))
}

fn redis_check(address: SocketAddr, login: Option<Login>, role: Role) -> Check {
    let target = target(address);
    Check::Redis(Box::new(RedisCheck { target, tls: None, login, role, max_lag: None, slow: None }))
}

fn postgres_check(address: SocketAddr) -> PostgresCheck {
    PostgresCheck {
        target: target(address),
        tls: None,
        login: login(),
        authenticate: false,
        database: None,
        role: Role::Any,
        max_lag: None,
        slow: None,
    }
}

fn dns_check(address: SocketAddr) -> DnsCheck {
    DnsCheck {
        target: target(address),
        name: "www.example.com".to_owned(),
        record: DnsRecord::A,
        expect: Vec::new(),
        slow: None,
    }
}

fn mcp(address: SocketAddr, era: McpEra) -> Check {
    let http =
        HttpCheck { method: "POST".to_owned(), path: Secret::from("/mcp"), ..http(address, None) };
    Check::Mcp(Box::new(McpCheck { http, era, expect: McpExpect::default() }))
}

/// Prints the median of the samples, in microseconds of CPU an attempt.
#[expect(clippy::print_stdout, reason = "a benchmark's result is its output")]
fn show<F: Future<Output = bool>>(
    name: &str,
    runtime: &tokio::runtime::Runtime,
    attempt: impl Fn() -> F,
) {
    let run = |times: u32| {
        runtime.block_on(async {
            for _ in 0..times {
                assert!(black_box(attempt().await), "{name} fails");
            }
        });
    };
    run(WARM_UP);
    let before = traffic();
    let mut samples: Vec<Duration> = (0..SAMPLES)
        .map(|_| {
            let before = cpu_time();
            run(SAMPLE);
            cpu_time().saturating_sub(before) / SAMPLE
        })
        .collect();
    let after = traffic();
    let count = u64::from(SAMPLE) * u64::try_from(SAMPLES).unwrap_or(1);
    let [sent, got] = [(after.0 - before.0) / count, (after.1 - before.1) / count];
    samples.sort_unstable();
    let [low, median, high] = [0, SAMPLES / 2, SAMPLES - 1]
        .map(|place| samples.get(place).map_or(0, Duration::as_micros));
    println!("{name:<24} {median:>6} µs CPU ({low} to {high}), {sent:>5} bytes sent, {got:>5} got");
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default()
}

async fn floor(address: SocketAddr) -> Result<(), Failure> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::get("/").header("host", "localhost").body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let served = answer.status() == StatusCode::OK;
    answer.into_body().collect().await?;
    driver.abort();
    if served { Ok(()) } else { Err("not served".into()) }
}

fn target(address: SocketAddr) -> Target {
    Target { host: "127.0.0.1".to_owned(), port: address.port() }
}

fn http(address: SocketAddr, tls: Option<TlsOptions>) -> HttpCheck {
    HttpCheck {
        tls,
        headers: vec![("Api-Key".to_owned(), Secret::from("key"))],
        ..HttpCheck::new(target(address))
    }
}

fn kept(check: HttpCheck) -> Check {
    Check::Http(Box::new(HttpCheck { reuse: true, ..check }))
}

fn grpc(address: SocketAddr, watch: bool) -> GrpcCheck {
    GrpcCheck {
        target: target(address),
        tls: None,
        service: String::new(),
        metadata: Vec::new(),
        watch,
        slow: None,
    }
}

fn expecting_json(mut check: HttpCheck) -> HttpCheck {
    check.expect.json = [("/status".to_owned(), Some("ok".into()))].into();
    check
}

fn acceptor(key: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Result<TlsAcceptor, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

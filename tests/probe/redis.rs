//! Redis: the real server in every state that its answers tell, and others on its port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{Check, Login, RedisCheck, Role, TlsOptions};
use mcp_failover::policy::secret::Secret;
use mcp_failover::probe::Report;

use super::peer::{self, Running, until};
use super::{PATIENT, SHORT, assert_end, attempt, detail, get, http, outcome};
use crate::common::tls::Authority;
use crate::common::upstream::{Behaviour, Upstream};

struct Redis {
    address: SocketAddr,
    server: Running,
    files: tempfile::TempDir,
}

impl Redis {
    /// A server with these settings, once it answers anything.
    async fn start(settings: &str) -> Option<Self> {
        let redis = Self::launch(peer::address(), tempfile::tempdir().unwrap(), settings)?;
        until("redis answers", || async { TcpStream::connect(redis.address).is_ok() }).await;
        Some(redis)
    }

    fn launch(address: SocketAddr, files: tempfile::TempDir, settings: &str) -> Option<Self> {
        let program = peer::program("redis-server")?;
        let (ip, port) = (address.ip(), address.port());
        let common = format!("bind {ip}\nport {port}\nsave \"\"\ndir {}\n", files.path().display());
        let config = peer::write(files.path(), "redis.conf", &(common + settings));
        let server = Running::start(Command::new(program).arg(config));
        Some(Self { address, server, files })
    }

    fn check(&self) -> RedisCheck {
        plain(self.address)
    }

    /// Opens a connection and sends this as it would be typed.
    fn say(&self, line: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).expect("redis listens");
        stream.write_all(format!("{line}\r\n").as_bytes()).expect("redis reads");
        stream.set_read_timeout(Some(PATIENT)).expect("a timeout");
        stream
    }

    /// Sends this and returns the first bytes of the answer.
    fn ask(&self, line: &str) -> String {
        let mut answer = [0; 4096];
        let count = self.say(line).read(&mut answer).expect("redis answers");
        String::from_utf8_lossy(&answer[..count]).into_owned()
    }

    async fn becomes(&self, check: &RedisCheck, outcome: Outcome) -> Report {
        let is = || async { super::outcome(&ping(check).await) == outcome };
        until("redis gets into the state wanted", is).await;
        ping(check).await
    }
}

fn plain(address: SocketAddr) -> RedisCheck {
    RedisCheck {
        target: peer::target(address),
        tls: None,
        login: None,
        role: Role::Any,
        max_lag: None,
        slow: None,
    }
}

fn with_login(mut check: RedisCheck, user: &str, password: &str) -> RedisCheck {
    check.login = Some(Login { username: Secret::from(user), password: Secret::from(password) });
    check
}

async fn ping(check: &RedisCheck) -> Report {
    attempt(Check::Redis(Box::new(check.clone())), PATIENT).await
}

/// What answers on the port of `Upstream` with these bytes, asked for everything.
async fn answered(bytes: &[u8]) -> Report {
    let upstream = Upstream::start(Behaviour::Banner(bytes.to_vec()));
    let mut check = with_login(plain(upstream.address()), "", "hunter2");
    check.role = Role::Writer;
    ping(&check).await
}

#[tokio::test]
async fn pong_is_a_pass() {
    let Some(redis) = Redis::start("").await else { return };
    let report = ping(&redis.check()).await;
    assert_end(&report, Outcome::Ok, "");
    assert!(report.phases.connect.is_some() && report.phases.first_byte.is_some());
    let mut check = redis.check();
    check.role = Role::Writer;
    check.max_lag = Some(Duration::from_secs(1));
    assert_end(&ping(&check).await, Outcome::Ok, "");
    check.slow = Some(Duration::ZERO);
    assert_end(&ping(&check).await, Outcome::Degraded, "slow: took longer than 0ns");
    check.role = Role::Reader;
    assert_end(&ping(&check).await, Outcome::WrongRole, "is a master");
}

#[tokio::test]
async fn credentials_are_asked_for_and_judged() {
    let settings =
        "requirepass hunter2\nuser probe on >secret +ping\nuser gone off >secret +@all\n";
    let Some(redis) = Redis::start(settings).await else { return };
    let wrong = "WRONGPASS: user or password is wrong, or the user is disabled";
    assert_end(&ping(&redis.check()).await, Outcome::Auth, "NOAUTH: wants a password");
    let login = |user, password| with_login(redis.check(), user, password);
    assert_end(&ping(&login("", "hunter2")).await, Outcome::Ok, "");
    assert_end(&ping(&login("default", "hunter2")).await, Outcome::Ok, "");
    assert_end(&ping(&login("", "other")).await, Outcome::Auth, wrong);
    assert_end(&ping(&login("probe", "secret")).await, Outcome::Ok, "");
    assert_end(&ping(&login("probe", "other")).await, Outcome::Auth, wrong);
    assert_end(&ping(&login("gone", "secret")).await, Outcome::Auth, wrong);
    let mut check = login("probe", "secret");
    check.role = Role::Writer;
    assert_end(&ping(&check).await, Outcome::Auth, "NOPERM: the user may not run this");
}

#[tokio::test]
async fn a_password_where_there_is_none_is_told() {
    let Some(redis) = Redis::start("").await else { return };
    let check = with_login(redis.check(), "", "hunter2");
    assert_end(&ping(&check).await, Outcome::Auth, "has no password, but was given one");
}

#[tokio::test]
async fn a_script_that_holds_it_up_is_a_failure() {
    let Some(redis) = Redis::start("busy-reply-threshold 5\n").await else { return };
    let _script = redis.say("EVAL \"while true do end\" 0");
    let report = redis.becomes(&redis.check(), Outcome::ServerError).await;
    assert_eq!(detail(&report), "BUSY: a script holds it up");
    assert!(redis.ask("SCRIPT KILL").starts_with("+OK"));
    redis.becomes(&redis.check(), Outcome::Ok).await;
}

#[tokio::test]
async fn a_full_server_is_a_failure() {
    let Some(redis) = Redis::start("maxclients 1\n").await else { return };
    let mut answer = [0; 7];
    let mut held = redis.say("PING");
    // The connection that found it listening may still hold the only place.
    while held.read_exact(&mut answer).is_err() || answer != *b"+PONG\r\n" {
        held = redis.say("PING");
    }
    assert_end(&ping(&redis.check()).await, Outcome::ServerError, "too many clients");
    let check = with_login(redis.check(), "", "hunter2");
    assert_end(&ping(&check).await, Outcome::ServerError, "too many clients");
    drop(held);
    redis.becomes(&redis.check(), Outcome::Ok).await;
}

#[tokio::test]
async fn a_server_that_still_loads_is_a_failure() {
    let Some(redis) = Redis::start("enable-debug-command yes\n").await else { return };
    assert!(redis.ask("DEBUG POPULATE 5000").starts_with("+OK"));
    assert!(redis.ask("SAVE").starts_with("+OK"));
    let Redis { address, server, files } = redis;
    drop(server);
    let slowly = "key-load-delay 20000\nloading-process-events-interval-bytes 1024\n";
    let redis = Redis::launch(address, files, slowly).expect("it started before");
    let report = redis.becomes(&redis.check(), Outcome::ServerError).await;
    assert_eq!(detail(&report), "LOADING: still reading its data");
}

#[tokio::test]
async fn a_replica_is_told_from_its_master() {
    let Some(mut master) = Redis::start("").await else { return };
    let (ip, port) = (master.address.ip(), master.address.port());
    let Some(replica) = Redis::start(&format!("replicaof {ip} {port}\n")).await else { return };
    let mut check = replica.check();
    check.role = Role::Reader;
    check.max_lag = Some(Duration::from_secs(60));
    redis_is(&replica, &check, "").await;
    check.role = Role::Writer;
    assert_end(&ping(&check).await, Outcome::WrongRole, "is a replica");
    check.role = Role::Reader;
    master.server.kill();
    redis_is(&replica, &check, "replica has no link to its master").await;
    // Cut off for less than it may be behind, which nobody who wants no role minds.
    check.role = Role::Any;
    assert_end(&ping(&check).await, Outcome::Ok, "");
    check.max_lag = Some(Duration::ZERO);
    let report = replica.becomes(&check, Outcome::Degraded).await;
    assert!(detail(&report).starts_with("replica has had no link to its master for "));
}

async fn redis_is(redis: &Redis, check: &RedisCheck, wanted: &str) {
    let is = || async { detail(&ping(check).await) == wanted };
    until("the replica gets into the state wanted", is).await;
    let report = ping(check).await;
    let passes = matches!(outcome(&report), Outcome::Ok | Outcome::Degraded);
    assert!(passes, "{report:?} of {}", redis.address);
}

#[tokio::test]
async fn a_replica_that_will_not_serve_stale_data_is_in_the_wrong_role() {
    let nobody = peer::address();
    let (ip, port) = (nobody.ip(), nobody.port());
    let settings = format!("replicaof {ip} {port}\nreplica-serve-stale-data no\n");
    let Some(redis) = Redis::start(&settings).await else { return };
    let report = ping(&redis.check()).await;
    assert_end(&report, Outcome::WrongRole, "MASTERDOWN: a replica without its master");
}

#[tokio::test]
async fn tls_is_spoken_where_asked() {
    let authority = Authority::new();
    let files = tempfile::tempdir().unwrap();
    let (address, secure) = (peer::address(), peer::address());
    let certified = authority.issue(&address.ip().to_string());
    let cert = peer::write(files.path(), "cert.pem", &certified.pem());
    let key = peer::write(files.path(), "key.pem", &certified.key_pem());
    let settings = format!(
        "tls-port {}\ntls-cert-file {cert}\ntls-key-file {key}\ntls-ca-cert-file {cert}\n\
         tls-auth-clients no\n",
        secure.port()
    );
    let Some(redis) = Redis::launch(address, files, &settings) else { return };
    redis.becomes(&redis.check(), Outcome::Ok).await;
    let mut check = plain(secure);
    let options = TlsOptions { ca_pem: Some(authority.pem()), ..TlsOptions::default() };
    check.tls = Some(options.clone());
    let report = ping(&check).await;
    assert_end(&report, Outcome::Ok, "");
    assert!(report.phases.tls.is_some() && report.certificate_expires_in.is_some());
    check.tls = Some(TlsOptions { expiry_warning: Duration::MAX, ..options.clone() });
    assert_eq!(outcome(&ping(&check).await), Outcome::Degraded);
    check.tls = Some(TlsOptions { ca_pem: Some(Authority::new().pem()), ..options.clone() });
    assert_eq!(outcome(&ping(&check).await), Outcome::Tls);
    // Each spoken to as if it were the other.
    check.tls = None;
    assert_eq!(outcome(&ping(&check).await), Outcome::Reset);
    let mut check = redis.check();
    check.tls = Some(options);
    let report = attempt(Check::Redis(Box::new(check)), SHORT).await;
    assert_end(&report, Outcome::Timeout, "no TLS handshake within 250ms");
}

#[tokio::test]
async fn http_to_its_port_is_hung_up_on() {
    let Some(redis) = Redis::start("").await else { return };
    let upstream = Upstream::start(Behaviour::Refuse);
    let mut check = http(&upstream);
    check.target = peer::target(redis.address);
    let report = get(&check, PATIENT).await;
    assert_end(&report, Outcome::Reset, "connection closed without an answer");
}

#[tokio::test]
async fn something_else_on_the_port() {
    let others: [&[u8]; 6] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"$99999999999\r\n",
        b"*100000\r\n",
        b"+OK\n",
    ];
    for other in others {
        assert_end(&answered(other).await, Outcome::Protocol, "answer is not RESP");
    }
    let report = answered(b":1\r\n").await;
    assert_end(&report, Outcome::Protocol, "AUTH is not answered as by Redis");
    let report = answered(b"+OK\r\n$2\r\nhi\r\n").await;
    assert_end(&report, Outcome::Protocol, "PING is not answered as by Redis");
    let report = answered(b"+OK\r\n+PONG\r\n*1\r\n:1\r\n").await;
    assert_end(&report, Outcome::Protocol, "ROLE is not answered as by Redis");
}

#[tokio::test]
async fn silence_half_answers_and_closing_are_told_apart() {
    let check = |upstream: &Upstream| Check::Redis(Box::new(plain(upstream.address())));
    let upstream = Upstream::start(Behaviour::Hang);
    let report = attempt(check(&upstream), SHORT).await;
    assert_end(&report, Outcome::Timeout, "no answer within 250ms");
    upstream.set(Behaviour::Banner(b"+PO".to_vec()));
    let report = attempt(check(&upstream), SHORT).await;
    assert_end(&report, Outcome::Timeout, "no complete answer within 250ms");
    upstream.set(Behaviour::Refuse);
    let report = attempt(check(&upstream), PATIENT).await;
    assert_end(&report, Outcome::Refused, "connection refused");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for answer in ["", "+PO"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 14];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let report = ping(&plain(address)).await;
    assert_end(&report, Outcome::Reset, "connection closed without an answer");
    let report = ping(&plain(address)).await;
    assert_end(&report, Outcome::Reset, "connection closed before the answer was complete");
    server.join().unwrap();
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let line = [b"+OK\r\n+".as_slice(), &b"x".repeat(1 << 20)].concat();
    assert_end(&answered(&line).await, Outcome::Protocol, "answer is not RESP");
    let lengths = [b"+OK\r\n*4000\r\n".as_slice(), &b"$30000\r\n".repeat(1 << 16)].concat();
    assert_end(&answered(&lengths).await, Outcome::Protocol, "answer is not RESP");
    let values = [b"*4000\r\n".as_slice(), &b"*0\r\n".repeat(1 << 18)].concat();
    let report = answered(&values).await;
    assert_end(&report, Outcome::Protocol, "AUTH is not answered as by Redis");
}

#[tokio::test]
async fn nothing_of_an_error_is_quoted() {
    let report = answered(b"-canary-5f3a hunter2\r\n").await;
    assert_end(&report, Outcome::ServerError, "answered with an error");
}

//! `PostgreSQL`: the real server in every state that its answers tell, and others on its port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{Check, Login, PostgresCheck, Role, TlsOptions};
use mcp_failover::policy::secret::Secret;
use mcp_failover::probe::Report;
use mcp_failover::probe::codec::postgres as wire;
use rustix::process::Signal;

use super::peer::{self, Running, until};
use super::{PATIENT, SHORT, assert_end, attempt, detail, outcome};
use crate::common;
use crate::common::tls::Authority;
use crate::common::upstream::{Behaviour, Upstream};

/// Users, each with the way they have to log in; the password of all is `secret`.
const HBA: &str = "
local all all trust
host replication all 127.0.0.0/8 trust
host all trusty 127.0.0.0/8 trust
host all plain 127.0.0.0/8 password
host all digest 127.0.0.0/8 md5
host all proven 127.0.0.0/8 scram-sha-256
host all spaced 127.0.0.0/8 scram-sha-256
hostssl all secure 127.0.0.0/8 scram-sha-256
";

const USERS: &str = "
CREATE USER trusty SUPERUSER;
CREATE USER plain PASSWORD 'secret';
CREATE USER proven PASSWORD 'secret';
CREATE USER secure PASSWORD 'secret';
CREATE USER spaced PASSWORD E'se\\u00A0cret';
SET password_encryption = 'md5';
CREATE USER digest PASSWORD 'secret';
CREATE DATABASE closed ALLOW_CONNECTIONS false;
CREATE DATABASE private;
REVOKE CONNECT ON DATABASE private FROM public;
";

/// A folder with a database, of a user that may run the server.
pub(crate) struct Cluster {
    folder: PathBuf,
    files: tempfile::TempDir,
}

pub(crate) struct Postgres {
    pub(crate) address: SocketAddr,
    server: Running,
    _cluster: Cluster,
}

/// Where the newest installed version keeps its programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let programs = versions.map(|version| version.path().join("bin"));
    let newest = programs.filter(|folder| folder.join("initdb").exists()).max();
    if newest.is_none() {
        common::skip("PostgreSQL is not installed");
    }
    newest
}

/// A program of the server, which refuses to be run by root.
pub(crate) fn program(name: &str) -> Command {
    let path = programs().expect("looked for before").join(name);
    if !rustix::process::geteuid().is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path);
    command
}

fn run(command: &mut Command, input: &str) {
    let quiet = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = quiet.spawn().expect("it starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let end = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&end.stdout) + String::from_utf8_lossy(&end.stderr);
    assert!(end.status.success() && !said.contains("ERROR"), "{command:?}: {said}");
}

/// Gives what is in this folder to the user that runs the server.
fn hand_over(folder: &Path) {
    if rustix::process::geteuid().is_root() {
        run(Command::new("chown").args(["-R", "postgres:postgres"]).arg(folder), "");
    }
}

impl Cluster {
    fn empty() -> Self {
        let files = tempfile::tempdir().unwrap();
        hand_over(files.path());
        Self { folder: files.path().join("data"), files }
    }

    pub(crate) fn new() -> Option<Self> {
        programs()?;
        let cluster = Self::empty();
        let settings = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-N", "-D"];
        run(program("initdb").args(settings).arg(&cluster.folder), "");
        run(
            program("postgres").arg("--single").arg("-D").arg(&cluster.folder).arg("postgres"),
            USERS,
        );
        cluster.write("pg_hba.conf", HBA);
        Some(cluster)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = peer::write(&self.folder, name, text);
        run(Command::new("chmod").args(["600", &path]), "");
        hand_over(&self.folder);
    }

    pub(crate) fn launch(self, settings: &[&str]) -> Postgres {
        let address = peer::address();
        let mut command = program("postgres");
        command.arg("-D").arg(&self.folder).arg("-k").arg(self.files.path());
        let (ip, port) = (address.ip(), address.port());
        for setting in [
            &format!("listen_addresses={ip}"),
            &format!("port={port}"),
            "fsync=off",
            "shared_buffers=1MB",
            "max_wal_senders=2",
        ] {
            command.args(["-c", setting]);
        }
        for setting in settings {
            command.args(["-c", setting]);
        }
        Postgres { address, server: Running::start(&mut command), _cluster: self }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Leaves no shared memory behind, as killing would.
        self.server.end(Signal::QUIT);
    }
}

impl Postgres {
    async fn start(settings: &[&str]) -> Option<Self> {
        let postgres = Cluster::new()?.launch(settings);
        postgres.becomes(&postgres.check("trusty", None), Outcome::Ok).await;
        Some(postgres)
    }

    fn check(&self, user: &str, password: Option<&str>) -> PostgresCheck {
        check(self.address, user, password)
    }

    /// Runs this as the superuser.
    fn sql(&self, sql: &str) {
        let (ip, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let mut command = program("psql");
        let command = command.args(["-h", &ip, "-p", &port, "-U", "trusty", "-d", "postgres"]);
        run(command.args(["-v", "ON_ERROR_STOP=1", "-q", "-c", sql]), "");
    }

    /// A session that stays; none when there is no place for it.
    fn session(&self) -> Option<TcpStream> {
        let mut stream = TcpStream::connect(self.address).expect("postgres listens");
        stream.set_read_timeout(Some(PATIENT)).expect("a timeout");
        let mut hello = Vec::new();
        wire::startup(&[("user", "trusty"), ("database", "postgres")], &mut hello);
        stream.write_all(&hello).expect("postgres reads");
        let mut answer = Vec::new();
        while !answer.ends_with(b"Z\0\0\0\x05I") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            answer.extend(byte);
        }
        Some(stream)
    }

    async fn becomes(&self, check: &PostgresCheck, wanted: Outcome) -> Report {
        let is = || async { outcome(&ask(check).await) == wanted };
        until("postgres gets into the state wanted", is).await;
        ask(check).await
    }
}

fn check(address: SocketAddr, user: &str, password: Option<&str>) -> PostgresCheck {
    PostgresCheck {
        target: peer::target(address),
        tls: None,
        login: Login {
            username: Secret::from(user),
            password: Secret::from(password.unwrap_or_default()),
        },
        authenticate: password.is_some(),
        database: Some("postgres".to_owned()),
        role: Role::Any,
        max_lag: None,
        slow: None,
    }
}

async fn ask(check: &PostgresCheck) -> Report {
    attempt(Check::Postgres(Box::new(check.clone())), PATIENT).await
}

#[tokio::test]
async fn every_way_to_log_in_is_spoken() {
    let Some(postgres) = Postgres::start(&[]).await else { return };
    for user in ["trusty", "plain", "digest", "proven"] {
        let report = ask(&postgres.check(user, None)).await;
        assert_end(&report, Outcome::Ok, "");
        let mut check = postgres.check(user, Some("secret"));
        check.role = Role::Writer;
        check.max_lag = Some(Duration::ZERO);
        assert_end(&ask(&check).await, Outcome::Ok, "");
        check.role = Role::Reader;
        assert_end(&ask(&check).await, Outcome::WrongRole, "is a primary");
    }
    for password in ["se\u{a0}cret", "se cret"] {
        assert_end(&ask(&postgres.check("spaced", Some(password))).await, Outcome::Ok, "");
    }
    let mut check = postgres.check("proven", Some("secret"));
    check.slow = Some(Duration::ZERO);
    assert_end(&ask(&check).await, Outcome::Degraded, "slow: took longer than 0ns");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let Some(postgres) = Postgres::start(&[]).await else { return };
    for user in ["plain", "digest", "proven", "nobody"] {
        let report = ask(&postgres.check(user, Some("other"))).await;
        assert_eq!(outcome(&report), Outcome::Auth, "{user}: {report:?}");
    }
    let report = ask(&postgres.check("proven", Some("other"))).await;
    assert_end(&report, Outcome::Auth, "28P01: password is wrong");
    let report = ask(&postgres.check("nobody", None)).await;
    assert_end(&report, Outcome::Auth, "28000: this user may not log in from here");
    let mut check = postgres.check("plain", None);
    check.role = Role::Writer;
    assert_end(&ask(&check).await, Outcome::Auth, "wants a password");
    let mut check = postgres.check("proven", Some("secret"));
    check.database = Some("absent".to_owned());
    assert_end(&ask(&check).await, Outcome::ClientError, "3D000: no such database");
    check.database = Some("private".to_owned());
    assert_end(&ask(&check).await, Outcome::Auth, "42501: this user lacks a privilege");
    check.database = Some("closed".to_owned());
    let report = ask(&check).await;
    assert_end(&report, Outcome::ServerError, "class 55: not in the right state");
}

#[tokio::test]
async fn a_full_server_is_a_failure() {
    let settings = ["max_connections=2", "superuser_reserved_connections=0"];
    let Some(postgres) = Postgres::start(&settings).await else { return };
    for check in [postgres.check("proven", Some("secret")), postgres.check("proven", None)] {
        let mut held = Vec::new();
        // Whoever asked before has perhaps not quite left.
        let fill = || {
            held.extend(postgres.session());
            std::future::ready(held.len() == 2)
        };
        until("all places are taken", fill).await;
        assert_end(&ask(&check).await, Outcome::ServerError, "53300: too many connections");
        drop(held);
        postgres.becomes(&check, Outcome::Ok).await;
    }
}

#[tokio::test]
async fn a_server_that_starts_or_stops_is_a_failure() {
    let Some(cluster) = Cluster::new() else { return };
    // A standby that never hears from its primary and lets nobody in while it waits.
    cluster.write("standby.signal", "");
    let postgres = cluster.launch(&["hot_standby=off"]);
    let report = postgres.becomes(&postgres.check("trusty", None), Outcome::ServerError).await;
    assert_end(&report, Outcome::ServerError, STARTING);
    let report = ask(&postgres.check("proven", Some("secret"))).await;
    assert_end(&report, Outcome::ServerError, STARTING);
}

const STARTING: &str = "57P03: starting up, shutting down or recovering";

#[tokio::test]
async fn a_server_that_shuts_down_is_a_failure_though_it_talks_about_tls() {
    let Some(postgres) = Postgres::start(&[]).await else { return };
    let session = postgres.session().expect("a place");
    postgres.server.signal(Signal::TERM);
    let check = postgres.check("trusty", None);
    let report = postgres.becomes(&check, Outcome::ServerError).await;
    assert_end(&report, Outcome::ServerError, STARTING);
    let mut check = check;
    check.tls = Some(TlsOptions::default());
    assert_end(&ask(&check).await, Outcome::Tls, "server does not offer TLS");
    drop(session);
}

#[tokio::test]
async fn tls_is_spoken_where_asked() {
    let Some(cluster) = Cluster::new() else { return };
    let authority = Authority::new();
    let certified = authority.issue("db.example.com");
    cluster.write("server.crt", &certified.pem());
    cluster.write("server.key", &certified.key_pem());
    let postgres = cluster.launch(&["ssl=on"]);
    postgres.becomes(&postgres.check("trusty", None), Outcome::Ok).await;
    let refused = "28000: this user may not log in from here";
    let mut check = postgres.check("secure", Some("secret"));
    assert_end(&ask(&check).await, Outcome::Auth, refused);
    let options = TlsOptions {
        ca_pem: Some(authority.pem()),
        server_name: Some("db.example.com".to_owned()),
        ..TlsOptions::default()
    };
    check.tls = Some(options.clone());
    let report = ask(&check).await;
    assert_end(&report, Outcome::Ok, "");
    assert!(report.phases.tls.is_some() && report.certificate_expires_in.is_some());
    check.tls = Some(TlsOptions { expiry_warning: Duration::MAX, ..options.clone() });
    assert_eq!(outcome(&ask(&check).await), Outcome::Degraded);
    check.tls = Some(TlsOptions { server_name: None, ..options });
    assert_end(&ask(&check).await, Outcome::Tls, "certificate is for another name");
}

#[tokio::test]
async fn a_standby_is_told_from_its_primary() {
    let Some(primary) = Postgres::start(&[]).await else { return };
    let copy = Cluster::empty();
    let from =
        format!("host={} port={} user=postgres", primary.address.ip(), primary.address.port());
    let settings = ["-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", &from, "-D"];
    run(program("pg_basebackup").args(settings).arg(&copy.folder), "");
    let standby = copy.launch(&[]);
    let mut check = standby.check("proven", Some("secret"));
    check.role = Role::Reader;
    standby.becomes(&check, Outcome::Ok).await;
    check.role = Role::Writer;
    assert_end(&ask(&check).await, Outcome::WrongRole, "is a standby");
    check.role = Role::Reader;
    check.max_lag = Some(Duration::from_millis(1));
    standby.becomes(&check, Outcome::Ok).await;
    standby.sql("SELECT pg_wal_replay_pause()");
    primary.sql("CREATE TABLE later AS SELECT 1");
    let report = standby.becomes(&check, Outcome::Degraded).await;
    assert!(detail(&report).starts_with("standby "), "{report:?}");
    standby.sql("SELECT pg_wal_replay_resume()");
    standby.becomes(&check, Outcome::Ok).await;
    // Without its primary it is as far behind as its last transaction is old.
    drop(primary);
    standby.becomes(&check, Outcome::Degraded).await;
    standby.sql("SELECT pg_promote()");
    check.role = Role::Writer;
    standby.becomes(&check, Outcome::Ok).await;
}

/// What answers on the port of `Upstream` with these bytes, asked to log in.
async fn answered(bytes: &[u8]) -> Report {
    let upstream = Upstream::start(Behaviour::Banner(bytes.to_vec()));
    ask(&check(upstream.address(), "me", Some("hunter2"))).await
}

#[tokio::test]
async fn something_else_on_the_port() {
    let others: [&[u8]; 8] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"-ERR unknown command\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"R\0\0\0\x03",
        b"R\x7f\xff\xff\xff\0\0\0\0",
        b"Z\0\0\0\x05I",
        b"R\0\0\0\x08\0\0\0\x0b",
        b"D\0\0\0\x06\0\0",
    ];
    for other in others {
        let report = answered(other).await;
        assert_end(&report, Outcome::Protocol, "answer is not of PostgreSQL's protocol");
        let upstream = Upstream::start(Behaviour::Banner(other.to_vec()));
        let report = ask(&check(upstream.address(), "me", None)).await;
        assert_eq!(outcome(&report), Outcome::Protocol, "{report:?}");
    }
    let report = answered(b"Ecould not fork new process for connection\n\0").await;
    assert_end(&report, Outcome::ServerError, "answered with an error");
    let report = answered(b"R\0\0\0\x08\0\0\0\x07").await;
    assert_end(&report, Outcome::ClientError, "wants a login that is not spoken here");
    let report = answered(b"E\0\0\0\x12Ccanary-5f3a\0\0").await;
    assert_end(&report, Outcome::ServerError, "answered with an error");
}

#[tokio::test]
async fn messages_without_end_are_cut() {
    let notices = b"N\0\0\0\x04".repeat(1 << 18);
    assert_end(&answered(&notices).await, Outcome::Protocol, "answer has no end");
    let upstream = Upstream::start(Behaviour::Hang);
    let check = check(upstream.address(), "me", Some("hunter2"));
    let report = attempt(Check::Postgres(Box::new(check.clone())), SHORT).await;
    assert_end(&report, Outcome::Timeout, "no answer within 250ms");
    let mut check = check;
    check.tls = Some(TlsOptions::default());
    let report = attempt(Check::Postgres(Box::new(check)), SHORT).await;
    assert_end(&report, Outcome::Timeout, "no TLS handshake within 250ms");
}

/// Answers the first two messages of a login as told.
fn impostor(rounds: &'static str, last: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let message = |kind: u8, content: &[u8]| {
        let length = u32::try_from(content.len() + 8).unwrap().to_be_bytes();
        [b"R".as_slice(), &length, &[0, 0, 0, kind], content].concat()
    };
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut said = [0; 1024];
        assert!(stream.read(&mut said).unwrap() > 0);
        stream.write_all(&message(10, b"SCRAM-SHA-256\0\0")).unwrap();
        let count = stream.read(&mut said).unwrap();
        let first = String::from_utf8_lossy(&said[..count]).into_owned();
        let (_, nonce) = first.split_once("r=").unwrap();
        let challenge = format!("r={nonce}x,s=AAAA,i={rounds}");
        stream.write_all(&message(11, challenge.as_bytes())).unwrap();
        assert!(stream.read(&mut said).unwrap() > 0);
        stream.write_all(&message(12, last)).ok();
        stream.write_all(&message(0, b"")).ok();
        while stream.read(&mut said).is_ok_and(|count| count > 0) {}
    });
    address
}

#[tokio::test]
async fn a_server_must_prove_that_it_knows_the_password() {
    let ends: [(&[u8], Outcome, &str); 3] = [
        (b"v=AAAA", Outcome::Protocol, "what answered does not know the password"),
        (b"e=invalid-proof", Outcome::Auth, "password is wrong"),
        (b"nonsense", Outcome::Protocol, "answer is not of PostgreSQL's protocol"),
    ];
    for (last, outcome, detail) in ends {
        let report = ask(&check(impostor("4096", last), "me", Some("hunter2"))).await;
        assert_end(&report, outcome, detail);
    }
}

#[tokio::test]
async fn a_server_that_asks_for_endless_work_does_not_get_it() {
    let report = ask(&check(impostor("2147483647", b""), "me", Some("hunter2"))).await;
    assert_end(&report, Outcome::Protocol, "asks for too much work for a login");
}

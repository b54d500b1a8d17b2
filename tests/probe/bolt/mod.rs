//! Bolt probes: every row of the reply table, against a server that says what it is told; and
//! against the official driver and a database that nobody here wrote.

mod arcadedb;
mod driver;
mod hostile;
mod secure;
mod stub;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{BoltCheck, BoltDepth, Check, Login, Role, Target};
use mcp_failover::policy::secret::Secret;
use mcp_failover::probe::Report;
use mcp_failover::probe::codec::packstream::Value;

use self::stub::{HELLO, Instead, LOGON, Opening, PULL, ROUTE, RUN, Script, Stub, map, text};
use super::{PATIENT, SHORT, assert_end, attempt, outcome, target};

/// A check of this depth, without a credential.
fn check(target: Target, depth: BoltDepth) -> BoltCheck {
    BoltCheck {
        target,
        tls: None,
        depth,
        login: None,
        database: None,
        role: Role::Any,
        server: None,
        database_id: None,
        slow: None,
    }
}

fn login(username: &str, password: &str) -> Login {
    Login { username: Secret::from(username), password: Secret::from(password) }
}

async fn bolt(check: BoltCheck) -> Report {
    attempt(Check::Bolt(Box::new(check)), PATIENT).await
}

/// One attempt of this depth against a server that does this.
async fn probe(script: Script, depth: BoltDepth) -> Report {
    let stub = Stub::start(script).await;
    bolt(check(target(stub.port()), depth)).await
}

async fn assert_opening(opening: Opening, outcome: Outcome, detail: &str) {
    let report = probe(Script::of(opening), BoltDepth::Handshake).await;
    assert_end(&report, outcome, detail);
}

/// 5.8 to 5.0 and 4.4 to 4.0, as a server of 2025 offers them.
fn manifest() -> Opening {
    Opening::Manifest(vec![[0, 8, 8, 5], [0, 4, 4, 4]])
}

/// Every version in use, and what says so.
fn versions() -> [Opening; 9] {
    [
        Opening::Pick(3, 0),
        Opening::Pick(4, 2),
        Opening::Pick(4, 3),
        Opening::Pick(4, 4),
        Opening::Pick(5, 0),
        Opening::Pick(5, 1),
        Opening::Pick(5, 4),
        Opening::Pick(5, 8),
        manifest(),
    ]
}

#[tokio::test]
async fn a_version_that_is_picked_passes_the_handshake() {
    for opening in versions() {
        assert_opening(opening, Outcome::Ok, "").await;
    }
}

#[tokio::test]
async fn a_manifest_is_answered_with_the_best_version_in_common() {
    for (ranges, best) in [
        (vec![[0, 2, 8, 5], [0, 4, 4, 4]], [8, 5]),
        (vec![[0, 4, 4, 4], [0, 9, 9, 5]], [8, 5]),
        (vec![[0, 0, 0, 7], [0, 0, 0, 6], [0, 8, 8, 5]], [0, 6]),
    ] {
        let stub = Stub::start(Script::of(Opening::Manifest(ranges))).await;
        let report = bolt(check(target(stub.port()), BoltDepth::Login)).await;
        assert_end(&report, Outcome::Ok, "");
        let [minor, major] = best;
        assert_eq!(stub.heard()[20..25], [0, 0, minor, major, 0]);
    }
}

#[tokio::test]
async fn no_version_in_common_is_ours_to_configure() {
    let none = Opening::Other(Instead::Close(vec![0, 0, 0, 0]));
    assert_opening(none, Outcome::ClientError, "no version of Bolt in common").await;
    let later = Opening::Manifest(vec![[0, 3, 3, 9]]);
    assert_opening(later, Outcome::ClientError, "no version of Bolt in common").await;
}

#[tokio::test]
async fn something_else_on_the_port() {
    let not_offered = "answer picks a version that was not offered";
    let unknown = "answer is a manifest of an unknown version";
    for (bytes, detail) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), "answer is HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "answer is TLS, and plain text was asked"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "answer is not Bolt"),
        (b"-ERR unknown command\r\n", "answer is not Bolt"),
        (&[0, 0, 0, 1], not_offered),
        (&[0, 0, 1, 4], not_offered),
        (&[0, 0, 9, 5], not_offered),
        (&[0, 0, 2, 0xFF], unknown),
        (&[0, 1, 4, 5], "answer is not Bolt"),
        (&[0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F], "manifest is too long"),
        (
            &[0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
            "manifest is malformed",
        ),
    ] {
        let opening = Opening::Other(Instead::Send(bytes.to_vec()));
        assert_opening(opening, Outcome::Protocol, detail).await;
    }
}

#[tokio::test]
async fn an_end_or_silence_instead_of_a_version() {
    let ended = Opening::Other(Instead::Close(Vec::new()));
    assert_opening(ended, Outcome::Reset, "connection closed without an answer").await;
    let cut = Opening::Other(Instead::Close(vec![0, 0, 4]));
    let detail = "connection closed before the answer was complete";
    assert_opening(cut, Outcome::Reset, detail).await;
    let stub = Stub::start(Script::of(Opening::Other(Instead::Send(Vec::new())))).await;
    let silent = Check::Bolt(Box::new(check(target(stub.port()), BoltDepth::Handshake)));
    assert_end(&attempt(silent, SHORT).await, Outcome::Timeout, "no answer within 250ms");
}

#[tokio::test]
async fn every_version_logs_in_and_answers() {
    for opening in versions() {
        let mut script = Script::of(opening.clone());
        script.login = Some(("neo4j", "secret"));
        let stub = Stub::start(script).await;
        let mut check = check(target(stub.port()), BoltDepth::Query);
        check.login = Some(login("neo4j", "secret"));
        let report = bolt(check.clone()).await;
        assert_end(&report, Outcome::Ok, "");
        assert!(report.phases.first_byte.is_some());
        check.login = Some(login("neo4j", "wrong"));
        let wanted = "Neo.ClientError.Security.Unauthorized";
        assert_end(&bolt(check.clone()).await, Outcome::Auth, wanted);
        check.login = None;
        assert_end(&bolt(check).await, Outcome::Auth, wanted);
        stub.farewell().await;
    }
}

#[tokio::test]
async fn a_depth_says_no_more_than_it_must() {
    for (depth, said) in [
        (BoltDepth::Handshake, [false, false]),
        (BoltDepth::Login, [true, false]),
        (BoltDepth::Query, [true, true]),
    ] {
        let stub = Stub::start(Script::serving()).await;
        assert_end(&bolt(check(target(stub.port()), depth)).await, Outcome::Ok, "");
        assert_eq!([HELLO, RUN].map(|tag| stub.message(tag).is_some()), said, "{depth:?}");
    }
}

#[tokio::test]
async fn failures_mean_the_same_wherever_they_come() {
    let throttled = Outcome::Throttled { retry_after: None };
    for (code, outcome) in [
        ("Neo.ClientError.Security.Unauthorized", Outcome::Auth),
        ("Neo.ClientError.Security.CredentialsExpired", Outcome::Auth),
        ("Neo.ClientError.Security.AuthenticationRateLimit", throttled),
        ("Neo.TransientError.General.DatabaseUnavailable", Outcome::ServerError),
        ("Neo.TransientError.Request.NoThreadsAvailable", Outcome::ServerError),
        ("Neo.DatabaseError.General.UnknownError", Outcome::ServerError),
        ("Neo.ClientError.Cluster.NotALeader", Outcome::WrongRole),
        ("Neo.ClientError.Database.DatabaseNotFound", Outcome::ClientError),
        ("Neo.ClientError.Transaction.TransactionTimedOut", Outcome::Timeout),
    ] {
        for opening in [Opening::Pick(4, 4), Opening::Pick(5, 4), manifest()] {
            for tag in [HELLO, LOGON, RUN, PULL] {
                if tag == LOGON && matches!(opening, Opening::Pick(4, 4)) {
                    continue;
                }
                let mut script = Script::of(opening.clone());
                script.instead.insert(tag, Instead::Fail(code));
                assert_end(&probe(script, BoltDepth::Query).await, outcome, code);
            }
        }
    }
}

#[tokio::test]
async fn a_database_is_known_by_its_id() {
    let mut script = Script::serving();
    script.records.insert("CALL db.info() YIELD id RETURN id", vec![text("7B3A")]);
    let stub = Stub::start(script).await;
    let asking = |id: &str| {
        let check = check(target(stub.port()), BoltDepth::Query);
        bolt(BoltCheck { database_id: Some(id.to_owned()), ..check })
    };
    assert_end(&asking("7B3A").await, Outcome::Ok, "");
    let another = "another database answers: its id differs";
    assert_end(&asking("0000").await, Outcome::Protocol, another);
}

#[tokio::test]
async fn a_query_that_returns_something_else_is_another_protocol() {
    for (record, detail) in [
        (vec![Value::Int(2)], "RETURN 1 did not return 1"),
        (vec![], "RETURN 1 did not return 1"),
        (vec![Value::Int(1), Value::Int(1)], "RETURN 1 did not return 1"),
    ] {
        let mut script = Script::serving();
        script.records.insert("RETURN 1", record);
        assert_end(&probe(script, BoltDepth::Query).await, Outcome::Protocol, detail);
    }
    let nothing = Value::Structure { tag: 0x70, fields: vec![map(&[])] };
    let report = probe(Script::instead(PULL, Instead::Say(nothing)), BoltDepth::Query).await;
    assert_end(&report, Outcome::Protocol, "query returned nothing");
}

#[tokio::test]
async fn keepalives_between_answers_are_skipped() {
    let mut script = Script::serving();
    script.keepalives = 50;
    assert_end(&probe(script, BoltDepth::Query).await, Outcome::Ok, "");
}

#[tokio::test]
async fn a_server_must_call_itself_as_expected() {
    let stub = Stub::start(Script::serving()).await;
    let mut check = check(target(stub.port()), BoltDepth::Handshake);
    for (name, outcome) in
        [("Neo4j/5.26", Outcome::Ok), ("Neo4j/", Outcome::Ok), ("Memgraph", Outcome::Protocol)]
    {
        check.server = Some(name.to_owned());
        assert_eq!(bolt(check.clone()).await.observation.outcome, outcome, "{name}");
    }
}

#[tokio::test]
async fn the_database_asked_for_is_named() {
    let stub = Stub::start(Script::serving()).await;
    let mut check = check(target(stub.port()), BoltDepth::Query);
    check.database = Some("movies".to_owned());
    assert_end(&bolt(check.clone()).await, Outcome::Ok, "");
    let run = stub.message(RUN).unwrap();
    assert!(run.windows(10).any(|part| part == b"\x82db\x86movies"), "{run:?}");
    let stub = Stub::start(Script::of(Opening::Pick(3, 0))).await;
    check.target = target(stub.port());
    let detail = "server has no databases by name";
    assert_end(&bolt(check).await, Outcome::ClientError, detail);
}

#[tokio::test]
async fn a_slow_answer_is_degraded() {
    let stub = Stub::start(Script::serving()).await;
    let mut check = check(target(stub.port()), BoltDepth::Query);
    check.slow = Some(std::time::Duration::from_nanos(1));
    assert_end(&bolt(check).await, Outcome::Degraded, "slow: took longer than 1ns");
}

/// One attempt for a role against a server with this table.
async fn role(script: Script, role: Role) -> Report {
    let stub = Stub::start(script).await;
    let mut check = check(target(stub.port()), BoltDepth::Handshake);
    check.role = role;
    bolt(check).await
}

fn with_table(opening: Opening, table: &[(&'static str, &[&'static str])]) -> Script {
    let table = table.iter().map(|(role, addresses)| (*role, addresses.to_vec())).collect();
    Script { table, ..Script::of(opening) }
}

#[tokio::test]
async fn a_member_has_the_role_that_its_routing_table_gives_it() {
    let other = "b.example.com:7687";
    let no_writes = "server takes no writes";
    let no_reads = "server is not among those for reads";
    for opening in [Opening::Pick(4, 3), Opening::Pick(4, 4), Opening::Pick(5, 4), manifest()] {
        let leader = with_table(opening.clone(), &[("WRITE", &["{self}"]), ("READ", &[other])]);
        assert_end(&role(leader.clone(), Role::Writer).await, Outcome::Ok, "");
        assert_end(&role(leader, Role::Reader).await, Outcome::WrongRole, no_reads);
        let follower = with_table(opening, &[("WRITE", &[other]), ("READ", &["{self}"])]);
        assert_end(&role(follower.clone(), Role::Writer).await, Outcome::WrongRole, no_writes);
        assert_end(&role(follower, Role::Reader).await, Outcome::Ok, "");
    }
}

#[tokio::test]
async fn a_cluster_without_a_leader_has_no_writer() {
    let script = with_table(Opening::Pick(5, 4), &[("WRITE", &[]), ("READ", &["{self}"])]);
    let report = role(script, Role::Writer).await;
    assert_end(&report, Outcome::WrongRole, "no member takes writes");
}

/// A cluster of members that are advertised under names that are not ours.
fn elsewhere(agent: &'static str) -> Script {
    let table: [(&'static str, &[&'static str]); 3] = [
        ("WRITE", &["a.example.com:7687"]),
        ("READ", &["b.example.com:7687"]),
        ("ROUTE", &["a.example.com:7687", "b.example.com:7687"]),
    ];
    Script { agent, ..with_table(Opening::Pick(5, 4), &table) }
}

const SETTINGS: &str = "SHOW SETTINGS YIELD name, value \
                        WHERE name = 'server.bolt.advertised_address' RETURN value";

#[tokio::test]
async fn a_member_under_another_name_is_asked_for_its_own() {
    let mut script = elsewhere("Neo4j/5.26.0");
    for (name, writer, reader) in [
        ("a.example.com:7687", Outcome::Ok, Outcome::WrongRole),
        ("B.example.com", Outcome::WrongRole, Outcome::Ok),
        ("c.example.com:7687", Outcome::WrongRole, Outcome::WrongRole),
    ] {
        script.records.insert(SETTINGS, vec![text(name)]);
        assert_eq!(outcome(&role(script.clone(), Role::Writer).await), writer, "{name}");
        assert_eq!(outcome(&role(script.clone(), Role::Reader).await), reader, "{name}");
    }
}

#[tokio::test]
async fn a_4x_member_under_another_name_is_asked_for_its_role() {
    let mut script = elsewhere("Neo4j/4.4.38");
    for (word, writer, reader) in [
        ("LEADER", Outcome::Ok, Outcome::WrongRole),
        ("FOLLOWER", Outcome::WrongRole, Outcome::Ok),
        ("READ_REPLICA", Outcome::WrongRole, Outcome::Ok),
    ] {
        script.records.insert("CALL dbms.cluster.role($database)", vec![text(word)]);
        assert_eq!(outcome(&role(script.clone(), Role::Writer).await), writer, "{word}");
        assert_eq!(outcome(&role(script.clone(), Role::Reader).await), reader, "{word}");
    }
}

#[tokio::test]
async fn a_member_that_cannot_be_told_apart_is_ours_to_configure() {
    let detail = "the routing table does not know the endpoint by this address";
    for agent in ["Neo4j/5.26.0", "Neo4j/4.4.38"] {
        let report = role(elsewhere(agent), Role::Writer).await;
        assert_end(&report, Outcome::ClientError, detail);
    }
}

#[tokio::test]
async fn a_table_of_one_is_about_the_server_that_gave_it() {
    let one: &[&'static str] = &["localhost:7687"];
    let table: [(&'static str, &[&'static str]); 3] =
        [("WRITE", one), ("READ", one), ("ROUTE", one)];
    for wanted in [Role::Writer, Role::Reader] {
        let report = role(with_table(Opening::Pick(5, 4), &table), wanted).await;
        assert_end(&report, Outcome::Ok, "");
    }
}

#[tokio::test]
async fn roles_are_told_from_4_3_on() {
    for version in [Opening::Pick(3, 0), Opening::Pick(4, 2)] {
        let report = role(Script::of(version), Role::Writer).await;
        assert_end(&report, Outcome::ClientError, "roles are told from Bolt 4.3 on only");
    }
}

#[tokio::test]
async fn a_routing_table_that_is_none() {
    let nothing = Value::Structure { tag: 0x70, fields: vec![map(&[])] };
    let report = role(Script::instead(ROUTE, Instead::Say(nothing)), Role::Writer).await;
    assert_end(&report, Outcome::Protocol, "answer is not a routing table");
    let missing = "Neo.ClientError.Database.DatabaseNotFound";
    let report = role(Script::instead(ROUTE, Instead::Fail(missing)), Role::Writer).await;
    assert_end(&report, Outcome::ClientError, missing);
}

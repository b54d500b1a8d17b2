//! Bolt probes against `ArcadeDB`: a database that speaks Bolt, which nobody here wrote.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{BoltCheck, BoltDepth, Role};

use super::{assert_end, bolt, check, login, outcome, target};
use crate::common;
use crate::common::upstream::{Behaviour, Upstream};

/// A Java machine takes its time on a busy one.
const START: Duration = Duration::from_secs(120);
const PASSWORD: &str = "a-password-of-tests";

struct Database {
    server: Child,
    port: u16,
    _files: tempfile::TempDir,
}

impl Drop for Database {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

/// Where the package is unpacked.
fn home() -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/venv/lib");
    let pythons = std::fs::read_dir(venv).ok()?.filter_map(Result::ok);
    let inside =
        |python: std::fs::DirEntry| python.path().join("site-packages").join("arcadedb_embedded");
    pythons.map(inside).find(|home| home.join("jre/bin/java").is_file())
}

fn free_port() -> u16 {
    Upstream::start(Behaviour::Refuse).port()
}

impl Database {
    async fn start() -> Option<Self> {
        let Some(home) = home() else {
            common::skip("ArcadeDB is not installed");
            return None;
        };
        let files = tempfile::tempdir().unwrap();
        let port = free_port();
        let set = |name: &str, value: &str| format!("-Darcadedb.{name}={value}");
        let server = Command::new(home.join("jre/bin/java"))
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg(set("server.rootPath", files.path().to_str().expect("a plain path")))
            .arg(set("server.rootPassword", PASSWORD))
            .arg(set("server.httpIncomingHost", "127.0.0.1"))
            .arg(set("server.httpIncomingPort", &free_port().to_string()))
            .arg(set("server.plugins", "Bolt:com.arcadedb.bolt.BoltProtocolPlugin"))
            .arg(set("server.defaultDatabases", "neo4j[root]"))
            .arg(set("bolt.host", "127.0.0.1"))
            .arg(set("bolt.port", &port.to_string()))
            .arg("-cp")
            .arg(home.join("jars/*"))
            .arg("com.arcadedb.server.ArcadeDBServer")
            .current_dir(files.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Java starts");
        let database = Self { server, port, _files: files };
        let serving = async {
            while outcome(&bolt(database.asked_for("neo4j")).await) != Outcome::Ok {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(START, Box::pin(serving)).await.expect("ArcadeDB serves");
        Some(database)
    }

    fn asked_for(&self, database: &str) -> BoltCheck {
        BoltCheck {
            login: Some(login("root", PASSWORD)),
            database: Some(database.to_owned()),
            ..check(target(self.port), BoltDepth::Query)
        }
    }
}

#[tokio::test]
async fn a_database_of_others_is_seen_as_it_is() {
    let Some(mut database) = Database::start().await else { return };
    let serving = database.asked_for("neo4j");
    for depth in [BoltDepth::Handshake, BoltDepth::Login, BoltDepth::Query] {
        assert_end(&bolt(BoltCheck { depth, ..serving.clone() }).await, Outcome::Ok, "");
    }

    let named = |name: &str| BoltCheck { server: Some(name.to_owned()), ..serving.clone() };
    assert_end(&bolt(named("ArcadeDB")).await, Outcome::Ok, "");
    let other = bolt(named("Memgraph")).await;
    assert_end(&other, Outcome::Protocol, "server calls itself something else");

    let refused = "Neo.ClientError.Security.Unauthorized";
    let wrong = BoltCheck { login: Some(login("root", "wrong")), ..serving.clone() };
    assert_end(&bolt(wrong).await, Outcome::Auth, refused);
    let nobody = BoltCheck { login: None, ..serving.clone() };
    assert_end(&bolt(nobody).await, Outcome::Auth, refused);

    let missing = bolt(database.asked_for("missing")).await;
    assert_end(&missing, Outcome::ClientError, "Neo.ClientError.Database.DatabaseNotFound");

    // It stands alone, so it has both roles.
    for role in [Role::Writer, Role::Reader] {
        assert_end(&bolt(BoltCheck { role, ..serving.clone() }).await, Outcome::Ok, "");
    }

    database.server.kill().expect("it runs");
    database.server.wait().expect("it ends");
    assert_end(&bolt(serving).await, Outcome::Refused, "connection refused");
}

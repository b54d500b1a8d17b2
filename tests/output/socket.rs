//! The config socket: what clients get, and that none of them can hurt another.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mcp_failover::core::action::{LeaseRefusal, MoveKind};
use mcp_failover::core::id::{EndpointName, LeaseId, Revision, ServiceName};
use mcp_failover::core::outcome::Outcome;
use mcp_failover::core::rules::Strategy;
use mcp_failover::core::status::{Offer, ServiceState};
use mcp_failover::output::{
    ActiveConfig, ActiveService, Board, Doors, Feedback, Lease, Moved, Offers, OutputReport, Proof,
    ServiceOffer, run,
};
use mcp_failover::policy::model::{ConfigSocket, Output, Peers};
use mcp_failover::policy::secret::Secret;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::DEADLINE;

/// A served socket, and the ends that the sidecar would hold.
struct Served {
    path: PathBuf,
    configs: watch::Sender<Option<Arc<ActiveConfig>>>,
    offers: watch::Sender<Arc<Offers>>,
    feedback: mpsc::Receiver<Feedback>,
    reports: mpsc::Receiver<OutputReport>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    _folder: TempDir,
}

fn spec(path: &Path) -> ConfigSocket {
    ConfigSocket {
        name: "socket".to_owned(),
        path: path.to_owned(),
        permissions: 0o660,
        owner: (None, None),
        services: Vec::new(),
        allow: Peers::default(),
        expose_env: true,
        max_clients: 1024,
        uptake: None,
    }
}

fn config(revision: u64, endpoint: Option<&str>) -> ActiveConfig {
    let value = endpoint.map_or(String::new(), |endpoint| format!("key-of-{endpoint}"));
    let service = ActiveService {
        endpoint: endpoint.map(EndpointName::new),
        url: None,
        env: [("INDEX_KEY".to_owned(), Secret::new(value))].into(),
        moved: Some(Moved {
            revision: Revision::new(revision),
            from: None,
            kind: MoveKind::Failover,
            cause: Arc::from("because"),
        }),
    };
    let services = [(ServiceName::new("index"), service)].into();
    ActiveConfig { revision: Revision::new(revision), services }
}

impl Served {
    async fn start(change: impl FnOnce(&mut ConfigSocket)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run/config.sock");
        let (configs, following) = watch::channel(Some(Arc::new(config(1, Some("primary")))));
        let (offers, offered) = watch::channel(Arc::default());
        let (sender, feedback) = mpsc::channel(64);
        let (reporter, reports) = mpsc::channel(1024);
        let board = Board {
            configs: following,
            offers: offered,
            reports: reporter,
            feedback: sender,
            generation: Arc::from("g"),
            doors: Doors::default(),
        };
        let mut spec = spec(&path);
        change(&mut spec);
        let path = spec.path.clone();
        let cancel = CancellationToken::new();
        let task = tokio::spawn(run(Output::Socket(spec), board, cancel.clone()));
        let served =
            Self { path, configs, offers, feedback, reports, cancel, task, _folder: folder };
        served.wait_until_it_listens().await;
        served
    }

    async fn wait_until_it_listens(&self) {
        let listening = async {
            while UnixStream::connect(&self.path).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await; // poll
            }
        };
        timeout(DEADLINE, listening).await.expect("it listens");
    }

    async fn client(&self) -> Client {
        let stream = UnixStream::connect(&self.path).await.expect("it listens");
        Client(BufReader::new(stream))
    }

    /// A client that has been greeted and follows the one service.
    async fn subscriber(&self) -> (Client, Value) {
        let mut client = self.client().await;
        client.say(&json!({"id": 1, "op": "subscribe", "service": "index"})).await;
        let hello = client.hear().await;
        assert_eq!(hello["event"], "hello");
        let snapshot = client.hear().await;
        (client, snapshot)
    }

    fn publish(&self, revision: u64, endpoint: Option<&str>) {
        self.configs.send_replace(Some(Arc::new(config(revision, endpoint))));
    }

    async fn told(&mut self) -> Feedback {
        let told = timeout(DEADLINE, self.feedback.recv()).await;
        told.expect("nothing was told in time").expect("the output lives")
    }
}

struct Client(BufReader<UnixStream>);

impl Client {
    async fn say(&mut self, message: &Value) {
        self.send(format!("{message}\n").as_bytes()).await;
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).await.expect("it listens");
    }

    /// The next line; `Null` at the end.
    async fn hear(&mut self) -> Value {
        let mut line = String::new();
        let read = timeout(DEADLINE, self.0.read_line(&mut line)).await;
        match read.expect("nothing came in time") {
            Ok(0) | Err(_) => Value::Null,
            Ok(_) => serde_json::from_str(&line).expect("a line of JSON"),
        }
    }

    async fn ask(&mut self, message: &Value) -> Value {
        self.say(message).await;
        loop {
            let heard = self.hear().await;
            if heard.get("event").is_none() {
                return heard;
            }
        }
    }
}

#[tokio::test]
async fn a_subscriber_gets_a_snapshot_first_and_then_every_change() {
    let mut served = Served::start(|_| ()).await;
    let (mut client, snapshot) = served.subscriber().await;
    assert_eq!(snapshot["ok"], true);
    assert_eq!(snapshot["endpoint"]["id"], "primary");
    assert_eq!(snapshot["endpoint"]["env"]["INDEX_KEY"], "key-of-primary");
    served.publish(7, Some("backup"));
    let event = client.hear().await;
    assert_eq!(event["event"], "switch");
    assert_eq!(event["endpoint"]["env"]["INDEX_KEY"], "key-of-backup");
    assert_eq!((&event["mode"], &event["reason"]), (&json!("immediate"), &json!("because")));
    assert!(event["seq"].as_u64() > snapshot["seq"].as_u64());
    client
        .say(&json!({"op": "ack", "service": "index", "gen": event["gen"], "seq": event["seq"]}))
        .await;
    let Feedback::Effective(effect) = served.told().await else { panic!("no effect") };
    assert_eq!((effect.revision, effect.proof), (Revision::new(7), Proof::Acknowledged));
    served.publish(8, None);
    let event = client.hear().await;
    assert_eq!((&event["event"], &event["endpoint"]), (&json!("down"), &Value::Null));
}

#[tokio::test]
async fn an_ack_of_an_older_change_or_another_generation_proves_nothing() {
    let mut served = Served::start(|_| ()).await;
    let (mut client, snapshot) = served.subscriber().await;
    served.publish(7, Some("backup"));
    let event = client.hear().await;
    let ack = |gen_: &Value, seq: &Value| json!({"op": "ack", "service": "index", "gen": gen_, "seq": seq});
    client.say(&ack(&snapshot["gen"], &snapshot["seq"])).await;
    client.say(&ack(&json!("another"), &event["seq"])).await;
    client.say(&ack(&event["gen"], &event["seq"])).await;
    let Feedback::Effective(effect) = served.told().await else { panic!("no effect") };
    assert_eq!(effect.revision, Revision::new(7), "only the last one counted");
    assert!(served.feedback.try_recv().is_err());
}

#[tokio::test]
async fn a_changed_variable_is_a_change_even_at_the_same_revision() {
    let served = Served::start(|_| ()).await;
    let (mut client, snapshot) = served.subscriber().await;
    let mut rotated = config(1, Some("primary"));
    if let Some(service) = rotated.services.get_mut("index") {
        service.env = [("INDEX_KEY".to_owned(), Secret::from("rotated"))].into();
    }
    served.configs.send_replace(Some(Arc::new(rotated)));
    let event = client.hear().await;
    assert_eq!(event["endpoint"]["env"]["INDEX_KEY"], "rotated");
    assert!(event["seq"].as_u64() > snapshot["seq"].as_u64());
}

#[tokio::test]
async fn a_reader_that_stands_still_gets_the_latest_state_and_holds_up_nobody() {
    let mut served = Served::start(|_| ()).await;
    let (mut stalled, _) = served.subscriber().await;
    let (mut quick, _) = served.subscriber().await;
    let mut seen = 0;
    for revision in 2..=5_000 {
        served.publish(revision, Some(&format!("endpoint-{revision}")));
        // The one that reads keeps up; the other one has stopped reading long ago.
        while served.reports.try_recv().is_ok() {}
        if revision % 100 == 0 {
            loop {
                seen = quick.hear().await["seq"].as_u64().expect("a number");
                if seen == revision {
                    break;
                }
            }
        }
    }
    assert_eq!(seen, 5_000);
    let mut lines = 0_u64;
    loop {
        lines += 1;
        if stalled.hear().await["seq"] == 5_000 {
            break;
        }
    }
    assert!(lines < 4_000, "a backlog of {lines} lines was kept");
}

#[tokio::test]
async fn garbage_is_told_and_costs_its_sender_alone() {
    let served = Served::start(|_| ()).await;
    let (mut other, _) = served.subscriber().await;
    let mut client = served.client().await;
    client.send(b"\x00\xff not json\n\n{\"id\":1}\n").await;
    assert_eq!(client.hear().await["event"], "hello");
    assert_eq!(client.hear().await["error"]["code"], "bad_request");
    let missing = client.hear().await;
    assert_eq!((&missing["id"], &missing["error"]["code"]), (&json!(1), &json!("bad_request")));
    let unknown = client.ask(&json!({"id": 2, "op": "get", "service": "nothing"})).await;
    assert_eq!(unknown["error"]["code"], "unknown_service");
    let mut half = served.client().await;
    half.send(b"{\"op\":\"get\",").await;
    drop(half);
    let mut huge = served.client().await;
    huge.send(&vec![b'x'; 70_000]).await;
    assert_eq!(huge.hear().await["event"], "hello");
    assert_eq!(huge.hear().await["error"]["code"], "too_large");
    assert_eq!(huge.hear().await, Value::Null, "and the connection is closed");
    served.publish(2, Some("backup"));
    assert_eq!(other.hear().await["event"], "switch");
}

#[tokio::test]
async fn too_many_clients_are_told_so() {
    let served = Served::start(|spec| spec.max_clients = 3).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(served.subscriber().await);
    }
    // Places come free when the probes of the start are noticed to be gone.
    let busy = timeout(DEADLINE, async {
        loop {
            let mut one = served.client().await;
            let heard = one.hear().await;
            if heard["error"]["code"] == "busy" {
                return heard;
            }
            clients.push((one, heard));
        }
    });
    assert_eq!(busy.await.expect("some limit")["ok"], false);
}

/// Grants or refuses one lease as the engine would.
async fn lend(served: &mut Served, answer: Result<Lease, LeaseRefusal>) {
    loop {
        if let Feedback::Lease { reply, .. } = served.told().await {
            reply.send(answer).expect("the client waits");
            return;
        }
    }
}

fn lease(id: u64) -> Lease {
    Lease { id: LeaseId::new(id), endpoint: EndpointName::new("primary") }
}

#[tokio::test]
async fn a_lease_is_lent_renewed_and_given_back_with_its_result() {
    let mut served = Served::start(|_| ()).await;
    let mut client = served.client().await;
    client.say(&json!({"id": 3, "op": "lease", "service": "index"})).await;
    lend(&mut served, Ok(lease(91))).await;
    assert_eq!(client.hear().await["event"], "hello");
    let lent = client.hear().await;
    assert_eq!((&lent["lease"], &lent["endpoint"]["id"]), (&json!("L91"), &json!("primary")));
    assert_eq!(client.ask(&json!({"id": 4, "op": "renew", "lease": "L91"})).await["ok"], true);
    let Feedback::Renewed(renewed) = served.told().await else { panic!("not renewed") };
    assert_eq!(renewed, LeaseId::new(91));
    let release =
        json!({"id": 5, "op": "release", "lease": "L91", "outcome": "error", "status": 503});
    assert_eq!(client.ask(&release).await["ok"], true);
    let Feedback::Released { observation, .. } = served.told().await else { panic!("kept") };
    assert_eq!(observation.map(|seen| seen.outcome), Some(Outcome::ServerError));
    assert_eq!(client.ask(&release).await["error"]["code"], "unknown_lease");
}

#[tokio::test]
async fn a_lease_is_refused_when_nothing_may_take_calls() {
    let mut served = Served::start(|_| ()).await;
    let mut client = served.client().await;
    client.say(&json!({"id": 3, "op": "lease", "service": "index"})).await;
    lend(&mut served, Err(LeaseRefusal::NoEndpoint)).await;
    assert_eq!(client.hear().await["event"], "hello");
    assert_eq!(client.hear().await["error"]["code"], "no_endpoint");
}

#[tokio::test]
async fn a_lease_ends_with_its_connection_and_belongs_to_it_alone() {
    let mut served = Served::start(|_| ()).await;
    let mut client = served.client().await;
    client.say(&json!({"op": "lease", "service": "index"})).await;
    lend(&mut served, Ok(lease(5))).await;
    let mut thief = served.client().await;
    let stolen = thief.ask(&json!({"id": 1, "op": "release", "lease": "L5"})).await;
    assert_eq!(stolen["error"]["code"], "unknown_lease");
    assert_eq!(client.hear().await["event"], "hello");
    assert_eq!(client.hear().await["lease"], "L5");
    drop(client);
    let Feedback::Released { lease, observation } = served.told().await else { panic!("kept") };
    assert_eq!((lease, observation), (LeaseId::new(5), None));
}

#[tokio::test]
async fn a_lease_is_called_back_when_its_endpoint_takes_no_calls_any_more() {
    let mut served = Served::start(|_| ()).await;
    let mut client = served.client().await;
    client.say(&json!({"op": "lease", "service": "index"})).await;
    lend(&mut served, Ok(lease(5))).await;
    assert_eq!(client.hear().await["event"], "hello");
    assert_eq!(client.hear().await["lease"], "L5");
    // Offers that do not name the endpoint.
    served.offers.send_replace(Arc::default());
    let revoked = client.hear().await;
    assert_eq!((&revoked["event"], &revoked["lease"]), (&json!("revoke"), &json!("L5")));
}

#[tokio::test]
async fn each_start_is_another_generation_and_a_dead_socket_is_taken_over() {
    let first = Served::start(|_| ()).await;
    let (_client, snapshot) = first.subscriber().await;
    first.cancel.cancel();
    first.task.await.expect("it ends");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.sock");
    // What a killed sidecar leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    let second = Served::start(|spec| spec.path.clone_from(&path)).await;
    let mut client = second.client().await;
    let again = client.ask(&json!({"id": 1, "op": "get", "service": "index"})).await;
    assert_ne!(again["gen"], snapshot["gen"]);
    drop(second);
}

#[tokio::test]
async fn variables_are_not_sent_where_the_policy_does_not_allow_it() {
    let served = Served::start(|spec| spec.expose_env = false).await;
    let (mut client, snapshot) = served.subscriber().await;
    assert!(snapshot["endpoint"].get("env").is_none());
    served.publish(2, Some("backup"));
    assert!(!client.hear().await.to_string().contains("key-of"));
}

#[tokio::test]
async fn a_user_who_is_not_allowed_is_turned_away() {
    if !rustix::process::geteuid().is_root() {
        return crate::common::skip("only root can become somebody else");
    }
    let served = Served::start(|spec| {
        spec.permissions = 0o666;
        spec.allow.uids = vec![1];
    })
    .await;
    let folder = served.path.parent().and_then(Path::parent).expect("a folder");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder, open).expect("ours");
    let ask = |uid: u32| {
        let script = "import os,socket,sys\nos.setgid(int(sys.argv[2]));os.setuid(int(sys.argv[2]))\n\
                      s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1])\n\
                      print(s.makefile().readline())";
        let (path, uid) = (served.path.clone(), uid.to_string());
        tokio::process::Command::new("python3").args(["-c", script]).arg(path).arg(uid).output()
    };
    let refused = ask(65_534).await.expect("python3");
    assert!(String::from_utf8_lossy(&refused.stdout).contains("forbidden"), "{refused:?}");
    let greeted = ask(1).await.expect("python3");
    assert!(String::from_utf8_lossy(&greeted.stdout).contains("hello"), "{greeted:?}");
}

async fn http(served: &Served, request: &str) -> String {
    let mut stream = UnixStream::connect(&served.path).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("in time").expect("UTF-8");
    answer
}

#[tokio::test]
async fn the_same_is_served_over_http() {
    let mut served = Served::start(|_| ()).await;
    let (_client, _) = served.subscriber().await;
    let get =
        |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let one = http(&served, &get("/v1/services/index")).await;
    assert!(one.starts_with("HTTP/1.1 200") && one.contains("key-of-primary"), "{one}");
    assert!(http(&served, &get("/v1/services")).await.contains("key-of-primary"));
    assert!(http(&served, &get("/v1/services/nothing")).await.starts_with("HTTP/1.1 404"));
    assert!(http(&served, &get("/")).await.starts_with("HTTP/1.1 404"));
    let wrong = "DELETE /v1/services/index HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(http(&served, wrong).await.starts_with("HTTP/1.1 405"));
    let lease = "POST /v1/services/index/lease HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                 content-length: 15\r\n\r\n{\"ttl_ms\":9000}";
    let path = served.path.clone();
    let asking = tokio::spawn(async move {
        let mut stream = UnixStream::connect(&path).await.expect("it listens");
        stream.write_all(lease.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("UTF-8");
        answer
    });
    lend(&mut served, Ok(self::lease(7))).await;
    let lent = asking.await.expect("an answer");
    assert!(lent.contains("\"lease\":\"L7\"") && lent.contains("\"ttl_ms\":9000"), "{lent}");
    let release = "POST /v1/leases/L7/release HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                   content-length: 16\r\n\r\n{\"outcome\":\"ok\"}";
    assert!(http(&served, release).await.starts_with("HTTP/1.1 200"));
    let Feedback::Released { .. } = served.told().await else { panic!("kept") };
}

#[tokio::test]
async fn a_watcher_over_http_gets_a_line_a_change() {
    let served = Served::start(|_| ()).await;
    let mut client = served.client().await;
    client.send(b"GET /v1/services/index/watch HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut text = String::new();
    for (revision, wanted) in [(2, "key-of-primary"), (3, "key-of-backup")] {
        while !text.contains(wanted) {
            let read = timeout(DEADLINE, client.0.read_line(&mut text)).await;
            assert!(read.expect("in time").expect("UTF-8") > 0, "{text}");
        }
        served.publish(revision, Some("backup"));
    }
}

#[tokio::test]
async fn a_service_is_spoken_of_before_it_is_first_published() {
    let served = Served::start(|_| {}).await;
    served.configs.send_replace(None);
    let services = ["index", "graph"].map(|name| (ServiceName::new(name), unproven()));
    served.offers.send_replace(Arc::new(Offers { services: services.into() }));
    let mut client = served.client().await;
    client.say(&json!({"id": 1, "op": "subscribe", "service": "graph"})).await;
    let hello = client.hear().await;
    assert_eq!(hello["services"], json!(["graph", "index"]));
    let nothing_yet = client.hear().await;
    assert_eq!((&nothing_yet["ok"], &nothing_yet["seq"]), (&json!(true), &json!(0)));
    assert_eq!(
        (&nothing_yet["endpoint"], &nothing_yet["state"]),
        (&Value::Null, &json!("starting"))
    );
    let mut published = config(2, Some("primary"));
    let graph = published.services.values().next().expect("one").clone();
    published.services.insert(ServiceName::new("graph"), graph);
    served.configs.send_replace(Some(Arc::new(published)));
    let event = client.hear().await;
    assert_eq!((&event["event"], &event["service"]), (&json!("switch"), &json!("graph")));
    assert_eq!(event["endpoint"]["id"], "primary");
    client.say(&json!({"id": 2, "op": "get", "service": "nobody"})).await;
    assert_eq!(client.hear().await["error"]["code"], "unknown_service");
}

/// What is offered of a service none of whose endpoints has answered yet.
fn unproven() -> ServiceOffer {
    let offer = Offer {
        active: None,
        strategy: Strategy::Priority,
        state: ServiceState::Starting,
        candidates: Vec::new(),
        fallbacks: Vec::new(),
    };
    ServiceOffer { offer, endpoints: Arc::default() }
}

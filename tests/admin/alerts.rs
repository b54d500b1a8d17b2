//! Alerts against a real HTTP server that refuses, fails, recovers, redirects or hangs.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mcp_failover::admin::hub::EventHub;
use mcp_failover::alert::{self, Client, Pace, Sender};
use mcp_failover::core::action::{Event, HoldReason};
use mcp_failover::core::health::Health;
use mcp_failover::core::id::{EndpointName, ServiceName};
use mcp_failover::core::record::{EventRecord, SCHEMA};
use mcp_failover::policy::model::Alert;
use mcp_failover::policy::secret::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::fixture::{self, DEADLINE};

const CANARY: &str = "canary-5f0c2b";

/// A server that keeps what it gets and answers as scripted, then with 200.
struct Receiver {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Got {
    head: String,
    body: serde_json::Value,
    at: Instant,
}

/// A scripted answer: status line and further header lines; hangs when empty.
type Script = &'static str;

impl Receiver {
    async fn start(script: &[Script]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let got = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(script.iter().copied().collect::<VecDeque<_>>()));
        let kept = Arc::clone(&got);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a client");
                tokio::spawn(answer(stream, Arc::clone(&kept), Arc::clone(&script)));
            }
        });
        Self { address, got, task }
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().expect("not poisoned").clone()
    }

    /// Waits until so many requests have come.
    async fn wait(&self, count: usize) -> Vec<Got> {
        let came = async {
            while self.got().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(DEADLINE, came).await.expect("the requests come");
        self.got()
    }

    fn alert(&self, events: &[&str]) -> Alert {
        Alert {
            name: String::from("pager"),
            url: Secret::new(format!("http://{}/hook?token={CANARY}", self.address)),
            headers: vec![(String::from("authorization"), Secret::from(CANARY))],
            events: events.iter().map(|name| (*name).to_owned()).collect(),
            timeout: Duration::from_secs(5),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    mut stream: TcpStream,
    got: Arc<Mutex<Vec<Got>>>,
    script: Arc<Mutex<VecDeque<Script>>>,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.is_some_and(|length| length.parse() == Ok(body.len())) {
                break (head, body.to_owned());
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    };
    let body = serde_json::from_str(&body).expect("a JSON payload");
    got.lock().expect("not poisoned").push(Got { head, body, at: Instant::now() });
    let next = script.lock().expect("not poisoned").pop_front().unwrap_or("200 OK");
    if next.is_empty() {
        std::future::pending::<()>().await;
    }
    let answer = format!("HTTP/1.1 {next}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await
}

/// Alerts being sent.
struct Run {
    hub: EventHub,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Run {
    fn start(alerts: Vec<Alert>) -> Self {
        let pace = Pace {
            first: Duration::from_millis(10),
            longest: Duration::from_millis(40),
            attempts: 4,
            ..Pace::default()
        };
        let client = Client::new().expect("a client");
        let sender = Sender { sidecar: String::from("local"), client, pace };
        let (hub, cancel) = (EventHub::new(), CancellationToken::new());
        let task = tokio::spawn(alert::run(alerts, sender, hub.feed(), cancel.clone()));
        Self { hub, cancel, task }
    }

    fn tell(&self, seq: u64, event: Event) {
        let at = fixture::clock(fixture::at(seq));
        self.hub.publish(EventRecord { schema: SCHEMA, seq, at, event });
    }

    async fn end(self) {
        self.cancel.cancel();
        timeout(DEADLINE, self.task).await.expect("an end").expect("no panic");
    }
}

fn all_down() -> Event {
    Event::AllDown { service: ServiceName::new("vectors"), critical: true }
}

fn status_change() -> Event {
    Event::StatusChange {
        service: ServiceName::new("vectors"),
        endpoint: EndpointName::new("primary"),
        from: Health::Healthy,
        to: Health::Unhealthy,
        cause: String::from("timeout"),
    }
}

fn held(why: HoldReason) -> Event {
    Event::Held { service: ServiceName::new("vectors"), why, cause: String::from("because") }
}

#[tokio::test]
async fn an_alert_says_who_what_and_how_bad() {
    let receiver = Receiver::start(&[]).await;
    let run = Run::start(vec![receiver.alert(&[])]);
    run.tell(1, all_down());
    let got = receiver.wait(1).await.remove(0);
    assert!(got.head.starts_with(&format!("post /hook?token={CANARY} http/1.1")), "{}", got.head);
    assert!(got.head.contains("content-type: application/json"));
    assert!(got.head.contains(&format!("authorization: {CANARY}")));
    let id = got.body["id"].as_str().expect("an id");
    assert!(got.head.contains(&format!("idempotency-key: {}", id.to_ascii_lowercase())));
    assert_eq!(got.body["schema"], 1);
    assert_eq!(got.body["sidecar"], "local");
    assert_eq!(got.body["severity"], "critical");
    assert_eq!(got.body["text"], "local: no endpoint of vectors is alive");
    assert_eq!(got.body["event"]["event"], "all_down");
    assert_eq!(got.body["event"]["seq"], 1);
    run.end().await;
}

#[tokio::test]
async fn a_receiver_that_fails_gets_the_same_alert_again_and_the_next_one_after_it() {
    let script = ["500 Internal Server Error", "503 Service Unavailable", "429 Too Many Requests"];
    let receiver = Receiver::start(&script).await;
    let run = Run::start(vec![receiver.alert(&[])]);
    run.tell(1, all_down());
    run.tell(2, Event::Switched(fixture::decision(2)));
    let got = receiver.wait(5).await;
    let ids: Vec<&str> = got.iter().filter_map(|got| got.body["id"].as_str()).collect();
    assert_eq!(ids[..4], [ids[0]; 4], "the same id over all retries");
    assert_ne!(ids[4], ids[0]);
    assert_eq!(got[4].body["event"]["event"], "switched");
    run.end().await;
}

#[tokio::test]
async fn an_alert_nobody_takes_is_given_up_and_the_next_is_sent() {
    let receiver = Receiver::start(&["500 No"; 4]).await;
    let run = Run::start(vec![receiver.alert(&[])]);
    run.tell(1, all_down());
    run.tell(2, all_down());
    let got = receiver.wait(5).await;
    let seqs: Vec<_> = got.iter().map(|got| got.body["event"]["seq"].clone()).collect();
    assert_eq!(seqs, [1, 1, 1, 1, 2]);
    run.end().await;
}

#[tokio::test]
async fn a_wait_the_receiver_asks_for_is_kept() {
    let receiver = Receiver::start(&["429 Too Many Requests\r\nretry-after: 1"]).await;
    let run = Run::start(vec![receiver.alert(&[])]);
    run.tell(1, all_down());
    let got = receiver.wait(2).await;
    assert!(got[1].at - got[0].at >= Duration::from_secs(1));
    run.end().await;
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_a_refusal_not_repeated() {
    let elsewhere = Receiver::start(&[]).await;
    let target = format!("307 Temporary Redirect\r\nlocation: http://{}/", elsewhere.address);
    let receiver = Receiver::start(&[Box::leak(target.into_boxed_str()), "400 Bad Request"]).await;
    let run = Run::start(vec![receiver.alert(&[])]);
    (1..=3).for_each(|seq| run.tell(seq, all_down()));
    let got = receiver.wait(3).await;
    let seqs: Vec<_> = got.iter().map(|got| got.body["event"]["seq"].clone()).collect();
    assert_eq!(seqs, [1, 2, 3], "each once");
    assert!(elsewhere.got().is_empty(), "nothing goes where a receiver points");
    run.end().await;
}

#[tokio::test]
async fn only_events_that_were_asked_for_are_told() {
    let (by_default, chosen) = (Receiver::start(&[]).await, Receiver::start(&[]).await);
    let run = Run::start(vec![by_default.alert(&[]), chosen.alert(&["status_change"])]);
    run.tell(1, status_change());
    run.tell(2, held(HoldReason::AwaitingProof));
    run.tell(3, held(HoldReason::Budget));
    run.tell(4, all_down());
    let seqs = |got: Vec<Got>| -> Vec<serde_json::Value> {
        got.into_iter().map(|got| got.body["event"]["seq"].clone()).collect()
    };
    assert_eq!(seqs(by_default.wait(2).await), [3, 4]);
    assert_eq!(seqs(chosen.wait(1).await), [1]);
    run.end().await;
    assert_eq!(seqs(chosen.got()), [1]);
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_neither_the_other_nor_the_end() {
    let (stuck, other) = (Receiver::start(&[""; 10]).await, Receiver::start(&[]).await);
    let run = Run::start(vec![stuck.alert(&[]), other.alert(&[])]);
    (1..=1_500).for_each(|seq| run.tell(seq, all_down()));
    tokio::task::yield_now().await;
    run.tell(1_501, all_down());
    let heard = async {
        while other.got().last().is_none_or(|got| got.body["event"]["seq"] != 1_501) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, heard).await.expect("the other receiver hears the newest");
    run.end().await;
    assert_eq!(stuck.got().len(), 1);
}

#[tokio::test]
async fn no_log_line_or_metric_repeats_a_receivers_address_or_credential() {
    let log = super::telemetry::Capture::default();
    let guard = log.install();
    let metrics = mcp_failover::telemetry::metric::install();
    let receiver = Receiver::start(&["500 No", "302 Found\r\nlocation: /x", "403 No"]).await;
    let mut closed = receiver.alert(&[]);
    closed.name = String::from("closed");
    closed.url = Secret::new(format!("http://{CANARY}@127.0.0.1:1/{CANARY}?{CANARY}"));
    let mut nonsense = receiver.alert(&[]);
    nonsense.name = String::from("nonsense");
    nonsense.url = Secret::new(format!("not an address {CANARY}"));
    let mut broken = receiver.alert(&[]);
    broken.name = String::from("broken");
    broken.headers = vec![(String::from("x-key"), Secret::new(format!("{CANARY}\n")))];
    let run = Run::start(vec![receiver.alert(&[]), closed, nonsense, broken]);
    (1..=3).for_each(|seq| run.tell(seq, all_down()));
    receiver.wait(4).await;
    let told = async {
        // Four receivers; of the last three nobody takes the first alert.
        while ["closed", "nonsense", "broken"].iter().any(|name| !log.text().contains(name)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, told).await.expect("each failure is logged");
    run.end().await;
    drop(guard);
    assert!(log.text().contains("redirects are not followed"), "{}", log.text());
    assert!(!log.text().contains(CANARY), "{}", log.text());
    assert!(!metrics.render(&fixture::status()).contains(CANARY));
    let shown = format!("{:?}", receiver.alert(&[]));
    assert!(!shown.contains(CANARY), "{shown}");
}

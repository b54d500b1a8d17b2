//! The configuration from a sidecar's config socket.
//!
//! Every message that names an endpoint is a whole snapshot of its service, so one that is missed
//! costs nothing. While nobody is there the last configuration holds, and the way back is tried
//! again and again.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncWriteExt as _, BufStream};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use crate::core::backoff::Backoff;
use crate::core::id::{EndpointName, Revision, ServiceName};
use crate::core::ordered::Gather as _;
use crate::output::child::event::ChildEvent;
use crate::output::child::session::Framer;
use crate::output::child::settings::Given;
use crate::output::door::Door;
use crate::output::{ActiveConfig, ActiveService};
use crate::policy::secret::Secret;

/// The longest line of the protocol.
const LINE_MAX: usize = 64 * 1024;
/// Waits between attempts to connect.
const RECONNECT: Backoff = Backoff::doubling(Duration::from_millis(500), Duration::from_secs(10));
/// Silence after which the other side is thought gone; it may close after the same.
const SILENCE: Duration = Duration::from_secs(90);
/// How often a word is said so that it is not silent.
const PING: Duration = Duration::from_secs(30);
/// How long proxies of the sidecar that are still to come are waited for.
pub const DOORS_WAIT: Duration = Duration::from_secs(5);
/// Revisions that wait to be acknowledged at most.
const WAITING_MAX: usize = 64;

/// What the sidecar says.
#[derive(Debug, Default, Deserialize)]
struct Said {
    #[serde(default)]
    event: Option<String>,
    #[serde(default)]
    services: Option<Vec<String>>,
    #[serde(default)]
    service: Option<String>,
    #[serde(rename = "gen", default)]
    boot: Option<String>,
    #[serde(default)]
    seq: Option<u64>,
    #[serde(default)]
    endpoint: Option<Endpoint>,
    #[serde(default)]
    ok: Option<bool>,
    #[serde(default)]
    error: Option<Problem>,
    /// The ways through proxies; `null` while one is still to come.
    #[serde(default)]
    proxies: Ways,
}

/// The way through a proxy of the sidecar.
#[derive(Debug, Deserialize)]
struct Way {
    service: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// What is said of them.
#[derive(Debug, Default)]
enum Ways {
    /// Nothing.
    #[default]
    Unsaid,
    /// One is still to come.
    Pending,
    These(Vec<Way>),
}

impl<'de> Deserialize<'de> for Ways {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let ways = Option::<Vec<Way>>::deserialize(from)?;
        Ok(ways.map_or(Self::Pending, Self::These))
    }
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    id: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    code: String,
}

/// Where a snapshot stands in the order of its service.
#[derive(Clone, Debug)]
struct Place {
    service: String,
    boot: String,
    seq: u64,
}

/// What is known.
#[derive(Debug, Default)]
struct Known {
    /// The services whose snapshot is still to come.
    awaited: Vec<String>,
    services: BTreeMap<ServiceName, ActiveService>,
    revision: Revision,
    /// What is to be acknowledged once a revision is effective, with when it came.
    waiting: BTreeMap<Revision, (Vec<Place>, tokio::time::Instant)>,
    news: Vec<Place>,
    /// The ways through the sidecar's proxies.
    doors: Vec<Door>,
    /// Whether they are other ones than were shown.
    fresh_doors: bool,
    /// Until when those that are still to come are waited for.
    doors_until: Option<tokio::time::Instant>,
}

/// Follows the sidecar for ever: shows what it publishes, and tells it what is effective.
pub async fn follow(
    socket: PathBuf,
    services: Vec<ServiceName>,
    publish: watch::Sender<Option<Arc<Given>>>,
    mut events: mpsc::Receiver<ChildEvent>,
) -> Infallible {
    let mut known = Known::default();
    let mut failures = 0;
    loop {
        match UnixStream::connect(&socket).await {
            Ok(stream) => {
                tracing::info!("connected to the sidecar");
                if converse(stream, &services, &publish, &mut events, &mut known).await {
                    failures = 0;
                }
                tracing::warn!("the sidecar is gone; its last configuration holds");
            }
            Err(error) if failures == 0 => {
                tracing::warn!(socket = %socket.display(), %error, "no sidecar is there");
            }
            Err(_) => {}
        }
        // So that not all of a host come back in one moment.
        let jitter = Duration::from_millis(u64::from(std::process::id() % 250));
        let wait = RECONNECT.period(failures) + jitter;
        failures = failures.saturating_add(1);
        let until = tokio::time::Instant::now() + wait;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                Some(event) = events.recv() => drop(known.effective(&event)),
            }
        }
    }
}

/// One connection to its end; true when the sidecar said something that makes sense.
async fn converse(
    stream: UnixStream,
    services: &[ServiceName],
    publish: &watch::Sender<Option<Arc<Given>>>,
    events: &mut mpsc::Receiver<ChildEvent>,
    known: &mut Known,
) -> bool {
    use tokio::io::AsyncReadExt as _;
    let mut stream = BufStream::new(stream);
    let mut framer = Framer::new(LINE_MAX);
    let mut chunk = vec![0; 4096];
    let mut sensible = false;
    let mut heard = tokio::time::Instant::now();
    let mut ping = tokio::time::interval(PING);
    loop {
        let mut out = Vec::new();
        tokio::select! {
            read = stream.read(&mut chunk) => {
                let Ok(read @ 1..) = read else { return sensible };
                heard = tokio::time::Instant::now();
                framer.push(chunk.get(..read).unwrap_or_default());
                loop {
                    let line = match framer.next_line() {
                        Ok(Some(line)) => line,
                        Ok(None) => break,
                        Err(_) => continue,
                    };
                    let Ok(said) = serde_json::from_slice::<Said>(&line) else { continue };
                    sensible = true;
                    out.extend(known.take_in(said, services));
                }
                known.publish(publish);
            }
            Some(event) = events.recv() => out.extend(known.effective(&event)),
            () = wait_for_doors(known.doors_until), if known.doors_until.is_some() => {
                known.doors_until = None;
                known.publish(publish);
            }
            _ = ping.tick() => {
                if heard.elapsed() > SILENCE {
                    return sensible;
                }
                out.push(json!({ "id": 0, "op": "ping" }));
            }
        }
        for message in out {
            if stream.write_all(format!("{message}\n").as_bytes()).await.is_err() {
                return sensible;
            }
        }
        if stream.flush().await.is_err() {
            return sensible;
        }
    }
}

async fn wait_for_doors(until: Option<tokio::time::Instant>) {
    if let Some(until) = until {
        tokio::time::sleep_until(until).await;
        tracing::error!(
            "a proxy of the sidecar does not come up; the server is not sent through it"
        );
    }
}

impl Known {
    /// Takes in what the sidecar said, and what to say to that.
    fn take_in(&mut self, mut said: Said, wanted: &[ServiceName]) -> Vec<serde_json::Value> {
        self.take_in_doors(std::mem::take(&mut said.proxies));
        if said.event.as_deref() == Some("hello") {
            let offered = said.services.unwrap_or_default();
            let is_wanted =
                |name: &String| wanted.is_empty() || wanted.iter().any(|one| one.as_str() == name);
            self.awaited = offered.into_iter().filter(is_wanted).collect();
            // A service that is gone takes its variables along.
            let awaited = &self.awaited;
            self.services.retain(|name, _| awaited.iter().any(|one| one == name.as_str()));
            let subscribe = |(id, service): (usize, &String)| json!({ "id": id + 1, "op": "subscribe", "service": service });
            return self.awaited.iter().enumerate().map(subscribe).collect();
        }
        if let Some(problem) = said.error {
            tracing::error!(code = problem.code, "the sidecar refused a request");
        }
        let Some(service) = said.service else { return Vec::new() };
        // Whatever the event is called: what has a place in the order is a snapshot.
        let is_snapshot = said.seq.is_some() && (said.event.is_some() || said.ok == Some(true));
        if !is_snapshot {
            return Vec::new();
        }
        self.awaited.retain(|awaited| *awaited != service);
        let name = ServiceName::new(&service);
        let active = match said.endpoint {
            Some(endpoint) => ActiveService {
                endpoint: Some(EndpointName::new(&endpoint.id)),
                url: None,
                env: endpoint
                    .env
                    .into_iter()
                    .map(|(key, value)| (key, Secret::new(value)))
                    .gather_map(),
                moved: None,
            },
            // Nobody is healthy: what there was is as good as anything.
            None => self.services.get(&name).cloned().unwrap_or_default(),
        };
        self.services.insert(name, active);
        let boot = said.boot.unwrap_or_default();
        self.news.push(Place { service, boot, seq: said.seq.unwrap_or_default() });
        Vec::new()
    }

    fn take_in_doors(&mut self, proxies: Ways) {
        let proxies = match proxies {
            Ways::Unsaid => return,
            Ways::Pending => {
                // One that never comes must not keep the server from being started, and one that
                // comes back must not hold up a switch.
                if self.revision == Revision::default() {
                    let until = tokio::time::Instant::now() + DOORS_WAIT;
                    self.doors_until.get_or_insert(until);
                }
                return;
            }
            Ways::These(proxies) => proxies,
        };
        let door = |way: Way| Door { service: ServiceName::new(&way.service), variables: way.env };
        let doors: Vec<Door> = proxies.into_iter().map(door).collect();
        self.doors_until = None;
        self.fresh_doors |= doors != self.doors;
        self.doors = doors;
    }

    /// Shows what is new, once every service has been told of.
    fn publish(&mut self, publish: &watch::Sender<Option<Arc<Given>>>) {
        let waits = self.doors_until.is_some_and(|until| tokio::time::Instant::now() < until);
        let fresh = self.fresh_doors && !self.services.is_empty();
        if (!fresh && self.news.is_empty()) || !self.awaited.is_empty() || waits {
            return;
        }
        self.revision = Revision::new(self.revision.get().saturating_add(1));
        let news = std::mem::take(&mut self.news);
        self.waiting.insert(self.revision, (news, tokio::time::Instant::now()));
        while self.waiting.len() > WAITING_MAX {
            self.waiting.pop_first();
        }
        let config = ActiveConfig { revision: self.revision, services: self.services.clone() };
        self.fresh_doors = false;
        publish.send_replace(Some(Arc::new(Given { config, doors: self.doors.clone() })));
    }

    /// The acknowledgements that follow from an event: of that revision and all before it.
    fn effective(&mut self, event: &ChildEvent) -> Vec<serde_json::Value> {
        let (ChildEvent::Effective { revision, .. } | ChildEvent::Signalled { revision }) = event
        else {
            return Vec::new();
        };
        let later = self.waiting.split_off(&Revision::new(revision.get().saturating_add(1)));
        let done = std::mem::replace(&mut self.waiting, later);
        let mut latest: BTreeMap<String, (Place, Duration)> = BTreeMap::new();
        for (places, came) in done.into_values() {
            for place in places {
                latest.insert(place.service.clone(), (place, came.elapsed()));
            }
        }
        let ack = |(place, took): (Place, Duration)| {
            let applied = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            json!({
                "op": "ack", "service": place.service, "gen": place.boot, "seq": place.seq,
                "applied_ms": applied,
            })
        };
        latest.into_values().map(ack).collect()
    }
}

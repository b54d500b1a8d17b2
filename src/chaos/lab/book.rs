//! The services that a lab can play, from somebody's policy or from one of our own.
//!
//! What a service decides by stays as its policy says: timings, thresholds, strategy, tiers, and
//! the probe itself with all that it expects. Changed are the addresses, which become those of the
//! lab, and every variable and secret file, which get names and values of the lab's own. Left out
//! are deep probes, outputs, alerts and references.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use toml::{Table, Value};

use crate::chaos::lab::stand::host;
use crate::chaos::lab::text::{Variables, rename, write};
use crate::chaos::upstream::Answer;
use crate::core::id::{EndpointName, ServiceName};
use crate::core::rules::ServiceRules;
use crate::policy::model::{Check, HttpCheck, HttpVersion, Policy, Probe, TokenSource};
use crate::policy::{Compiled, Lookup, Source, compile};

/// Where the address of an endpoint stands in the env file of a lab.
pub(in crate::chaos) const URL: &str = "LAB_URL";
/// Where its key stands.
pub(in crate::chaos) const SEAL: &str = "LAB_SEAL";

/// The policy of a drill when none is named: as quick as a small machine bears.
const QUICK: &str = r#"
version = 1

[services.search]
critical = true

[services.search.probe]
type             = "http"
path             = "/health"
expect           = { status = ["2xx"], json = { "/status" = "ok" } }
interval         = "300ms"
fast_interval    = "60ms"
down_interval    = "150ms"
down_interval_max = "600ms"
standby_interval = "300ms"
timeout          = "1s"
rise             = 2
fall             = 3

[services.search.breaker]
failure_threshold = 5
reset_timeout     = "300ms"
reset_timeout_max = "600ms"

[services.search.failover]
failback = { mode = "auto", hold = "800ms", rise = 2 }
budget   = 100
flap     = { half_life = "1s", max_suppress = "3s" }

[[services.search.endpoints]]
name = "primary"

[[services.search.endpoints]]
name = "secondary"
"#;

/// Why no lab can be built on a policy.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// It is not TOML.
    #[error("read the policy as TOML")]
    NotToml,
    /// It has no services.
    #[error("find a service in the policy")]
    Empty,
}

/// The services of a policy, as a lab sees them.
#[derive(Clone, Debug)]
pub struct Book {
    /// They, in the order of their names.
    pub services: Vec<Entry>,
}

/// One service, as a lab sees it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: ServiceName,
    /// What the lab plays, or why it cannot.
    pub part: Result<Part, String>,
}

/// A service that a lab can play.
#[derive(Clone, Debug)]
pub struct Part {
    /// The service's name.
    pub name: ServiceName,
    /// What it decides by.
    pub rules: Arc<ServiceRules>,
    /// The endpoints in the order of the file, and what a probe of each gets.
    pub endpoints: Vec<(EndpointName, Answer)>,
    /// What is different from the policy, for people.
    pub notes: Vec<String>,
    /// The kind of its probe.
    pub probe: &'static str,
    /// Its policy, to be set up at the addresses of a lab.
    pub draft: Draft,
}

/// One service of a policy, with nothing of the real world in it.
#[derive(Clone, Debug)]
pub struct Draft {
    name: ServiceName,
    table: Table,
    variables: Variables,
}

/// A policy for a lab at its addresses.
#[derive(Clone, Debug)]
pub(in crate::chaos) struct Staged {
    /// The file's text.
    pub(in crate::chaos) text: String,
    /// What the sidecar's environment must hold for it.
    pub(in crate::chaos) variables: BTreeMap<String, String>,
    /// The same, compiled.
    pub(in crate::chaos) policy: Policy,
}

/// Variables of a lab; it has no files.
struct LabLookup<'a>(&'a Variables);

impl Lookup for LabLookup<'_> {
    fn var(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    fn file(&self, _path: &Path) -> Result<String, String> {
        Err("a lab has no files".into())
    }
}

impl Book {
    /// The policy of our own.
    ///
    /// # Errors
    /// Never as shipped.
    pub fn built_in() -> Result<Self, BookError> {
        Self::read(QUICK)
    }

    /// The services of a policy.
    ///
    /// # Errors
    /// When it is not TOML or names no service. What is wrong with one service is told there.
    pub fn read(text: &str) -> Result<Self, BookError> {
        let mut table: Table =
            text.trim_start_matches('\u{feff}').parse().map_err(|_quotes| BookError::NotToml)?;
        let Some(Value::Table(services)) = table.remove("services") else {
            return Err(BookError::Empty);
        };
        let defaults = table.remove("defaults");
        let entry = |(name, service): (&String, &Value)| Entry {
            name: ServiceName::new(name),
            part: Part::new(name, service, defaults.as_ref()),
        };
        let services: Vec<Entry> = services.iter().map(entry).collect();
        if services.is_empty() { Err(BookError::Empty) } else { Ok(Self { services }) }
    }
}

impl Part {
    fn new(name: &str, service: &Value, defaults: Option<&Value>) -> Result<Self, String> {
        let mut notes = Vec::new();
        let mut variables = Variables::new();
        let mut service = service.clone();
        let mut defaults = defaults.cloned();
        let deep = service.as_table_mut().and_then(|table| table.remove("deep_probe"));
        if deep.is_some() {
            notes.push("the deep probe is left out".to_owned());
        }
        if let Some(defaults) = &mut defaults {
            defaults.as_table_mut().map(|table| table.remove("deep_probe"));
            rename(defaults, &mut variables);
        }
        rename(&mut service, &mut variables);
        let mut table = Table::new();
        table.insert("version".into(), Value::Integer(1));
        table.extend(defaults.map(|defaults| ("defaults".to_owned(), defaults)));
        let services = Table::from_iter([(name.to_owned(), service)]);
        table.insert("services".into(), Value::Table(services));
        let draft = Draft { name: ServiceName::new(name), table, variables };
        draft.audition(notes)
    }

    /// The policy with its endpoints at these places, and all files below `dir`.
    ///
    /// # Errors
    /// Why it does not compile, in words.
    pub(in crate::chaos) fn stage(
        &self,
        places: &[SocketAddr],
        dir: &Path,
    ) -> Result<Staged, String> {
        self.draft.stage(places, dir)
    }
}

impl Draft {
    /// Finds out whether the lab can play every endpoint, and how.
    fn audition(self, notes: Vec<String>) -> Result<Part, String> {
        let names = self.names()?;
        if names.len() < 2 {
            return Err("it has one endpoint: there is nowhere to go".into());
        }
        let any = |at| SocketAddr::from((host(at), 1));
        let places: Vec<SocketAddr> = (0..names.len()).map(any).collect();
        let staged = self.stage(&places, Path::new("/nonexistent"))?;
        let known = staged.policy.services.get(&self.name);
        let rules = staged.policy.rules.services.get(&self.name);
        let (Some(known), Some(rules)) = (known, rules) else {
            return Err("it does not compile".into());
        };
        let mut probe = "";
        let mut endpoints = Vec::new();
        for (name, place) in names.iter().zip(&places) {
            let name = EndpointName::new(name);
            let endpoint = known.endpoints.get(&name).ok_or("an endpoint has no name")?;
            probe = endpoint.probe.check.label();
            endpoints.push((name, playable(&endpoint.probe, *place)?));
            if endpoint.deep_probe.is_some() {
                return Err("its preset has a deep probe that the lab cannot answer".into());
            }
        }
        let (name, rules) = (self.name.clone(), Arc::clone(rules));
        Ok(Part { name, rules, endpoints, notes, probe, draft: self })
    }

    /// The names of the endpoints in the order of the file.
    fn names(&self) -> Result<Vec<String>, String> {
        let endpoints = self.endpoint_tables().ok_or("it has no endpoints")?;
        let name = |endpoint: &Value| {
            let name = endpoint.get("name").and_then(Value::as_str);
            name.map(str::to_owned).ok_or_else(|| "an endpoint has no name".to_owned())
        };
        endpoints.iter().map(name).collect()
    }

    fn endpoint_tables(&self) -> Option<&Vec<Value>> {
        self.table.get("services")?.get(self.name.as_str())?.get("endpoints")?.as_array()
    }

    fn stage(&self, places: &[SocketAddr], dir: &Path) -> Result<Staged, String> {
        let mut table = self.table.clone();
        let service = table.get_mut("services").and_then(|all| all.get_mut(self.name.as_str()));
        let service = service.and_then(Value::as_table_mut).ok_or("it is not a table")?;
        let kind = service.get("probe").and_then(|probe| probe.get("type")).and_then(Value::as_str);
        let preset = service.get("preset").and_then(Value::as_str);
        let scheme = if kind.or(preset) == Some("tcp") { "tcp" } else { "http" };
        let endpoints = service.get_mut("endpoints").and_then(Value::as_array_mut);
        for (endpoint, place) in endpoints.into_iter().flatten().zip(places) {
            let Some(endpoint) = endpoint.as_table_mut() else { continue };
            let seal = endpoint.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            endpoint.insert("url".into(), format!("{scheme}://{place}").into());
            let env = endpoint.entry("env").or_insert_with(|| Value::Table(Table::new()));
            if let Some(env) = env.as_table_mut() {
                env.insert(URL.into(), format!("http://{place}").into());
                env.insert(SEAL.into(), format!("seal-of-{seal}").into());
            }
        }
        let text = format!("{}{}", write(&table), surroundings(dir));
        let source = Source { name: "lab", text: &text };
        match compile(&source, &LabLookup(&self.variables)) {
            Ok(Compiled { policy, .. }) => {
                Ok(Staged { text, variables: self.variables.clone(), policy })
            }
            Err(found) => {
                let first = found.0.iter().map(|diagnostic| diagnostic.message.clone()).next();
                let first = first.unwrap_or_default();
                Err(format!("it does not compile at an address of the lab: {first}"))
            }
        }
    }
}

/// Everything of a policy but its services.
fn surroundings(dir: &Path) -> String {
    let quoted = |name: &str| {
        serde_json::Value::from(dir.join(name).to_string_lossy().into_owned()).to_string()
    };
    format!(
        "admin = {{ listen = \"off\" }}\n\
         control = {{ socket = {control} }}\n\
         sidecar = {{ name = \"chaos\", state_dir = {state} }}\n\
         outputs = [{{ type = \"env_file\", path = {env} }}, {{ type = \"socket\", path = {socket} }}]\n",
        control = quoted(super::CONTROL),
        state = quoted(super::STATE),
        env = quoted(super::ENV),
        socket = quoted(super::SOCKET),
    )
}

/// What a probe must get to pass, or why the lab cannot give it.
fn playable(probe: &Probe, place: SocketAddr) -> Result<Answer, String> {
    let kind = probe.check.label();
    let target = probe.check.target().map(ToString::to_string);
    if target.is_some_and(|target| target != place.to_string()) {
        return Err("its probe goes to an address of its own".into());
    }
    match &probe.check {
        Check::Http(http) => over_http(http),
        Check::Tcp(tcp) if tcp.expect.is_none() => Ok(Answer::default()),
        Check::Tcp(_)
        | Check::Tls(_)
        | Check::Exec(_)
        | Check::Mcp(_)
        | Check::McpStdio(_)
        | Check::Bolt(_)
        | Check::Neo4j(_)
        | Check::Redis(_)
        | Check::Postgres(_)
        | Check::Grpc(_)
        | Check::Dns(_)
        | Check::Several(_) => Err(format!("the lab does not speak what its {kind} probe asks")),
    }
}

fn over_http(http: &HttpCheck) -> Result<Answer, String> {
    if http.socket.is_some() {
        return Err("its probe goes to a unix socket".into());
    }
    if http.version == HttpVersion::Http2 {
        return Err("the lab does not speak HTTP/2".into());
    }
    if matches!(http.token, Some(TokenSource::OAuth(_))) {
        return Err("its probe asks for a token elsewhere".into());
    }
    let expect = &http.expect;
    if expect.body_matches.is_some() {
        return Err("the lab cannot make up a body for a pattern".into());
    }
    let fits = |(low, high): &(u16, u16)| (*low..=*high).contains(&200);
    let status = if expect.status.iter().any(fits) { Some(200) } else { None };
    let status = status.or_else(|| expect.status.first().map(|(low, _)| *low)).unwrap_or(200);
    let header = |(name, value): (&String, &String)| (name.clone(), value.clone());
    let mut body = serde_json::json!({});
    for (pointer, value) in &expect.json {
        place(&mut body, pointer, value.clone());
    }
    if expect.graphql && body.get("data").is_none() {
        place(&mut body, "/data", Some(serde_json::json!({})));
    }
    let texts = expect.body_contains.join(" ");
    let plain = expect.json.is_empty() && !expect.graphql && !texts.is_empty();
    if !plain && !texts.is_empty() {
        place(&mut body, "/lab", Some(texts.clone().into()));
    }
    let body = if plain { texts } else { body.to_string() };
    Ok(Answer { status, headers: expect.headers.iter().map(header).collect(), body })
}

/// Puts a value where a JSON pointer leads, through objects.
fn place(body: &mut serde_json::Value, pointer: &str, value: Option<serde_json::Value>) {
    let value = value.unwrap_or(serde_json::Value::Bool(true));
    let mut spot = body;
    let mut keys = pointer.split('/').skip(1).peekable();
    if keys.peek().is_none() {
        return;
    }
    for key in keys {
        let key = key.replace("~1", "/").replace("~0", "~");
        if !spot.is_object() {
            *spot = serde_json::json!({});
        }
        let Some(object) = spot.as_object_mut() else { return };
        spot = object.entry(key).or_insert(serde_json::Value::Null);
    }
    *spot = value;
}

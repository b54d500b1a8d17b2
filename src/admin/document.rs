//! The status, as programs read it: `GET /status` and `status --json`.
//!
//! Fields are added, never renamed or removed. Times are RFC 3339 in UTC.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::action::HoldReason;
use crate::core::breaker::BreakerState;
use crate::core::health::Health;
use crate::core::id::{EndpointName, Revision, ServiceName};
use crate::core::ordered::Gather as _;
use crate::core::record::SCHEMA;
use crate::core::rules::Strategy;
use crate::core::status::{
    AdminState, EndpointStatus, OutputStatus, ServiceState, ServiceStatus, Status,
};
use crate::core::time::Instant;

/// Everything at one moment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct StatusDocument {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The revision in force.
    pub revision: Revision,
    /// Whether the sidecar believes that it is itself cut off.
    #[serde(default)]
    pub isolated: bool,
    /// How long the confirmation of a change waits because too many endpoints waver at once, in
    /// seconds; zero as a rule.
    #[serde(default)]
    pub confirmation_wait_seconds: f64,
    /// What tells it from the endpoints being cut off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<ReferenceDocument>,
    /// Who answers.
    pub sidecar: SidecarInfo,
    /// The policy in force, and whether the file still says the same.
    pub policy: PolicyInfo,
    /// The services by name.
    pub services: BTreeMap<ServiceName, ServiceDocument>,
    /// The outputs by name.
    #[serde(default)]
    pub outputs: BTreeMap<Arc<str>, OutputDocument>,
    /// How backups of the state stand; absent when the policy asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupDocument>,
    /// How the copy of the state in Redis stands; absent when the policy asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisDocument>,
}

/// How the copy of the state in Redis stands.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct RedisDocument {
    /// Which Redis, without user and password.
    pub url: String,
    /// What our keys there begin with.
    pub keys: String,
    /// In one word.
    pub state: RedisState,
    /// When it last confirmed that it has the present state.
    pub committed_at: Option<String>,
    /// The revision of that.
    pub revision: Option<Revision>,
    /// Decisions that wait for it.
    #[serde(default)]
    pub outbox: usize,
    /// Decisions dropped from that queue, to be read from disk when it is back.
    #[serde(default)]
    pub dropped: u64,
    /// What went wrong the last time; absent when nothing did.
    pub failure: Option<String>,
    /// The kind of failure, as in the metric.
    #[serde(default)]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(default)]
    pub help: Option<String>,
    /// Failed attempts in a row.
    #[serde(default)]
    pub failures: u32,
    /// The state there that this run started from, because it had lost its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered_from: Option<String>,
}

/// The copy of the state in Redis, in one word.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RedisState {
    /// It was not reached yet.
    #[default]
    Starting,
    /// It is kept up to date.
    Up,
    /// It cannot be kept up to date.
    Down,
    /// Somebody else writes under our name.
    Conflict,
}

/// How backups of the state stand.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct BackupDocument {
    /// Where they go.
    pub to: String,
    /// When the newest one was last seen to be good and of the present state.
    pub good_at: Option<String>,
    /// Its name.
    pub newest: Option<String>,
    /// Its revision.
    pub revision: Option<Revision>,
    /// Its size.
    pub bytes: Option<u64>,
    /// How many are there.
    pub kept: Option<usize>,
    /// What went wrong the last time; absent when nothing did.
    pub failure: Option<String>,
    /// Failed attempts in a row.
    #[serde(default)]
    pub failures: u32,
    /// When the next attempt is due at the latest.
    pub next_at: Option<String>,
    /// The backup that this run started from, because it had lost its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered_from: Option<String>,
}

/// One reference target.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ReferenceDocument {
    /// Its address as the policy names it.
    pub target: Arc<str>,
    /// Whether it answered when it was last asked, in whatever way; absent before.
    pub reached: Option<bool>,
    /// The latest outcome, by its label.
    pub last_outcome: Option<Cow<'static, str>>,
    /// What was seen then.
    #[serde(default)]
    pub last_detail: Option<Arc<str>>,
    /// When.
    pub last_asked_at: Option<String>,
    /// How long it took, in seconds.
    pub latency_seconds: Option<f64>,
}

/// Who answers.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SidecarInfo {
    /// The name given by the policy.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// The process number.
    pub pid: u32,
    /// When it started.
    pub started_at: String,
}

/// The policy in force.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PolicyInfo {
    /// Digest of the policy in force.
    pub digest: String,
    /// Whether the file, as it is now, is the policy in force.
    pub valid: bool,
    /// When the policy in force was loaded.
    pub loaded_at: String,
    /// The file.
    pub path: String,
    /// Why the file is not in force, one diagnostic each; empty when it is.
    #[serde(default)]
    pub diagnostics: Vec<String>,
}

/// One service.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ServiceDocument {
    /// The endpoint published.
    pub active: Option<EndpointName>,
    /// Since when.
    #[serde(default)]
    pub active_since: Option<String>,
    /// Whether its loss is critical.
    pub critical: bool,
    /// How peers are chosen.
    pub strategy: Strategy,
    /// In one word.
    pub state: ServiceState,
    /// What stops a move that is due.
    #[serde(default)]
    pub held: Option<HoldReason>,
    /// The breaker of the active endpoint.
    pub breaker: BreakerState,
    /// Where a person pinned it.
    pub pinned: Option<EndpointName>,
    /// When that ends by itself.
    #[serde(default)]
    pub pinned_until: Option<String>,
    /// Whether a person paused it.
    #[serde(default)]
    pub paused: bool,
    /// Automatic moves left in the budget's window.
    #[serde(default)]
    pub budget_left: u32,
    /// When a return to a preferred tier will happen if nothing changes.
    #[serde(default)]
    pub failback_at: Option<String>,
    /// The endpoints by name.
    pub endpoints: BTreeMap<EndpointName, EndpointDocument>,
}

/// One endpoint.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct EndpointDocument {
    /// Observed health.
    pub health: Health,
    /// What a person ordered.
    pub admin: AdminState,
    /// Why it could not be chosen now; absent when it could.
    #[serde(default)]
    pub unusable: Option<String>,
    /// From 0 to 1; below 0.3 it is not chosen.
    pub score: f64,
    /// Its breaker.
    pub breaker: BreakerState,
    /// When an open breaker lets a trial through.
    #[serde(default)]
    pub breaker_retry_at: Option<String>,
    /// Its tier; 0 is preferred.
    pub tier: u32,
    /// The latest outcome, by its label.
    pub last_outcome: Option<Cow<'static, str>>,
    /// What was seen then.
    #[serde(default)]
    pub last_detail: Option<Arc<str>>,
    /// When.
    pub last_probe_at: Option<String>,
    /// How long it took, in seconds.
    pub latency_seconds: Option<f64>,
    /// Passes in a row.
    #[serde(default)]
    pub passes: u32,
    /// Failures in a row.
    #[serde(default)]
    pub failures: u32,
    /// When throttling ends.
    #[serde(default)]
    pub throttled_until: Option<String>,
    /// Flap penalty.
    #[serde(default)]
    pub flap_penalty: u32,
    /// Whether the flap penalty forbids a return.
    #[serde(default)]
    pub suppressed: bool,
    /// Leases out.
    #[serde(default)]
    pub leases: u32,
    /// When the next probe is due.
    #[serde(default)]
    pub next_probe_at: Option<String>,
    /// Where the time of the latest attempt went.
    #[serde(default)]
    pub phases: Option<PhasesDocument>,
    /// How long the certificate seen last is still valid, in seconds.
    #[serde(default)]
    pub certificate_expires_in_seconds: Option<f64>,
    /// What is left of a quota or a rate limit, as told last.
    #[serde(default)]
    pub quota: Option<QuotaDocument>,
}

/// What is left of a quota or a rate limit; what was not told is absent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct QuotaDocument {
    /// How much there is in one period.
    #[serde(default)]
    pub limit: Option<u64>,
    /// How much of it is left.
    #[serde(default)]
    pub remaining: Option<u64>,
    /// When, from the moment it was told, the period ends, in seconds.
    #[serde(default)]
    pub resets_in_seconds: Option<f64>,
}

/// Where the time of an attempt went, in seconds; a part that did not happen is absent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PhasesDocument {
    /// Name to address.
    #[serde(default)]
    pub resolve: Option<f64>,
    /// Address to connection.
    #[serde(default)]
    pub connect: Option<f64>,
    /// TLS handshake.
    #[serde(default)]
    pub tls: Option<f64>,
    /// Ready connection to the first byte of the answer.
    #[serde(default)]
    pub first_byte: Option<f64>,
    /// Start to verdict.
    pub total: f64,
}

/// One output.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct OutputDocument {
    /// The latest revision written.
    pub revision: Option<Revision>,
    /// What went wrong since, if anything.
    pub failure: Option<Arc<str>>,
    /// When it last succeeded or failed.
    pub at: Option<String>,
    /// The latest revision that its readers are known to use.
    #[serde(default)]
    pub effective: Option<Revision>,
    /// How that is known.
    #[serde(default)]
    pub proof: Option<Cow<'static, str>>,
    /// For how long a move has been waiting to be taken up; absent when none is.
    #[serde(default)]
    pub awaited_seconds: Option<f64>,
}

/// Tells the time of day of an instant, as RFC 3339.
type Clock<'a> = &'a dyn Fn(Instant) -> String;

impl StatusDocument {
    /// The document of one moment; `clock` gives the time of day as RFC 3339 in UTC.
    #[must_use]
    pub fn new(
        status: &Status,
        policy: PolicyInfo,
        sidecar: SidecarInfo,
        clock: &dyn Fn(Instant) -> String,
    ) -> Self {
        let services = status.services.iter();
        let outputs = status.outputs.iter();
        Self {
            schema: SCHEMA,
            revision: status.revision,
            isolated: status.isolated,
            confirmation_wait_seconds: status.confirmation_wait.as_secs_f64(),
            references: Vec::new(),
            sidecar,
            policy,
            services: services
                .map(|(name, seen)| (name.clone(), service(seen, clock)))
                .gather_map(),
            outputs: outputs
                .map(|(name, seen)| (Arc::clone(name), output(seen, clock)))
                .gather_map(),
            backup: None,
            redis: None,
        }
    }
}

fn service(seen: &ServiceStatus, clock: Clock<'_>) -> ServiceDocument {
    let endpoints = seen.endpoints.iter();
    ServiceDocument {
        active: seen.active.clone(),
        active_since: seen.active_since.map(clock),
        critical: seen.critical,
        strategy: seen.strategy,
        state: seen.state,
        held: seen.held,
        breaker: seen.breaker,
        pinned: seen.pinned.clone(),
        pinned_until: seen.pinned_until.map(clock),
        paused: seen.paused,
        budget_left: seen.budget_left,
        failback_at: seen.failback_at.map(clock),
        endpoints: endpoints.map(|(name, seen)| (name.clone(), endpoint(seen, clock))).gather_map(),
    }
}

fn endpoint(seen: &EndpointStatus, clock: Clock<'_>) -> EndpointDocument {
    EndpointDocument {
        health: seen.health,
        admin: seen.admin,
        unusable: seen.unusable.clone(),
        score: f64::from(seen.score) / 1000.0,
        breaker: seen.breaker,
        breaker_retry_at: seen.breaker_retry_at.map(clock),
        tier: seen.tier,
        last_outcome: seen.last_outcome.map(|outcome| Cow::Borrowed(outcome.label())),
        last_detail: seen.last_detail.clone(),
        last_probe_at: seen.last_probe_at.map(clock),
        latency_seconds: seen.latency.as_ref().map(Duration::as_secs_f64),
        passes: seen.passes,
        failures: seen.failures,
        throttled_until: seen.throttled_until.map(clock),
        flap_penalty: seen.flap_penalty,
        suppressed: seen.suppressed,
        leases: seen.leases,
        next_probe_at: seen.next_probe_at.map(clock),
        phases: None,
        certificate_expires_in_seconds: None,
        quota: None,
    }
}

fn output(seen: &OutputStatus, clock: Clock<'_>) -> OutputDocument {
    OutputDocument {
        revision: seen.revision,
        failure: seen.failure.clone(),
        at: seen.at.map(clock),
        ..OutputDocument::default()
    }
}

//! What is counted and measured, one catalogue for all of it.
//!
//! The rest of the sidecar calls the helpers below; nobody else names a metric. Labels are bounded
//! by the policy (`service`, `endpoint`, `output`, `alert`) or by the program (`outcome`, `state`,
//! `reason`, …), never by what a client sends.
//!
//! Invariants
//! 1. Whatever is exposed is in [`CATALOGUE`], and has exactly its labels.
//! 2. No value here is secret: only names from the policy, words of the program, and numbers.
//! 3. A removed endpoint is gone by the next scrape after [`keep`].
//!
//! Series whose labels hold words of the program only are kept by the metrics library and its
//! Prometheus exporter. It keeps a series for ever, at about a kibibyte each, so what the policy
//! names, twenty series an endpoint, is not for it: what the engine shows of itself is drawn from
//! its status when somebody scrapes, and the rest stands in a ledger that can forget.
//!
//! Attempts are timed per service and phase, not per endpoint: at a thousand endpoints six
//! histograms each would be a hundred thousand series. The latest duration of each endpoint is the
//! gauge `mcp_failover_endpoint_latency_seconds`.

mod catalogue;
mod ledger;
mod process;
mod recorder;
mod redis;
mod status;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use catalogue::*;
pub use redis::{
    redis_committed, redis_conflict, redis_dropped, redis_failed, redis_outbox, redis_up,
};
pub use status::{forget_output, keep};

use crate::core::action::{Decision, Event, ProbeKind};
use crate::core::id::{EndpointName, Revision, ServiceName};
use crate::core::outcome::Outcome;
use crate::core::status::Status;
use ledger::{Page, add, observe, set};

/// Gives out the metrics that were collected.
#[derive(Clone, Copy, Debug)]
pub struct MetricsHandle {
    installed: (),
}

impl MetricsHandle {
    /// All metrics in the text exposition format of Prometheus.
    #[must_use]
    pub fn render(&self, status: &Status) -> String {
        let mut text = self.begin();
        for metric in CATALOGUE {
            self.write(metric, status, &mut text);
        }
        text
    }

    /// The metrics of the program itself; [`Self::write`] adds the others.
    #[must_use]
    pub fn begin(&self) -> String {
        let Self { installed: () } = self;
        process::observe();
        recorder::render()
    }

    /// Adds one metric to `text`, unless [`Self::begin`] has given it: a reader of many can let
    /// others go on in between.
    pub fn write(&self, metric: &'static Metric, status: &Status, text: &mut String) {
        let Self { installed: () } = self;
        let mut page = Page::new(text);
        if !status::write(metric, status, &mut page) {
            ledger::write(metric, &mut page);
        }
    }
}

/// Starts collecting. Every handle shows the same metrics: they are those of the process.
#[must_use]
pub fn install() -> MetricsHandle {
    recorder::install();
    set(&BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
    MetricsHandle { installed: () }
}

/// Where the time of one attempt went. A phase that did not happen is `None`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Phases {
    /// Name to addresses.
    pub resolve: Option<Duration>,
    /// TCP handshake.
    pub connect: Option<Duration>,
    /// TLS handshake.
    pub tls: Option<Duration>,
    /// From the request to the first byte of the answer.
    pub first_byte: Option<Duration>,
    /// From start to verdict.
    pub total: Duration,
}

/// An attempt ended.
pub fn probe_finished(
    service: &ServiceName,
    endpoint: &EndpointName,
    kind: ProbeKind,
    outcome: Outcome,
    phases: &Phases,
) {
    let kind = match kind {
        ProbeKind::Shallow => "shallow",
        ProbeKind::Deep => "deep",
    };
    add(&PROBES, &[service.as_str(), endpoint.as_str(), kind, outcome.label()], 1);
    let spans = [
        ("resolve", phases.resolve),
        ("connect", phases.connect),
        ("tls", phases.tls),
        ("first_byte", phases.first_byte),
        ("total", Some(phases.total)),
    ];
    for (phase, span) in spans {
        if let Some(span) = span {
            observe(&PROBE_DURATION, &[service.as_str(), phase], span);
        }
    }
}

/// An attempt began this long after it was due.
pub fn probe_started(late: Duration) {
    observe(&PROBE_LATENESS, &[], late);
}

/// The attempt of an identical check stood in for a probe.
pub fn probe_shared() {
    add(&PROBES_SHARED, &[], 1);
}

/// How many reference targets answered in the latest round, and how many there are.
pub fn references(reached: usize, total: usize) {
    set(&REFERENCES_REACHED, &[], float(reached));
    set(&REFERENCES, &[], float(total));
}

/// Why time was missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stall {
    /// The process did not run: starved, or stopped.
    Late,
    /// The machine was suspended.
    Suspended,
    /// The time of day was set, or the machine stood still without knowing.
    Clock,
}

impl Stall {
    /// Its name in metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Suspended => "suspended",
            Self::Clock => "clock",
        }
    }
}

/// Time was missing.
pub fn stalled(stall: Stall) {
    add(&STALLS, &[stall.label()], 1);
}

/// Keeps buffers small; to be called every few seconds, whether or not anybody scrapes.
pub fn upkeep() {
    recorder::upkeep();
}

/// So many attempts run now.
pub fn probes_in_flight(count: usize) {
    set(&PROBES_IN_FLIGHT, &[], float(count));
}

/// A certificate was seen; `seconds` until it expires, negative when it has.
pub fn tls_expiry(service: &ServiceName, endpoint: &EndpointName, seconds: f64) {
    set(&TLS_EXPIRY, &[service.as_str(), endpoint.as_str()], seconds);
}

/// An endpoint told of a quota or a rate limit.
pub fn quota(
    service: &ServiceName,
    endpoint: &EndpointName,
    limit: Option<u64>,
    remaining: Option<u64>,
) {
    for (metric, value) in [(&QUOTA_LIMIT, limit), (&QUOTA_REMAINING, remaining)] {
        if let Some(value) = value {
            set(metric, &[service.as_str(), endpoint.as_str()], float(value));
        }
    }
}

/// An event was told to listeners: counts it, and what it means.
pub fn event(event: &Event) {
    add(&EVENTS, &[event.label()], 1);
    match event {
        Event::BreakerChange { service, endpoint, reason: Some(reason), .. } => {
            add(&BREAKER_TRIPS, &[service.as_str(), endpoint.as_str(), reason.label()], 1);
        }
        Event::Switched(Decision { service, kind, .. }) => {
            add(&SWITCHES, &[service.as_str(), kind.label()], 1);
        }
        Event::Held { service, why, .. } => add(&HOLDS, &[service.as_str(), why.label()], 1),
        Event::CriticalFailure { service, .. } => add(&CRITICAL_FAILURES, &[service.as_str()], 1),
        Event::StatusChange { .. }
        | Event::BreakerChange { reason: None, .. }
        | Event::AllDown { .. }
        | Event::Revived { .. }
        | Event::AuthFailed { .. }
        | Event::Throttled { .. }
        | Event::ProbeMisconfigured { .. }
        | Event::Isolation { .. }
        | Event::Commanded(_)
        | Event::RulesReplaced { .. }
        | Event::Output { .. }
        | Event::Ineffective { .. }
        | Event::Effective { .. }
        | Event::Backup { .. }
        | Event::Redis { .. } => {}
    }
}

/// A listener was too slow: `control`, `sse`, `alert`, `log`.
pub fn events_dropped(listener: &'static str, count: u64) {
    add(&EVENTS_DROPPED, &[listener], count);
}

/// A move was decided this long after the first bad result of the outage.
pub fn detected(service: &ServiceName, span: Duration) {
    observe(&TIME_TO_DETECT, &[service.as_str()], span);
}

/// Every output had written a decision this long after it fell.
pub fn published(span: Duration) {
    observe(&TIME_TO_PUBLISH, &[], span);
}

/// What became of a reload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reload {
    /// A new policy is in force.
    Applied,
    /// The file says what is already in force.
    Unchanged,
    /// The file does not compile; the policy in force stays.
    Invalid,
    /// The file could not be read; the policy in force stays.
    Unreadable,
}

impl Reload {
    /// Every label; the bound of the metric label `result`.
    pub const LABELS: [&'static str; 4] = ["applied", "unchanged", "invalid", "unreadable"];

    /// Its name in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Invalid => "invalid",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A reload ended, `span` after it began, at `now` in seconds since 1970-01-01 UTC.
///
/// The first load of the process counts as one.
pub fn reloaded(result: Reload, span: Duration, now: f64) {
    add(&POLICY_RELOADS, &[result.label()], 1);
    observe(&POLICY_RELOAD_DURATION, &[], span);
    let valid = matches!(result, Reload::Applied | Reload::Unchanged);
    set(&POLICY_VALID, &[], flag(valid));
    if matches!(result, Reload::Applied) {
        set(&POLICY_LAST_SUCCESS, &[], now);
    }
}

/// How the policy file is watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WatchMode {
    /// By notices of the kernel, and by digest now and then.
    Notify,
    /// By digest only.
    Poll,
}

/// The policy file is watched in this way.
pub fn watch_mode(mode: WatchMode) {
    set(&WATCH_MODE, &["notify"], flag(mode == WatchMode::Notify));
    set(&WATCH_MODE, &["poll"], flag(mode == WatchMode::Poll));
}

/// Whether the policy is a bind-mounted file whose original was replaced.
pub fn watch_stale_bind_mount(stale: bool) {
    set(&WATCH_STALE_MOUNT, &[], flag(stale));
}

/// An output was written, or not; `span` is how long that took.
pub fn output_written(output: &str, written: Result<Revision, ()>, span: Duration) {
    observe(&OUTPUT_WRITE_DURATION, &[output], span);
    add(&OUTPUT_WRITES, &[output, result_label(written.is_ok())], 1);
    if let Ok(revision) = written {
        set(&OUTPUT_REVISION, &[output], float(revision.get()));
    }
}

/// A move is proven to be in use this long after its decision.
pub fn effective(output: &str, proof: &'static str, span: Duration) {
    observe(&SWITCH_EFFECTIVE, &[output, proof], span);
}

/// The latest revision that an output's readers are known to use.
pub fn effective_revision(output: &str, revision: Revision) {
    set(&OUTPUT_EFFECTIVE_REVISION, &[output], float(revision.get()));
}

/// Somebody else's edit of an output was undone.
pub fn drift_repaired(output: &str) {
    add(&OUTPUT_DRIFT, &[output], 1);
}

/// What became of one run of a hook.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HookResult {
    /// It worked.
    Ok,
    /// It did not.
    Failed,
    /// It did not end in time.
    Timeout,
    /// A newer change came first.
    Superseded,
}

/// A hook of an output ran.
pub fn hook_ran(output: &str, result: HookResult) {
    let result = match result {
        HookResult::Ok => "ok",
        HookResult::Failed => "failed",
        HookResult::Timeout => "timeout",
        HookResult::Superseded => "superseded",
    };
    add(&HOOKS, &[output, result], 1);
}

/// One endpoint as one proxy sees it.
#[derive(Clone, Copy, Debug)]
pub struct ProxyLabels<'a> {
    /// The proxy.
    pub output: &'a str,
    /// The service behind it.
    pub service: &'a ServiceName,
    /// The endpoint.
    pub endpoint: &'a EndpointName,
}

impl<'a> ProxyLabels<'a> {
    fn with(&self, last: &'a str) -> [&'a str; 4] {
        [self.output, self.service.as_str(), self.endpoint.as_str(), last]
    }
}

/// So many more calls through a proxy ended so.
pub fn proxy_requests(place: &ProxyLabels<'_>, outcome: &'static str, count: u64) {
    if count > 0 {
        add(&PROXY_REQUESTS, &place.with(outcome), count);
    }
}

/// So many calls of a proxy are open now.
pub fn proxy_open(place: &ProxyLabels<'_>, count: u32) {
    let labels = [place.output, place.service.as_str(), place.endpoint.as_str()];
    set(&PROXY_OPEN, &labels, f64::from(count));
}

/// So many more bytes went through a proxy.
pub fn proxy_bytes(place: &ProxyLabels<'_>, sent: u64, received: u64) {
    for (direction, count) in [("sent", sent), ("received", received)] {
        if count > 0 {
            add(&PROXY_BYTES, &place.with(direction), count);
        }
    }
}

/// A proxy cut so many more calls.
pub fn proxy_cut(place: &ProxyLabels<'_>, reset: u64, drained: u64) {
    for (cause, count) in [("reset", reset), ("drained", drained)] {
        if count > 0 {
            add(&PROXY_CUT, &place.with(cause), count);
        }
    }
}

/// A proxy sent a request once more, or would have, had the budget not been spent.
pub fn proxy_retry(output: &str, granted: bool) {
    add(&PROXY_RETRIES, &[output, if granted { "retried" } else { "denied" }], 1);
}

/// A proxy turned a caller away: `busy`, `invalid`, `unreached`, `forbidden`, `gone`.
pub fn proxy_refused(output: &str, reason: &'static str) {
    add(&PROXY_REFUSED, &[output, reason], 1);
}

/// An upstream began its answer this long after it was asked.
pub fn proxy_first_byte(output: &str, service: &ServiceName, span: Duration) {
    observe(&PROXY_FIRST_BYTE, &[output, service.as_str()], span);
}

/// State was written to disk, or not; `span` is how long that took.
pub fn store_written(ok: bool, span: Duration) {
    add(&STORE_WRITES, &[result_label(ok)], 1);
    observe(&STORE_WRITE_DURATION, &[], span);
}

/// What became of one attempt at a backup of the state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BackupResult {
    /// One was stored.
    Stored,
    /// The newest one is of the same state, and good.
    Unchanged,
    /// Neither.
    Failed,
}

/// An attempt at a backup ended.
pub fn backup(result: BackupResult, span: Duration) {
    let label = match result {
        BackupResult::Stored => "stored",
        BackupResult::Unchanged => "unchanged",
        BackupResult::Failed => "failed",
    };
    add(&BACKUPS, &[label], 1);
    observe(&BACKUP_DURATION, &[], span);
}

/// The newest backup is good: at `now`, in seconds since 1970-01-01 UTC, it was of the present state.
pub fn backup_good(now: f64, bytes: u64, kept: usize) {
    set(&BACKUP_LAST_GOOD, &[], now);
    set(&BACKUP_BYTES, &[], float(bytes));
    set(&BACKUPS_KEPT, &[], float(kept));
}

/// What became of an alert.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AlertResult {
    /// The receiver took it.
    Delivered,
    /// It will be tried again.
    Retried,
    /// The receiver will never take it.
    Rejected,
    /// It was tried too often.
    Expired,
    /// The outbox was full.
    Dropped,
}

/// An alert came to something.
pub fn alert(name: &str, result: AlertResult) {
    let result = match result {
        AlertResult::Delivered => "delivered",
        AlertResult::Retried => "retried",
        AlertResult::Rejected => "rejected",
        AlertResult::Expired => "expired",
        AlertResult::Dropped => "dropped",
    };
    add(&ALERTS, &[name, result], 1);
}

/// So many alerts wait.
pub fn alerts_queued(name: &str, count: usize) {
    set(&ALERTS_QUEUED, &[name], float(count));
}

/// A request to the HTTP surface was answered; `route` is a route of ours, never the path asked for.
pub fn admin_request(route: &'static str, code: u16) {
    add(&ADMIN_REQUESTS, &[route, &code.to_string()], 1);
}

/// A request on the operators' socket was answered.
pub fn control_request(request: &'static str, ok: bool) {
    add(&CONTROL_REQUESTS, &[request, if ok { "ok" } else { "error" }], 1);
}

/// The decision loop woke this late.
pub fn loop_lag(late: Duration) {
    observe(&LOOP_LAG, &[], late);
}

/// The process started at `seconds` since 1970-01-01 UTC.
pub fn process_started(seconds: f64) {
    set(&PROCESS_START, &[], seconds);
}

const fn result_label(ok: bool) -> &'static str {
    if ok { "ok" } else { "failed" }
}

const fn flag(yes: bool) -> f64 {
    if yes { 1.0 } else { 0.0 }
}

/// The nearest number a metric can show; exact below 2^53.
fn float(count: impl TryInto<u64>) -> f64 {
    let count = count.try_into().unwrap_or(u64::MAX);
    let high = u32::try_from(count >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(count & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

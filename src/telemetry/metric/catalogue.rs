//! The one table of metrics.
//!
//! Registration, the helpers of [`super`], the exposition and the documentation all come from it.

/// What a metric counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Only rises; starts at zero with the process.
    Counter,
    /// A value of this moment.
    Gauge,
    /// A distribution over fixed buckets.
    Histogram,
}

impl Kind {
    /// Its name in the exposition format.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The base unit of a metric.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// A number of things, or 0 and 1 for no and yes.
    Count,
    /// Seconds; timestamps are seconds since 1970-01-01 UTC.
    Seconds,
    /// Bytes.
    Bytes,
    /// A share from 0 to 1.
    Ratio,
}

impl Unit {
    /// Its name in the documentation.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Ratio => "ratio",
        }
    }
}

/// One row of the catalogue.
#[derive(Debug)]
pub struct Metric {
    /// The full name.
    pub name: &'static str,
    /// What it counts.
    pub kind: Kind,
    /// Its base unit.
    pub unit: Unit,
    /// The names of its labels, in order.
    pub labels: &'static [&'static str],
    /// Upper bounds of a histogram's buckets; empty otherwise.
    pub buckets: &'static [f64],
    /// What it says, in one sentence.
    pub help: &'static str,
}

/// From a loopback round trip to the longest sensible deadline.
const ATTEMPT: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// From a write to memory to a disk in trouble.
const LOCAL: &[f64] = &[0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];
/// From a timer's tick to a loop that stands still.
const WAKING: &[f64] = &[
    0.0001, 0.0002, 0.0005, 0.001, 0.0015, 0.002, 0.0025, 0.003, 0.004, 0.005, 0.01, 0.05, 0.1,
    0.5, 1.0,
];
/// From a refused connection to a long outage nobody could escape.
const REACTION: &[f64] =
    &[0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0];

macro_rules! catalogue {
    ($($id:ident: $kind:ident $unit:ident $name:literal [$($label:literal)*] $($buckets:ident)?
        $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $id: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                unit: Unit::$unit,
                labels: &[$($label),*],
                buckets: catalogue!(@buckets $($buckets)?),
                help: $help,
            };
        )*
        /// Every metric, in the order of the documentation.
        pub static CATALOGUE: &[&Metric] = &[$(&$id),*];
    };
    (@buckets) => { &[] };
    (@buckets $buckets:ident) => { $buckets };
}

catalogue! {
    ENDPOINT_HEALTH: Gauge Count "mcp_failover_endpoint_health" ["service" "endpoint" "state"]
        "Observed health of an endpoint: 1 for the present state, 0 for the others.";
    ENDPOINT_BREAKER: Gauge Count "mcp_failover_endpoint_breaker" ["service" "endpoint" "state"]
        "Circuit breaker of an endpoint: 1 for the present state, 0 for the others.";
    ENDPOINT_SCORE: Gauge Ratio "mcp_failover_endpoint_score_ratio" ["service" "endpoint"]
        "Health score of an endpoint; below 0.3 it is not chosen.";
    ENDPOINT_ACTIVE: Gauge Count "mcp_failover_endpoint_active" ["service" "endpoint"]
        "Whether the endpoint is the one published.";
    ENDPOINT_DRAINED: Gauge Count "mcp_failover_endpoint_drained" ["service" "endpoint"]
        "Whether a person drained the endpoint.";
    ENDPOINT_SUPPRESSED: Gauge Count "mcp_failover_endpoint_suppressed" ["service" "endpoint"]
        "Whether flap damping forbids a return to the endpoint.";
    ENDPOINT_LATENCY: Gauge Seconds "mcp_failover_endpoint_latency_seconds" ["service" "endpoint"]
        "Duration of the latest attempt against the endpoint.";
    ENDPOINT_LEASES: Gauge Count "mcp_failover_endpoint_leases" ["service" "endpoint"]
        "Leases of the endpoint that are out.";
    TLS_EXPIRY: Gauge Seconds "mcp_failover_tls_certificate_expiry_seconds" ["service" "endpoint"]
        "Seconds until the first certificate of the endpoint's chain expires; negative when it has.";
    QUOTA_LIMIT: Gauge Count "mcp_failover_quota_limit" ["service" "endpoint"]
        "Size of the quota or rate limit that the endpoint told of last.";
    QUOTA_REMAINING: Gauge Count "mcp_failover_quota_remaining" ["service" "endpoint"]
        "What is left of the quota or rate limit that the endpoint told of last.";
    SERVICE_STATE: Gauge Count "mcp_failover_service_state" ["service" "state"]
        "A service in one word: 1 for the present state, 0 for the others.";
    SERVICE_HELD: Gauge Count "mcp_failover_service_held" ["service" "reason"]
        "What stops a move that is due: 1 for the present reason, 0 for the others.";
    SERVICE_PINNED: Gauge Count "mcp_failover_service_pinned" ["service"]
        "Whether a person pinned the service.";
    SERVICE_PAUSED: Gauge Count "mcp_failover_service_paused" ["service"]
        "Whether a person paused the service.";
    SERVICE_BUDGET: Gauge Count "mcp_failover_service_budget_left" ["service"]
        "Automatic moves left in the budget's window.";
    PROBES: Counter Count "mcp_failover_probes_total" ["service" "endpoint" "kind" "outcome"]
        "Attempts that ended, by outcome; kind is shallow or deep.";
    PROBE_DURATION: Histogram Seconds "mcp_failover_probe_duration_seconds" ["service" "phase"] ATTEMPT
        "Time an attempt spent in each phase: resolve, connect, tls, `first_byte`, total.";
    PROBE_LATENESS: Histogram Seconds "mcp_failover_probe_lateness_seconds" [] WAKING
        "How long after it was due an attempt began.";
    PROBES_SHARED: Counter Count "mcp_failover_probes_shared_total" []
        "Probes for which the attempt of an identical check stood in.";
    PROBES_IN_FLIGHT: Gauge Count "mcp_failover_probes_in_flight" []
        "Attempts running now.";
    BREAKER_TRIPS: Counter Count "mcp_failover_breaker_trips_total" ["service" "endpoint" "reason"]
        "Times a circuit breaker opened, by reason.";
    SWITCHES: Counter Count "mcp_failover_switches_total" ["service" "kind"]
        "Moves: start, failover, failback, switchover, reload.";
    HOLDS: Counter Count "mcp_failover_holds_total" ["service" "reason"]
        "Times a move that was due was held back, by reason.";
    CRITICAL_FAILURES: Counter Count "mcp_failover_critical_failures_total" ["service"]
        "Times a critical service lost its active endpoint.";
    EVENTS: Counter Count "mcp_failover_events_total" ["event"]
        "Events told to listeners.";
    EVENTS_DROPPED: Counter Count "mcp_failover_events_dropped_total" ["listener"]
        "Events that a listener was too slow to take.";
    TIME_TO_DETECT: Histogram Seconds "mcp_failover_time_to_detect_seconds" ["service"] REACTION
        "From the first bad result of an outage to the decision to move.";
    TIME_TO_PUBLISH: Histogram Seconds "mcp_failover_time_to_publish_seconds" [] LOCAL
        "From a decision to the moment every output had written it.";
    ISOLATED: Gauge Count "mcp_failover_isolated" []
        "Whether the sidecar believes that it is itself cut off.";
    CONFIRMATION_WAIT: Gauge Seconds "mcp_failover_confirmation_wait_seconds" []
        "How long asking an endpoint again waits for its turn because too many waver at once.";
    REFERENCES: Gauge Count "mcp_failover_references" []
        "Reference targets that tell whether the sidecar is itself cut off.";
    REFERENCES_REACHED: Gauge Count "mcp_failover_references_reached" []
        "Reference targets that answered in the latest round.";
    STALLS: Counter Count "mcp_failover_stalls_total" ["reason"]
        "Times the process found time missing: late, suspended, clock.";
    REVISION: Gauge Count "mcp_failover_revision" []
        "The revision in force.";
    POLICY_VALID: Gauge Count "mcp_failover_policy_valid" []
        "Whether the policy file, as it is now, is the policy in force.";
    POLICY_RELOADS: Counter Count "mcp_failover_policy_reloads_total" ["result"]
        "Reloads: applied, unchanged, invalid, unreadable.";
    POLICY_RELOAD_DURATION: Histogram Seconds "mcp_failover_policy_reload_duration_seconds" [] LOCAL
        "From reading the policy file to the new rules being in force.";
    POLICY_LAST_SUCCESS: Gauge Seconds "mcp_failover_policy_last_success_timestamp_seconds" []
        "When the policy in force was loaded.";
    WATCH_MODE: Gauge Count "mcp_failover_watch_mode" ["mode"]
        "How the policy file is watched: 1 for the present mode, 0 for the others.";
    WATCH_STALE_MOUNT: Gauge Count "mcp_failover_watch_stale_bind_mount" []
        "Whether the policy is a bind-mounted file that was replaced outside and can no longer change here.";
    OUTPUT_WRITES: Counter Count "mcp_failover_output_writes_total" ["output" "result"]
        "Writes of an output: ok, failed.";
    OUTPUT_WRITE_DURATION: Histogram Seconds "mcp_failover_output_write_duration_seconds" ["output"] LOCAL
        "Time a write of an output took.";
    OUTPUT_REVISION: Gauge Count "mcp_failover_output_revision" ["output"]
        "The latest revision that the output has written.";
    SWITCH_EFFECTIVE: Histogram Seconds "mcp_failover_switch_effective_seconds" ["output" "proof"] REACTION
        "Time from a decision to the proof that its reader uses it, by the proof.";
    OUTPUT_EFFECTIVE_REVISION: Gauge Count "mcp_failover_output_effective_revision" ["output"]
        "The latest revision that the output's readers are known to use.";
    OUTPUT_DRIFT: Counter Count "mcp_failover_output_drift_repaired_total" ["output"]
        "Times somebody else's edit of an output was found and undone.";
    HOOKS: Counter Count "mcp_failover_hook_runs_total" ["output" "result"]
        "Runs of `on_change` hooks: ok, failed, timeout, superseded.";
    PROXY_REQUESTS: Counter Count "mcp_failover_proxy_requests_total" ["output" "service" "endpoint" "outcome"]
        "Requests (http), or connections (tcp), that a proxy sent to an endpoint and that ended, by outcome.";
    PROXY_OPEN: Gauge Count "mcp_failover_proxy_open" ["output" "service" "endpoint"]
        "Requests, or connections, of a proxy that are open to an endpoint.";
    PROXY_BYTES: Counter Bytes "mcp_failover_proxy_bytes_total" ["output" "service" "endpoint" "direction"]
        "Bytes that a proxy passed on: sent to the endpoint, received from it.";
    PROXY_CUT: Counter Count "mcp_failover_proxy_cut_total" ["output" "service" "endpoint" "cause"]
        "Open requests, or connections, that a proxy cut: reset because their endpoint became unusable, drained because their time was up.";
    PROXY_RETRIES: Counter Count "mcp_failover_proxy_retries_total" ["output" "result"]
        "Requests that a proxy sent once more to another endpoint, or did not because the budget was spent: retried, denied.";
    PROXY_REFUSED: Counter Count "mcp_failover_proxy_refused_total" ["output" "reason"]
        "Callers that a proxy turned away itself: busy, invalid, unreached, forbidden, gone.";
    PROXY_FIRST_BYTE: Histogram Seconds "mcp_failover_proxy_first_byte_seconds" ["output" "service"] ATTEMPT
        "From a request, or the first byte of a connection, to the first byte of the answer.";
    STORE_WRITES: Counter Count "mcp_failover_store_writes_total" ["result"]
        "Writes of state to disk: ok, failed.";
    STORE_WRITE_DURATION: Histogram Seconds "mcp_failover_store_write_duration_seconds" [] LOCAL
        "Time a durable write of state took.";
    BACKUPS: Counter Count "mcp_failover_backups_total" ["result"]
        "Attempts at a backup of the state: stored, unchanged, failed.";
    BACKUP_DURATION: Histogram Seconds "mcp_failover_backup_duration_seconds" [] ATTEMPT
        "Time an attempt at a backup took.";
    BACKUP_LAST_GOOD: Gauge Seconds "mcp_failover_backup_last_good_timestamp_seconds" []
        "When the newest backup was last seen to be good and of the present state.";
    BACKUP_BYTES: Gauge Bytes "mcp_failover_backup_size_bytes" []
        "Size of the newest good backup.";
    BACKUPS_KEPT: Gauge Count "mcp_failover_backups_kept" []
        "Backups that are there.";
    REDIS_UP: Gauge Count "mcp_failover_redis_up" []
        "Whether the state in Redis is ours and up to date: 1 or 0; NaN when the policy asks for none any more.";
    REDIS_LAST_COMMIT: Gauge Seconds "mcp_failover_redis_last_commit_timestamp_seconds" []
        "When Redis last confirmed that it has the present state.";
    REDIS_COMMIT_DURATION: Histogram Seconds "mcp_failover_redis_commit_duration_seconds" [] ATTEMPT
        "Time a write to Redis took.";
    REDIS_OUTBOX: Gauge Count "mcp_failover_redis_outbox_decisions" []
        "Decisions that wait for Redis.";
    REDIS_DROPPED: Counter Count "mcp_failover_redis_dropped_total" []
        "Decisions that had to be dropped from that queue; they are read from disk when Redis is back.";
    REDIS_FAILURES: Counter Count "mcp_failover_redis_failures_total" ["reason"]
        "Failed exchanges with Redis.";
    REDIS_CONFLICTS: Counter Count "mcp_failover_redis_conflicts_total" []
        "How often somebody else was found to write to Redis under our name.";
    ALERTS: Counter Count "mcp_failover_alerts_total" ["alert" "result"]
        "Alerts: delivered, retried, rejected, expired, dropped.";
    ALERTS_QUEUED: Gauge Count "mcp_failover_alerts_queued" ["alert"]
        "Alerts waiting to be delivered.";
    ADMIN_REQUESTS: Counter Count "mcp_failover_admin_requests_total" ["route" "code"]
        "Requests to the read-only HTTP surface.";
    CONTROL_REQUESTS: Counter Count "mcp_failover_control_requests_total" ["request" "result"]
        "Requests on the operators' socket: ok, error.";
    LOOP_LAG: Histogram Seconds "mcp_failover_loop_lag_seconds" [] LOCAL
        "How late the decision loop woke.";
    BUILD_INFO: Gauge Count "mcp_failover_build_info" ["version"]
        "Always 1; the labels name the build.";
    PROCESS_START: Gauge Seconds "process_start_time_seconds" []
        "When the process started.";
    PROCESS_CPU: Counter Seconds "process_cpu_seconds_total" []
        "User and system processor time spent.";
    PROCESS_RSS: Gauge Bytes "process_resident_memory_bytes" []
        "Resident memory.";
    PROCESS_FDS: Gauge Count "process_open_fds" []
        "Open file descriptors.";
    PROCESS_FDS_MAX: Gauge Count "process_max_fds" []
        "Most file descriptors that may be open.";
}

/// The catalogue as a Markdown table, for the documentation.
#[must_use]
pub fn markdown() -> String {
    let mut text =
        String::from("| Metric | Kind | Unit | Labels | Meaning |\n|---|---|---|---|---|\n");
    for metric in CATALOGUE {
        let labels =
            metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(" ");
        let row = [
            format!("`{}`", metric.name),
            metric.kind.label().to_owned(),
            metric.unit.label().to_owned(),
            labels,
            metric.help.to_owned(),
        ];
        text.push_str("| ");
        text.push_str(&row.join(" | "));
        text.push_str(" |\n");
    }
    text
}

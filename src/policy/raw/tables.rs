//! The tables of the file. The comments here become the descriptions in the JSON Schema.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::policy::raw::macros::{choices, tables};
use crate::policy::raw::node::Node;
use crate::policy::raw::{At, Ctx, Int, Json, List, Map, Need, OneOrMany, Ratio, Read};
use crate::policy::raw::{NonNegative, Positive, Status, Text};

tables! {
    /// The policy of one mcp-failover sidecar.
    struct File {
        /// Version of the format: 1.
        version: Option<Int<0, { u32::MAX }>>,
        /// Who this sidecar is and where its state lives.
        sidecar: Option<Sidecar>,
        /// The read-only HTTP surface.
        admin: Option<Admin>,
        /// The operators' socket.
        control: Option<Control>,
        /// What every service inherits.
        defaults: Option<Defaults>,
        /// How to tell our own network fault from theirs.
        isolation: Option<Isolation>,
        /// The services by name.
        services: Option<Map<Service>>,
        /// Where the active configuration goes.
        outputs: Option<List<Output>>,
        /// Who is told of events.
        alerts: Option<List<Alert>>,
    }

    /// Who this sidecar is and where its state lives.
    struct Sidecar {
        /// Shown in status and alerts; `${HOSTNAME:-local}` by default.
        name: Option<Text>,
        /// Directory of the state; `$STATE_DIRECTORY`, else the XDG state directory by default.
        state_dir: Option<Text>,
    }

    /// The read-only HTTP surface: status page, metrics, health.
    struct Admin {
        /// IP address and port, or "off"; "127.0.0.1:9464" by default.
        listen: Option<Text>,
        /// Values of the `Host` header accepted besides loopback names and the address itself.
        allowed_hosts: Option<List<Text>>,
    }

    /// The operators' socket.
    struct Control {
        /// Its path.
        socket: Option<Text>,
    }

    /// What every service inherits.
    struct Defaults {
        /// For the frequent probe.
        probe: Option<Probe>,
        /// For the rarer probe of services that have one.
        deep_probe: Option<Probe>,
        /// For the circuit breakers.
        breaker: Option<Breaker>,
        /// For moving and returning.
        failover: Option<Failover>,
    }

    /// How to tell our own network fault from theirs.
    struct Isolation {
        /// Unrelated hosts that must fail together before we suspect ourselves; 0 disables.
        min_hosts: Option<Int<0, 1000>>,
        /// How close together they must have failed.
        window: Option<Positive>,
        /// How long evidence gathered before a stall is refused.
        tilt: Option<NonNegative>,
    }

    /// One logical upstream.
    struct Service {
        /// Fills in probe, cost and variable names of a well-known service.
        preset: Option<At<PresetName>>,
        /// Whether its loss is a critical failure.
        critical: Option<At<bool>>,
        /// How one of several usable endpoints of a tier is chosen.
        strategy: Option<At<Strategy>>,
        /// What probing costs: "free", "metered" (the default), or a quota.
        cost: Option<At<Cost>>,
        /// The frequent, cheap check.
        probe: Option<Probe>,
        /// The rarer, dearer check with its own verdict.
        deep_probe: Option<Probe>,
        /// Limits of each endpoint's circuit breaker.
        breaker: Option<Breaker>,
        /// When to move and when to return.
        failover: Option<Failover>,
        /// The endpoints, most preferred first among equals.
        endpoints: Option<List<Endpoint>>,
    }

    /// One address and credential.
    struct Endpoint {
        /// Unique within the service.
        name: Need<Text>,
        /// `scheme://host[:port][/path]`.
        url: Option<Text>,
        /// The tier: 0 is preferred, endpoints of equal priority are peers. The place in the file by default.
        priority: Option<Int<0, 1000>>,
        /// Share among peers under a weighted strategy; 1 by default.
        weight: Option<Int<1, 1000>>,
        /// What is published while it is active.
        env: Option<Map<Text>>,
        /// Differences of this endpoint's check from the service's; no cadence.
        probe: Option<Probe>,
        /// Whose quota it uses: endpoints of one account are throttled together. By default told by the credential.
        account: Option<Text>,
    }

    /// A check, and when it runs.
    struct Probe {
        /// What to do; told by the scheme of the address by default.
        r#type: Option<At<ProbeKind>>,
        /// Gap between starts while nothing changes.
        interval: Option<Positive>,
        /// Gap while a flip is being confirmed.
        fast_interval: Option<Positive>,
        /// First gap while unhealthy; grows up to `down_interval_max`.
        down_interval: Option<Positive>,
        /// Longest gap while unhealthy.
        down_interval_max: Option<Positive>,
        /// Gap for endpoints that are not active.
        standby_interval: Option<Positive>,
        /// Deadline of one attempt.
        timeout: Option<Positive>,
        /// Passes in a row that make an endpoint healthy.
        rise: Option<Int<1, 100>>,
        /// Failures in a row that make it unhealthy.
        fall: Option<Int<1, 100>>,
        /// Random part of each gap, from 0.0 to 0.5.
        jitter: Option<Ratio<500>>,
        /// What this check costs, when it is not what the service's `cost` says.
        cost: Option<At<Cost>>,
        /// Port to connect to instead of the address's. Not for exec.
        port: Option<Int<1, 65_535>>,
        /// http: appended to the address; starts with `/`.
        path: Option<Text>,
        /// http: GET by default, POST with a body.
        method: Option<Text>,
        /// http: request headers.
        headers: Option<Map<Text>>,
        /// http: request body.
        body: Option<Text>,
        /// http and tcp: what the answer must be.
        expect: Option<Expect>,
        /// http and tls: the name asked for and verified, when it is not the host.
        server_name: Option<Text>,
        /// http and tls: PEM file of the roots to trust instead of the platform's.
        ca_file: Option<Text>,
        /// http and tls: a certificate that ends sooner makes a pass `degraded`; "48h" by default.
        expiry_warning: Option<NonNegative>,
        /// tcp: sent once connected.
        send: Option<Text>,
        /// exec: program and arguments, never a shell line; exit code 0 is a pass.
        command: Option<List<Text>>,
        /// exec: environment besides `PATH` and the endpoint's own `env`.
        env: Option<Map<Text>>,
    }

    /// What an answer must be. Texts here are literal: no interpolation.
    struct Expect {
        /// http: accepted statuses, such as 200, "2xx" or "200-299"; "2xx" by default.
        status: Option<OneOrMany<Status>>,
        /// http: statuses that mean something else than their class says.
        outcomes: Option<Map<At<Mapped>>>,
        /// http: headers that must be there, with what each must contain.
        headers: Option<Map<Text>>,
        /// http: texts that the body must contain.
        body_contains: Option<OneOrMany<Text>>,
        /// http: texts that it must not contain.
        body_excludes: Option<OneOrMany<Text>>,
        /// http: a regular expression that it must match.
        body_matches: Option<Text>,
        /// http: JSON pointers and the value that each must have; `true`: it must exist and not be false.
        json: Option<Map<Json>>,
        /// http: whether a GraphQL `errors` member fails the check.
        graphql: Option<At<bool>>,
        /// http: an answer slower than this is `degraded`.
        slow: Option<Positive>,
        /// tcp: text that the answer must contain.
        reply: Option<Text>,
    }

    /// Limits of each endpoint's circuit breaker.
    struct Breaker {
        /// Whether it trips by itself; "auto" by default.
        mode: Option<At<BreakerMode>>,
        /// Failures in a row that trip; 5 by default.
        failure_threshold: Option<Int<1, 10_000>>,
        /// Part of failed calls in the window that trips, above 0.0 up to 1.0; 0.5 by default, 0.0 means never.
        failure_rate: Option<Ratio<1000>>,
        /// Part of slow calls in the window that trips; needs `slow_call`; 0.8 by default, 0.0 means never.
        slow_rate: Option<Ratio<1000>>,
        /// A call that takes at least this long is slow.
        slow_call: Option<Positive>,
        /// Calls in the window below which no rate is judged; 20 by default.
        min_calls: Option<Int<1, 1_000_000>>,
        /// Span of the window; "60s" by default.
        window: Option<Positive>,
        /// First open period; "60s" by default.
        reset_timeout: Option<Positive>,
        /// Longest open period; "300s" by default.
        reset_timeout_max: Option<Positive>,
        /// Random part added to an open period, from 0.0 to 1.0; 0.1 by default.
        jitter: Option<Ratio<1000>>,
        /// Trials at a time in half-open; 2 by default.
        half_open_permits: Option<Int<1, 1000>>,
        /// Trials that must pass to close; 2 by default.
        half_open_passes: Option<Int<1, 1000>>,
        /// A trial that does not come back within this counts as failed; "10s" by default.
        permit_lease: Option<Positive>,
    }

    /// When to move and when to return.
    struct Failover {
        /// What to publish when no endpoint is alive; "hold" by default.
        on_all_down: Option<At<OnAllDown>>,
        /// How to return to a preferred tier.
        failback: Option<Failback>,
        /// Automatic moves allowed within `budget_window`; 6 by default.
        budget: Option<Int<1, 10_000>>,
        /// The span over which `budget` is counted; "1h" by default.
        budget_window: Option<Positive>,
        /// How long a pass proves an endpoint; told by the probe by default.
        freshness: Option<Positive>,
        /// How long to wait for a proven candidate before taking the best unproven one; told by the probe by default.
        proof_timeout: Option<Positive>,
        /// After a move, how long one failure of the new endpoint is enough to move on; told by the probe by default.
        verify: Option<NonNegative>,
        /// How flapping is damped.
        flap: Option<Flap>,
    }

    /// How to return to a preferred tier.
    struct Failback {
        /// Whether to return; "auto" by default.
        mode: Option<At<FailbackMode>>,
        /// How long the preferred endpoint must have been usable without a break; "300s" by default.
        hold: Option<NonNegative>,
        /// Passes in a row it must have; 5 by default.
        rise: Option<Int<1, 1000>>,
        /// Largest extra wait, so that the sidecars of a fleet do not return in step; "0s" by default.
        spread: Option<NonNegative>,
    }

    /// How flapping is damped: a penalty that halves with time (RFC 2439).
    struct Flap {
        /// Added each time an endpoint is left or goes down; 1000 by default.
        penalty: Option<Int<0, 1_000_000>>,
        /// The penalty halves in this time; "15m" by default.
        half_life: Option<Positive>,
        /// At or above this a return is refused; 3000 by default.
        suppress: Option<Int<1, 1_000_000>>,
        /// Below this it is allowed again; 750 by default.
        reuse: Option<Int<1, 1_000_000>>,
        /// No penalty suppresses longer than this; "1h" by default.
        max_suppress: Option<Positive>,
    }

    /// Where the active configuration goes.
    struct Output {
        /// What kind of output.
        r#type: Need<At<OutputKind>>,
        /// Its name in status, metrics and logs; the type and the path by default.
        name: Option<Text>,
        /// The file.
        path: Need<Text>,
        /// How values are escaped; "dotenv" by default.
        format: Option<At<Format>>,
        /// Permission bits as octal text; "0600" by default.
        mode: Option<Text>,
        /// Owner by number.
        uid: Option<Int<0, 4_294_967_294>>,
        /// Group by number.
        gid: Option<Int<0, 4_294_967_294>>,
        /// Whether lines that are not ours are kept; false by default.
        merge: Option<At<bool>>,
        /// The services written to it; all by default.
        services: Option<List<Text>>,
        /// What to do when it changed.
        on_change: Option<OneOrMany<OnChange>>,
    }

    /// What to do when an output changed: a signal or a command.
    struct OnChange {
        /// Signal to send, such as "SIGHUP"; needs `pid_file` or `process`.
        signal: Option<Text>,
        /// File with the number of the process to signal.
        pid_file: Option<Text>,
        /// Name of the processes to signal.
        process: Option<Text>,
        /// Program and arguments to run, never a shell line.
        command: Option<List<Text>>,
        /// How long it may take; "10s" by default.
        timeout: Option<Positive>,
        /// Changes closer together than this run it once; "500ms" by default.
        debounce: Option<NonNegative>,
    }

    /// Who is told of events.
    struct Alert {
        /// What kind of alert.
        r#type: Need<At<AlertKind>>,
        /// Its name in status, metrics and logs.
        name: Option<Text>,
        /// Where to send it.
        url: Need<Text>,
        /// Request headers.
        headers: Option<Map<Text>>,
        /// Which events; all that alert when left out.
        events: Option<List<Text>>,
        /// Deadline of one delivery; "10s" by default.
        timeout: Option<Positive>,
    }

    /// A quota: so many calls within so long.
    struct Quota {
        /// Calls allowed.
        n: Need<Int<1, 1_000_000_000>>,
        /// Within this span.
        per: Need<Positive>,
    }
}

choices! {
    /// A well-known service.
    enum PresetName or UnknownPreset {
        /// Any HTTP service: GET, expects 2xx.
        Http = "http",
        /// Any TCP service: it accepts a connection.
        Tcp = "tcp",
        /// Any TLS service: the handshake succeeds.
        Tls = "tls",
        /// Pinecone's data plane: index statistics with the API key.
        Pinecone = "pinecone",
        /// Neo4j by Bolt or HTTP address.
        Neo4j = "neo4j",
        /// Graphlit's API: TLS handshake.
        Graphlit = "graphlit",
        /// Tavily's API: TLS handshake.
        Tavily = "tavily",
        /// An MCP server over streamable HTTP.
        Mcp = "mcp",
    }

    /// How one of several usable endpoints of a tier is chosen.
    enum Strategy or UnknownValue {
        /// The first in the order of the file.
        Priority = "priority",
        /// Smooth weighted rotation.
        RoundRobin = "round_robin",
        /// Fewest leases in proportion to weight.
        LeastConnections = "least_connections",
        /// In proportion to weight times health score.
        HealthWeighted = "health_weighted",
    }

    /// What a probe does.
    enum ProbeKind or UnknownValue {
        /// One HTTP request with assertions on the answer.
        Http = "http",
        /// A TCP connection.
        Tcp = "tcp",
        /// A TLS handshake.
        Tls = "tls",
        /// A command.
        Exec = "exec",
    }

    /// What a status means.
    enum Mapped or UnknownValue {
        /// A pass.
        Ok = "ok",
        /// A pass with a warning.
        Degraded = "degraded",
        /// A failure.
        ServerError = "server_error",
        /// Slow down, or a quota used up.
        Throttled = "throttled",
        /// Credential refused.
        Auth = "auth",
        /// The request is wrong.
        ClientError = "client_error",
        /// Not in the wanted role.
        WrongRole = "wrong_role",
    }

    /// How a breaker is set.
    enum BreakerMode or UnknownValue {
        /// It trips and resets by itself.
        Auto = "auto",
        /// It never trips and counts nothing.
        Disabled = "disabled",
        /// It counts, but never blocks.
        MetricsOnly = "metrics_only",
    }

    /// What to publish when no endpoint is alive.
    enum OnAllDown or UnknownValue {
        /// Whatever is published stays.
        Hold = "hold",
        /// Go to the preferred endpoint once and stay there.
        Preferred = "preferred",
        /// Publish the service without an endpoint.
        Fail = "fail",
    }

    /// Whether to return to a preferred tier.
    enum FailbackMode or UnknownValue {
        /// When it has held long enough.
        Auto = "auto",
        /// Only when a person orders it.
        Manual = "manual",
        /// Never; only a failure moves.
        Never = "never",
    }

    /// A kind of output.
    enum OutputKind or UnknownValue {
        /// A file of variables.
        EnvFile = "env_file",
    }

    /// How an env file is escaped.
    enum Format or UnknownValue {
        /// For dotenv readers.
        Dotenv = "dotenv",
        /// For `docker run --env-file`.
        Docker = "docker",
        /// For systemd's `EnvironmentFile=`.
        Systemd = "systemd",
        /// For `. file` in a POSIX shell.
        Shell = "shell",
        /// One JSON object.
        Json = "json",
    }

    /// A kind of alert.
    enum AlertKind or UnknownValue {
        /// A JSON document by HTTP POST.
        Webhook = "webhook",
    }

    /// What probing costs, in a word.
    enum CostWord or UnknownValue {
        /// Own network: probe often.
        Free = "free",
        /// A paid or rate-limited service: probe sparingly.
        Metered = "metered",
    }
}

/// What probing costs.
#[derive(Clone, Debug)]
pub(crate) enum Cost {
    /// In a word.
    Word(CostWord),
    /// Counted.
    Quota(Quota),
}

impl Read for At<Cost> {
    fn read(node: Node<'_>, ctx: &mut Ctx<'_>) -> Option<Self> {
        let value = if node.value.is_table() {
            Cost::Quota(Quota::read(node, ctx)?)
        } else if node.value.is_str() {
            Cost::Word(At::<CostWord>::read(node, ctx)?.value)
        } else {
            ctx.wrong_type(node, "text or a table");
            return None;
        };
        Some(Self { value, span: node.span })
    }
}

impl JsonSchema for Cost {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cost".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = generator.subschema_for::<CostWord>();
        let quota = generator.subschema_for::<Quota>();
        json_schema!({ "anyOf": [word, quota] })
    }
}

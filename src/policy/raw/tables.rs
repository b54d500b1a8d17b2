//! The tables of the file. The comments here become the descriptions in the JSON Schema.

#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::policy::raw::macros::{choices, tables};
use crate::policy::raw::node::Node;
use crate::policy::raw::{At, Child, Ctx, Int, List, Map, Need, OneOrMany, Output, Probe, Ratio};
use crate::policy::raw::{NonNegative, Positive, Read, Text};

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
        /// How the MCP server that the sidecar starts itself follows a switch.
        child: Option<Child>,
        /// Who is told of events.
        alerts: Option<List<Alert>>,
        /// Where copies of state and history go.
        backup: Option<Backup>,
        /// The Redis server that is told the state and every decision.
        redis: Option<Redis>,
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
        /// Addresses outside that answer as long as our own network works, such as `tcp://192.0.2.1:443`.
        references: Option<OneOrMany<Text>>,
        /// Gap between rounds over the references; "10s" by default.
        reference_interval: Option<Positive>,
        /// Deadline of one attempt at a reference; "3s" by default.
        reference_timeout: Option<Positive>,
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

    /// Where copies of state and history go, and what is made of them.
    struct Backup {
        /// A directory, or `s3://bucket/prefix`: one place a sidecar.
        to: Need<Text>,
        /// Gap between two looks at whether there is something new; "15m" by default.
        interval: Option<Positive>,
        /// How long after a move, or an order of a person, a backup is made; "10s" by default.
        after_switch: Option<NonNegative>,
        /// Backups kept; 24 by default.
        keep: Option<Int<2, 1000>>,
        /// Whether a start without state takes up the newest good backup; false by default.
        recover: Option<At<bool>>,
        /// How long such a start may wait for it, at most "30s"; "5s" by default.
        recover_timeout: Option<Positive>,
        /// S3: address of the server; that of AWS for the region by default.
        endpoint: Option<Text>,
        /// S3: the region; `${AWS_REGION:-us-east-1}` by default.
        region: Option<Text>,
        /// S3: whether the bucket stands in the path instead of the host name; true by default where `endpoint` is given.
        path_style: Option<At<bool>>,
        /// S3: who asks; the usual variables (`AWS_ACCESS_KEY_ID`, …) by default.
        credentials: Option<BackupCredentials>,
        /// S3: file with the certificates to trust, as PEM, instead of the platform's.
        ca_file: Option<Text>,
    }

    /// Who asks an S3 server.
    struct BackupCredentials {
        /// The key's id; `${AWS_ACCESS_KEY_ID}` by default.
        access_key: Option<Text>,
        /// The key; `${AWS_SECRET_ACCESS_KEY}` by default.
        secret_key: Option<Text>,
        /// The token of a temporary key; `${AWS_SESSION_TOKEN}`, if there is one, by default.
        session_token: Option<Text>,
    }

    /// The Redis server that is told the state and every decision.
    struct Redis {
        /// Its address: `redis://[user[:password]@]host[:port][/db]`, or `rediss://` for TLS.
        url: Need<Text>,
        /// The user, unless the address has one; Redis's default user by default.
        username: Option<Text>,
        /// The password, unless the address has one.
        password: Option<Text>,
        /// What every key begins with; "mcpf" by default.
        prefix: Option<Text>,
        /// Decisions kept there; 1000 by default.
        history: Option<Int<1, 10_000>>,
        /// How long a decision is kept there, at most "30d"; "7d" by default.
        history_age: Option<Positive>,
        /// Whether a start without state takes up what is there; true by default.
        recover: Option<At<bool>>,
        /// How long one exchange with it may take, at most "10s"; "2s" by default.
        timeout: Option<Positive>,
        /// Whether the keys of the first prototype (`mcp:state:…`) are written too; false by default.
        compat: Option<At<bool>>,
        /// File with the certificates to trust, as PEM, instead of the platform's.
        ca_file: Option<Text>,
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
        /// Neo4j by Bolt or HTTP address: handshake, and now and then a query.
        Neo4j = "neo4j",
        /// The writer among the members of a Neo4j cluster.
        Neo4jCluster = "neo4j-cluster",
        /// Graphlit's API: TLS handshake, and now and then a query.
        Graphlit = "graphlit",
        /// Tavily's API: TLS handshake, and now and then what is used up.
        Tavily = "tavily",
        /// An MCP server over streamable HTTP.
        Mcp = "mcp",
        /// An MCP server over the standard streams of a private child.
        McpStdio = "mcp-stdio",
        /// Redis.
        Redis = "redis",
        /// `PostgreSQL`.
        Postgres = "postgres",
        /// Any gRPC service with the standard health service.
        Grpc = "grpc",
        /// A DNS server.
        Dns = "dns",
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

#[cfg(test)]
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

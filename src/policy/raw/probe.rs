//! The tables of checks. The comments here become the descriptions in the JSON Schema.

#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::policy::raw::macros::{choices, tables};
use crate::policy::raw::node::Node;
use crate::policy::raw::{At, Cost, Ctx, Int, Json, List, Map, Need, OneOrMany, Ratio, Read};
use crate::policy::raw::{NonNegative, Positive, Status, Text};

tables! {
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
        /// Within `checks`: the check's name.
        name: Option<Text>,
        /// Address to probe instead of the endpoint's own. Not for exec and `mcp_stdio`.
        url: Option<Text>,
        /// Port to connect to instead of the address's.
        port: Option<Int<1, 65_535>>,
        /// Which of a name's addresses an attempt tries: "one" in turn (the default), "all", or the part of all that must pass.
        addresses: Option<At<AddressChoice>>,
        /// http, graphql, mcp: appended to the address; starts with `/`.
        path: Option<Text>,
        /// http: GET by default, POST with a body.
        method: Option<Text>,
        /// http, graphql, mcp, neo4j: request headers.
        headers: Option<Map<Text>>,
        /// http: request body.
        body: Option<Text>,
        /// What the answer must be.
        expect: Option<Expect>,
        /// http, graphql, mcp, neo4j: the version spoken; "1.1" by default.
        http_version: Option<At<HttpVersion>>,
        /// http, graphql, mcp, neo4j: connect to this unix socket; the address only names the host.
        socket: Option<Text>,
        /// http, graphql, mcp, neo4j: keep the connection for the next attempt; it then hides a dead listener.
        reuse: Option<At<bool>>,
        /// http, graphql, mcp: a bearer token made for the attempt.
        token: Option<Token>,
        /// Checks with TLS: the name asked for and verified, when it is not the host.
        server_name: Option<Text>,
        /// Checks with TLS: PEM file of the roots to trust instead of the platform's.
        ca_file: Option<Text>,
        /// Checks with TLS: a certificate that ends sooner makes a pass `degraded`; "48h" by default.
        expiry_warning: Option<NonNegative>,
        /// tcp: sent once connected.
        send: Option<Text>,
        /// exec and `mcp_stdio`: program and arguments, never a shell line.
        command: Option<List<Text>>,
        /// exec and `mcp_stdio`: environment besides `PATH` and the endpoint's own `env`.
        env: Option<Map<Text>>,
        /// mcp and `mcp_stdio`: which era of the protocol is spoken; found out by default.
        era: Option<At<Era>>,
        /// `mcp_stdio`: keep the child for the next attempt; true by default.
        keep: Option<At<bool>>,
        /// bolt: how far to go; "handshake" by default, "login" with a user.
        depth: Option<At<Depth>>,
        /// neo4j: what is asked; "discovery" by default.
        ask: Option<At<Question>>,
        /// bolt, neo4j, redis, postgres: the user; of the address by default.
        username: Option<Text>,
        /// bolt, neo4j, redis, postgres: the password; of the address by default.
        password: Option<Text>,
        /// bolt, neo4j, postgres: the database.
        database: Option<Text>,
        /// bolt, redis, postgres: the role that the server must have; "any" by default.
        role: Option<At<RoleChoice>>,
        /// redis, postgres: a replica further behind is `degraded`.
        max_lag: Option<Positive>,
        /// postgres: speak TLS; as the address's `sslmode` says by default.
        tls: Option<At<bool>>,
        /// grpc: the service asked about; the whole server by default.
        service: Option<Text>,
        /// grpc: request metadata.
        metadata: Option<Map<Text>>,
        /// grpc: stay connected and be told of changes; false by default.
        watch: Option<At<bool>>,
        /// graphql: the query, `{ __typename }` by default. dns: the name asked for.
        query: Option<Text>,
        /// dns: the kind of record; "A" by default.
        record: Option<At<Record>>,
        /// all, any, `k_of_n`: the checks, without a pace of their own.
        checks: Option<List<Probe>>,
        /// `k_of_n`: how many must pass.
        need: Option<Int<1, 16>>,
    }

    /// What an answer must be. Texts here are literal: no interpolation.
    struct Expect {
        /// http and graphql: accepted statuses, such as 200, "2xx" or "200-299"; "2xx" by default.
        status: Option<OneOrMany<Status>>,
        /// http and graphql: statuses that mean something else than their class says.
        outcomes: Option<Map<At<Mapped>>>,
        /// http and graphql: headers that must be there, with what each must contain.
        headers: Option<Map<Text>>,
        /// http: texts that the body must contain.
        body_contains: Option<OneOrMany<Text>>,
        /// http: texts that it must not contain.
        body_excludes: Option<OneOrMany<Text>>,
        /// http: a regular expression that it must match.
        body_matches: Option<Text>,
        /// http and graphql: JSON pointers and the value that each must have; `true`: it must exist and not be false.
        json: Option<Map<Json>>,
        /// http: whether a GraphQL `errors` member fails the check.
        graphql: Option<At<bool>>,
        /// http and graphql: JSON pointer to how much of a quota is used; all of it is `throttled`.
        quota_used: Option<Text>,
        /// http and graphql: JSON pointer to how much the quota is.
        quota_limit: Option<Text>,
        /// All but tcp, tls and exec: an answer slower than this is `degraded`.
        slow: Option<Positive>,
        /// tcp: text that the answer must contain.
        reply: Option<Text>,
        /// mcp and `mcp_stdio`: tools that the server must list.
        tools: Option<OneOrMany<Text>>,
        /// mcp and `mcp_stdio`: the name that it must give for itself. bolt: a part of it.
        server: Option<Text>,
        /// bolt and neo4j, in the database that they ask: its id, as `CALL db.info()` shows it.
        database_id: Option<Text>,
        /// mcp: an answer that only asks for a credential is a pass; false by default.
        unauthorized: Option<At<bool>>,
        /// dns: values of which one must be in the answer.
        values: Option<OneOrMany<Text>>,
    }

    /// A bearer token made for the attempt: `jwt` or `oauth`.
    struct Token {
        /// Signed here with HMAC-SHA-256; the secret itself is never sent.
        jwt: Option<Jwt>,
        /// Asked for with client credentials, and kept until shortly before it ends.
        oauth: Option<OAuth>,
    }

    /// A part of all addresses.
    struct AddressShare {
        /// The part of them that must pass, above 0.0 up to 1.0.
        all: Need<Ratio<1000>>,
    }

    /// A JSON Web Token signed here.
    struct Jwt {
        /// The key.
        secret: Need<Text>,
        /// The claims besides `iat` and `exp`; texts in them may hold interpolations.
        claims: Option<Map<Json>>,
        /// How long a token is valid; "5m" by default.
        lifetime: Option<Positive>,
    }

    /// Client credentials for a token endpoint (RFC 6749, section 4.4).
    struct OAuth {
        /// Address of the token endpoint.
        token_url: Need<Text>,
        /// The client's identifier.
        client_id: Need<Text>,
        /// The client's secret.
        client_secret: Need<Text>,
        /// The scope asked for.
        scope: Option<Text>,
        /// The resource that the token is for (RFC 8707).
        resource: Option<Text>,
        /// PEM file of the roots to trust instead of the platform's.
        ca_file: Option<Text>,
    }
}

choices! {
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
        /// A GraphQL query over HTTP; `errors` in the answer fail it.
        Graphql = "graphql",
        /// An MCP server over streamable HTTP.
        Mcp = "mcp",
        /// An MCP server over the standard streams of a private child.
        McpStdio = "mcp_stdio",
        /// A Neo4j server by Bolt.
        Bolt = "bolt",
        /// A Neo4j server by HTTP.
        Neo4j = "neo4j",
        /// A Redis server.
        Redis = "redis",
        /// A `PostgreSQL` server.
        Postgres = "postgres",
        /// A gRPC server's health service.
        Grpc = "grpc",
        /// A DNS server.
        Dns = "dns",
        /// Several checks that must all pass.
        All = "all",
        /// Several checks of which one must pass.
        Any = "any",
        /// Several checks of which `need` must pass.
        KOfN = "k_of_n",
        /// No check: only for the deep probe, to leave out a preset's.
        None = "none",
    }

    /// The HTTP version spoken.
    enum HttpVersion or UnknownValue {
        /// HTTP/1.1.
        Http1 = "1.1",
        /// HTTP/2: by ALPN over TLS, with prior knowledge in plain text.
        Http2 = "2",
    }

    /// An era of the MCP protocol.
    enum Era or UnknownValue {
        /// Found out by asking, and remembered.
        Auto = "auto",
        /// 2026-07-28: `server/discover`, no sessions.
        Modern = "modern",
        /// Up to 2025-11-25: `initialize`, `ping`, `DELETE`.
        Legacy = "legacy",
    }

    /// How far a Bolt check goes.
    enum Depth or UnknownValue {
        /// Version negotiation only.
        Handshake = "handshake",
        /// Login.
        Login = "login",
        /// `RETURN 1`.
        Query = "query",
    }

    /// What is asked of a Neo4j server by HTTP.
    enum Question or UnknownValue {
        /// The discovery document; needs no credential.
        Discovery = "discovery",
        /// `RETURN 1`.
        Query = "query",
        /// Whether it takes writes for the database.
        Writable = "writable",
        /// Whether it serves only reads for the database.
        ReadOnly = "read_only",
        /// Whether it takes part in the cluster.
        Available = "available",
    }

    /// The role wanted of a member of a cluster.
    enum RoleChoice or UnknownValue {
        /// Any.
        Any = "any",
        /// Takes writes.
        Writer = "writer",
        /// The same as writer.
        Primary = "primary",
        /// Serves reads only.
        Reader = "reader",
        /// The same as reader.
        Replica = "replica",
    }

    /// A kind of DNS record.
    enum Record or UnknownValue {
        /// IPv4 address.
        A = "A",
        /// IPv6 address.
        Aaaa = "AAAA",
        /// Alias.
        Cname = "CNAME",
        /// Text.
        Txt = "TXT",
        /// Service location.
        Srv = "SRV",
    }

    /// Which of a name's addresses an attempt tries, in a word.
    enum AddressWord or UnknownValue {
        /// One, in turn.
        One = "one",
        /// All at once; all must pass.
        All = "all",
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
}

/// Which of a name's addresses an attempt tries.
#[derive(Clone, Debug)]
pub(crate) enum AddressChoice {
    /// In a word.
    Word(AddressWord),
    /// A part of all.
    Share(AddressShare),
}

impl Read for At<AddressChoice> {
    fn read(node: Node<'_>, ctx: &mut Ctx<'_>) -> Option<Self> {
        let value = if node.value.is_table() {
            AddressChoice::Share(AddressShare::read(node, ctx)?)
        } else if node.value.is_str() {
            AddressChoice::Word(At::<AddressWord>::read(node, ctx)?.value)
        } else {
            ctx.wrong_type(node, "text or a table");
            return None;
        };
        Some(Self { value, span: node.span })
    }
}

#[cfg(test)]
impl JsonSchema for AddressChoice {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Addresses".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = generator.subschema_for::<AddressWord>();
        let share = generator.subschema_for::<AddressShare>();
        json_schema!({ "anyOf": [word, share] })
    }
}

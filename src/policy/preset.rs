//! Well-known services: their probe, what probing them costs, and the variables they read.
//!
//! A preset is a piece of policy, read by the same code as the author's file and laid under the
//! service's own settings, so every key of it can be overridden. The names of variables are those
//! that the published MCP servers read at start.

use toml::de::{DeTable, DeValue};

use crate::policy::raw::{Ctx, Node, Read, Service, Span};

/// What is known about a well-known service.
#[derive(Debug)]
pub struct Preset {
    /// Its name in the policy.
    pub name: &'static str,
    /// What it is, in a few words.
    pub title: &'static str,
    /// The variables its MCP server reads.
    pub variables: &'static [Variable],
    /// Where it is when the policy does not say.
    pub default_url: Option<&'static str>,
    /// The variable among `variables` that holds the address, first match wins.
    pub url_variables: &'static [&'static str],
    /// The scheme of an address that is written without one.
    pub scheme: Option<&'static str>,
    /// The kind of check that an HTTP address calls for.
    pub over_http: &'static str,
    /// The settings, as a piece of policy.
    pub text: &'static str,
}

/// A variable that a well-known server reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Whether the server cannot work without it.
    pub required: bool,
    /// Whether it is a credential.
    pub secret: bool,
    /// Whether it tells on whose behalf the credential is used.
    pub account: bool,
}

const fn public(name: &'static str, required: bool) -> Variable {
    Variable { name, required, secret: false, account: false }
}

const fn account(name: &'static str, required: bool) -> Variable {
    Variable { name, required, secret: false, account: true }
}

const fn secret(name: &'static str) -> Variable {
    Variable { name, required: true, secret: true, account: false }
}

const fn optional_secret(name: &'static str) -> Variable {
    Variable { name, required: false, secret: true, account: false }
}

/// A preset without address, variables and settings of its own.
const BARE: Preset = Preset {
    name: "",
    title: "",
    variables: &[],
    default_url: None,
    url_variables: &[],
    scheme: None,
    over_http: "http",
    text: "",
};

/// What all presets of Neo4j share.
const NEO4J: Preset = Preset {
    variables: &[
        public("NEO4J_URI", true),
        account("NEO4J_USERNAME", false),
        secret("NEO4J_PASSWORD"),
        public("NEO4J_DATABASE", false),
    ],
    url_variables: &["NEO4J_URL", "NEO4J_URI", "NEO4J_MCP_URI"],
    over_http: "neo4j",
    ..BARE
};

const PRESETS: [Preset; 14] = [
    Preset {
        name: "http",
        title: "any HTTP service",
        text: include_str!("presets/http.toml"),
        ..BARE
    },
    Preset { name: "tcp", title: "any TCP service", text: "probe = { type = \"tcp\" }", ..BARE },
    Preset { name: "tls", title: "any TLS service", text: "probe = { type = \"tls\" }", ..BARE },
    Preset {
        name: "pinecone",
        title: "Pinecone, data plane of one index",
        variables: &[public("PINECONE_HOST", true), secret("PINECONE_API_KEY")],
        url_variables: &["PINECONE_HOST", "PINECONE_INDEX_HOST"],
        scheme: Some("https"),
        text: include_str!("presets/pinecone.toml"),
        ..BARE
    },
    Preset {
        name: "neo4j",
        title: "Neo4j, by Bolt or HTTP",
        text: include_str!("presets/neo4j.toml"),
        ..NEO4J
    },
    Preset {
        name: "neo4j-cluster",
        title: "the writer among the members of a Neo4j cluster",
        text: include_str!("presets/neo4j-cluster.toml"),
        ..NEO4J
    },
    Preset {
        name: "graphlit",
        title: "Graphlit's API",
        variables: &[
            public("GRAPHLIT_API_URL", false),
            account("GRAPHLIT_ORGANIZATION_ID", true),
            account("GRAPHLIT_ENVIRONMENT_ID", true),
            secret("GRAPHLIT_JWT_SECRET"),
        ],
        default_url: Some("https://data-scus.graphlit.io/api/v1/graphql"),
        url_variables: &["GRAPHLIT_API_URL"],
        text: include_str!("presets/graphlit.toml"),
        ..BARE
    },
    Preset {
        name: "tavily",
        title: "Tavily's API",
        variables: &[secret("TAVILY_API_KEY")],
        default_url: Some("https://api.tavily.com"),
        text: include_str!("presets/tavily.toml"),
        ..BARE
    },
    Preset {
        name: "mcp",
        title: "an MCP server over streamable HTTP",
        text: include_str!("presets/mcp.toml"),
        ..BARE
    },
    Preset {
        name: "mcp-stdio",
        title: "an MCP server over the standard streams of a private child",
        text: include_str!("presets/mcp-stdio.toml"),
        ..BARE
    },
    Preset {
        name: "redis",
        title: "Redis",
        variables: &[
            public("REDIS_URL", true),
            account("REDIS_USERNAME", false),
            optional_secret("REDIS_PASSWORD"),
        ],
        url_variables: &["REDIS_URL"],
        scheme: Some("redis"),
        text: include_str!("presets/redis.toml"),
        ..BARE
    },
    Preset {
        name: "postgres",
        title: "PostgreSQL",
        variables: &[
            public("DATABASE_URL", true),
            account("PGUSER", false),
            optional_secret("PGPASSWORD"),
            public("PGDATABASE", false),
        ],
        url_variables: &["DATABASE_URL", "POSTGRES_URL"],
        scheme: Some("postgres"),
        text: include_str!("presets/postgres.toml"),
        ..BARE
    },
    Preset {
        name: "grpc",
        title: "any gRPC service with the standard health service",
        scheme: Some("grpc"),
        text: "probe = { type = \"grpc\" }",
        ..BARE
    },
    Preset {
        name: "dns",
        title: "a DNS server",
        scheme: Some("dns"),
        text: "cost = \"free\"\nprobe = { type = \"dns\" }",
        ..BARE
    },
];

/// The names of all presets.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|preset| preset.name)
}

/// All presets.
pub fn all() -> impl Iterator<Item = &'static Preset> {
    PRESETS.iter()
}

/// The preset of this name.
#[must_use]
pub fn get(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

impl Preset {
    /// The settings to lay under a service's own; nothing in them has a place in the source.
    pub(crate) fn settings(&self, ctx: &mut Ctx<'_>) -> Service {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        debug_assert!(errors.is_empty(), "preset {} is not TOML: {errors:?}", self.name);
        let value = DeValue::Table(table.into_inner());
        let own = std::mem::replace(&mut ctx.own, false);
        let settings = Service::read(Node { value: &value, span: Span::NONE }, ctx);
        ctx.own = own;
        settings.unwrap_or_default()
    }
}

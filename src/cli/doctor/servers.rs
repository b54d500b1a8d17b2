//! What is known of MCP servers that others have written: one row a server.
//!
//! Each row was observed with the version named in it. Nothing in here is guessed from a name.

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    /// Its name as people know it.
    pub(super) name: &'static str,
    /// The version that was looked at.
    pub(super) version: &'static str,
    /// Packages, programs and images by which it is started.
    pub(super) aliases: &'static [&'static str],
    /// What runs it.
    pub(super) runtime: Runtime,
    /// The preset of its service.
    pub(super) preset: &'static str,
    /// The variables that it reads, once, when it starts; a `*` at the end stands for the rest.
    pub(super) variables: &'static [&'static str],
    /// How it reaches its service.
    pub(super) reach: Reach,
    /// What is to be known about starting it anew.
    pub(super) restart: &'static str,
}

/// What runs a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Runtime {
    Node,
    Python,
    Native,
}

/// How a server reaches its service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reach {
    /// By HTTP, at hosts that nobody can change, through `HTTPS_PROXY` on every Node.
    Fixed(&'static str),
    /// The same, but its client heeds `HTTPS_PROXY` from Node 24 on only.
    FixedFetch(&'static str),
    /// By HTTP, at the address in this variable.
    Http(&'static str),
    /// By Bolt, at the address in this variable.
    Bolt(&'static str),
    /// It needs no service.
    Nothing,
}

const CYPHER: &[&str] = &[
    "NEO4J_URL",
    "NEO4J_URI",
    "NEO4J_USERNAME",
    "NEO4J_PASSWORD",
    "NEO4J_DATABASE",
    "NEO4J_NAMESPACE",
    "NEO4J_READ_TIMEOUT",
    "NEO4J_READ_ONLY",
    "NEO4J_RESPONSE_TOKEN_LIMIT",
    "NEO4J_SCHEMA_SAMPLE_SIZE",
    "NEO4J_TRANSPORT",
    "NEO4J_MCP_SERVER_*",
];

/// Every server that is known.
pub(super) const SERVERS: [Server; 6] = [
    Server {
        name: "mcp-neo4j-cypher",
        version: "0.6.0",
        aliases: &["mcp-neo4j-cypher", "mcp_neo4j_cypher", "mcp/neo4j-cypher"],
        runtime: Runtime::Python,
        preset: "neo4j",
        variables: CYPHER,
        reach: Reach::Bolt("NEO4J_URI"),
        restart: "needs about three seconds to start",
    },
    Server {
        name: "neo4j/mcp",
        version: "1.6",
        aliases: &["neo4j-mcp", "neo4j-mcp-server", "neo4j/mcp", "mcp/neo4j"],
        runtime: Runtime::Native,
        preset: "neo4j",
        variables: &[
            "NEO4J_URI",
            "NEO4J_USERNAME",
            "NEO4J_PASSWORD",
            "NEO4J_DATABASE",
            "NEO4J_READ_ONLY",
            "NEO4J_MCP_*",
        ],
        reach: Reach::Bolt("NEO4J_URI"),
        restart: "ends by itself, with exit code 0, when its database is down for five seconds",
    },
    Server {
        name: "tavily-mcp",
        version: "0.2.22",
        aliases: &["tavily-mcp"],
        runtime: Runtime::Node,
        preset: "tavily",
        variables: &["TAVILY_API_KEY", "TAVILY_HUMAN_ID", "DEFAULT_PARAMETERS"],
        reach: Reach::Fixed("api.tavily.com"),
        restart: "needs about a second to start",
    },
    Server {
        name: "@pinecone-database/mcp",
        version: "0.3.0",
        aliases: &["@pinecone-database/mcp", "pinecone-mcp"],
        runtime: Runtime::Node,
        preset: "pinecone",
        variables: &["PINECONE_API_KEY"],
        reach: Reach::FixedFetch("api.pinecone.io"),
        restart: "needs indexes of the same names in the backup's project",
    },
    Server {
        name: "graphlit-mcp-server",
        version: "1.0.1",
        aliases: &["graphlit-mcp-server"],
        runtime: Runtime::Node,
        preset: "graphlit",
        variables: &[
            "GRAPHLIT_ORGANIZATION_ID",
            "GRAPHLIT_ENVIRONMENT_ID",
            "GRAPHLIT_JWT_SECRET",
            "GRAPHLIT_OWNER_ID",
            "GRAPHLIT_USER_ID",
            "GRAPHLIT_API_URL",
        ],
        reach: Reach::Http("GRAPHLIT_API_URL"),
        restart: "needs about two seconds to start",
    },
    Server {
        name: "server-everything",
        version: "2026.8.31",
        aliases: &["@modelcontextprotocol/server-everything", "mcp-server-everything"],
        runtime: Runtime::Node,
        preset: "",
        variables: &["PORT", "GZIP_*"],
        reach: Reach::Nothing,
        restart: "needs less than a second to start",
    },
];

impl Server {
    /// The server of this name.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        let is_it = |server: &&Self| server.aliases.contains(&name);
        SERVERS.iter().find(is_it)
    }

    /// Whether it reads a variable.
    pub(super) fn reads(&self, variable: &str) -> bool {
        self.variables.iter().any(|known| match known.strip_suffix('*') {
            Some(beginning) => variable.starts_with(beginning),
            None => *known == variable,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::preset;

    #[test]
    fn no_alias_stands_for_two_servers() {
        let mut aliases: Vec<_> = SERVERS.iter().flat_map(|server| server.aliases).collect();
        let all = aliases.len();
        aliases.sort();
        aliases.dedup();
        assert_eq!(aliases.len(), all);
    }

    #[test]
    fn every_service_has_a_preset() {
        for server in SERVERS.iter().filter(|server| server.reach != Reach::Nothing) {
            assert!(preset::get(server.preset).is_some(), "{}", server.name);
        }
    }

    #[test]
    fn a_star_stands_for_the_rest_of_a_name() {
        let cypher = Server::find("mcp-neo4j-cypher").unwrap();
        assert!(cypher.reads("NEO4J_MCP_SERVER_PORT") && cypher.reads("NEO4J_URI"));
        assert!(!cypher.reads("NEO4J_URI_BACKUP") && !cypher.reads("NEO4J_MCP_URI"));
    }
}

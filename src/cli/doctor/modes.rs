//! Which way of making a switch effective works for a server, and why.

use crate::cli::doctor::servers::{Reach, Runtime, Server};

/// The first major version of Node whose own `fetch` can be told of a proxy.
pub(super) const NODE_WITH_PROXY: u32 = 24;

/// A way of making a switch effective.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Mode {
    EnvFile,
    Child,
    Socket,
    Proxy,
    Connect,
}

impl Mode {
    pub(super) const ALL: [Self; 5] =
        [Self::Child, Self::Proxy, Self::Connect, Self::Socket, Self::EnvFile];

    /// Its name in JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::EnvFile => "env_file",
            Self::Child => "child",
            Self::Socket => "socket",
            Self::Proxy => "proxy",
            Self::Connect => "connect",
        }
    }

    /// What it is called in a policy or on a command line.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::EnvFile => "env file and restart",
            Self::Child => "run -- CMD (warm)",
            Self::Socket => "config socket",
            Self::Proxy => "proxy",
            Self::Connect => "proxy, connect",
        }
    }
}

/// Whether a mode works.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Works {
    Yes,
    If,
    No,
}

impl Works {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Yes => "works",
            Self::If => "on a condition",
            Self::No => "does not",
        }
    }
}

/// A mode, and whether it works for the server.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) mode: Mode,
    pub(super) works: Works,
    pub(super) why: String,
}

/// What there is to know of the server's side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// What is known of the server.
    pub(super) server: Option<&'static Server>,
    /// The major version of its Node, where that was found out.
    pub(super) node: Option<u32>,
}

/// The verdict on every mode.
pub(super) fn judge(facts: Facts) -> Vec<Verdict> {
    let one = |mode| {
        let (works, why) = match facts.server {
            Some(server) if server.reach == Reach::Nothing => {
                (Works::No, "it depends on no service, so nothing can be switched".to_owned())
            }
            Some(server) => known(server, facts.node, mode),
            None => unknown(mode),
        };
        Verdict { mode, works, why }
    };
    Mode::ALL.into_iter().map(one).collect()
}

fn known(server: &Server, node: Option<u32>, mode: Mode) -> (Works, String) {
    match mode {
        Mode::EnvFile => (
            Works::If,
            "it reads its variables once and dies on SIGHUP: something must start it anew, and a \
             host does not do that for a server on its standard streams"
                .to_owned(),
        ),
        Mode::Child => (
            if server.preset == "pinecone" { Works::If } else { Works::Yes },
            format!(
                "a new process takes over the client's session with the other credentials; it {}",
                server.restart
            ),
        ),
        Mode::Socket => (Works::No, "it does not ask a socket; a patched one can".to_owned()),
        Mode::Proxy => proxy(server),
        Mode::Connect => connect(server, node),
    }
}

fn proxy(server: &Server) -> (Works, String) {
    match server.reach {
        Reach::Bolt(variable) => (
            Works::Yes,
            format!(
                "by TCP: {variable}=bolt://127.0.0.1:PORT, not neo4j://, whose routing table leads past it"
            ),
        ),
        Reach::Http(variable) => (
            Works::If,
            format!(
                "{variable} takes a local address; its token is signed with the project's secret, \
                 so only among addresses of one project"
            ),
        ),
        Reach::Fixed(host) | Reach::FixedFetch(host) => {
            (Works::No, format!("its host, {host}, cannot be changed; see connect"))
        }
        Reach::Nothing => (Works::No, String::new()),
    }
}

fn connect(server: &Server, node: Option<u32>) -> (Works, String) {
    match server.reach {
        Reach::Fixed(host) => {
            (Works::Yes, format!("it heeds HTTPS_PROXY for {host}, and trusts NODE_EXTRA_CA_CERTS"))
        }
        Reach::FixedFetch(_) => match node {
            Some(version) if version < NODE_WITH_PROXY => (
                Works::No,
                format!(
                    "its client is Node's fetch, which ignores HTTPS_PROXY in Node {version}; from {NODE_WITH_PROXY} on it does not"
                ),
            ),
            _ => (
                Works::If,
                format!(
                    "from Node {NODE_WITH_PROXY} on; name the host of the index under `hosts`, one index a proxy"
                ),
            ),
        },
        Reach::Bolt(_) => {
            (Works::No, "Bolt does not go through an HTTP proxy; see proxy".to_owned())
        }
        Reach::Http(variable) => {
            (Works::No, format!("not needed: {variable} takes the address of a proxy"))
        }
        Reach::Nothing => (Works::No, String::new()),
    }
}

fn unknown(mode: Mode) -> (Works, String) {
    let why = match mode {
        Mode::EnvFile => "if it reads the file again, or something starts it anew",
        Mode::Child => "if it takes address and credential from its variables",
        Mode::Socket => "if it asks the socket: twenty lines, see examples/",
        Mode::Proxy => "if the address of its service can be set",
        Mode::Connect => "if it heeds HTTPS_PROXY and NODE_EXTRA_CA_CERTS or SSL_CERT_FILE",
    };
    (Works::If, why.to_owned())
}

/// The mode to use, with what to write into the policy for it.
///
/// `service` is what the policy calls its service; without one it is called as its preset.
pub(super) fn recommended(facts: Facts, service: Option<&str>) -> Option<(Mode, String)> {
    let Some(server) = facts.server else {
        let snippet = "[child]\non_switch = \"warm\"\n# mcp-failover run -- CMD\n";
        return Some((Mode::Child, snippet.to_owned()));
    };
    let service = service.unwrap_or(server.preset);
    match server.reach {
        Reach::Nothing => None,
        Reach::Bolt(variable) => Some((
            Mode::Proxy,
            format!(
                "[[outputs]]\ntype    = \"proxy\"\nmode    = \"tcp\"\nlisten  = \"127.0.0.1:7687\"\n\
                 service = \"{service}\"\n# for the server: {variable}=bolt://127.0.0.1:7687\n"
            ),
        )),
        Reach::Http(variable) => Some((
            Mode::Proxy,
            format!(
                "[[outputs]]\ntype    = \"proxy\"\nlisten  = \"127.0.0.1:8081\"\nservice = \"{service}\"\n\
                 # for the server: {variable}=http://127.0.0.1:8081/api/v1/graphql\n"
            ),
        )),
        Reach::Fixed(host) => Some((
            Mode::Connect,
            format!(
                "[child]\non_switch = \"none\"        # the proxy sets the credential\n\n\
                 [[outputs]]\ntype      = \"proxy\"\nmode      = \"connect\"\nlisten    = \"127.0.0.1:3128\"\n\
                 service   = \"{service}\"\n\
                 headers   = {{ Authorization = \"Bearer ${{endpoint.env.TAVILY_API_KEY}}\" }}\n\
                 intercept = {{ hosts = [\"{host}\"], ca_file = \"/run/mcp-failover/ca.pem\" }}\n\
                 # mcp-failover run -- CMD tells the server of it\n"
            ),
        )),
        Reach::FixedFetch(_) => Some((
            Mode::Child,
            format!(
                "[child]\non_switch = \"warm\"\nservices  = [\"{service}\"]\n# mcp-failover run -- CMD\n"
            ),
        )),
    }
}

/// Whether its Node decides whether a mode works.
pub(super) fn depends_on_node(server: Option<&Server>) -> bool {
    server.is_some_and(|server| {
        server.runtime == Runtime::Node && matches!(server.reach, Reach::FixedFetch(_))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn works(name: &str, node: Option<u32>, mode: Mode) -> Works {
        let facts = Facts { server: Server::find(name), node };
        judge(facts).into_iter().find(|verdict| verdict.mode == mode).unwrap().works
    }

    #[test]
    fn a_server_without_a_service_has_nothing_to_switch() {
        let server = Server::find("@modelcontextprotocol/server-everything");
        let facts = Facts { server, node: None };
        assert!(judge(facts).iter().all(|verdict| verdict.works == Works::No));
        assert!(recommended(facts, None).is_none());
    }

    #[test]
    fn node_decides_whether_pinecone_can_go_through_a_proxy() {
        let of = |node| works("@pinecone-database/mcp", node, Mode::Connect);
        assert_eq!((of(Some(20)), of(Some(24)), of(None)), (Works::No, Works::If, Works::If));
    }

    #[test]
    fn the_mode_recommended_for_a_known_server_works() {
        for server in &crate::cli::doctor::servers::SERVERS {
            let facts = Facts { server: Some(server), node: None };
            let Some((mode, _)) = recommended(facts, None) else { continue };
            assert_ne!(works(server.aliases[0], None, mode), Works::No, "{}", server.name);
        }
    }

    #[test]
    fn every_snippet_is_part_of_a_valid_policy() {
        use crate::policy::{Source, compile};
        use crate::watch::SystemLookup;
        for server in &crate::cli::doctor::servers::SERVERS {
            let facts = Facts { server: Some(server), node: None };
            let Some((_, snippet)) = recommended(facts, None) else { continue };
            let preset = server.preset;
            let text = format!(
                "version = 1\n[services.{preset}]\npreset = \"http\"\n[[services.{preset}.endpoints]]\n\
                 name = \"a\"\nurl = \"http://192.0.2.1\"\nenv = {{ TAVILY_API_KEY = \"x\" }}\n{snippet}"
            );
            let text = if snippet.contains("\"tcp\"") {
                text.replace("\"http\"\n", "\"tcp\"\n")
                    .replace("http://192.0.2.1", "tcp://192.0.2.1:1")
            } else {
                text
            };
            let source = Source { name: "snippet", text: &text };
            let compiled = compile(&source, &SystemLookup::new());
            assert!(compiled.is_ok(), "{text}\n{:?}", compiled.err());
        }
    }
}

//! The messages of Bolt that a probe says, and the four that it hears.
//!
//! The fields and their order are those of the official driver, so that a server sees nothing
//! that it does not see every day.

use zeroize::Zeroizing;

use crate::policy::model::Login;
use crate::probe::bolt::handshake::Version;
use crate::probe::codec::packstream::{self, Malformed, Packer, Value};
use crate::probe::finding::Finding;
use crate::probe::neo4j_code;

/// How we call ourselves, as name and version.
const AGENT: &str = concat!("mcp-failover/", env!("CARGO_PKG_VERSION"));
/// Milliseconds after which the server drops a query of ours, should we be gone by then.
const QUERY_MAX: i64 = 10_000;

type Message = Zeroizing<Vec<u8>>;

/// The first message, with the credential where the version has no LOGON.
pub(super) fn hello(version: Version, login: Option<&Login>) -> Message {
    let mut out = Packer::new();
    let agent = usize::from(version.names_the_driver());
    let credential = if version.has_logon() { 0 } else { credential_entries(login) };
    out.structure(0x01, 1).map(1 + agent + credential).entry("user_agent", AGENT);
    if version.names_the_driver() {
        out.text("bolt_agent").map(1).entry("product", AGENT);
    }
    if !version.has_logon() {
        pack_credential(&mut out, login);
    }
    out.into_bytes()
}

/// The credential by itself.
pub(super) fn logon(login: Option<&Login>) -> Message {
    let mut out = Packer::new();
    out.structure(0x6A, 1).map(credential_entries(login));
    pack_credential(&mut out, login);
    out.into_bytes()
}

fn credential_entries(login: Option<&Login>) -> usize {
    if login.is_some() { 3 } else { 1 }
}

fn pack_credential(out: &mut Packer, login: Option<&Login>) {
    match login {
        None => out.entry("scheme", "none"),
        Some(login) => out
            .entry("scheme", "basic")
            .entry("principal", login.username.expose())
            .entry("credentials", login.password.expose()),
    };
}

/// A query that only reads, on the server itself: without a routing context in HELLO no server
/// passes it on.
pub(super) fn run(query: &str, parameters: &[(&str, &str)], database: Option<&str>) -> Message {
    let mut out = Packer::new();
    out.structure(0x10, 3).text(query).map(parameters.len());
    for (name, value) in parameters {
        out.entry(name, value);
    }
    out.map(2 + usize::from(database.is_some())).entry("mode", "r");
    if let Some(database) = database {
        out.entry("db", database);
    }
    out.text("tx_timeout").int(QUERY_MAX);
    out.into_bytes()
}

/// Asks for the first record of the query.
pub(super) fn pull(version: Version) -> Message {
    let mut out = Packer::new();
    if version.pulls_all() {
        out.structure(0x3F, 0);
    } else {
        out.structure(0x3F, 1).map(1).text("n").int(1);
    }
    out.into_bytes()
}

/// Asks who serves what; `address` is how we call the server.
pub(super) fn route(version: Version, address: &str, database: Option<&str>) -> Message {
    let mut out = Packer::new();
    out.structure(0x66, 3).map(1).entry("address", address).list(0);
    match database {
        Some(database) if version.routes_with_extras() => out.map(1).entry("db", database),
        None if version.routes_with_extras() => out.map(0),
        Some(database) => out.text(database),
        None => out.null(),
    };
    out.into_bytes()
}

/// The last message; there is no answer to it.
pub(super) fn goodbye() -> Message {
    let mut out = Packer::new();
    out.structure(0x02, 0);
    out.into_bytes()
}

/// What a server says.
#[derive(Debug)]
pub(super) enum Reply {
    /// Done, with what there is to know about it.
    Success(Value),
    /// One record of a result.
    Record(Vec<Value>),
    /// Not done, because something before it failed.
    Ignored,
    /// Failed, sorted by its code.
    Failure(Finding),
}

impl Reply {
    /// Reads a message.
    pub(super) fn read(message: &[u8]) -> Result<Self, Finding> {
        let not_bolt = |_malformed: Malformed| Finding::protocol("message is not PackStream");
        let Value::Structure { tag, mut fields } = packstream::decode(message).map_err(not_bolt)?
        else {
            return Err(Finding::protocol("message is not one of Bolt's"));
        };
        match (tag, fields.pop(), fields.as_slice()) {
            (0x70, Some(known @ Value::Map(_)), []) => Ok(Self::Success(known)),
            (0x71, Some(Value::List(values)), []) => Ok(Self::Record(values)),
            (0x7E, _, _) => Ok(Self::Ignored),
            (0x7F, Some(known @ Value::Map(_)), []) => Ok(Self::Failure(failure(&known))),
            _ => Err(Finding::protocol("message is not one of Bolt's")),
        }
    }
}

/// From 5.7 on the code has another name, beside a GQL status that says less.
fn failure(known: &Value) -> Finding {
    let code = known.get("neo4j_code").or_else(|| known.get("code")).and_then(Value::text);
    code.map_or_else(|| Finding::protocol("failure without a code"), neo4j_code::sort)
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;

//! Which role the server has, as its routing table tells.
//!
//! The table names members by the addresses that they advertise, which need not be the one that
//! we connected to. So the server is looked for by the endpoint's host and port, by the address
//! connected to, and by what it says itself. Pure.

use std::net::{IpAddr, SocketAddr};

use crate::core::outcome::Outcome;
use crate::policy::model::{Role, Target};
use crate::probe::codec::packstream::Value;
use crate::probe::finding::{Finding, Step};

/// Bolt's own port, for addresses without one.
const PORT: u16 = 7687;

/// Who serves what.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Table {
    database: Option<String>,
    writers: Vec<Address>,
    readers: Vec<Address>,
    routers: Vec<Address>,
}

/// A host and a port, spelled in one way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// As a routing table spells it: `host:port`, `[v6]:port`, or without a port.
    pub(super) fn parse(text: &str) -> Self {
        let (host, port) = match text.rsplit_once(':') {
            // The colons of a bare IPv6 address are its own.
            Some((host, port)) if host.ends_with(']') || !host.contains(':') => {
                (host, port.parse().unwrap_or(PORT))
            }
            Some(_) | None => (text, PORT),
        };
        Self::new(host, port)
    }

    fn new(host: &str, port: u16) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = match host.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical().to_string(),
            Err(_name) => host.trim_end_matches('.').to_ascii_lowercase(),
        };
        Self { host, port }
    }

    /// What the endpoint may be called: as the policy names it, and as it was connected to.
    pub(super) fn of(target: &Target, connected: Option<SocketAddr>) -> Vec<Self> {
        let connected = connected.map(|at| Self::new(&at.ip().to_string(), at.port()));
        [Self::new(&target.host, target.port)].into_iter().chain(connected).collect()
    }
}

impl Table {
    /// Reads what ROUTE was answered with; `None` when that is no routing table.
    pub(super) fn read(known: &Value) -> Option<Self> {
        let table = known.get("rt")?;
        let database = table.get("db").and_then(Value::text).map(str::to_owned);
        let mut read = Self { database, ..Self::default() };
        let Some(Value::List(servers)) = table.get("servers") else { return None };
        for server in servers {
            let addresses = server.get("addresses")?.items().iter();
            let addresses = addresses.filter_map(Value::text).map(Address::parse);
            match server.get("role")?.text()? {
                "WRITE" => read.writers.extend(addresses),
                "READ" => read.readers.extend(addresses),
                "ROUTE" => read.routers.extend(addresses),
                _ => {}
            }
        }
        Some(read)
    }

    /// The database that it is about.
    pub(super) fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Whether the server of these names has the role; `None` when the table does not know it.
    ///
    /// Nobody is listed for a role that nobody has: then the names make no difference.
    pub(super) fn judge(&self, role: Role, names: &[Address]) -> Option<Step> {
        let wanted = self.of(role);
        if wanted.is_empty() {
            return Some(Err(wrong(match role {
                Role::Writer | Role::Any => "no member takes writes",
                Role::Reader => "no member serves reads",
            })));
        }
        let knows = |name: &Address| self.all().any(|member| member == name);
        if !names.iter().any(knows) {
            return None;
        }
        let serves = names.iter().any(|name| wanted.contains(name));
        Some(if serves { Ok(()) } else { Err(lacks(role)) })
    }

    /// As [`Table::judge`], of a server that says this of itself.
    pub(super) fn judge_self(&self, role: Role, name: Address) -> Step {
        let absent = || Err(wrong("server has no part in the database"));
        self.judge(role, &[name]).unwrap_or_else(absent)
    }

    /// Whether there is one server only: then the table is about the one that gave it.
    pub(super) fn is_of_one(&self) -> bool {
        let mut all = self.all();
        all.next().is_some_and(|first| all.all(|member| member == first))
    }

    fn of(&self, role: Role) -> &[Address] {
        match role {
            Role::Writer | Role::Any => &self.writers,
            Role::Reader => &self.readers,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Address> {
        self.writers.iter().chain(&self.readers).chain(&self.routers)
    }
}

/// Judges the word that a member of a 4.x cluster has for its own role.
pub(super) fn judge_word(role: Role, word: &str) -> Option<Step> {
    let writes = match word {
        "LEADER" | "STANDALONE" => true,
        "FOLLOWER" | "READ_REPLICA" => false,
        _ => return None,
    };
    let serves = match role {
        Role::Any => true,
        Role::Writer => writes,
        Role::Reader => !writes || word == "STANDALONE",
    };
    Some(if serves { Ok(()) } else { Err(lacks(role)) })
}

fn lacks(role: Role) -> Finding {
    wrong(match role {
        Role::Writer | Role::Any => "server takes no writes",
        Role::Reader => "server is not among those for reads",
    })
}

fn wrong(detail: &'static str) -> Finding {
    Finding::new(Outcome::WrongRole, detail)
}

#[cfg(test)]
#[path = "routing_tests.rs"]
mod tests;

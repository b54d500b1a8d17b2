//! Which keys, expectations and schemes belong to which kind of check.
//!
//! A key that means nothing to the kind is refused: ignored, it would be a protection that is
//! silently absent.

use crate::policy::code::Code;
use crate::policy::compile::address::Located;
use crate::policy::raw::{self, Ctx, Place, ProbeKind};

/// The keys that say when a probe runs, and what it is: those that an endpoint may not change.
pub(in crate::policy::compile) const TIMED: [&str; 11] = [
    "type",
    "interval",
    "fast_interval",
    "down_interval",
    "down_interval_max",
    "standby_interval",
    "timeout",
    "rise",
    "fall",
    "jitter",
    "cost",
];

/// What is known of a kind.
struct Known {
    kind: ProbeKind,
    /// With its article.
    label: &'static str,
    /// Its keys, in groups.
    keys: &'static [&'static [&'static str]],
    /// The keys of its `expect`.
    expect: &'static [&'static str],
    /// The schemes it can use, in words of `scheme://`; empty: any that names a host.
    schemes: &'static [&'static str],
}

const PLACE: &[&str] = &["url", "port", "addresses"];
const TLS: &[&str] = &["server_name", "ca_file", "expiry_warning"];
const HTTP: &[&str] = &["headers", "http_version", "socket", "reuse"];
const HTTP_SCHEMES: &[&str] = &["http", "https", "unix", "http+unix"];
const SEVERAL: Known = Known {
    kind: ProbeKind::All,
    label: "an `all`",
    keys: &[&["checks", "addresses"]],
    expect: &[],
    schemes: &[],
};

const KINDS: [Known; 17] = [
    Known {
        kind: ProbeKind::Http,
        label: "an http",
        keys: &[PLACE, TLS, HTTP, &["path", "method", "body", "token", "expect"]],
        expect: &[
            "status",
            "outcomes",
            "headers",
            "body_contains",
            "body_excludes",
            "body_matches",
            "json",
            "graphql",
            "quota_used",
            "quota_limit",
            "slow",
        ],
        schemes: HTTP_SCHEMES,
    },
    Known {
        kind: ProbeKind::Graphql,
        label: "a graphql",
        keys: &[PLACE, TLS, HTTP, &["path", "query", "token", "expect"]],
        expect: &["status", "outcomes", "headers", "json", "quota_used", "quota_limit", "slow"],
        schemes: HTTP_SCHEMES,
    },
    Known {
        kind: ProbeKind::Mcp,
        label: "an mcp",
        keys: &[PLACE, TLS, HTTP, &["path", "era", "token", "expect"]],
        expect: &["tools", "server", "unauthorized", "slow"],
        schemes: HTTP_SCHEMES,
    },
    Known {
        kind: ProbeKind::Neo4j,
        label: "a neo4j",
        keys: &[PLACE, TLS, HTTP, &["ask", "username", "password", "database", "expect"]],
        expect: &["database_id", "slow"],
        schemes: HTTP_SCHEMES,
    },
    Known {
        kind: ProbeKind::Tcp,
        label: "a tcp",
        keys: &[PLACE, &["send", "expect"]],
        expect: &["reply"],
        schemes: &[],
    },
    Known { kind: ProbeKind::Tls, label: "a tls", keys: &[PLACE, TLS], expect: &[], schemes: &[] },
    Known {
        kind: ProbeKind::Exec,
        label: "an exec",
        keys: &[&["command", "env"]],
        expect: &[],
        schemes: &[],
    },
    Known {
        kind: ProbeKind::McpStdio,
        label: "an mcp_stdio",
        keys: &[&["command", "env", "era", "keep", "expect"]],
        expect: &["tools", "server", "slow"],
        schemes: &[],
    },
    Known {
        kind: ProbeKind::Bolt,
        label: "a bolt",
        keys: &[PLACE, TLS, &["depth", "username", "password", "database", "role", "expect"]],
        expect: &["server", "database_id", "slow"],
        schemes: &["bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc", "tcp", "tls"],
    },
    Known {
        kind: ProbeKind::Redis,
        label: "a redis",
        keys: &[PLACE, TLS, &["username", "password", "role", "max_lag", "expect"]],
        expect: &["slow"],
        schemes: &["redis", "rediss", "tcp", "tls"],
    },
    Known {
        kind: ProbeKind::Postgres,
        label: "a postgres",
        keys: &[
            PLACE,
            TLS,
            &["username", "password", "database", "role", "max_lag", "tls", "expect"],
        ],
        expect: &["slow"],
        schemes: &["postgres", "postgresql", "tcp", "tls"],
    },
    Known {
        kind: ProbeKind::Grpc,
        label: "a grpc",
        keys: &[PLACE, TLS, &["service", "metadata", "watch", "expect"]],
        expect: &["slow"],
        schemes: &["grpc", "grpcs", "http", "https", "tcp", "tls"],
    },
    Known {
        kind: ProbeKind::Dns,
        label: "a dns",
        keys: &[PLACE, &["query", "record", "expect"]],
        expect: &["values", "slow"],
        schemes: &["dns"],
    },
    SEVERAL,
    Known { kind: ProbeKind::Any, label: "an `any`", ..SEVERAL },
    Known {
        kind: ProbeKind::KOfN,
        label: "a k_of_n",
        keys: &[&["checks", "need", "addresses"]],
        ..SEVERAL
    },
    Known { kind: ProbeKind::None, label: "no", keys: &[], ..SEVERAL },
];

fn known(kind: ProbeKind) -> Option<&'static Known> {
    KINDS.iter().find(|known| known.kind == kind)
}

impl Known {
    fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|group| group.contains(&key))
    }
}

/// Refuses keys that mean nothing to this kind of probe.
pub(super) fn applicable(raw: &raw::Probe, kind: ProbeKind, ctx: &mut Ctx<'_>) {
    let Some(known) = known(kind) else { return };
    let named = |key: &str| TIMED.contains(&key) || key == "name";
    refuse(&raw.at, known, |one, key| named(key) || one.has(key), ctx);
    if let Some(expect) = raw.expect.as_ref().filter(|_| known.has("expect")) {
        refuse(&expect.at, known, |one, key| one.expect.contains(&key), ctx);
    }
}

fn refuse(at: &Place, known: &Known, fits: impl Fn(&Known, &str) -> bool, ctx: &mut Ctx<'_>) {
    for (key, span) in at.keys.iter().filter(|(key, _)| !fits(known, key)) {
        let message = format!("`{key}` means nothing to {} probe", known.label);
        let others: Vec<&str> = KINDS
            .iter()
            .filter(|other| fits(other, key))
            .filter_map(|other| other.label.split(' ').nth(1))
            .collect();
        ctx.error(Code::NotApplicable, *span, message, format!("it belongs to {}", list(&others)));
    }
}

/// The words as a list in a sentence.
fn list(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// Whether the kind can use the address; reports it if not.
pub(super) fn speaks(kind: ProbeKind, located: &Located, ctx: &mut Ctx<'_>) -> bool {
    let Some(known) = known(kind) else { return false };
    let address = &located.address;
    let good = if known.schemes.is_empty() {
        address.socket.is_none()
    } else {
        known.schemes.contains(&address.scheme)
    };
    if !good {
        let message = format!("{} probe cannot use an address of this scheme", known.label);
        let help = if known.schemes.is_empty() {
            "it needs a host and a port".to_owned()
        } else {
            format!("it takes {}; or choose another `type`", list(known.schemes))
        };
        ctx.error(Code::WrongScheme, located.span, message, help);
        return false;
    }
    let header = matches!(kind, ProbeKind::Http | ProbeKind::Graphql | ProbeKind::Mcp);
    if header && address.user.is_some() {
        let message = "user info in an http address would not be sent";
        let help = "use an `Authorization` header";
        ctx.error(Code::WrongScheme, located.span, message, help);
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_known_and_every_scheme_exists() {
        for word in ProbeKind::WORDS {
            let kind = ProbeKind::from_word(word).unwrap();
            let known = known(kind).unwrap();
            for scheme in known.schemes {
                assert!(crate::policy::url::schemes().any(|one| one == *scheme), "{scheme}");
            }
        }
    }
}

//! What Neo4j's status codes mean for health, by Bolt and by HTTP alike. Pure.
//!
//! | code | outcome |
//! |---|---|
//! | `Neo.ClientError.Security.AuthenticationRateLimit` | `throttled` |
//! | any other `Neo.ClientError.Security.*` | `auth` |
//! | `…Cluster.NotALeader`, `…General.ForbiddenOnReadOnlyDatabase` | `wrong_role` |
//! | `…Transaction.TransactionTimedOut*` | `timeout`: a trivial query took longer than it may |
//! | any other `Neo.ClientError.*`, such as a database that does not exist | `client_error` |
//! | `Neo.ClientError.Cluster.*` | `server_error`: the cluster is at odds with itself |
//! | `Neo.TransientError.*`, `Neo.DatabaseError.*` | `server_error` |
//! | anything else | `protocol` |
//!
//! A code is quoted only when it is one that we know: a peer could put anything there.

use crate::core::outcome::Outcome;
use crate::probe::finding::Finding;

/// Codes that are worth quoting: what a probe meets.
const KNOWN: [&str; 34] = [
    "Neo.ClientError.Cluster.NotALeader",
    "Neo.ClientError.Cluster.ReplicationFailure",
    "Neo.ClientError.Cluster.Routing",
    "Neo.ClientError.Database.DatabaseNotFound",
    "Neo.ClientError.Database.HomeDatabaseNotFound",
    "Neo.ClientError.Database.IllegalAliasChain",
    "Neo.ClientError.General.ForbiddenOnReadOnlyDatabase",
    "Neo.ClientError.General.TransactionOutOfMemoryError",
    "Neo.ClientError.Procedure.ProcedureNotFound",
    "Neo.ClientError.Request.Invalid",
    "Neo.ClientError.Request.InvalidFormat",
    "Neo.ClientError.Request.InvalidUsage",
    "Neo.ClientError.Security.AuthenticationRateLimit",
    "Neo.ClientError.Security.AuthorizationExpired",
    "Neo.ClientError.Security.CredentialsExpired",
    "Neo.ClientError.Security.Forbidden",
    "Neo.ClientError.Security.TokenExpired",
    "Neo.ClientError.Security.Unauthorized",
    "Neo.ClientError.Statement.SyntaxError",
    "Neo.ClientError.Transaction.TransactionTimedOut",
    "Neo.ClientError.Transaction.TransactionTimedOutClientConfiguration",
    "Neo.DatabaseError.Database.DatabaseLimitReached",
    "Neo.DatabaseError.Database.Unknown",
    "Neo.DatabaseError.General.StorageDamageDetected",
    "Neo.DatabaseError.General.UnknownError",
    "Neo.TransientError.Cluster.ReplicationFailure",
    "Neo.TransientError.Database.DatabaseUnavailable",
    "Neo.TransientError.General.DatabaseUnavailable",
    "Neo.TransientError.General.MemoryPoolOutOfMemoryError",
    "Neo.TransientError.General.OutOfMemoryError",
    "Neo.TransientError.Request.NoThreadsAvailable",
    "Neo.TransientError.Security.AuthProviderFailed",
    "Neo.TransientError.Security.AuthProviderTimeout",
    "Neo.TransientError.Transaction.Terminated",
];

/// Sorts a failure by its code.
pub(super) fn sort(code: &str) -> Finding {
    let mut parts = code.splitn(3, '.');
    // Servers that speak Neo4j's protocols put their own name first.
    let (Some(_vendor), Some(class), Some(rest)) = (parts.next(), parts.next(), parts.next())
    else {
        return Finding::protocol("failure with a code that is not one");
    };
    let (outcome, kind) = match class {
        "ClientError" => (client(rest), "a client error"),
        "TransientError" => (Outcome::ServerError, "a transient error"),
        "DatabaseError" => (Outcome::ServerError, "a database error"),
        _ => return Finding::protocol("failure with a code of no known class"),
    };
    match KNOWN.iter().find(|known| **known == code) {
        Some(known) => Finding::new(outcome, *known),
        None => Finding::new(outcome, format!("failed with {kind} of another code")),
    }
}

fn client(rest: &str) -> Outcome {
    match rest {
        "Security.AuthenticationRateLimit" => Outcome::Throttled { retry_after: None },
        "Cluster.NotALeader" | "General.ForbiddenOnReadOnlyDatabase" => Outcome::WrongRole,
        _ if rest.starts_with("Security.") => Outcome::Auth,
        _ if rest.starts_with("Cluster.") => Outcome::ServerError,
        _ if rest.starts_with("Transaction.TransactionTimedOut") => Outcome::Timeout,
        _ => Outcome::ClientError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_the_table_says() {
        let outcome = |code: &str| sort(code).outcome;
        let throttled = Outcome::Throttled { retry_after: None };
        for (code, wanted) in [
            ("Neo.ClientError.Security.AuthenticationRateLimit", throttled),
            ("Neo.ClientError.Security.Unauthorized", Outcome::Auth),
            ("Neo.ClientError.Security.CredentialsExpired", Outcome::Auth),
            ("Neo.ClientError.Security.Forbidden", Outcome::Auth),
            ("Neo.ClientError.Security.TokenExpired", Outcome::Auth),
            ("Neo.ClientError.Cluster.NotALeader", Outcome::WrongRole),
            ("Neo.ClientError.General.ForbiddenOnReadOnlyDatabase", Outcome::WrongRole),
            ("Neo.ClientError.Cluster.Routing", Outcome::ServerError),
            ("Neo.ClientError.Transaction.TransactionTimedOut", Outcome::Timeout),
            (
                "Neo.ClientError.Transaction.TransactionTimedOutClientConfiguration",
                Outcome::Timeout,
            ),
            ("Neo.ClientError.Database.DatabaseNotFound", Outcome::ClientError),
            ("Neo.ClientError.Statement.SyntaxError", Outcome::ClientError),
            ("Neo.ClientError.Request.Invalid", Outcome::ClientError),
            ("Neo.TransientError.General.DatabaseUnavailable", Outcome::ServerError),
            ("Neo.TransientError.Database.DatabaseUnavailable", Outcome::ServerError),
            ("Neo.TransientError.Request.NoThreadsAvailable", Outcome::ServerError),
            ("Neo.TransientError.Security.AuthProviderTimeout", Outcome::ServerError),
            ("Neo.DatabaseError.General.UnknownError", Outcome::ServerError),
            ("Memgraph.ClientError.MemgraphError.MemgraphError", Outcome::ClientError),
            ("Neo.Other.General.Unknown", Outcome::Protocol),
            ("Neo.ClientError", Outcome::Protocol),
            ("", Outcome::Protocol),
        ] {
            assert_eq!(outcome(code), wanted, "{code}");
        }
    }

    #[test]
    fn only_known_codes_are_quoted() {
        for code in KNOWN {
            assert_eq!(sort(code).detail, code);
        }
        for code in ["Neo.ClientError.Security.canary", "canary", "Neo.canary.a.b"] {
            assert!(!sort(code).detail.contains("canary"), "{code}");
        }
    }
}

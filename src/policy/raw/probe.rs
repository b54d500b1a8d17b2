//! The tables of checks. The comments here become the descriptions in the JSON Schema.

use crate::policy::raw::macros::{choices, tables};
use crate::policy::raw::{At, Cost, Int, Json, List, Map, OneOrMany, Ratio};
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

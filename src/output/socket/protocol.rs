//! The words of the config socket: what a line asks, and how it is answered. Pure.
//!
//! One JSON object a line. Unknown members are ignored, so that either side may learn new ones.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::core::outcome::{Observation, Outcome};

/// The protocol's version, said in the greeting.
pub(super) const VERSION: u32 = 1;
/// Bytes of one line.
pub(super) const LINE_MAX: usize = 64 * 1024;
/// Life of a lease whose taker does not say.
const TTL: Duration = Duration::from_secs(30);
/// Bytes of an `id` that is a text.
const ID_MAX: usize = 128;

/// What a client wants.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Op {
    /// What is active now.
    Get { service: String },
    /// What is active now, and every change; of all services when none is named.
    Subscribe { service: Option<String> },
    /// No more changes.
    Unsubscribe { service: Option<String> },
    /// A change is in use.
    Ack { service: String, generation: String, seq: u64 },
    /// An endpoint for some calls.
    Lease { service: String, ttl: Duration },
    /// The lease is still used.
    Renew { lease: u64 },
    /// The lease is over.
    Release { lease: u64, observation: Option<Observation> },
    /// A call ended.
    Report { service: String, endpoint: String, observation: Observation },
    /// Are you there?
    Ping,
}

/// A line, understood or not; `id` ties the answer to it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) id: Option<Value>,
    pub(super) op: Result<Op, Failure>,
}

/// Why something was not done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Failure {
    pub(super) code: &'static str,
    pub(super) message: &'static str,
    /// When to try again, if that helps.
    pub(super) retry: Option<Duration>,
}

impl Failure {
    pub(super) const fn new(code: &'static str, message: &'static str) -> Self {
        Self { code, message, retry: None }
    }

    pub(super) const fn retry(self, after: Duration) -> Self {
        Self { retry: Some(after), ..self }
    }

    pub(super) const UNKNOWN_SERVICE: Self =
        Self::new("unknown_service", "this socket speaks of no service of that name");
    pub(super) const UNKNOWN_LEASE: Self =
        Self::new("unknown_lease", "the lease has ended, or is not yours");
    pub(super) const TOO_LARGE: Self = Self::new("too_large", "a line has at most 65536 bytes");
    pub(super) const FORBIDDEN: Self =
        Self::new("forbidden", "this user and group may not ask; see `allow` of the output");
    pub(super) const STOPPING: Self = Self::new("busy", "the sidecar is going down");

    /// As the member `error` of an answer.
    pub(super) fn json(&self) -> Value {
        let retry = self.retry.map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(0));
        json!({ "code": self.code, "message": self.message, "retry_ms": retry })
    }
}

const fn bad(message: &'static str) -> Failure {
    Failure::new("bad_request", message)
}

/// What a call looked like to who made it.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    outcome: Option<String>,
    status: Option<u16>,
    latency_ms: Option<f64>,
    retry_after_ms: Option<u64>,
}

impl Told {
    /// As an observation; the status decides where the outcome is only `error`, or absent.
    pub(super) fn observation(&self) -> Result<Observation, Failure> {
        let retry_after = self.retry_after_ms.map(Duration::from_millis);
        let outcome = match self.outcome.as_deref() {
            Some("error") | None => self.by_status(retry_after),
            Some("throttled") => Some(Outcome::Throttled { retry_after }),
            Some(word) => by_label(word),
        };
        let outcome = outcome.ok_or(bad("an unknown outcome"))?;
        let latency = self.latency_ms.unwrap_or(0.0).clamp(0.0, 3_600_000.0) / 1000.0;
        let latency = Duration::try_from_secs_f64(latency).unwrap_or_default();
        Ok(Observation::new(outcome, latency).with_detail("reported"))
    }

    fn by_status(&self, retry_after: Option<Duration>) -> Option<Outcome> {
        match (self.status.filter(|status| *status > 0), self.outcome.is_some()) {
            (Some(200..400), false) => Some(Outcome::Ok),
            (Some(401 | 403), _) => Some(Outcome::Auth),
            (Some(429), _) => Some(Outcome::Throttled { retry_after }),
            (Some(400..500), _) => Some(Outcome::ClientError),
            (Some(_), _) | (None, true) => Some(Outcome::ServerError),
            (None, false) => None,
        }
    }
}

fn by_label(word: &str) -> Option<Outcome> {
    const PLAIN: [Outcome; 12] = [
        Outcome::Ok,
        Outcome::Degraded,
        Outcome::Refused,
        Outcome::Timeout,
        Outcome::Reset,
        Outcome::Dns,
        Outcome::Tls,
        Outcome::ServerError,
        Outcome::Protocol,
        Outcome::Auth,
        Outcome::ClientError,
        Outcome::WrongRole,
    ];
    PLAIN.into_iter().find(|outcome| outcome.label() == word)
}

/// Reads a line.
pub(super) fn parse(line: &[u8]) -> Asked {
    let Ok(Value::Object(mut members)) = serde_json::from_slice(line) else {
        return Asked { id: None, op: Err(bad("not a JSON object")) };
    };
    let id = members.remove("id").filter(|id| match id {
        Value::Number(_) => true,
        Value::String(text) => text.len() <= ID_MAX,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    });
    Asked { id, op: op(&members) }
}

fn op(members: &Map<String, Value>) -> Result<Op, Failure> {
    let text = |key: &str| members.get(key).and_then(Value::as_str).map(str::to_owned);
    let service = || text("service").ok_or(bad("`service` is missing"));
    let lease = || {
        let id = members.get("lease").and_then(Value::as_str).and_then(lease_number);
        id.ok_or(bad("`lease` is missing"))
    };
    match members.get("op").and_then(Value::as_str) {
        Some("get") => Ok(Op::Get { service: service()? }),
        Some("subscribe") => Ok(Op::Subscribe { service: text("service") }),
        Some("unsubscribe") => Ok(Op::Unsubscribe { service: text("service") }),
        Some("ack") => Ok(Op::Ack {
            service: service()?,
            generation: text("gen").ok_or(bad("`gen` is missing"))?,
            seq: members.get("seq").and_then(Value::as_u64).ok_or(bad("`seq` is missing"))?,
        }),
        Some("lease") => {
            let ttl = members.get("ttl_ms").and_then(Value::as_u64).map(Duration::from_millis);
            Ok(Op::Lease { service: service()?, ttl: ttl.unwrap_or(TTL) })
        }
        Some("renew") => Ok(Op::Renew { lease: lease()? }),
        Some("release") => {
            let said = members.contains_key("outcome") || members.contains_key("status");
            let observation = if said { Some(told(members)?.observation()?) } else { None };
            Ok(Op::Release { lease: lease()?, observation })
        }
        Some("report") => Ok(Op::Report {
            service: service()?,
            endpoint: text("endpoint").ok_or(bad("`endpoint` is missing"))?,
            observation: told(members)?.observation()?,
        }),
        Some("ping") => Ok(Op::Ping),
        Some(_) => Err(Failure::new("unknown_op", "an unknown `op`")),
        None => Err(bad("`op` is missing")),
    }
}

/// What is told of a call, among other members.
pub(super) fn told(members: &Map<String, Value>) -> Result<Told, Failure> {
    let value = Value::Object(members.clone());
    serde_json::from_value(value)
        .map_err(|_quotes_what_was_sent| bad("the report has a wrong type"))
}

/// The number of a lease as written: `L91`.
pub(super) fn lease_number(text: &str) -> Option<u64> {
    text.strip_prefix('L')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(line: &str) -> Outcome {
        match parse(line.as_bytes()).op {
            Ok(Op::Report { observation, .. }) => observation.outcome,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_status_decides_where_the_outcome_says_only_error() {
        let report = |rest: &str| {
            outcome(&format!(r#"{{"op":"report","service":"s","endpoint":"e",{rest}}}"#))
        };
        assert_eq!(report(r#""outcome":"error","status":503"#), Outcome::ServerError);
        assert_eq!(report(r#""outcome":"error","status":401"#), Outcome::Auth);
        assert_eq!(report(r#""outcome":"error""#), Outcome::ServerError);
        assert_eq!(report(r#""outcome":"ok","status":503"#), Outcome::Ok);
        assert_eq!(report(r#""status":204"#), Outcome::Ok);
        let retry_after = Some(Duration::from_secs(2));
        let throttled = Outcome::Throttled { retry_after };
        assert_eq!(report(r#""outcome":"throttled","retry_after_ms":2000"#), throttled);
        assert_eq!(report(r#""status":429,"retry_after_ms":2000"#), throttled);
    }

    #[test]
    fn a_line_that_is_no_request_is_told_why_without_being_quoted() {
        for (line, code) in [
            ("garbage", "bad_request"),
            ("[]", "bad_request"),
            ("{}", "bad_request"),
            (r#"{"op":"canary-5d1"}"#, "unknown_op"),
            (r#"{"op":"get"}"#, "bad_request"),
            (r#"{"op":"renew","lease":7}"#, "bad_request"),
            (
                r#"{"op":"report","service":"s","endpoint":"e","outcome":"canary-5d1"}"#,
                "bad_request",
            ),
            (
                r#"{"op":"report","service":"s","endpoint":"e","status":"canary-5d1"}"#,
                "bad_request",
            ),
        ] {
            let failure = parse(line.as_bytes()).op.unwrap_err();
            assert_eq!(failure.code, code, "{line}");
            assert!(!failure.message.contains("canary"), "{line}");
        }
    }

    #[test]
    fn an_id_comes_back_only_if_it_is_small() {
        let long = "x".repeat(ID_MAX + 1);
        assert_eq!(parse(br#"{"id":7,"op":"ping"}"#).id, Some(json!(7)));
        assert_eq!(parse(format!(r#"{{"id":"{long}","op":"ping"}}"#).as_bytes()).id, None);
        assert_eq!(parse(br#"{"id":{"a":1},"op":"ping"}"#).id, None);
    }

    #[test]
    fn members_nobody_knows_are_ignored() {
        let asked = parse(br#"{"op":"get","service":"s","colour":"blue"}"#);
        assert_eq!(asked.op, Ok(Op::Get { service: "s".to_owned() }));
    }
}

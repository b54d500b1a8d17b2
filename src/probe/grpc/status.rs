//! What the end of a call means. Pure: no I/O, no clock.

use hyper::header::HeaderMap;

use super::message::Health;
use crate::core::outcome::Outcome;
use crate::probe::finding::{Finding, Step};
use crate::probe::retry_after;

/// How a call ended: a code that every implementation knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Code(u32);

/// The names of the codes, by number.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl Code {
    /// The server has no health service, or an old one without `Watch`.
    pub(super) const UNIMPLEMENTED: Self = Self(12);

    /// Reads the code from trailers, or from a head that is all there is.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get("grpc-status")?.to_str().ok()?;
        let known = text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
        known.then(|| text.parse().ok()).flatten().map(Self)
    }

    /// Sorts the end of a call; `headers` may say when to come again.
    pub(super) fn sort(self, headers: &HeaderMap) -> Step {
        let outcome = match self.0 {
            0 => return Ok(()),
            3 | 5 => Outcome::ClientError,
            4 => Outcome::Timeout,
            7 | 16 => Outcome::Auth,
            8 => {
                let asked = retry_after::pushback(headers).or_else(|| retry_after::read(headers));
                Outcome::Throttled { retry_after: asked }
            }
            // It answers, and gRPC's own clients take such a server for healthy.
            12 => Outcome::Ok,
            _ => Outcome::ServerError,
        };
        Err(Finding::new(outcome, self.detail()))
    }

    fn detail(self) -> String {
        if self == Self::UNIMPLEMENTED {
            return "server answers, but has no health service to ask".to_owned();
        }
        let name = usize::try_from(self.0).ok().and_then(|place| NAMES.get(place));
        name.map_or_else(|| format!("gRPC status {}", self.0), |name| format!("gRPC {name}"))
    }
}

/// Sorts the end of a call that may have brought a status of health.
pub(super) fn end(health: Option<Health>, code: Option<Code>, headers: &HeaderMap) -> Step {
    let Some(code) = code else {
        return Err(Finding::protocol("answer lacks a gRPC status"));
    };
    code.sort(headers)?;
    match health {
        Some(health) => judge(health),
        None => Err(Finding::protocol("answer lacks a health status")),
    }
}

/// Sorts a status of health.
pub(super) fn judge(health: Health) -> Step {
    let (outcome, name) = match health {
        Health::Serving => return Ok(()),
        Health::NotServing => (Outcome::ServerError, "NOT_SERVING"),
        Health::Unknown => (Outcome::ServerError, "UNKNOWN"),
        Health::ServiceUnknown => (Outcome::ClientError, "SERVICE_UNKNOWN"),
        Health::Other => return Err(Finding::protocol("health status is none that is known")),
    };
    Err(Finding::new(outcome, format!("health is {name}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn ended(code: &str) -> Option<Outcome> {
        let headers = headers(&[("grpc-status", code)]);
        let end = end(Some(Health::Serving), Code::read(&headers), &headers);
        end.err().map(|finding| finding.outcome)
    }

    #[test]
    fn every_code_has_its_outcome() {
        let throttled = Outcome::Throttled { retry_after: None };
        let wanted = [
            ("0", None),
            ("1", Some(Outcome::ServerError)),
            ("2", Some(Outcome::ServerError)),
            ("3", Some(Outcome::ClientError)),
            ("4", Some(Outcome::Timeout)),
            ("5", Some(Outcome::ClientError)),
            ("7", Some(Outcome::Auth)),
            ("8", Some(throttled)),
            ("12", Some(Outcome::Ok)),
            ("13", Some(Outcome::ServerError)),
            ("14", Some(Outcome::ServerError)),
            ("16", Some(Outcome::Auth)),
            ("4294967295", Some(Outcome::ServerError)),
        ];
        for (code, outcome) in wanted {
            assert_eq!(ended(code), outcome, "{code}");
        }
        for garbage in ["", "-1", "+0", "OK", "99999999999", "0x0"] {
            assert_eq!(ended(garbage), Some(Outcome::Protocol), "{garbage}");
        }
    }

    #[test]
    fn a_code_is_told_by_its_name_and_nothing_else_is() {
        let told = |code| Code(code).sort(&HeaderMap::new()).unwrap_err().detail;
        assert_eq!(told(14), "gRPC UNAVAILABLE");
        assert_eq!(told(99), "gRPC status 99");
        assert_eq!(told(12), "server answers, but has no health service to ask");
    }

    #[test]
    fn an_exhausted_server_says_when_to_come_again() {
        let asked = |name: &'static str, value: &str| {
            let headers = headers(&[("grpc-status", "8"), (name, value)]);
            Code(8).sort(&headers).unwrap_err().outcome
        };
        let wanted = Outcome::Throttled { retry_after: Some(Duration::from_millis(2500)) };
        assert_eq!(asked("grpc-retry-pushback-ms", "2500"), wanted);
        assert_eq!(asked("retry-after", "2.5"), wanted);
    }

    #[test]
    fn an_end_without_a_message_or_without_a_code_is_no_answer() {
        let none = HeaderMap::new();
        let detail = |health, code| end(health, code, &none).unwrap_err().detail;
        assert_eq!(detail(Some(Health::Serving), None), "answer lacks a gRPC status");
        assert_eq!(detail(None, Some(Code(0))), "answer lacks a health status");
    }

    #[test]
    fn only_health_is_healthy() {
        let sorted = |health| judge(health).err().map(|finding| finding.outcome);
        assert_eq!(sorted(Health::Serving), None);
        assert_eq!(sorted(Health::NotServing), Some(Outcome::ServerError));
        assert_eq!(sorted(Health::Unknown), Some(Outcome::ServerError));
        assert_eq!(sorted(Health::ServiceUnknown), Some(Outcome::ClientError));
        assert_eq!(sorted(Health::Other), Some(Outcome::Protocol));
    }
}

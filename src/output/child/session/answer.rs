//! What the client hears in the place of a process that cannot answer.
//!
//! A tool's failure is a result that the model reads, so its text says what is known and what to
//! do; everything else is a protocol error with a code that no specification has taken.

use bytes::Bytes;
use serde_json::json;

use crate::output::child::session::flight::Flight;
use crate::output::child::session::message::{Id, error, result};
use crate::output::child::session::opening::Era;

/// The server's process is gone. Outside the range that JSON-RPC and MCP keep for themselves.
pub(super) const LOST: i64 = -31_001;
/// JSON-RPC: the text is no JSON.
pub(super) const PARSE_ERROR: i64 = -32_700;
/// JSON-RPC: the text is no message.
pub(super) const INVALID_REQUEST: i64 = -32_600;
/// JSON-RPC: a parameter is no good.
pub(super) const INVALID_PARAMS: i64 = -32_602;

/// Why a process cannot answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Why {
    /// It ended with the request in its hands.
    Died,
    /// It was replaced and took too long for what it still had.
    Overdue,
    /// None can be started, and no process has seen the request.
    Nobody,
    /// There are too many requests already.
    Crowded,
}

impl Why {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Died => "the server's process ended",
            Self::Overdue => "the replaced process took too long",
            Self::Nobody => "no server process is there",
            Self::Crowded => "too many requests",
        }
    }

    fn told(self, what: &str) -> String {
        match self {
            Self::Died => format!(
                "The server's process ended while it worked on {what}. Whether it took effect is \
                 not known. A new process takes over; check the state before you try again."
            ),
            Self::Overdue => format!(
                "The server was moved to another backend and {what} was not finished in time. \
                 Whether it took effect is not known; check the state before you try again."
            ),
            Self::Nobody => format!(
                "The server is not running at present and is being started again. Nothing was done \
                 for {what}; try again in a moment."
            ),
            Self::Crowded => format!(
                "The server has too many requests in progress. Nothing was done for {what}; try \
                 again when others are finished."
            ),
        }
    }
}

/// The answer to a request that no process will answer.
pub(super) fn instead(id: &Id, flight: &Flight, why: Why, era: Option<Era>) -> Bytes {
    if &*flight.method != "tools/call" {
        return error(id, LOST, &why.told("this request"));
    }
    let tool = flight.tool.as_deref().unwrap_or_default();
    let text = why.told(&format!("the tool `{tool}`"));
    let mut answer = json!({ "content": [{ "type": "text", "text": text }], "isError": true });
    if era == Some(Era::Modern)
        && let Some(members) = answer.as_object_mut()
    {
        members.insert("resultType".to_owned(), json!("complete"));
    }
    result(id, &answer)
}

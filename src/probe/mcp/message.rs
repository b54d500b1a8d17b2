//! JSON-RPC as MCP uses it: what is asked, and which of a peer's messages answers it. Pure.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The newest version with sessions; what a server answers is what counts.
pub(super) const LEGACY: &str = "2025-11-25";
/// The first version without sessions.
pub(super) const MODERN: &str = "2026-07-28";
/// From here on every request after the first says which version was agreed on.
pub(super) const SAYS_VERSION: &str = "2025-06-18";

/// Bytes of a version that may go into a header of ours.
const VERSION_MAX: usize = 32;
/// Versions looked at in a refusal.
const VERSIONS_MAX: usize = 16;

/// One request or notification.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Ask {
    /// Modern: who are you, and which versions do you speak?
    Discover,
    /// Legacy: begins a session.
    Initialize,
    /// Legacy: the session has begun; nobody answers.
    Initialized,
    /// Legacy: are you there?
    Ping,
    /// Either era: a page of tools.
    Tools {
        /// Where the page begins, by the server's word.
        cursor: Option<String>,
    },
}

impl Ask {
    pub(super) const fn method(&self) -> &'static str {
        match self {
            Self::Discover => "server/discover",
            Self::Initialize => "initialize",
            Self::Initialized => "notifications/initialized",
            Self::Ping => "ping",
            Self::Tools { .. } => "tools/list",
        }
    }

    /// Whether an answer is due.
    pub(super) const fn is_request(&self) -> bool {
        !matches!(self, Self::Initialized)
    }

    /// The message itself. `modern` is the version to name in it, in that era.
    pub(super) fn text(&self, id: u64, modern: Option<&str>) -> String {
        let client = json!({ "name": "mcp-failover", "version": env!("CARGO_PKG_VERSION") });
        let mut params = match self {
            Self::Discover | Self::Initialized | Self::Ping | Self::Tools { cursor: None } => {
                json!({})
            }
            Self::Initialize => {
                json!({ "protocolVersion": LEGACY, "capabilities": {}, "clientInfo": &client })
            }
            Self::Tools { cursor: Some(cursor) } => json!({ "cursor": cursor }),
        };
        if let (Some(version), Some(params)) = (modern, params.as_object_mut()) {
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": version,
                "io.modelcontextprotocol/clientInfo": client,
                "io.modelcontextprotocol/clientCapabilities": {},
            });
            params.insert("_meta".to_owned(), meta);
        }
        let mut message = json!({ "jsonrpc": "2.0", "method": self.method() });
        if let Some(message) = message.as_object_mut() {
            if self.is_request() {
                message.insert("id".to_owned(), id.into());
            }
            if params.as_object().is_some_and(|params| !params.is_empty()) {
                message.insert("params".to_owned(), params);
            }
        }
        message.to_string()
    }
}

/// The newest of a server's versions that is spoken without sessions, and was not tried yet.
pub(super) fn other_version(versions: Vec<String>, tried: &str) -> Option<String> {
    // Versions are dates, so the order of their letters is that of time.
    let fits = |version: &String| version != tried && version.as_str() >= MODERN;
    versions.into_iter().filter(fits).max()
}

/// An answer as JSON-RPC has it.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// What was asked for.
    Result(Box<RawValue>),
    /// A refusal.
    Error(Refusal),
}

/// Why a peer refuses.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Refusal {
    /// The code; zero when it is no number.
    pub(super) code: i64,
    /// The versions that it speaks, if it says so.
    pub(super) supported: Vec<String>,
}

/// What a piece of text is to somebody who waits for the answer to one request.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// The answer.
    Reply(Reply),
    /// JSON-RPC, but something else: a notification, a request of the server's, another answer.
    Other,
    /// No JSON-RPC.
    Foreign,
}

#[derive(Deserialize)]
struct Message<'a> {
    jsonrpc: Option<Value>,
    #[serde(default)]
    id: Value,
    method: Option<serde::de::IgnoredAny>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<Value>,
}

/// Looks for the answer to the request `id`; a batch is looked through.
///
/// A refusal without an id counts: it is how a server refuses before it has read the request.
pub(super) fn find(text: &[u8], id: u64) -> Found {
    let text = text.trim_ascii();
    if !text.starts_with(b"[") {
        return serde_json::from_slice(text).map_or(Found::Foreign, |message| sort(message, id));
    }
    let Ok(batch) = serde_json::from_slice::<Vec<Message<'_>>>(text) else {
        return Found::Foreign;
    };
    let mut sorted = batch.into_iter().map(|message| sort(message, id));
    sorted.find(|found| !matches!(found, Found::Other)).unwrap_or(Found::Other)
}

fn sort(message: Message<'_>, id: u64) -> Found {
    let speaks = message.jsonrpc.is_some_and(|version| version == "2.0");
    let known = message.method.is_some() || message.result.is_some() || message.error.is_some();
    if !speaks || !known {
        return Found::Foreign;
    }
    if message.method.is_some() {
        return Found::Other;
    }
    let ours = message.id.as_u64() == Some(id);
    match (message.result, message.error) {
        (Some(result), None) if ours => Found::Reply(Reply::Result(result.to_owned())),
        (_, Some(error)) if ours || message.id.is_null() => {
            Found::Reply(Reply::Error(refusal(&error)))
        }
        _ => Found::Other,
    }
}

fn refusal(error: &Value) -> Refusal {
    let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
    let supported = error.pointer("/data/supported").and_then(Value::as_array);
    let supported = supported.into_iter().flatten().filter_map(Value::as_str);
    let supported = supported.filter(|version| is_version(version)).take(VERSIONS_MAX);
    Refusal { code, supported: supported.map(str::to_owned).collect() }
}

/// Whether this can be a protocol version, and so may be said back: a date, or at most a short word.
pub(super) fn is_version(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    !text.is_empty() && text.len() <= VERSION_MAX && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> String {
        match find(text.as_bytes(), 7) {
            Found::Reply(Reply::Result(result)) => format!("result {result}"),
            Found::Reply(Reply::Error(refusal)) => {
                format!("error {} {}", refusal.code, refusal.supported.join(" "))
            }
            Found::Other => "other".to_owned(),
            Found::Foreign => "foreign".to_owned(),
        }
    }

    #[test]
    fn the_answer_is_told_from_everything_else() {
        let deep = format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}1", "[".repeat(100_000));
        let cases = [
            (r#"{"jsonrpc":"2.0","id":7,"result":{"a":1}}"#, "result {\"a\":1}"),
            (" \r\n{\"id\":7,\"result\":{},\"jsonrpc\":\"2.0\"}\n", "result {}"),
            (r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"x"}}"#, "error -32601 "),
            (r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000}}"#, "error -32000 "),
            (r#"{"jsonrpc":"2.0","error":{"code":-32000}}"#, "error -32000 "),
            (r#"{"jsonrpc":"2.0","id":7,"error":{"code":"E"}}"#, "error 0 "),
            (r#"{"jsonrpc":"2.0","id":7,"error":{}}"#, "error 0 "),
            (
                r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32022,"data":{"supported":["2026-07-28",5,"a b"]}}}"#,
                "error -32022 2026-07-28",
            ),
            (r#"{"jsonrpc":"2.0","id":"7","result":{}}"#, "other"),
            (r#"{"jsonrpc":"2.0","id":8,"result":{}}"#, "other"),
            (r#"{"jsonrpc":"2.0","id":8,"error":{"code":1}}"#, "other"),
            (r#"{"jsonrpc":"2.0","id":null,"result":{}}"#, "other"),
            (r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#, "other"),
            (r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#, "other"),
            (r#"[{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","id":7,"result":1}]"#, "result 1"),
            (r#"[{"jsonrpc":"2.0","method":"a"}]"#, "other"),
            ("[]", "other"),
            (r#"[{"jsonrpc":"2.0","method":"a"},{}]"#, "foreign"),
            (r#"{"jsonrpc":"1.0","id":7,"result":{}}"#, "foreign"),
            (r#"{"id":7,"result":{}}"#, "foreign"),
            (r#"{"jsonrpc":"2.0","id":7}"#, "foreign"),
            (r#"{"status":"ok"}"#, "foreign"),
            ("\"text\"", "foreign"),
            ("<html>", "foreign"),
            ("", "foreign"),
            (&deep, "foreign"),
        ];
        for (text, expected) in cases {
            assert_eq!(found(text), expected, "{}", text.get(..100).unwrap_or(text));
        }
    }

    #[test]
    fn requests_have_an_id_and_notifications_none() {
        let ping: Value = serde_json::from_str(&Ask::Ping.text(3, None)).unwrap();
        assert_eq!(ping, json!({ "jsonrpc": "2.0", "id": 3, "method": "ping" }));
        let begun: Value = serde_json::from_str(&Ask::Initialized.text(4, None)).unwrap();
        let expected = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        assert_eq!(begun, expected);
    }

    #[test]
    fn a_modern_request_says_who_asks_and_in_which_version() {
        let ask = Ask::Tools { cursor: Some("c".to_owned()) };
        let text: Value = serde_json::from_str(&ask.text(5, Some(MODERN))).unwrap();
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo":
                { "name": "mcp-failover", "version": env!("CARGO_PKG_VERSION") },
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let expected = json!({
            "jsonrpc": "2.0", "id": 5, "method": "tools/list",
            "params": { "cursor": "c", "_meta": meta },
        });
        assert_eq!(text, expected);
    }

    #[test]
    fn a_version_that_is_said_back_cannot_break_a_header() {
        assert!(is_version("2026-07-28") && is_version("DRAFT-2027.v1"));
        for bad in ["", "a b", "a\r\nb", "ü", &"9".repeat(33)] {
            assert!(!is_version(bad), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            find(&bytes, 7);
        }
    }
}

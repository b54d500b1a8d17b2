//! JSON-RPC messages, looked at no deeper than needed.
//!
//! Owns the way from a line to what kind of message it is, and back. What is not asked for stays
//! as the bytes that came: a number is never rounded and a text never escaped anew on its way
//! through. Only an object that must be changed has its members put in another order.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// What names a request: both sides number or name theirs as they like.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Id {
    /// A whole number.
    Number(i64),
    /// A text.
    Text(Box<str>),
    /// Any other number, as written.
    Odd(Box<str>),
}

impl Id {
    /// The id that a value stands for; `None` for what can be no id.
    pub(super) fn read(raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        if text.starts_with('"') {
            return serde_json::from_str(text).ok().map(Self::Text);
        }
        if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return None;
        }
        Some(text.parse().map_or_else(|_| Self::Odd(text.into()), Self::Number))
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
            Self::Odd(text) => {
                let raw = RawValue::from_string(text.to_string());
                raw.map_err(serde::ser::Error::custom)?.serialize(serializer)
            }
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) | Self::Odd(text) => text.fmt(f),
        }
    }
}

/// One message.
#[derive(Debug)]
pub(super) enum Message<'a> {
    /// Wants an answer.
    Request { id: Id, method: Cow<'a, str>, params: Option<&'a RawValue> },
    /// Wants none.
    Notification { method: Cow<'a, str>, params: Option<&'a RawValue> },
    /// Is one: a result, or an error.
    Answer { id: Id, result: Option<&'a RawValue>, error: Option<&'a RawValue> },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

impl<'a> Message<'a> {
    /// What a line says; `None` when it is no message.
    pub(super) fn read(line: &'a [u8]) -> Option<Self> {
        // An array would be taken for the members in their order.
        if line.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        let Envelope { id, method, params, result, error } = serde_json::from_slice(line).ok()?;
        let id = id.map(Id::read);
        match (method, id) {
            (Some(method), None) => Some(Self::Notification { method, params }),
            (Some(method), Some(id)) => Some(Self::Request { id: id?, method, params }),
            (None, Some(id)) => Some(Self::Answer { id: id?, result, error }),
            (None, None) => None,
        }
    }
}

/// The messages of a batch, which revision 2025-03-26 has; `None` when the line is none.
pub(super) fn batch(line: &Bytes) -> Option<Vec<Bytes>> {
    if line.trim_ascii_start().first() != Some(&b'[') {
        return None;
    }
    let parts: Vec<&RawValue> = serde_json::from_slice(line).ok()?;
    Some(parts.into_iter().map(|part| Bytes::copy_from_slice(part.get().as_bytes())).collect())
}

/// What is looked at in the parameters of a request or notification.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Params<'a> {
    #[serde(borrow, default)]
    pub(super) name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) uri: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) cursor: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) request_state: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) task_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) request_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) progress_token: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) progress: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) elicitation_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) notifications: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "_meta")]
    pub(super) meta: Option<&'a RawValue>,
}

impl<'a> Params<'a> {
    pub(super) fn read(raw: Option<&'a RawValue>) -> Self {
        raw.and_then(object).unwrap_or_default()
    }

    pub(super) fn meta(&self) -> Meta<'a> {
        self.meta.and_then(object).unwrap_or_default()
    }
}

/// What is looked at in `_meta`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Meta<'a> {
    #[serde(borrow, default, rename = "progressToken")]
    pub(super) progress_token: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "io.modelcontextprotocol/subscriptionId")]
    pub(super) subscription: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "io.modelcontextprotocol/protocolVersion")]
    pub(super) version: Option<&'a RawValue>,
}

/// What is looked at in a result.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outcome<'a> {
    #[serde(borrow, default)]
    pub(super) protocol_version: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) supported_versions: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) capabilities: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) next_cursor: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) request_state: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) ttl_ms: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) task: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) task_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) status: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) ttl: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) tools: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) prompts: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) resources: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) resource_templates: Option<&'a RawValue>,
}

impl<'a> Outcome<'a> {
    pub(super) fn read(raw: &'a RawValue) -> Self {
        object(raw).unwrap_or_default()
    }
}

/// An object's members, if it is one and they have the wanted types.
pub(super) fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    if raw.get().starts_with('{') { serde_json::from_str(raw.get()).ok() } else { None }
}

/// The text that a value is.
pub(super) fn text(raw: Option<&RawValue>) -> Option<String> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
}

/// An object whose members stay as they came.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Object(BTreeMap<String, Box<RawValue>>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self)
    }
}

impl Object {
    pub(super) fn read(raw: &RawValue) -> Option<Self> {
        object(raw)
    }

    pub(super) fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.get(name).map(AsRef::as_ref)
    }

    pub(super) fn set(&mut self, name: &str, value: &impl Serialize) {
        if let Ok(raw) = to_raw_value(value) {
            self.0.insert(name.to_owned(), raw);
        }
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.0.retain(|name, _| keep(name));
    }
}

#[derive(Serialize)]
struct Written<'a, T> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<&'a T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a T>,
}

impl<T: Serialize> Written<'_, T> {
    const fn empty() -> Self {
        Self { jsonrpc: "2.0", id: None, method: None, params: None, result: None, error: None }
    }

    fn line(&self) -> Bytes {
        // Strings, numbers and raw values in a struct can always be written.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// A request.
pub(super) fn request<T: Serialize>(id: &Id, method: &str, params: Option<&T>) -> Bytes {
    Written { id: Some(id), method: Some(method), params, ..Written::empty() }.line()
}

/// A notification.
pub(super) fn notification<T: Serialize>(method: &str, params: Option<&T>) -> Bytes {
    Written { method: Some(method), params, ..Written::empty() }.line()
}

/// An answer with a result.
pub(super) fn result<T: Serialize>(id: &Id, result: &T) -> Bytes {
    Written { id: Some(id), result: Some(result), ..Written::empty() }.line()
}

/// An answer with an error.
pub(super) fn error(id: &Id, code: i64, message: &str) -> Bytes {
    let error = serde_json::json!({ "code": code, "message": message });
    Written { id: Some(id), error: Some(&error), ..Written::empty() }.line()
}

/// The answer to something that cannot be read, or is too long to be.
pub(super) fn unreadable(code: i64, message: &str) -> Bytes {
    let error = serde_json::json!({ "code": code, "message": message });
    serde_json::json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string().into()
}

/// Whether a line is JSON at all.
pub(super) fn is_json(line: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(line).is_ok()
}

/// A message with its parameters or its result changed.
pub(super) fn with(line: &[u8], member: &str, value: &impl Serialize) -> Option<Bytes> {
    let mut message: Object = serde_json::from_slice(line).ok()?;
    message.set(member, value);
    serde_json::to_vec(&message).ok().map(Bytes::from)
}

/// The same answer for another request.
pub(super) fn readdressed(line: &[u8], id: &Id) -> Option<Bytes> {
    with(line, "id", id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        let kind = |line: &str| match Message::read(line.as_bytes()) {
            Some(Message::Request { id, method, .. }) => format!("request {id} {method}"),
            Some(Message::Notification { method, .. }) => format!("notification {method}"),
            Some(Message::Answer { id, result, .. }) => format!("answer {id} {}", result.is_some()),
            None => "none".to_owned(),
        };
        assert_eq!(kind(r#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#), "request 0 ping");
        assert_eq!(kind(r#"{"jsonrpc":"2.0","id":"a","method":"p\u0069ng"}"#), "request a ping");
        assert_eq!(kind(r#"{"jsonrpc":"2.0","method":"n"}"#), "notification n");
        assert_eq!(kind(r#"{"id":1.50,"result":{}}"#), "answer 1.50 true");
        assert_eq!(kind(r#"{"id":7,"error":{"code":1}}"#), "answer 7 false");
        for odd in ["", "hello", "{", "[]", "3", "{}", r#"{"id":true,"method":"x"}"#, "null"] {
            assert_eq!(kind(odd), "none", "{odd}");
        }
    }

    #[test]
    fn what_is_not_asked_for_stays_as_it_came() {
        let line =
            br#"{"jsonrpc":"2.0","id":1,"result":{"n":12345678901234567890123,"e":"\u00e9"}}"#;
        let moved = readdressed(line, &Id::Text("x".into())).unwrap();
        let text = String::from_utf8(moved.to_vec()).unwrap();
        assert!(text.contains(r#"{"n":12345678901234567890123,"e":"\u00e9"}"#), "{text}");
        assert!(text.contains(r#""id":"x""#), "{text}");
    }

    #[test]
    fn deep_nesting_is_looked_over_without_recursion() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        let line = format!(r#"{{"id":1,"result":{deep}}}"#);
        assert!(matches!(Message::read(line.as_bytes()), Some(Message::Answer { .. })));
    }

    #[test]
    fn a_batch_is_taken_apart() {
        let line = Bytes::from_static(br#" [{"id":1,"method":"ping"}, {"method":"n"}]"#);
        assert_eq!(batch(&line).unwrap().len(), 2);
        assert!(batch(&Bytes::from_static(b"{}")).is_none());
    }
}

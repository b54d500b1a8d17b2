//! MCP sessions of the eras up to 2025-11-25: a session belongs to one server, a caller's must
//! outlive it.
//!
//! The caller gets an identifier of ours. Behind it stands whatever server serves at the moment,
//! with an identifier of its own; when another one takes over, or the same one forgets, the
//! session is opened there as the caller opened it: `initialize`, `notifications/initialized`, the
//! log level and the subscriptions. What a server remembers beyond that is lost, as it is when it
//! is started anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use crate::core::id::EndpointName;

/// Names a session.
pub(super) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// Names the version agreed upon.
pub(super) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// How our own identifiers begin.
const OURS: &str = "mf-";
/// Sessions at a time; beyond that the one longest unused is forgotten.
const SESSIONS_MAX: usize = 4_096;
/// Bytes of an opening that is kept; a longer one has no affinity.
const OPENING_MAX: usize = 16 * 1024;
/// Subscriptions of a session that are kept.
const SUBSCRIPTIONS_MAX: usize = 256;

/// The sessions of one proxy.
#[derive(Debug, Default)]
pub(in crate::output::proxy) struct Sessions(Mutex<BTreeMap<Arc<str>, Arc<Session>>>);

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    /// As the caller knows it.
    pub(super) id: HeaderValue,
    /// Held while it is opened anew, so that this is done once.
    pub(super) home: AsyncMutex<Home>,
    used: Mutex<Instant>,
}

/// Where a session is, and what it takes to open it elsewhere.
#[derive(Debug)]
pub(super) struct Home {
    /// The endpoint.
    pub(super) endpoint: EndpointName,
    /// As the server there knows it.
    pub(super) id: HeaderValue,
    /// How often it was opened anew.
    pub(super) moves: u64,
    /// How the caller opened it: path, headers and message.
    pub(super) opening: Opening,
    /// The version agreed upon, once the caller names it.
    pub(super) version: Option<HeaderValue>,
    /// The caller's `notifications/initialized`, log level and subscriptions, in this order.
    pub(super) initialized: Option<Bytes>,
    pub(super) level: Option<Bytes>,
    pub(super) subscriptions: BTreeMap<String, Bytes>,
}

/// How a session was opened.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub(super) path: hyper::Uri,
    pub(super) headers: HeaderMap,
    pub(super) message: Bytes,
}

/// What a request says about its session.
#[derive(Debug)]
pub(super) enum Named {
    /// Nothing.
    Not,
    /// One of ours.
    Known(Arc<Session>),
    /// One of ours that is no more: the caller must open another.
    Forgotten,
}

impl Sessions {
    /// The session that a request names.
    pub(super) fn find(&self, headers: &HeaderMap) -> Named {
        let Some(id) = headers.get(SESSION).and_then(|id| id.to_str().ok()) else {
            return Named::Not;
        };
        match self.lock().get(id) {
            Some(session) => {
                session.touch();
                Named::Known(Arc::clone(session))
            }
            None if id.starts_with(OURS) => Named::Forgotten,
            None => Named::Not,
        }
    }

    /// A session was opened at an endpoint; returns what the caller is to call it.
    pub(super) fn open(
        &self,
        endpoint: &EndpointName,
        id: HeaderValue,
        opening: Opening,
    ) -> Option<HeaderValue> {
        if opening.message.len() > OPENING_MAX {
            return None;
        }
        let name: Arc<str> = Arc::from(mint()?);
        let ours = HeaderValue::from_str(&name).ok()?;
        let home = Home {
            endpoint: endpoint.clone(),
            id,
            moves: 0,
            opening,
            version: None,
            initialized: None,
            level: None,
            subscriptions: BTreeMap::new(),
        };
        let used = Mutex::new(Instant::now());
        let session = Session { id: ours.clone(), home: AsyncMutex::new(home), used };
        let mut sessions = self.lock();
        while sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, one)| one.last_used());
            let Some(oldest) = oldest.map(|(name, _)| Arc::clone(name)) else { break };
            sessions.remove(&oldest);
        }
        sessions.insert(name, Arc::new(session));
        Some(ours)
    }

    /// A session is over.
    pub(super) fn close(&self, session: &Session) {
        if let Ok(id) = session.id.to_str() {
            self.lock().remove(id);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<str>, Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last_used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Home {
    /// Remembers what must be said again elsewhere.
    pub(super) fn note(&mut self, message: &Message<'_>, whole: &Bytes) {
        let uri = || message.params.as_ref().and_then(|params| params.uri.clone());
        match message.method.as_deref() {
            Some("notifications/initialized") => self.initialized = Some(whole.clone()),
            Some("logging/setLevel") => self.level = Some(whole.clone()),
            Some("resources/subscribe") if self.subscriptions.len() < SUBSCRIPTIONS_MAX => {
                self.subscriptions.extend(uri().map(|uri| (uri, whole.clone())));
            }
            Some("resources/unsubscribe") => {
                uri().map(|uri| self.subscriptions.remove(&uri));
            }
            Some(_) | None => {}
        }
    }
}

/// What of a JSON-RPC message matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default)]
    pub(super) method: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    params: Option<Params>,
}

#[derive(Debug, Deserialize)]
struct Params {
    #[serde(default)]
    uri: Option<String>,
}

impl<'a> Message<'a> {
    /// Reads a message; `None` when it is none, or several.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Whether it may be sent again when nobody knows whether it was heard.
    pub(super) fn repeatable(&self) -> bool {
        const SAFE: [&str; 12] = [
            "initialize",
            "ping",
            "tools/list",
            "resources/list",
            "resources/read",
            "resources/templates/list",
            "resources/subscribe",
            "resources/unsubscribe",
            "prompts/list",
            "prompts/get",
            "completion/complete",
            "logging/setLevel",
        ];
        let method = self.method.as_deref();
        method.is_some_and(|method| SAFE.contains(&method) || method.starts_with("notifications/"))
    }
}

/// An identifier that nobody can guess.
fn mint() -> Option<String> {
    let mut bytes = [0_u8; 16];
    rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).ok()?;
    Some(format!("{OURS}{:032x}", u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(bytes: usize) -> Opening {
        let message = Bytes::from(vec![b' '; bytes]);
        Opening { path: hyper::Uri::from_static("/mcp"), headers: HeaderMap::new(), message }
    }

    fn named(id: &HeaderValue) -> HeaderMap {
        HeaderMap::from_iter([(SESSION, id.clone())])
    }

    #[tokio::test]
    async fn sessions_are_bounded_and_the_unused_go_first() {
        let sessions = Sessions::default();
        let endpoint = EndpointName::new("one");
        let open = || sessions.open(&endpoint, HeaderValue::from_static("theirs"), opening(10));
        let ids: Vec<_> = (0..SESSIONS_MAX).map(|_| open().unwrap()).collect();
        assert!(matches!(sessions.find(&named(&ids[0])), Named::Known(_)), "and it is used");
        open().unwrap();
        assert_eq!(sessions.lock().len(), SESSIONS_MAX);
        assert!(matches!(sessions.find(&named(&ids[0])), Named::Known(_)));
        assert!(matches!(sessions.find(&named(&ids[1])), Named::Forgotten));
        assert!(sessions.open(&endpoint, ids[0].clone(), opening(OPENING_MAX + 1)).is_none());
    }

    #[test]
    fn identifiers_of_others_are_not_ours_to_judge() {
        let sessions = Sessions::default();
        assert!(matches!(sessions.find(&named(&HeaderValue::from_static("abc"))), Named::Not));
        assert!(matches!(
            sessions.find(&named(&HeaderValue::from_static("mf-0"))),
            Named::Forgotten
        ));
    }

    #[test]
    fn only_what_changes_nothing_is_said_twice() {
        let repeatable =
            |text: &str| Message::read(text.as_bytes()).is_some_and(|m| m.repeatable());
        assert!(repeatable(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#));
        assert!(repeatable(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#));
        assert!(!repeatable(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#));
        assert!(!repeatable(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
        assert!(!repeatable(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#), "a batch");
        assert!(!repeatable("garbage"));
    }
}

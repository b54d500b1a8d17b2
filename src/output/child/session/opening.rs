//! How the client opened the session, and what it was told.
//!
//! Owns what a new process must be told before it can take over, and what it must be able to do.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::output::child::session::message::{Id, Object, Outcome, Params, text};

/// Subscriptions to resources that are taken over, at most.
const SUBSCRIPTIONS_MAX: usize = 4_096;

/// Which protocol the client speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Era {
    /// With a handshake: up to 2025-11-25.
    Legacy,
    /// Without: 2026-07-28.
    Modern,
}

/// What the server said of itself to the client.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// The version of the legacy era that was agreed on.
    pub(super) version: Option<String>,
    /// What it can do, as it said itself.
    pub(super) capabilities: Value,
}

impl Told {
    pub(super) fn read(outcome: &Outcome<'_>) -> Self {
        let capabilities = outcome.capabilities.map(RawValue::get).unwrap_or_default();
        Self {
            version: text(outcome.protocol_version),
            capabilities: serde_json::from_str(capabilities).unwrap_or_default(),
        }
    }

    pub(super) fn has(&self, capability: &str) -> bool {
        self.capabilities.get(capability).is_some()
    }

    /// Whether the client expects to be told when a list changes. For tools it always does, since
    /// that is added to what it is told.
    pub(super) fn announces(&self, capability: &str) -> bool {
        let said = self.capabilities.get(capability).and_then(|about| about.get("listChanged"));
        capability == "tools" && self.has(capability) || said == Some(&Value::Bool(true))
    }

    /// Whether this covers all that another said, news of lists apart: those are ours to give.
    pub(super) fn covers(&self, known: &Self) -> bool {
        covers(&self.capabilities, &known.capabilities)
    }
}

fn covers(new: &Value, known: &Value) -> bool {
    match known {
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| *name != "listChanged")
            .all(|(name, known)| new.get(name).is_some_and(|new| covers(new, known))),
        Value::Bool(true) => *new == Value::Bool(true),
        Value::Null
        | Value::Bool(false)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_) => true,
    }
}

/// How the session was opened.
#[derive(Debug, Default)]
pub(super) struct Opening {
    pub(super) era: Option<Era>,
    /// The client's `initialize`: the id until it is answered, and the parameters.
    pub(super) initialize: Option<(Id, Box<RawValue>)>,
    pub(super) told: Option<Told>,
    /// Whether the client confirmed the handshake.
    pub(super) initialized: bool,
    /// The parameters of the last `logging/setLevel` that worked.
    pub(super) level: Option<Box<str>>,
    pub(super) subscriptions: BTreeSet<String>,
    /// What a request of the modern era must carry, as the client last wrote it.
    pub(super) meta: Option<Object>,
    /// Whether the server has answered a request of the modern era.
    pub(super) proven: bool,
}

impl Opening {
    /// Whether a new process can and must be told something before it serves.
    pub(super) const fn is_open(&self) -> bool {
        match self.era {
            Some(Era::Legacy) => self.told.is_some(),
            Some(Era::Modern) => self.proven && self.meta.is_some(),
            None => false,
        }
    }

    /// Learns the era from a request, and what later ones of ours must carry.
    pub(super) fn see(&mut self, id: &Id, method: &str, params: Option<&RawValue>) {
        if method == "initialize" {
            self.era = Some(Era::Legacy);
            let params = params.map(ToOwned::to_owned).unwrap_or_default();
            self.initialize = Some((id.clone(), params));
            self.told = None;
            return;
        }
        if self.era == Some(Era::Legacy) {
            return;
        }
        let parsed = Params::read(params);
        if parsed.meta().version.is_some() {
            self.era = Some(Era::Modern);
            if let Some(mut meta) = parsed.meta.and_then(Object::read) {
                let own = "io.modelcontextprotocol/";
                meta.retain(|name| name.starts_with(own) && !name.ends_with("/subscriptionId"));
                self.meta = Some(meta);
            }
        }
    }

    /// The server does not know the era that the client tried first.
    pub(super) fn refused(&mut self) {
        if self.era == Some(Era::Modern) && !self.proven {
            self.era = None;
            self.meta = None;
        }
    }

    pub(super) fn subscribe(&mut self, uri: String) {
        if self.subscriptions.len() < SUBSCRIPTIONS_MAX {
            self.subscriptions.insert(uri);
        }
    }

    /// The client's `initialize` for another process: with the version that was agreed on.
    pub(super) fn replay(&self, id: &Id) -> Option<Bytes> {
        let (_, params) = self.initialize.as_ref()?;
        let mut params = Object::read(params)?;
        if let Some(version) = self.told.as_ref().and_then(|told| told.version.as_ref()) {
            params.set("protocolVersion", version);
        }
        Some(super::message::request(id, "initialize", Some(&params)))
    }
}

/// The result of an `initialize` or `server/discover` as the client sees it: it will be told when
/// the tools change, whether or not the server would do so.
pub(super) fn shown(result: &RawValue) -> Option<Object> {
    let mut result = Object::read(result)?;
    let mut capabilities = Object::read(result.get("capabilities")?)?;
    let mut tools = Object::read(capabilities.get("tools")?)?;
    tools.set("listChanged", &true);
    capabilities.set("tools", &tools);
    result.set("capabilities", &capabilities);
    Some(result)
}

//! What the client has seen of a server's lists.
//!
//! Owns their digests, the names of the tools, and which of those may be called twice. A digest
//! stands for the set of entries: neither their order nor the order of their members matters.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::core::ordered::Gather as _;
use crate::output::child::session::Generation;
use crate::output::child::session::message::{Outcome, text};

/// Entries of a list at most; a longer one counts as changed by every switch.
const ENTRIES_MAX: usize = 16_384;

/// One of a server's lists.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl Kind {
    pub(super) const ALL: [Self; 4] =
        [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    /// The list that a request asks for.
    pub(super) fn of(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.method() == method)
    }

    pub(super) const fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
        }
    }

    /// How a client hears that it changed.
    pub(super) const fn changed(self) -> &'static str {
        match self {
            Self::Tools => "notifications/tools/list_changed",
            Self::Prompts => "notifications/prompts/list_changed",
            Self::Resources | Self::Templates => "notifications/resources/list_changed",
        }
    }

    /// The capability that it belongs to.
    pub(super) const fn capability(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources | Self::Templates => "resources",
        }
    }

    /// What a subscription of the modern era calls its changes.
    pub(super) const fn filter(self) -> &'static str {
        match self {
            Self::Tools => "toolsListChanged",
            Self::Prompts => "promptsListChanged",
            Self::Resources | Self::Templates => "resourcesListChanged",
        }
    }

    const fn entries<'a>(self, outcome: &Outcome<'a>) -> Option<&'a RawValue> {
        match self {
            Self::Tools => outcome.tools,
            Self::Prompts => outcome.prompts,
            Self::Resources => outcome.resources,
            Self::Templates => outcome.resource_templates,
        }
    }
}

/// A list as far as its pages have come.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct List {
    entries: Vec<[u8; 32]>,
    /// The tools' names, each with whether it may be called again.
    tools: BTreeMap<Box<str>, bool>,
    overlong: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tool<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(default)]
    annotations: Option<Hints>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hints {
    #[serde(default)]
    read_only_hint: Option<bool>,
    #[serde(default)]
    idempotent_hint: Option<bool>,
}

impl List {
    /// Adds a page; false when the result is no such list.
    pub(super) fn add(&mut self, kind: Kind, outcome: &Outcome<'_>) -> bool {
        let entries = kind.entries(outcome);
        let Some(entries) =
            entries.and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw.get()).ok())
        else {
            return false;
        };
        for entry in entries {
            if self.entries.len() >= ENTRIES_MAX {
                self.overlong = true;
                return true;
            }
            self.entries.push(digest(entry));
            if kind == Kind::Tools {
                let tool: Tool<'_> = serde_json::from_str(entry.get()).unwrap_or_default();
                let hints = tool.annotations.unwrap_or_default();
                let twice =
                    hints.read_only_hint == Some(true) || hints.idempotent_hint == Some(true);
                if let Some(name) = text(tool.name) {
                    self.tools.insert(name.into(), twice);
                }
            }
        }
        true
    }

    fn settle(&mut self) {
        self.entries.sort_unstable();
    }

    /// How many of the other's tools are not among these.
    pub(super) fn lacks(&self, known: &Self) -> usize {
        known.tools.keys().filter(|name| !self.tools.contains_key(*name)).count()
    }
}

fn digest(entry: &RawValue) -> [u8; 32] {
    // Ordered by name, whatever order the server writes in.
    let canonical = serde_json::from_str(entry.get()).map(|value| ordered(&value).to_string());
    Sha256::digest(canonical.as_deref().unwrap_or(entry.get())).into()
}

fn ordered(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<&String, Value> =
                members.iter().map(|(name, value)| (name, ordered(value))).gather_map();
            sorted.into_iter().map(|(name, value)| (name.clone(), value)).collect()
        }
        Value::Array(items) => items.iter().map(ordered).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// The lists that the client knows.
#[derive(Debug, Default)]
pub(super) struct Lists {
    seen: BTreeMap<Kind, List>,
    open: BTreeMap<Kind, (Generation, List)>,
    /// Tools that may be called twice, learnt from the client's lists and from our own.
    twice: BTreeMap<Box<str>, bool>,
}

impl Lists {
    /// A page on its way to the client.
    pub(super) fn page(
        &mut self,
        kind: Kind,
        generation: Generation,
        first: bool,
        outcome: &Outcome<'_>,
    ) {
        let begun = self.open.remove(&kind).filter(|(from, _)| !first && *from == generation);
        if begun.is_none() && !first {
            return;
        }
        let mut list = begun.map(|(_, list)| list).unwrap_or_default();
        if !list.add(kind, outcome) {
            return;
        }
        if text(outcome.next_cursor).is_some() {
            self.open.insert(kind, (generation, list));
        } else {
            self.learn(&list, kind);
            list.settle();
            self.seen.insert(kind, list);
        }
    }

    /// Takes the hints of a list that we asked for ourselves.
    pub(super) fn learn(&mut self, list: &List, kind: Kind) {
        if kind == Kind::Tools {
            self.twice.clone_from(&list.tools);
        }
    }

    pub(super) fn seen(&self, kind: Kind) -> Option<&List> {
        self.seen.get(&kind)
    }

    pub(super) fn may_call_twice(&self, tool: &str) -> bool {
        self.twice.get(tool) == Some(&true)
    }

    /// Which of the client's lists a new server's differ from; they count as seen, since the
    /// client is told.
    pub(super) fn replace(&mut self, fresh: BTreeMap<Kind, List>) -> BTreeSet<Kind> {
        let mut changed = BTreeSet::new();
        self.open.clear();
        for (kind, mut list) in fresh {
            self.learn(&list, kind);
            list.settle();
            let Some(known) = self.seen.get_mut(&kind) else { continue };
            if known.overlong || list.overlong || known.entries != list.entries {
                changed.insert(kind);
            }
            *known = list;
        }
        changed
    }
}

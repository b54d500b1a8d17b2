//! What changes between two policies: for the reload's log line, and for what must be rebound.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::core::ordered::Gather as _;
use crate::policy::model::{Output, Policy};

/// The difference between two policies.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PolicyDiff {
    /// Services that are new.
    pub services_added: Vec<String>,
    /// Services that are gone.
    pub services_removed: Vec<String>,
    /// Services whose rules changed, endpoints aside.
    pub services_changed: Vec<String>,
    /// Endpoints that are new, as `service/endpoint`.
    pub endpoints_added: Vec<String>,
    /// Endpoints that are gone.
    pub endpoints_removed: Vec<String>,
    /// Endpoints whose address, credential, probe, tier or weight changed.
    pub endpoints_changed: Vec<String>,
    /// Outputs that are new, by name.
    pub outputs_added: Vec<String>,
    /// Outputs that are gone.
    pub outputs_removed: Vec<String>,
    /// Outputs whose settings changed.
    pub outputs_changed: Vec<String>,
    /// Whether who is told of events changed.
    pub alerts: bool,
    /// Whether the admin surface must be rebound.
    pub admin: bool,
    /// Whether the control socket must be rebound.
    pub control: bool,
    /// Whether the sidecar's name or state directory changed.
    pub sidecar: bool,
    /// Whether how the server is run changed.
    pub child: bool,
    /// Whether the rules by which our own faults are told from theirs changed.
    pub isolation: bool,
    /// Whether where backups go, or when they are made, changed.
    pub backup: bool,
    /// Whether the Redis server that is told the state changed.
    pub redis: bool,
}

impl PolicyDiff {
    /// Compares two policies.
    #[must_use]
    pub fn between(old: &Policy, new: &Policy) -> Self {
        let mut diff = Self {
            alerts: !same_alerts(old, new),
            admin: old.admin != new.admin,
            control: old.control != new.control,
            sidecar: old.sidecar != new.sidecar,
            child: old.child != new.child,
            isolation: old.rules.isolation != new.rules.isolation || !same_references(old, new),
            backup: old.backup != new.backup,
            redis: old.redis != new.redis,
            ..Self::default()
        };
        diff.services(old, new);
        diff.endpoints(old, new);
        diff.outputs(old, new);
        diff
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What changed, one line a kind, for a log or a terminal.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        let lists = [
            ("services added", &self.services_added),
            ("services removed", &self.services_removed),
            ("services changed", &self.services_changed),
            ("endpoints added", &self.endpoints_added),
            ("endpoints removed", &self.endpoints_removed),
            ("endpoints changed", &self.endpoints_changed),
            ("outputs added", &self.outputs_added),
            ("outputs removed", &self.outputs_removed),
            ("outputs changed", &self.outputs_changed),
        ];
        let flags = [
            ("alerts changed", self.alerts),
            ("admin surface changed", self.admin),
            ("control socket changed", self.control),
            ("sidecar name or state directory changed", self.sidecar),
            ("isolation rules changed", self.isolation),
            ("[child] changed", self.child),
            ("backups changed", self.backup),
            ("[redis] changed", self.redis),
        ];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
        let flags = flags.into_iter().filter(|(_, set)| *set);
        lists
            .map(|(what, list)| format!("{what}: {}", short(list)))
            .chain(flags.map(|(what, _)| what.to_owned()))
            .collect()
    }

    fn services(&mut self, old: &Policy, new: &Policy) {
        for (name, rules) in &new.rules.services {
            match old.rules.services.get(name) {
                None => self.services_added.push(name.to_string()),
                Some(before) => {
                    let mut before = (**before).clone();
                    before.endpoints.clone_from(&rules.endpoints);
                    if before != **rules {
                        self.services_changed.push(name.to_string());
                    }
                }
            }
        }
        let gone = old.rules.services.keys().filter(|name| !new.rules.services.contains_key(*name));
        self.services_removed.extend(gone.map(ToString::to_string));
    }

    fn endpoints(&mut self, old: &Policy, new: &Policy) {
        let (before, after) = (endpoints(old), endpoints(new));
        let keys = |set: &BTreeSet<(String, String)>| -> BTreeSet<String> {
            set.iter().map(|(name, _)| name.clone()).gather_set()
        };
        let (names_before, names_after) = (keys(&before), keys(&after));
        self.endpoints_added.extend(names_after.difference(&names_before).cloned());
        self.endpoints_removed.extend(names_before.difference(&names_after).cloned());
        let changed = after.difference(&before).map(|(name, _)| name);
        self.endpoints_changed.extend(changed.filter(|name| names_before.contains(*name)).cloned());
    }

    fn outputs(&mut self, old: &Policy, new: &Policy) {
        let find = |policy: &Policy, name: &str| -> Option<Output> {
            policy.outputs.iter().find(|output| output.name() == name).cloned()
        };
        for output in &new.outputs {
            match find(old, output.name()) {
                None => self.outputs_added.push(output.name().to_owned()),
                Some(before) if before != *output => {
                    self.outputs_changed.push(output.name().to_owned());
                }
                Some(_) => {}
            }
        }
        let gone = old.outputs.iter().filter(|output| find(new, output.name()).is_none());
        self.outputs_removed.extend(gone.map(|output| output.name().to_owned()));
    }
}

/// Each endpoint with everything about it that matters to the engine.
fn endpoints(policy: &Policy) -> BTreeSet<(String, String)> {
    let services = policy.rules.services.values();
    services
        .flat_map(|service| {
            service
                .endpoints
                .iter()
                .map(|one| (format!("{}/{}", service.name, one.name), format!("{one:?}")))
        })
        .gather_set()
}

fn same_alerts(old: &Policy, new: &Policy) -> bool {
    let same = |a: &crate::policy::model::Alert, b: &crate::policy::model::Alert| {
        a.name == b.name
            && a.url == b.url
            && a.headers == b.headers
            && a.events == b.events
            && a.timeout == b.timeout
    };
    old.alerts.len() == new.alerts.len()
        && old.alerts.iter().zip(&new.alerts).all(|(a, b)| same(a, b))
}

fn same_references(old: &Policy, new: &Policy) -> bool {
    let shape = |policy: &Policy| {
        let of = &policy.references;
        let targets: Vec<_> =
            of.targets.iter().map(|one| (Arc::clone(&one.name), one.probe.fingerprint)).collect();
        (targets, of.interval)
    };
    shape(old) == shape(new)
}

/// A list of names, cut after the tenth.
fn short(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(10).map(String::as_str).collect();
    match names.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

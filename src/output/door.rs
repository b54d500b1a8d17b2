//! What a server must be told so that it goes through a proxy, and whether that can be told yet.
//!
//! Servers whose hosts are hard-coded find their way by variables of their process only. What those
//! variables name, an address and files of certificates, must be there before the process is.
//!
//! Invariants
//! 1. A door is shown only once its proxy listens and its files are written.
//! 2. Whoever asks learns of doors that are expected and not there yet, so that it can wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::core::id::ServiceName;
use crate::policy::model::{Output, ProxyMode};

/// The way through one proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Door {
    /// The service behind it.
    pub service: ServiceName,
    /// What a process is told. No secret is among it.
    pub variables: BTreeMap<String, String>,
}

/// The doors by the name of their output; `None` for one that is still to come.
pub type Shown = Arc<BTreeMap<String, Option<Door>>>;

/// Where proxies show their doors to those who start servers.
#[derive(Clone, Debug)]
pub struct Doors(Arc<watch::Sender<Shown>>);

impl Default for Doors {
    fn default() -> Self {
        Self(Arc::new(watch::channel(Shown::default()).0))
    }
}

impl Doors {
    /// Expects those of these outputs, so that a server which is prepared now waits for them.
    #[must_use]
    pub fn to(outputs: &[Output]) -> Self {
        let doors = Self::default();
        doors.expect(outputs);
        doors
    }

    /// Names the outputs that are to show one; others are forgotten.
    pub fn expect(&self, outputs: &[Output]) {
        let is_door = |output: &&Output| match output {
            Output::Proxy(proxy) => matches!(proxy.mode, ProxyMode::Connect(_)),
            Output::File(_) | Output::Socket(_) => false,
        };
        let names: Vec<&str> = outputs.iter().filter(is_door).map(Output::name).collect();
        self.change(|doors| {
            doors.retain(|name, _| names.contains(&name.as_str()));
            for name in names {
                doors.entry(name.to_owned()).or_default();
            }
        });
    }

    /// Shows one, if it is expected.
    pub(super) fn open(&self, output: &str, door: &Door) {
        self.change(|doors| {
            if let Some(place) = doors.get_mut(output) {
                *place = Some(door.clone());
            }
        });
    }

    /// Every change from now on, and what there is.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Shown> {
        self.0.subscribe()
    }

    fn change(&self, how: impl FnOnce(&mut BTreeMap<String, Option<Door>>)) {
        self.0.send_if_modified(|shown| {
            let mut doors = BTreeMap::clone(shown);
            how(&mut doors);
            let changed = doors != **shown;
            if changed {
                *shown = Arc::new(doors);
            }
            changed
        });
    }
}

/// All of them, once every one is there.
#[must_use]
pub fn complete(shown: &Shown) -> Option<Vec<Door>> {
    shown.values().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> Door {
        let variables = BTreeMap::from([("HTTPS_PROXY".to_owned(), "http://[::1]:1".to_owned())]);
        Door { service: ServiceName::new("search"), variables }
    }

    #[test]
    fn a_door_that_is_expected_is_waited_for() {
        let doors = Doors::default();
        let seen = doors.watch();
        assert_eq!(complete(&seen.borrow()), Some(Vec::new()), "none is expected");
        doors.change(|all| drop(all.insert("door".to_owned(), None)));
        assert_eq!(complete(&seen.borrow()), None);
        doors.open("door", &door());
        assert_eq!(complete(&seen.borrow()), Some(vec![door()]));
    }

    #[test]
    fn a_door_that_nobody_expects_any_more_is_not_shown() {
        let doors = Doors::default();
        doors.change(|all| drop(all.insert("door".to_owned(), None)));
        doors.open("door", &door());
        doors.expect(&[]);
        doors.open("door", &door());
        assert_eq!(complete(&doors.watch().borrow()), Some(Vec::new()));
    }
}

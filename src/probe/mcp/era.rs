//! Which era each server was last found to speak.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::probe::digest::Key;
use crate::probe::mcp::message::MODERN;

/// Servers remembered. More than a policy plausibly names; a reload may bring new ones.
const SERVERS_MAX: usize = 16 * 1024;

/// An era of the protocol, and what is needed to speak it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Era {
    /// No sessions; the version that every request names.
    Modern(String),
    /// Sessions; the version is agreed on in each.
    Legacy,
}

impl Era {
    /// The modern era in the version that we know.
    pub(super) fn modern() -> Self {
        Self::Modern(MODERN.to_owned())
    }
}

/// What was found out, by server.
#[derive(Debug, Default)]
pub(super) struct Eras(Mutex<BTreeMap<Key, Era>>);

impl Eras {
    pub(super) fn of(&self, server: &Key) -> Option<Era> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(server).cloned()
    }

    pub(super) fn remember(&self, server: Key, era: Era) {
        let mut eras = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if eras.len() >= SERVERS_MAX && !eras.contains_key(&server) {
            eras.clear();
        }
        eras.insert(server, era);
    }

    pub(super) fn forget(&self, server: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_remembered_until_it_is_forgotten() {
        let eras = Eras::default();
        assert_eq!(eras.of(&[1; 32]), None);
        eras.remember([1; 32], Era::Legacy);
        eras.remember([2; 32], Era::modern());
        assert_eq!(eras.of(&[1; 32]), Some(Era::Legacy));
        eras.forget(&[1; 32]);
        assert_eq!((eras.of(&[1; 32]), eras.of(&[2; 32])), (None, Some(Era::modern())));
    }

    #[test]
    fn the_memory_is_bounded() {
        let eras = Eras::default();
        for number in 0..=SERVERS_MAX {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            eras.remember(key, Era::Legacy);
        }
        assert!(eras.0.lock().unwrap().len() <= SERVERS_MAX);
    }
}

//! Gathers into ordered maps and sets, one item after the other.
//!
//! `collect` sorts all of them first, by a sort that is compiled anew for each type of item. There are
//! sixty such types here: it would be a twentieth of the program, for maps of a dozen.

use std::collections::{BTreeMap, BTreeSet};

/// What can be gathered. Of equal keys, the later one stays.
pub trait Gather: Iterator + Sized {
    /// Gathers pairs into a map.
    fn gather_map<K: Ord, V>(self) -> BTreeMap<K, V>
    where
        Self: Iterator<Item = (K, V)>,
    {
        let mut map = BTreeMap::new();
        map.extend(self);
        map
    }

    /// Gathers items into a set.
    fn gather_set<K: Ord>(self) -> BTreeSet<K>
    where
        Self: Iterator<Item = K>,
    {
        let mut set = BTreeSet::new();
        set.extend(self);
        set
    }
}

impl<I: Iterator> Gather for I {}

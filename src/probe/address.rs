//! Which of a name's addresses an attempt uses.
//!
//! IPv4 comes first, as services bound to one family are mostly bound to that one. An address
//! that fails hands its turn to the next, and one that works keeps it: a name with one dead
//! address costs one failed attempt, and a host without IPv4 one attempt without verdict.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Whose turn it is, for every name that has several addresses.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<BTreeMap<String, usize>>);

/// The address of one attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Turn {
    pub(super) ip: IpAddr,
    place: usize,
    several: bool,
}

impl Turns {
    /// Takes a turn; it counts as failed until [`Turns::worked`]. `None` without addresses.
    pub(super) fn take(&self, host: &str, addresses: &[IpAddr]) -> Option<Turn> {
        let several = addresses.len() > 1;
        let place = if several { self.next(host, addresses.len()) } else { 0 };
        let ip = *addresses.get(place)?;
        Some(Turn { ip, place, several })
    }

    /// The address works, so the next attempt uses it again.
    pub(super) fn worked(&self, host: &str, turn: Turn) {
        if turn.several {
            self.set(host, turn.place);
        }
    }

    fn next(&self, host: &str, count: usize) -> usize {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = turns.get(host).map_or(0, |turn| turn % count);
        turns.insert(host.to_owned(), place + 1);
        place
    }

    fn set(&self, host: &str, place: usize) {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.insert(host.to_owned(), place);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const ADDRESSES: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

    fn take(turns: &Turns) -> Turn {
        turns.take("example.com", &ADDRESSES).unwrap()
    }

    #[test]
    fn an_address_that_works_is_kept() {
        let turns = Turns::default();
        for _ in 0..3 {
            let turn = take(&turns);
            assert_eq!(turn.ip, ADDRESSES[0]);
            turns.worked("example.com", turn);
        }
    }

    #[test]
    fn an_address_that_fails_hands_its_turn_on() {
        let turns = Turns::default();
        assert_eq!(take(&turns).ip, ADDRESSES[0]);
        let second = take(&turns);
        assert_eq!(second.ip, ADDRESSES[1]);
        turns.worked("example.com", second);
        assert_eq!(take(&turns).ip, ADDRESSES[1]);
        assert_eq!(take(&turns).ip, ADDRESSES[0]);
    }

    #[test]
    fn a_name_whose_addresses_became_fewer_still_has_a_turn() {
        let turns = Turns::default();
        take(&turns);
        assert_eq!(turns.take("example.com", &ADDRESSES[..1]).unwrap().ip, ADDRESSES[0]);
        assert_eq!(turns.take("example.com", &[]), None);
    }
}

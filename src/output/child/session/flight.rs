//! The client's requests that have no answer yet.
//!
//! Owns the table, what is needed to send one again, and its bounds. A request is at one process
//! at a time, and only the answer of that one counts.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::output::child::session::Generation;
use crate::output::child::session::message::Id;

/// Requests in flight at most; a client that has more is answered with an error at once.
const REQUESTS_MAX: usize = 4_096;
/// Bytes kept to send requests again. What goes beyond is sent, but only once.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where a request is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// Nowhere yet: no process has seen it.
    Waiting,
    /// Sent to this one.
    At(Generation),
    /// Sent to one that is gone, and to be sent again.
    Lost,
}

/// What a listening client asked for and was granted.
#[derive(Clone, Debug, Default)]
pub(super) struct Listen {
    /// What it asked for: the filter as written.
    pub(super) wanted: Box<str>,
    /// What the server granted; `None` before its acknowledgement.
    pub(super) granted: Option<Box<str>>,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// As it is sent; `None` when it is too large to be kept.
    pub(super) line: Option<Bytes>,
    pub(super) method: Box<str>,
    pub(super) tool: Option<Box<str>>,
    /// Its progress token, as written.
    pub(super) token: Option<Box<str>>,
    pub(super) place: Place,
    /// How often it was sent again.
    pub(super) resent: u8,
    /// The last progress that the client saw.
    pub(super) progress: Option<f64>,
    /// Set for a subscription of the modern era.
    pub(super) listen: Option<Listen>,
    /// The state that it changes when it succeeds.
    pub(super) changes: Option<Change>,
    /// Whether it asks for the first page of a list.
    pub(super) first_page: bool,
    /// The task that it asks about.
    pub(super) task: Option<Box<str>>,
    /// Its place in the order of arrival.
    pub(super) seq: u64,
}

/// What of the session a request changes when it succeeds.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// The level of log messages; the parameters as written.
    Level(Box<str>),
    /// A subscription to a resource.
    Subscribed(String),
    /// The end of one.
    Unsubscribed(String),
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Flights {
    by_id: BTreeMap<Id, Flight>,
    by_token: BTreeMap<Box<str>, Id>,
    bytes: usize,
    count: u64,
}

impl Flights {
    /// Takes one in; gives it back when there are too many.
    pub(super) fn insert(&mut self, id: Id, mut flight: Flight) -> Result<(), Box<Flight>> {
        if self.by_id.len() >= REQUESTS_MAX {
            return Err(Box::new(flight));
        }
        self.count += 1;
        flight.seq = self.count;
        let size = flight.line.as_ref().map_or(0, Bytes::len);
        if self.bytes + size > BYTES_MAX {
            if flight.place == Place::Waiting {
                return Err(Box::new(flight));
            }
            flight.line = None;
        } else {
            self.bytes += size;
        }
        if let Some(token) = &flight.token {
            self.by_token.insert(token.clone(), id.clone());
        }
        self.by_id.insert(id, flight);
        Ok(())
    }

    pub(super) fn get(&self, id: &Id) -> Option<&Flight> {
        self.by_id.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &Id) -> Option<&mut Flight> {
        self.by_id.get_mut(id)
    }

    /// The request that reports progress under this token.
    pub(super) fn of_token(&mut self, token: &str) -> Option<&mut Flight> {
        self.by_id.get_mut(self.by_token.get(token)?)
    }

    pub(super) fn remove(&mut self, id: &Id) -> Option<Flight> {
        let flight = self.by_id.remove(id)?;
        self.bytes -= flight.line.as_ref().map_or(0, Bytes::len);
        if let Some(token) = &flight.token
            && self.by_token.get(token) == Some(id)
        {
            self.by_token.remove(token);
        }
        Some(flight)
    }

    /// The ids of those at a place, in the order of their arrival.
    pub(super) fn at(&self, place: Place) -> Vec<Id> {
        let there = self.by_id.iter().filter(|(_, flight)| flight.place == place);
        let mut there: Vec<(u64, &Id)> = there.map(|(id, flight)| (flight.seq, id)).collect();
        there.sort_unstable();
        there.into_iter().map(|(_, id)| id.clone()).collect()
    }

    /// Whether any waits for a process.
    pub(super) fn any_unsent(&self) -> bool {
        self.by_id.values().any(|flight| matches!(flight.place, Place::Waiting | Place::Lost))
    }

    /// How many a process still has to answer; subscriptions end only when it is told so.
    pub(super) fn owed_by(&self, generation: Generation) -> usize {
        let owed =
            |flight: &&Flight| flight.place == Place::At(generation) && flight.listen.is_none();
        self.by_id.values().filter(owed).count()
    }

    pub(super) fn listens(&self) -> impl Iterator<Item = (&Id, &Flight, &Listen)> {
        self.by_id.iter().filter_map(|(id, flight)| Some((id, flight, flight.listen.as_ref()?)))
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}

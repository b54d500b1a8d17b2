//! Keeps a client's MCP session over a change of the server's process.
//!
//! A state machine over lines: what the client and each process write goes in, what each of them
//! is to read comes out. It reads no clock and does no I/O, so every order of events can be played
//! in a test. Both eras of the protocol are spoken: the one with a handshake (up to 2025-11-25) and
//! the one without (2026-07-28); which it is follows from what the client begins with.
//!
//! A process is known by its [`Generation`]. One serves; one more may be primed to take over; those
//! replaced are drained of what they still owe.
//!
//! Invariants
//! 1. A request of the client gets one answer, whatever becomes of the processes, unless the client
//!    cancelled it; and no answer, question or progress reaches it that it does not wait for.
//! 2. A request is sent again only if no process has seen it, or if asking twice does no harm.
//! 3. A process serves only after it has taken over the session: it answered, it can do what the
//!    client was told, it has the tools that the client knows. Otherwise the old one goes on; only
//!    when there is none, a process that can do less is better than nobody.
//! 4. A new process is opened in the era of the client, and never in the other.
//! 5. Everything that is remembered has a bound.

mod answer;
mod answered;
mod asked;
mod client;
mod flight;
mod framer;
mod holds;
mod lists;
mod message;
mod opening;
mod prime;
mod server;
mod swap;
mod tag;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::core::time::Instant;
use crate::output::child::session::asked::Asked;
use crate::output::child::session::flight::Flights;
use crate::output::child::session::holds::Holds;
use crate::output::child::session::lists::Lists;
use crate::output::child::session::opening::Opening;
use crate::output::child::session::prime::Priming;

pub use framer::{Framer, TooLong};
pub use message::Id;

/// Replaced processes that are kept for what they owe, at most.
const DRAINING_MAX: usize = 4;

/// One process of the server, in the order of their starts.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Generation(u64);

impl Generation {
    /// Numbers one.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a session is kept by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionRules {
    /// How long a new process may take to take over.
    pub start_timeout: Duration,
    /// How long a replaced process may take for the requests that it still has.
    pub drain_timeout: Duration,
    /// How long requests wait for a process when there is none.
    pub wait_timeout: Duration,
    /// How long a replaced process is kept for requests that wait for input of the client.
    pub state_ttl: Duration,
    /// How long a replaced process is kept for a task that names no time itself, or a longer one.
    pub task_ttl_max: Duration,
    /// How long a client may keep a result at most, since a switch may make it wrong.
    pub cache_ttl_max: Duration,
    /// Whether the process holds what no other can take over: replace it only when idle.
    pub stateful: bool,
    /// Tools that may be called a second time, besides those that say so themselves.
    pub safe_tools: BTreeSet<String>,
}

impl Default for SessionRules {
    fn default() -> Self {
        Self {
            start_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(60),
            wait_timeout: Duration::from_secs(45),
            // What the Python library gives it.
            state_ttl: Duration::from_secs(600),
            task_ttl_max: Duration::from_secs(3600),
            cache_ttl_max: Duration::from_secs(5),
            stateful: false,
            safe_tools: BTreeSet::new(),
        }
    }
}

/// Something happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input {
    /// The client wrote a line.
    Client(Bytes),
    /// The client wrote a line longer than any message may be.
    ClientTooLong,
    /// A process wrote a line.
    Server(Generation, Bytes),
    /// A process was started and can be written to.
    Started(Generation),
    /// A process will write nothing more.
    Ended(Generation),
    /// The serving process is to be let go before there is another: requests wait.
    Park,
    /// Time passed.
    Tick,
}

/// Something is to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Write a line to the client.
    ToClient(Bytes),
    /// Write a line to a process.
    ToServer(Generation, Bytes),
    /// A process serves from now on.
    Serves(Generation),
    /// A process cannot take over; end it.
    Unfit(Generation, Unfit),
    /// Nobody needs a process any more; end it.
    Released(Generation),
    /// A process wrote what is no message: for people to see.
    Stray(Generation, Bytes),
    /// Requests were answered in the place of a process.
    Substituted {
        /// How many.
        requests: usize,
        /// Why.
        reason: &'static str,
    },
}

/// Why a new process cannot take over.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unfit {
    /// It ended.
    #[error("it ended before it could take over")]
    Ended,
    /// It did not answer in time.
    #[error("it did not answer in time")]
    Silent,
    /// It refused the client's protocol.
    #[error("it does not speak the client's version of the protocol")]
    Version,
    /// It refused a request that every server answers.
    #[error("it refused to be opened")]
    Refused,
    /// It cannot do what the client was told.
    #[error("it lacks a capability that the client was told of")]
    Capability,
    /// It lacks tools.
    #[error("it lacks {0} of the tools that the client knows")]
    Tools(usize),
    /// It grants a subscription less than the client has.
    #[error("it grants less of a subscription than the client has")]
    Subscription,
    /// A later one is to take over in its place.
    #[error("a later configuration took its place")]
    Superseded,
}

/// What a process is there for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Priming,
    Serving,
    /// Replaced; what it owes is lost when the time comes.
    Draining(Instant),
    /// It is being ended and no longer listened to.
    Released,
}

/// The session.
#[derive(Debug)]
pub struct Keeper {
    rules: SessionRules,
    now: Instant,
    stages: BTreeMap<Generation, Stage>,
    serving: Option<Generation>,
    priming: Option<Priming>,
    /// Since when there is nobody to send requests to.
    without: Option<Instant>,
    opening: Opening,
    flights: Flights,
    asked: Asked,
    lists: Lists,
    holds: Holds,
    privates: u64,
    out: Vec<Effect>,
}

impl Keeper {
    /// A session whose client has said nothing yet.
    #[must_use]
    pub fn new(rules: SessionRules, now: Instant) -> Self {
        Self {
            rules,
            now,
            stages: BTreeMap::new(),
            serving: None,
            priming: None,
            without: Some(now),
            opening: Opening::default(),
            flights: Flights::default(),
            asked: Asked::default(),
            lists: Lists::default(),
            holds: Holds::default(),
            privates: 0,
            out: Vec::new(),
        }
    }

    /// Goes on by other rules; times that have been set stay.
    pub fn resettle(&mut self, rules: SessionRules) {
        self.rules = rules;
    }

    /// Takes in what happened and says what is to be done, in this order.
    #[must_use]
    pub fn step(&mut self, now: Instant, input: Input) -> Vec<Effect> {
        self.now = self.now.max(now);
        match input {
            Input::Client(line) => self.client_line(&line),
            Input::ClientTooLong => {
                let answer =
                    message::unreadable(answer::INVALID_REQUEST, "the message is too long");
                self.out.push(Effect::ToClient(answer));
            }
            Input::Server(generation, line) => self.server_line(generation, &line),
            Input::Started(generation) => self.started(generation),
            Input::Ended(generation) => self.ended(generation),
            Input::Park => self.park(),
            Input::Tick => {}
        }
        self.on_time();
        std::mem::take(&mut self.out)
    }

    /// When to be told that time passed, at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let wait = self.without.map(|since| since + self.rules.wait_timeout);
        let wait = wait.filter(|_| self.flights.any_unsent());
        let priming = self.priming.as_ref().map(Priming::deadline);
        let drained = self.stages.iter().filter_map(|(generation, stage)| match stage {
            Stage::Draining(until) if *until > self.now => Some(*until),
            Stage::Draining(_) => self.holds.until(*generation, self.now),
            Stage::Priming | Stage::Serving | Stage::Released => None,
        });
        drained.chain(wait).chain(priming).min()
    }

    /// The process that serves now.
    #[must_use]
    pub const fn serving(&self) -> Option<Generation> {
        self.serving
    }

    /// Requests of the client without an answer.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    fn stage(&self, generation: Generation) -> Option<Stage> {
        self.stages.get(&generation).copied()
    }

    /// An id of our own, for a request whose answer the client never sees.
    fn private(&mut self, generation: Generation) -> Id {
        self.privates += 1;
        Id::Text(format!("mf-{generation}-{}", self.privates).into())
    }

    fn tell_client(&mut self, line: Bytes) {
        self.out.push(Effect::ToClient(line));
    }

    fn tell_server(&mut self, generation: Generation, line: Bytes) {
        self.out.push(Effect::ToServer(generation, line));
    }
}

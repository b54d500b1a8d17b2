//! The copy of state and history in Redis, and the way back.
//!
//! Owns the names and the form of what stands there (`docs/redis.md` tells it to readers), what is
//! written when ([`Ledger`]), and the connection. Redis is never needed for a decision: who writes
//! does so in a task of its own, and a server that is gone, hung or wrong changes what is said of
//! it, and nothing else.
//!
//! Nothing is in there that is not in a backup: names and times, no value of a variable or a secret
//! file, and no fingerprint of one endpoint ([`crate::store::backup`]).
//!
//! Invariants
//! 1. A write is there whole or not at all: it is one script.
//! 2. The server never goes back: a write at a revision below the one stored, or under the name of
//!    another run that lives, is refused by the script, and overwrites nothing.
//! 3. A decision is there once, in the order of its revision, however often it was sent.
//! 4. Every exchange has a deadline over all of it, and a bound on what is read. Bytes that do not
//!    verify are never interpreted.
//!
//! # Why no client library
//! `redis` 1.8 with only its asynchronous part is 430 KB of a static binary, a third of what this
//! program may still grow; it reads replies of any size into memory, and its own reconnects and
//! retries would have to be kept from doing twice what the ledger does. What is needed is one
//! connection, one script and five commands, over a codec that the probe has already.

mod client;
mod commit;
mod compat;
mod entry;
mod error;
mod held;
mod keys;
mod ledger;

pub use client::{Client, Facts};
pub use commit::{Answer, Commit, State, Writer};
pub use compat::{SEED_REFRESH, Seed};
pub use entry::{Entry, Id, ParseIdError, entries};
pub use error::{Reason, RedisError};
pub use held::Held;
pub use keys::Keys;
pub use ledger::{Ledger, Need, OUTBOX_MAX};

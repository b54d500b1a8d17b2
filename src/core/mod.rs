//! Decides; never acts.
//!
//! Pure: std and serde only. No clock, no randomness but a seed passed in, no I/O, ordered maps
//! only. Time comes in as a value, effects go out as [`action::Action`]s.

pub mod action;
pub mod allowance;
pub mod backoff;
pub mod breaker;
pub mod decay;
pub mod engine;
pub mod ewma;
pub mod explain;
pub mod failover;
pub mod flap;
pub mod health;
pub mod id;
pub mod input;
pub mod isolation;
pub mod ordered;
pub mod outcome;
pub mod record;
pub mod rng;
pub mod rules;
pub mod schedule;
pub mod score;
pub mod select;
pub mod snapshot;
pub mod status;
pub mod time;
pub mod window;

//! The surfaces: what they show, whom they refuse, and that no client can hurt them.

mod alerts;
mod control;
mod events;
pub(crate) mod fixture;
mod guard;
mod surface;
pub(crate) mod telemetry;

//! What people and programs may see and order.
//!
//! Two doors, kept apart: [`http`] shows and never changes anything; [`control`], a unix socket
//! for the sidecar's own user, takes orders. Neither decides; orders are passed on and answered
//! by whoever owns the engine.
//!
//! Invariants
//! 1. Nothing served here holds a secret: only [`document::StatusDocument`], records and metrics.
//! 2. A client who is slow, silent or hostile costs a bounded amount of memory and delays nobody.

pub mod control;
pub mod control_client;
pub mod document;
pub mod http;
pub mod hub;
pub mod protocol;
pub mod vitals;

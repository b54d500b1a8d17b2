//! What the sidecar says of itself: the metric catalogue and the logs.
//!
//! Every other room of the shell may use this one; it knows none of them.

pub mod log;
pub mod metric;

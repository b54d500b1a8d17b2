//! `failover.toml` as written: the tables and keys, their types, and where each value stands.
//!
//! Owns the shape of the file and nothing of its meaning. The same definitions read the file and
//! make the JSON Schema, so the two cannot drift apart. The spanned TOML tree is walked by hand
//! instead of through serde, because serde stops at the first error of a table and loses the
//! place of values below flattened or untagged types.
//!
//! Invariants
//! 1. Every key is either read or reported: nothing is silently ignored.
//! 2. A value that cannot be read is reported once and then treated as absent.

mod macros;
mod node;
mod output;
mod probe;
mod tables;
mod value;

pub(crate) use node::{At, Ctx, Need, Node, Over, Place, Read, Span, nearest};
pub(crate) use output::*;
pub(crate) use probe::*;
pub(crate) use tables::*;
pub(crate) use value::*;

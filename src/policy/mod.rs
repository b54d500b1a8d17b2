//! `failover.toml` text to a compiled policy, or every diagnostic at once.
//!
//! Pure: text and a lookup for variables and files in, values out. No clock, no I/O.
//!
//! The way of a policy: `raw` reads the tables and remembers where every value stands,
//! `interpolate` fills in variables and files, `compile` checks what they mean together and
//! builds the [`model`]. Each stage goes on after an error, so that one run finds them all.
//!
//! Invariants
//! 1. [`compile()`] returns a policy only if there is no error; whoever holds a
//!    [`model::Policy`] need not check it again.
//! 2. No diagnostic holds a value that came from a variable or a file. A template is no value, and
//!    is quoted as the policy is.
//! 3. The same text and lookup give the same policy, digest included.

use std::path::Path;

pub mod code;
mod compile;
pub mod diagnostic;
pub mod diff;
pub mod duration;
pub mod escape;
mod interpolate;
mod mask;
pub mod model;
pub mod preset;
mod raw;
pub mod schema;
pub mod secret;
pub mod template;
mod url;

pub use self::compile::{compile, state_dir_hint};
pub use self::diagnostic::{Diagnostic, Diagnostics, Elsewhere, Label};
use self::model::Policy;

/// The longest policy that is read, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// The text of a policy and where it came from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its path, as shown in diagnostics.
    pub name: &'a str,
    /// Its content; a byte order mark is ignored.
    pub text: &'a str,
}

/// Where variables and files come from.
pub trait Lookup {
    /// The value of an environment variable, if it is set.
    fn var(&self, name: &str) -> Option<String>;

    /// The content of a file.
    ///
    /// # Errors
    /// Why it cannot be read, without any of its content.
    fn file(&self, path: &Path) -> Result<String, String>;
}

/// A policy without errors.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The policy.
    pub policy: Policy,
    /// What its author probably did not mean, in the order of the file.
    pub warnings: Vec<Diagnostic>,
}

//! Those who watch a drill: a reader of the env file, a client, and a listener to the sidecar.
//!
//! None of them knows what is being done; each notes what it sees, and when.

mod client;
mod env;
mod events;
mod log;

pub use client::{LoadClient, pace};
pub use env::{EnvReader, Expected};
pub use events::Listener;
pub use log::{Call, CallEnd, Canary, Log, Mark, Notebook, Written};

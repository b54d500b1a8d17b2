//! The command line: one file a command.
//!
//! Turns arguments into calls of the rooms below and their answers into text for people or JSON
//! for programs. It decides nothing: whatever a command needs to know, a room below knows.
//!
//! Invariants
//! 1. Standard output carries the answer and nothing else; progress, warnings and errors go to
//!    standard error.
//! 2. Every write goes through one terminal. A reader that went away is success.
//! 3. The exit code is 0 fine, 1 failed at run time, 2 usage, 3 unhealthy, 78 policy invalid.
//! 4. No command prints the value of a secret unless it was told to with `--show-secrets`.

mod args;
mod backup;
mod chaos;
mod check;
mod child_init;
mod completions;
mod connect;
mod demo;
mod doctor;
mod drain;
mod events;
mod exec;
mod exit;
mod explain;
mod failure;
mod healthcheck;
mod history;
mod init;
mod locate;
mod man;
mod order;
mod pause;
mod pin;
mod probe;
mod reload;
mod render;
mod restore;
mod run;
mod schema;
mod server;
mod status;
mod switch;
mod table;
mod terminal;
mod time;
mod watch;

pub use args::{command, main};

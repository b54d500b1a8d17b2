//! `child-init` and `child-guard`: what a process of the server is before it is the server, and who
//! ends it when we are killed. Not for people.

use std::ffi::OsString;
use std::io;

use clap::Args;

use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::output::child::{become_command, die_with_parent, guard};

/// Become a command that dies with its parent.
#[derive(Args, Debug)]
pub(crate) struct ChildInit {
    /// The parent.
    #[arg(long, value_name = "PID")]
    parent: u32,
    /// The command.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl ChildInit {
    pub(crate) fn run(self, terminal: Terminal) -> Exit {
        match die_with_parent(self.parent) {
            Ok(true) => {}
            Ok(false) => return Exit::Failed,
            // Better a server that may outlive us than none.
            Err(error) => terminal.say(&format!("cannot die with the parent: {error}\n")),
        }
        let mut words = self.command.into_iter();
        let program = words.next().unwrap_or_default();
        let arguments: Vec<OsString> = words.collect();
        let error = become_command(&program, &arguments);
        terminal.say(&format!("cannot run {}: {error}\n", program.display()));
        // As shells tell it.
        let missing = error.kind() == io::ErrorKind::NotFound;
        Exit::Server(if missing { 127 } else { 126 })
    }
}

/// Ends the groups named on standard input when it closes.
pub(crate) fn child_guard() -> Exit {
    guard(io::stdin().lock());
    Exit::Fine
}

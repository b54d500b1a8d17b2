//! A private server process and the lines that go to it and come from it.
//!
//! What it prints that is no JSON-RPC is passed over, as many servers greet people there; what it
//! says on standard error goes nowhere.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::core::outcome::Outcome;
use crate::policy::model::ExecCheck;
use crate::probe::exec::{self, Group};
use crate::probe::finding::{Finding, Step};
use crate::probe::mcp::era::Era;
use crate::probe::mcp::message::{Found, Reply, find};

/// Bytes of one line.
const LINE_MAX: usize = 1024 * 1024;
/// Bytes that are read while one answer is waited for.
const READ_MAX: usize = 4 * LINE_MAX;
/// Bytes read at a time.
const PIECE: usize = 8 * 1024;
/// How long the end of a process is waited for once it has closed its output.
const END_WAIT: Duration = Duration::from_millis(500);

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    process: Child,
    input: ChildStdin,
    output: ChildStdout,
    unread: Vec<u8>,
    /// Bytes of `unread` that hold no line end.
    searched: usize,
    /// The era that it was opened in, once that is known.
    pub(super) era: Option<Era>,
    /// It is gone, or can no longer be talked to.
    pub(super) gone: bool,
    _group: Group,
}

impl Server {
    pub(super) fn start(check: &ExecCheck) -> Step<Self> {
        let mut process = exec::start(check, Stdio::piped(), Stdio::piped())?;
        let group = Group::of(&process);
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(Finding::local("command could not be started"));
        };
        let unread = Vec::new();
        let (era, gone) = (None, false);
        Ok(Self { process, input, output, unread, searched: 0, era, gone, _group: group })
    }

    /// Sends one message.
    pub(super) async fn say(&mut self, message: &str) -> Step {
        let line = format!("{message}\n");
        let said = async {
            self.input.write_all(line.as_bytes()).await?;
            self.input.flush().await
        };
        match said.await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.ended(&error).await),
        }
    }

    /// Waits for the answer to one of these requests; says to which.
    pub(super) async fn hear(&mut self, ids: &[u64]) -> Step<(u64, Reply)> {
        let mut room = READ_MAX;
        loop {
            let Some(line) = self.line() else {
                room = room.checked_sub(self.read().await?).ok_or_else(endless)?;
                continue;
            };
            for id in ids {
                if let Found::Reply(reply) = find(&line, *id) {
                    return Ok((*id, reply));
                }
            }
        }
    }

    /// A line that has come whole.
    fn line(&mut self) -> Option<Vec<u8>> {
        let fresh = self.unread.get(self.searched..).unwrap_or_default();
        let Some(end) = fresh.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.unread.len();
            return None;
        };
        let rest = self.unread.split_off(self.searched + end + 1);
        self.searched = 0;
        Some(std::mem::replace(&mut self.unread, rest))
    }

    async fn read(&mut self) -> Step<usize> {
        if self.unread.len() >= LINE_MAX {
            return Err(endless());
        }
        self.unread.reserve(PIECE);
        match self.output.read_buf(&mut self.unread).await {
            Ok(0) => Err(self.ended(&io::ErrorKind::UnexpectedEof.into()).await),
            Ok(count) => Ok(count),
            Err(error) => Err(self.ended(&error).await),
        }
    }

    /// Why there is nobody to talk to any more.
    async fn ended(&mut self, _error: &io::Error) -> Finding {
        self.gone = true;
        match timeout(END_WAIT, self.process.wait()).await {
            Ok(Ok(status)) => exec::judge(status).err().unwrap_or_else(|| {
                Finding::new(Outcome::ServerError, "command ended before it answered")
            }),
            Ok(Err(error)) => Finding::from_io(&error),
            Err(_still_running) => Finding::protocol("command closed its input or output"),
        }
    }
}

fn endless() -> Finding {
    Finding::protocol("answer has no end")
}

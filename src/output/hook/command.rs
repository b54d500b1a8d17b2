//! Runs a command in a process group of its own, for no longer than it may take.

use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use crate::output::ActiveConfig;
use crate::output::hook::HookError;
use crate::output::hook::redact::redact;
use crate::policy::model::File;

/// As much of what a command prints as is kept; the rest is read and dropped.
const KEPT: u64 = 8 * 1024;
/// What a command leaves running may hold its output open for ever.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What a command is given of our own environment: enough to find programs, nothing secret.
const INHERITED: [&str; 2] = ["PATH", "HOME"];

/// What a command is told of, and whose values are not quoted.
#[derive(Clone, Copy)]
pub(in crate::output) struct Told<'a> {
    /// What the file holds.
    pub(in crate::output) config: &'a ActiveConfig,
    /// Which file.
    pub(in crate::output) file: &'a File,
}

/// Runs `argv` and waits for it.
pub(in crate::output) async fn run(
    argv: &[String],
    limit: Duration,
    told: Told<'_>,
) -> Result<(), HookError> {
    let program = argv.first().cloned().unwrap_or_default();
    let mut command = prepare(argv, told);
    let spawned =
        command.spawn().map_err(|source| HookError::Spawn { program: program.clone(), source });
    let mut group = Group::new(spawned?);
    let (mut stdout, mut stderr) = (Heard::default(), Heard::default());
    let pipes = (group.child.stdout.take(), group.child.stderr.take());
    let exit = {
        let listening = async {
            tokio::join!(stdout.listen(pipes.0), stderr.listen(pipes.1));
        };
        tokio::time::timeout(limit, until_exit(&mut group.child, listening)).await
    };
    let Ok(status) = exit else {
        return Err(HookError::Timeout { program, limit });
    };
    group.done();
    let status = status.map_err(|source| HookError::Spawn { program: program.clone(), source })?;
    let config = told.config;
    let said = [stdout, stderr].map(|heard| redact(&heard.bytes, heard.cut, config));
    conclude(program, status, said.join(" ").trim())
}

/// Waits for the command and then, not for long, for what it said last.
async fn until_exit(
    child: &mut Child,
    listening: impl Future<Output = ()>,
) -> io::Result<ExitStatus> {
    let mut listening = pin!(listening);
    tokio::select! {
        status = child.wait() => {
            // Whether it said all is no matter: a child of its own may hold the pipe open.
            tokio::time::timeout(LAST_WORDS, listening).await.unwrap_or_default();
            status
        }
        () = &mut listening => child.wait().await,
    }
}

fn conclude(program: String, status: ExitStatus, said: &str) -> Result<(), HookError> {
    if status.success() {
        tracing::debug!(program, said, "hook");
        return Ok(());
    }
    let output = if said.is_empty() { String::new() } else { format!(": {said}") };
    Err(HookError::Exit { program, status, output })
}

fn prepare(argv: &[String], told: Told<'_>) -> Command {
    let mut command = Command::new(argv.first().map_or("", String::as_str));
    command
        .args(argv.get(1..).unwrap_or_default())
        .env_clear()
        .envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("MCP_FAILOVER_REVISION", told.config.revision.to_string())
        .env("MCP_FAILOVER_FILE", &told.file.path)
        .env("MCP_FAILOVER_OUTPUT", &told.file.name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// A command and all that it starts, killed together unless the command ends by itself.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    fn new(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, id }
    }

    /// What a command that ended leaves running is meant to run.
    fn done(&mut self) {
        self.id = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(Err(error)) =
            self.id.map(|id| rustix::process::kill_process_group(id, Signal::KILL))
        {
            tracing::debug!(%error, "hook was gone before it could be killed");
        }
    }
}

/// The beginning of what came out of a pipe.
#[derive(Default)]
struct Heard {
    bytes: Vec<u8>,
    cut: bool,
}

impl Heard {
    /// Reads to the end, so that the command never blocks on a full pipe.
    async fn listen(&mut self, pipe: Option<impl AsyncRead + Unpin>) {
        let Some(pipe) = pipe else { return };
        self.cut = true;
        let mut pipe = pipe.take(KEPT);
        let heard = pipe.read_to_end(&mut self.bytes).await;
        self.cut = pipe.limit() == 0;
        if heard.is_ok() {
            let rest = tokio::io::copy(&mut pipe.into_inner(), &mut tokio::io::sink()).await;
            tracing::trace!(dropped = rest.unwrap_or_default(), "hook said more");
        }
    }
}

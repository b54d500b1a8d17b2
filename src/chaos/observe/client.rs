//! A client that uses whatever the env file says.
//!
//! A new call begins at a steady pace, whatever became of those before, so that one that hangs does
//! not hide how the next would have fared.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::chaos::observe::env::{Expected, Published};
use crate::chaos::observe::{Call, CallEnd, Notebook};
use crate::chaos::upstream::{CALL, KEY};

/// Calls under way at the same time, at most.
const AT_ONCE: u32 = 96;
/// The shortest time between two calls.
const PACE_MIN: Duration = Duration::from_millis(20);
/// Longest answer.
const ANSWER_MAX: u64 = 4096;

/// Time between two calls, where each may take so long.
#[must_use]
pub fn pace(deadline: Duration) -> Duration {
    PACE_MIN.max(deadline / (AT_ONCE / 2))
}

/// A running client; stops when dropped.
#[derive(Debug)]
pub struct LoadClient(JoinHandle<()>);

impl LoadClient {
    /// Starts one that gives a call so long.
    #[must_use]
    pub fn start(env: PathBuf, expected: Expected, notes: Notebook, deadline: Duration) -> Self {
        Self(tokio::spawn(run(env, expected, notes, deadline)))
    }
}

impl Drop for LoadClient {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(env: PathBuf, expected: Expected, notes: Notebook, deadline: Duration) {
    let mut tick = interval(pace(deadline));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            Some(_) = calls.join_next() => continue,
        }
        let room = u32::try_from(calls.len()).is_ok_and(|under_way| under_way < AT_ONCE);
        // Before the look: a file that is newer than this was not seen.
        let begun = notes.now();
        let Some(published) = look(&env, &expected).filter(|_| room) else { continue };
        let notes = notes.clone();
        calls.spawn(async move {
            let end = timeout(deadline, call(&published)).await.unwrap_or(CallEnd::Failed);
            let ended = notes.now();
            notes.with(|log| log.note_call(Call { begun, ended, end }));
        });
    }
}

fn look(env: &Path, expected: &Expected) -> Option<Published> {
    expected.published(&std::fs::read_to_string(env).ok()?)
}

async fn call(published: &Published) -> CallEnd {
    match exchange(published).await {
        Ok(answer) if !answer.starts_with("HTTP/1.1 ") => CallEnd::Failed,
        Ok(answer) if answer.starts_with("HTTP/1.1 403") => CallEnd::Wrong,
        Ok(answer) if answer.starts_with("HTTP/1.1 200") => {
            let whole = answer.split_once("\r\n\r\n").map(|(_, body)| body);
            if whole == Some(published.endpoint.as_str()) { CallEnd::Good } else { other(&answer) }
        }
        Ok(_) | Err(_) => CallEnd::Failed,
    }
}

/// A 200 that is not the endpoint's own answer: of another endpoint, or no answer of the lab.
fn other(answer: &str) -> CallEnd {
    // The lab's own answers have no type; what a fault says in their place has.
    if answer.to_ascii_lowercase().contains("content-type") {
        CallEnd::Failed
    } else {
        CallEnd::Wrong
    }
}

async fn exchange(published: &Published) -> std::io::Result<String> {
    let host = published.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).await?;
    let request = format!(
        "GET {CALL} HTTP/1.1\r\nHost: {host}\r\n{KEY}: {key}\r\nConnection: close\r\n\r\n",
        key = published.key
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

//! A TCP connection, and optionally bytes to send and bytes to wait for.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::policy::model::TcpCheck;
use crate::probe::dial::Dialler;
use crate::probe::finding::{Finding, Step};
use crate::probe::trace::{Stage, Trace};

/// Bytes of an answer that are searched.
const ANSWER_MAX: usize = 64 * 1024;
/// Bytes read at once.
const PIECE: usize = 2 * 1024;

pub(super) async fn run(dialler: &Dialler, check: &TcpCheck, trace: &mut Trace) -> Step {
    let mut stream = dialler.connect(&check.target, trace).await?;
    trace.enter(Stage::Answer);
    if let Some(bytes) = &check.send {
        let sent = stream.write_all(bytes.expose().as_bytes()).await;
        sent.map_err(|error| Finding::from_io(&error))?;
    }
    match &check.expect {
        Some(wanted) => wait_for(&mut stream, wanted.as_bytes(), trace).await,
        None => Ok(()),
    }
}

async fn wait_for(stream: &mut TcpStream, wanted: &[u8], trace: &mut Trace) -> Step {
    let mut tail = Vec::new();
    let mut total = 0;
    let mut piece = [0; PIECE];
    while !contains(&tail, wanted) {
        if total >= ANSWER_MAX {
            return Err(Finding::protocol("answer lacks the expected bytes"));
        }
        // Only the end of what was searched can be the beginning of a match.
        let settled = tail.len().saturating_sub(wanted.len().saturating_sub(1));
        tail.drain(..settled);
        let count = stream.read(&mut piece).await.map_err(|error| Finding::from_io(&error))?;
        match count {
            0 if total == 0 => return Err(Finding::cut("connection closed without an answer")),
            0 => return Err(Finding::protocol("answer lacks the expected bytes")),
            _ if total == 0 => trace.enter(Stage::Body),
            _ => {}
        }
        total += count;
        tail.extend(piece.iter().take(count));
    }
    Ok(())
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || text.windows(wanted.len()).any(|window| window == wanted)
}

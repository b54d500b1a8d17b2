//! A unix socket that MCP servers ask which endpoints to use.
//!
//! Owns the connections and what each of them holds. Lines for programs, HTTP for people with
//! `curl --unix-socket`, told apart by the first byte.
//!
//! Invariants
//! 1. No client makes another one wait, nor the engine: a slow reader gets the latest value only,
//!    a report that finds the queue full is dropped.
//! 2. Values of variables go only to peers that the policy allows, and only if it allows that.

mod desk;
mod http;
mod protocol;
mod session;
mod view;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::id::Revision;
use crate::output::socket::desk::{Desk, Held};
use crate::output::socket::protocol::Failure;
use crate::output::socket::view::{Painter, Views};
use crate::output::worker::Retry;
use crate::output::{ActiveConfig, Board, OutputReport, ReportKind};
use crate::policy::model::{ConfigSocket, Peers};
use crate::unix::{Access, SocketFile};

/// How long a client that says nothing is given to say that it speaks HTTP.
const GREETING: Duration = Duration::from_millis(100);
/// How often it is looked whether the socket's file is still there.
const LOOK: Duration = Duration::from_secs(2);
/// How long clients may take to end when the output does.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves the socket until cancelled; one that cannot be bound is tried again.
pub(super) async fn run(spec: ConfigSocket, board: Board, cancel: CancellationToken) {
    let output: Arc<str> = Arc::from(spec.name.as_str());
    let painter = Painter { spec: Arc::new(spec), generation: generation(&board.generation) };
    let (views, shown) = watch::channel(Arc::default());
    let desk = Desk {
        output: Arc::clone(&output),
        painter: painter.clone(),
        views: shown,
        offers: board.offers.clone(),
        doors: board.doors.watch(),
        feedback: board.feedback.clone(),
        shared: Arc::new(tokio::sync::Mutex::new(Held::new())),
    };
    let listening = listen(&desk, &board, &cancel);
    let showing = show(painter, views, &board, &output);
    tokio::select! {
        () = cancel.cancelled() => {}
        () = listening => {}
        () = showing => {}
    }
}

/// Tells this run of the socket from every other one, within the sidecar's own generation too.
fn generation(sidecar: &str) -> Arc<str> {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    Arc::from(format!("{sidecar}-{}", RUNS.fetch_add(1, Ordering::Relaxed)))
}

/// Draws up each publication for the clients.
async fn show(
    painter: Painter,
    views: watch::Sender<Arc<Views>>,
    board: &Board,
    output: &Arc<str>,
) {
    let mut configs = board.configs.clone();
    loop {
        let config: Option<Arc<ActiveConfig>> = configs.borrow_and_update().clone();
        if let Some(config) = config {
            let since = Instant::now();
            let before = Arc::clone(&views.borrow());
            let offers = Arc::clone(&board.offers.borrow());
            let next = painter.next(&before, &config, &offers.services);
            let changed = next
                .services
                .iter()
                .any(|(name, view)| before.services.get(name).map(|old| old.seq) != Some(view.seq));
            views.send_replace(Arc::new(next));
            let kind = ReportKind::Wrote { changed, took: since.elapsed() };
            say(board, output, config.revision, kind).await;
        }
        if configs.changed().await.is_err() {
            return;
        }
    }
}

async fn say(board: &Board, output: &Arc<str>, revision: Revision, kind: ReportKind) {
    let report = OutputReport { output: Arc::clone(output), revision, kind };
    // The loop is gone only when the process ends.
    board.reports.send(report).await.ok();
}

async fn listen(desk: &Desk, board: &Board, cancel: &CancellationToken) {
    let spec = &desk.painter.spec;
    let access = Access { mode: spec.permissions, folder_mode: 0o755, owner: spec.owner };
    let places = Arc::new(Semaphore::new(spec.max_clients));
    let clients = TaskTracker::new();
    let ended = cancel.child_token();
    let mut retry = Retry::default();
    while !cancel.is_cancelled() {
        match SocketFile::bind(&spec.path, access).await {
            Ok(socket) => {
                retry = Retry::default();
                accept(&socket, desk, (&places, &clients, &ended)).await;
            }
            Err(error) => {
                let error = Arc::from(format!("bind {}: {error}", spec.path.display()));
                let failed = ReportKind::Failed { error };
                say(board, &desk.output, Revision::default(), failed).await;
                tokio::time::sleep(retry.next()).await;
            }
        }
    }
    ended.cancel();
    clients.close();
    timeout(FAREWELL, clients.wait()).await.ok();
}

type Clients<'a> = (&'a Arc<Semaphore>, &'a TaskTracker, &'a CancellationToken);

/// Serves clients until somebody takes the socket's file away.
async fn accept(socket: &SocketFile, desk: &Desk, (places, clients, ended): Clients<'_>) {
    let mut look = tokio::time::interval(LOOK);
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = look.tick() => {
                if socket.is_in_place() {
                    continue;
                }
                return;
            }
        };
        let Ok(stream) = accepted else {
            // Out of descriptors, most likely: give others time to close theirs.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let place = Arc::clone(places).try_acquire_owned();
        let desk = desk.clone();
        let ended = ended.clone();
        clients.spawn(async move {
            let attended = async {
                let Ok(place) = place else {
                    let busy = Failure::new("busy", "too many clients").retry(GREETING);
                    return session::turn_away(stream, busy).await;
                };
                attend(stream, desk).await;
                drop(place);
            };
            tokio::select! {
                () = ended.cancelled() => {}
                () = attended => {}
            }
        });
    }
}

async fn attend(stream: UnixStream, desk: Desk) {
    if !is_allowed(&stream, &desk.painter.spec.allow) {
        return session::turn_away(stream, Failure::FORBIDDEN).await;
    }
    if speaks_http(&stream).await {
        Box::pin(http::serve(stream, desk)).await;
    } else {
        Box::pin(session::serve(stream, desk)).await;
    }
}

fn is_allowed(stream: &UnixStream, allow: &Peers) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let everybody = allow.uids.is_empty() && allow.gids.is_empty();
    stream.peer_cred().is_ok_and(|peer| {
        everybody
            || peer.uid() == 0
            || peer.uid() == own
            || allow.uids.contains(&peer.uid())
            || allow.gids.contains(&peer.gid())
    })
}

/// Whether the first byte is that of an HTTP method. A client that waits to be greeted is not kept
/// waiting for long.
async fn speaks_http(stream: &UnixStream) -> bool {
    let peek = || {
        let mut first = [0_u8; 1];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        let (read, _) = rustix::net::recv(stream, &mut first, flags)?;
        Ok(read == 1 && first.iter().all(u8::is_ascii_uppercase))
    };
    timeout(GREETING, stream.async_io(Interest::READABLE, peek))
        .await
        .is_ok_and(|first| first.unwrap_or(false))
}

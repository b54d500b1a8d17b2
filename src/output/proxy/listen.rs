//! One proxy's life: it listens, follows the engine and the policy, and ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::id::Revision;
use crate::output::proxy::authority::Authority;
use crate::output::proxy::desk::{Desk, SHOW_GAP};
use crate::output::proxy::http;
use crate::output::proxy::intercept::{self, door};
use crate::output::proxy::routing::Routing;
use crate::output::proxy::tcp;
use crate::output::worker::{Reporter, Retry};
use crate::output::{Board, Doors, ReportKind};
use crate::policy::model::{Proxy, ProxyMode};

/// How long open calls may take to end once the sidecar stops.
const GOODBYE: Duration = Duration::from_secs(3);
/// Pause after a connection could not be accepted: out of descriptors, most likely.
const BREATH: Duration = Duration::from_millis(100);

/// Runs one proxy until cancelled.
///
/// It follows its part of the policy: another address in it is bound before the old one is let go.
pub(in crate::output) async fn run(
    specs: watch::Receiver<Proxy>,
    board: Board,
    cancel: CancellationToken,
) {
    let spec = specs.borrow().clone();
    let reporter = Reporter::new(&spec.name, board.reports.clone());
    let desk = Arc::new(Desk::new(spec, board.feedback.clone()));
    let doors = board.doors.clone();
    let tasks = TaskTracker::new();
    let (listens, listening) = watch::channel(false);
    let follower = Follower { desk: &desk, reporter: &reporter, listening, told: None };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = follower.run(specs.clone(), board) => {}
        () = listen(&desk, specs, (&reporter, &doors), (&tasks, &listens)) => {}
    }
    desk.closing.cancel();
    tasks.close();
    desk.tunnels.close();
    let ended = async { tokio::join!(tasks.wait(), desk.tunnels.wait()) };
    if timeout(GOODBYE, ended).await.is_err() {
        desk.close();
        timeout(GOODBYE, tasks.wait()).await.ok();
    }
    desk.show();
}

/// Follows engine and policy, and ends what had time enough.
struct Follower<'a> {
    desk: &'a Desk,
    reporter: &'a Reporter,
    listening: watch::Receiver<bool>,
    told: Option<Revision>,
}

impl Follower<'_> {
    /// Returns when there is nobody left to follow.
    async fn run(mut self, mut specs: watch::Receiver<Proxy>, mut board: Board) {
        let mut show_at = Instant::now() + SHOW_GAP;
        loop {
            let spec = specs.borrow_and_update().clone();
            self.look(spec, &mut board).await;
            loop {
                let wake = self.desk.deadline().unwrap_or(show_at).min(show_at);
                tokio::select! {
                    changed = board.offers.changed() => if changed.is_err() { return },
                    changed = board.configs.changed() => if changed.is_err() { return },
                    changed = specs.changed() => if changed.is_err() { return },
                    Ok(()) = self.listening.changed() => {}
                    () = sleep_until(wake) => {
                        let now = Instant::now();
                        self.desk.end_drains(now);
                        if now >= show_at {
                            self.desk.show();
                            show_at = now + SHOW_GAP;
                        }
                        continue;
                    }
                }
                break;
            }
        }
    }

    async fn look(&mut self, spec: Proxy, board: &mut Board) {
        let began = Instant::now();
        let service = spec.service.clone();
        if spec != self.desk.spec.load().policy {
            self.desk.replace(spec);
        }
        let config = board.configs.borrow_and_update().clone();
        let offers = Arc::clone(&board.offers.borrow_and_update());
        if let Some(routing) = Routing::new(&service, &offers, config.as_deref()) {
            self.desk.follow(&routing);
        }
        let Some(config) = config else { return };
        self.desk.shown(config.revision);
        if *self.listening.borrow_and_update() && self.told != Some(config.revision) {
            self.told = Some(config.revision);
            let kind = ReportKind::Wrote { changed: true, took: began.elapsed() };
            self.reporter.say(config.revision, kind).await;
        }
    }
}

/// Accepts callers at the address that the policy names, and at another once it names another.
async fn listen(
    desk: &Arc<Desk>,
    mut specs: watch::Receiver<Proxy>,
    (reporter, doors): (&Reporter, &Doors),
    (tasks, listens): (&TaskTracker, &watch::Sender<bool>),
) {
    let mut bound: Option<(SocketAddr, TcpListener)> = None;
    let mut retry = Retry::default();
    loop {
        let spec = specs.borrow_and_update().clone();
        let wanted = spec.listen;
        let mut wait = None;
        if bound.as_ref().is_none_or(|(address, _)| *address != wanted) {
            match bind(desk, wanted).await {
                Ok(listener) => {
                    tracing::info!(output = reporter.output(), address = %wanted, "proxy listens");
                    bound = Some((wanted, listener));
                    listens.send_replace(true);
                    retry = Retry::default();
                }
                Err(error) => {
                    let error = Arc::from(error);
                    reporter.say(Revision::default(), ReportKind::Failed { error }).await;
                    wait = Some(retry.next());
                }
            }
        }
        if wait.is_none() {
            show_door(desk, doors, &spec);
        }
        let listener = bound.as_ref().map(|(_, listener)| listener);
        tokio::select! {
            changed = specs.changed() => if changed.is_err() { return },
            never = accept_all(desk, listener, tasks) => never,
            () = sleep(wait.unwrap_or_default()), if wait.is_some() => {}
        }
    }
}

/// Tells those who start servers how to come here, where a server must be told at its start.
fn show_door(desk: &Desk, doors: &Doors, spec: &Proxy) {
    if let Some(door) = desk.authority.get().and_then(|authority| door(spec, authority)) {
        doors.open(&spec.name, &door);
    }
}

/// Listens, with everything made that a caller may need; says what it failed to do.
async fn bind(desk: &Desk, wanted: SocketAddr) -> Result<TcpListener, String> {
    let spec = desk.spec.load();
    if let (ProxyMode::Connect(intercept), None) = (&spec.policy.mode, desk.authority.get()) {
        let intercept = intercept.clone();
        let made = tokio::task::spawn_blocking(move || Authority::establish(&intercept)).await;
        let made = made.map_err(|_broke_off| "make a local authority".to_owned())?;
        let made = Arc::new(made.map_err(|error| error.to_string())?);
        desk.authority.get_or_init(|| made);
    }
    TcpListener::bind(wanted).await.map_err(|error| format!("listen on {wanted}: {error}"))
}

/// Never returns; without a listener it waits for one.
async fn accept_all(desk: &Arc<Desk>, listener: Option<&TcpListener>, tasks: &TaskTracker) -> ! {
    let Some(listener) = listener else {
        loop {
            std::future::pending::<()>().await;
        }
    };
    loop {
        match listener.accept().await {
            Ok((client, _)) => admit(desk, client, tasks),
            Err(error) => {
                tracing::debug!(%error, "no connection accepted");
                sleep(BREATH).await;
            }
        }
    }
}

/// Serves a caller, or turns it away when there are too many.
fn admit(desk: &Arc<Desk>, client: TcpStream, tasks: &TaskTracker) {
    let Ok(place) = desk.places.load().try_acquire_owned() else {
        client.set_zero_linger().ok();
        return;
    };
    let desk = Arc::clone(desk);
    let mode = desk.spec.load().policy.mode.clone();
    tasks.spawn(async move {
        match mode {
            ProxyMode::Tcp => tcp::serve(desk, client).await,
            ProxyMode::Http => http::converse(desk, client).await,
            ProxyMode::Connect(_) => intercept::converse(desk, client).await,
        }
        drop(place);
    });
}

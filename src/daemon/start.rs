//! From nothing to a running loop, and back.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::admin::control::ControlRequest;
use crate::admin::document::SidecarInfo;
use crate::admin::http::{AdminState, Limits};
use crate::admin::hub::EventHub;
use crate::admin::vitals::Vitals;
use crate::core::engine::{Engine, Restored};
use crate::core::rng::mix;
use crate::daemon::alarm::Alarm;
use crate::daemon::backup::{Backups, Notice, Tools};
use crate::daemon::begin::{Begun, begin};
use crate::daemon::clock::Clock;
use crate::daemon::dispatch::{Effects, Means, Probed};
use crate::daemon::driver::{Driver, Queues, Rounds};
use crate::daemon::keeper::{Keeper, Query};
use crate::daemon::lapse::Attention;
use crate::daemon::lifecycle::{Manager, Signals, probes_max};
use crate::daemon::outputs::Outputs;
use crate::daemon::readers::Readers;
use crate::daemon::redis::{RedisCopy, RedisTools};
use crate::daemon::references::{Answered, References};
use crate::daemon::reload::Source;
use crate::daemon::server::Server;
use crate::daemon::surfaces::{Served, Surfaces};
use crate::daemon::{RunError, RunOptions};
use crate::output::{Board, Doors};
use crate::policy::model::Policy;
use crate::probe::Prober;
use crate::telemetry::metric;
use crate::watch::Watcher;

/// Inputs waiting at most, a queue: producers wait, the loop never does.
const QUEUE_MAX: usize = 1_024;
/// How long outputs may take to finish the write they are in when we stop.
const DRAIN: Duration = Duration::from_secs(5);

/// How long servers may take to hear that the sessions of attempts under way are over.
const LEAVE: Duration = Duration::from_secs(2);

/// Runs the sidecar until it is told to stop, then drains.
///
/// # Errors
/// When it cannot start at all: the policy is unusable and no last good one is there, or another
/// sidecar holds the state directory. Once it runs, only the order to stop makes it return.
pub async fn run(options: RunOptions) -> Result<Option<u8>, RunError> {
    let clock = Clock::start();
    let signals = options.handle_signals.then(Signals::install).transpose()?;
    let metrics = metric::install();
    let begun = Box::pin(begin(&options, &clock)).await?;
    let Begun { policy, source, restored, store, latest, from_backup, from_redis, secrets } = begun;
    let (probed_sender, probed) = mpsc::channel(QUEUE_MAX);
    let (control_sender, control) = mpsc::channel(QUEUE_MAX);
    let (source_sender, sources) = mpsc::channel(QUEUE_MAX);
    let (report_sender, reports) = mpsc::channel(QUEUE_MAX);
    let (feedback_sender, feedback) = mpsc::channel(QUEUE_MAX);
    let (look_sender, looks) = mpsc::channel(QUEUE_MAX);
    let readers = Readers::new(look_sender, metrics);
    let (answer_sender, references) = mpsc::channel(QUEUE_MAX);
    let (notice_sender, backups) = mpsc::channel(QUEUE_MAX);
    let mut queues =
        Queues { probed, control, sources, outputs: reports, feedback, looks, references, backups };

    let (keeper, store_thread) = Keeper::start(store, latest)?;
    let mut effects = effects(clock, &policy, keeper, probed_sender)?;
    if options.command.is_some() {
        effects.uptake.with_child();
    }
    effects.uptake.apply(&policy);
    let stopped = options.shutdown.child_token();
    let watcher = crate::watch::spawn(source.path.clone(), source_sender, stopped);
    watcher.also_seen(secrets);
    let watcher = Arc::new(watcher);
    let hurry = CancellationToken::new();
    if let Some(signals) = signals {
        let (watcher, shutdown) = (Arc::clone(&watcher), options.shutdown.clone());
        tokio::spawn(signals.serve(watcher, shutdown, hurry.clone()));
    }
    let board = Board {
        configs: effects.configs.subscribe(),
        offers: effects.offers.subscribe(),
        reports: report_sender,
        feedback: feedback_sender,
        generation: generation(&clock),
        doors: Doors::to(&policy.outputs),
    };
    let server = options
        .command
        .map(|command| Server::start(command, effects.child.subscribe(), &board, &options.shutdown))
        .transpose()?;
    let outputs = Outputs::new(board);
    let stop = options.shutdown.child_token();
    let copies = redis_tools(&effects, &readers, notice_sender.clone(), from_redis, stop.clone());
    let redis = RedisCopy::start(&policy, copies);
    let backups = Backups::start(&policy, tools(&effects, notice_sender, from_backup, stop));
    let parts = Parts {
        effects,
        outputs,
        backups,
        redis,
        source,
        watcher,
        requests: control_sender,
        readers,
        answers: answer_sender,
    };
    let mut driver = assemble(&policy, parts, restored);
    driver.run(&mut queues, &options.shutdown).await;
    let code = match server {
        Some(server) => Some(server.ended().await),
        None => None,
    };
    Box::pin(drain(driver, queues, store_thread, &hurry)).await;
    Ok(code)
}

/// The means by which the engine's wishes are carried out.
fn effects(
    clock: Clock,
    policy: &Arc<Policy>,
    keeper: Keeper,
    probed: mpsc::Sender<Probed>,
) -> Result<Effects, RunError> {
    Ok(Effects::new(Means {
        clock,
        policy: Arc::clone(policy),
        keeper,
        hub: EventHub::new(),
        prober: Prober::new().map_err(RunError::Probing)?,
        probes_max: probes_max(),
        probed,
    }))
}

/// What backups are made with.
fn tools(
    effects: &Effects,
    notices: mpsc::Sender<Notice>,
    recovered: Option<String>,
    stop: CancellationToken,
) -> Tools {
    let (keeper, changed) = (effects.keeper.clone(), Arc::clone(&effects.changed));
    Tools { clock: effects.clock, keeper, changed, notices, recovered, stop }
}

/// What the copy in Redis is kept with.
fn redis_tools(
    effects: &Effects,
    readers: &Readers,
    notices: mpsc::Sender<Notice>,
    recovered: Option<String>,
    stop: CancellationToken,
) -> RedisTools {
    let (clock, keeper) = (effects.clock, effects.keeper.clone());
    let run = generation(&clock);
    RedisTools { clock, keeper, readers: readers.clone(), notices, run, recovered, stop }
}

/// Tells this run from the one before and the one after.
fn generation(clock: &Clock) -> Arc<str> {
    let seed = mix(clock.wall_ms() ^ mix(u64::from(std::process::id())));
    Arc::from(format!("{:08x}", seed & 0xffff_ffff))
}

struct Parts {
    effects: Effects,
    outputs: Outputs,
    backups: Backups,
    redis: RedisCopy,
    source: Source,
    watcher: Arc<Watcher>,
    requests: mpsc::Sender<ControlRequest>,
    readers: Readers,
    answers: mpsc::Sender<Answered>,
}

/// Puts the parts together and lets the engine take its first step.
fn assemble(policy: &Arc<Policy>, parts: Parts, restored: Option<Restored>) -> Driver {
    let Parts { effects, mut outputs, backups, redis, source, watcher, requests, readers, answers } =
        parts;
    let clock = effects.clock;
    let sidecar = SidecarInfo {
        name: policy.sidecar.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: clock.rfc3339(clock.now()),
    };
    let vitals = Arc::new(Vitals::new());
    vitals.set_policy_loaded(true);
    let now = clock.now();
    let seed = mix(clock.wall_ms() ^ mix(u64::from(std::process::id())));
    let (engine, actions) = Engine::new(Arc::clone(&policy.rules), restored, seed, now);
    let drawn = readers.drawn();
    let admin = admin_state(&effects, &vitals, readers);
    let served = Served { admin, requests, hub: effects.hub.clone() };
    let surfaces = Surfaces::start(policy, served);
    let mut references = References::new(answers);
    references.apply(&policy.references);
    outputs.apply(&policy.outputs);
    let mut driver = Driver {
        clock,
        alarm: Alarm::new(clock),
        engine,
        effects,
        outputs,
        backups,
        redis,
        surfaces,
        source,
        watcher,
        manager: Manager::connect(),
        vitals,
        drawn,
        references,
        attention: Attention::new(clock.reading()),
        sidecar,
        rounds: Rounds::default(),
    };
    let Driver { engine, effects, .. } = &mut driver;
    effects.carry_out(actions, now, || engine.snapshot(now));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        policy = %driver.source.path.display(),
        services = policy.services.len(),
        "running"
    );
    metric::process_started(Duration::from_millis(clock.wall_ms()).as_secs_f64());
    driver
}

fn admin_state(effects: &Effects, vitals: &Arc<Vitals>, readers: Readers) -> AdminState {
    let keeper = effects.keeper.clone();
    let status = readers.clone();
    AdminState {
        status: Arc::new(move || {
            let readers = status.clone();
            Box::pin(async move { readers.document().await })
        }),
        hub: effects.hub.clone(),
        metrics: Arc::new(move || {
            let readers = readers.clone();
            Box::pin(async move { readers.metrics().await })
        }),
        history: Arc::new(move |query| {
            let keeper = keeper.clone();
            Box::pin(async move { keeper.history(Query::from(query)).await })
        }),
        vitals: Arc::clone(vitals),
        allowed_hosts: Vec::new(),
        limits: Limits::default(),
    }
}

/// Ends everything in the order in which nothing is lost: no new decisions, writes finished, the
/// last snapshot durable.
async fn drain(
    mut driver: Driver,
    queues: Queues,
    store_thread: JoinHandle<()>,
    hurry: &CancellationToken,
) {
    Manager::stopping();
    // Producers blocked on a full queue are released.
    drop(queues);
    let now = driver.clock.now();
    let snapshot = driver.engine.snapshot(now);
    let saved = driver.effects.save(&snapshot, now);
    let Driver { outputs, backups, redis, surfaces, effects, .. } = driver;
    let orderly = async {
        tokio::join!(outputs.stop(), surfaces.stop(), backups.stopped(), redis.stopped());
        if tokio::time::timeout(LEAVE, effects.leave_servers()).await.is_err() {
            tracing::debug!("a session of a probe was left to its server");
        }
        if let Some(saved) = saved {
            saved.await.ok();
        }
    };
    tokio::select! {
        () = orderly => {}
        () = tokio::time::sleep(DRAIN) => tracing::warn!("the drain took too long"),
        () = hurry.cancelled() => {}
    }
    effects.keeper.stop();
    drop(effects);
    // A disk that hangs must not keep the process from ending.
    let joined = tokio::task::spawn_blocking(move || store_thread.join());
    tokio::time::timeout(DRAIN, joined).await.ok();
    tracing::info!("stopped");
}

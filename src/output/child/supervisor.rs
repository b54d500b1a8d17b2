//! Carries out what session and plan ask for.
//!
//! One task owns both. It waits for nothing but the next thing that happens; what is slow runs
//! beside it.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::core::backoff::Backoff;
use crate::core::id::Revision;
use crate::core::time::Instant;
use crate::output::child::event::ChildEvent;
use crate::output::child::guard::Guard;
use crate::output::child::plan::{Order, Plan, PlanRules, Wanted};
use crate::output::child::process::{Farewell, Happening, Launcher, Process};
use crate::output::child::reaper;
use crate::output::child::session::{Effect, Generation, Input, Keeper, Unfit};
use crate::output::child::settings::{
    CONFIG_WAIT, Command, Given, STEADY, session_rules, speaks_mcp, variables,
};
use crate::output::child::streams::{Outlet, Read, pump};
use crate::policy::model::Child;

/// Reads that wait to be taken in, a source; each is at most a chunk and one message.
const READS_MAX: usize = 2;
/// What the client has not read when everything ends, it gets within this time or not at all.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Revisions whose beginning is remembered, to tell how long they took.
const REVISIONS_REMEMBERED: usize = 64;
/// The exit codes of a command that cannot be run at all, as shells give them.
const NOT_RUN: [u8; 2] = [126, 127];

/// What a supervisor is told, and whom it tells.
#[derive(Debug)]
pub struct Orders {
    /// The configurations.
    pub configs: watch::Receiver<Option<Arc<Given>>>,
    /// How the server is run, as it is now and as it changes.
    pub settings: watch::Receiver<Child>,
    /// Signals for the server, by number.
    pub signals: mpsc::Receiver<i32>,
    /// How long to wait for the first configuration before the server is started without.
    pub config_wait: Duration,
    /// Cancelled to end the server.
    pub stop: CancellationToken,
    /// Who wants to know; what is not taken in time is not told.
    pub events: mpsc::Sender<ChildEvent>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ended {
    /// The exit code of the last process, or 128 and its signal.
    pub code: u8,
}

/// Runs the server until its client is gone, it is told to stop, or it is done.
pub async fn supervise(command: Command, mut orders: Orders) -> Ended {
    let settings = orders.settings.borrow_and_update().clone();
    let (happened, happenings) = mpsc::channel(READS_MAX);
    let drained = Arc::new(Notify::new());
    let speaks = speaks_mcp(settings.stdio);
    let launcher = Launcher {
        command,
        message_max: speaks.then_some(settings.message_max),
        stop_timeout: settings.stop_timeout,
        happenings: happened,
        drained: Arc::clone(&drained),
    };
    let (client, written) = if speaks {
        let (outlet, task) = Outlet::open(tokio::io::stdout(), Arc::clone(&drained));
        (Some(outlet), Some(task))
    } else {
        (None, None)
    };
    let read = speaks.then(|| {
        let (sender, reads) = mpsc::channel(READS_MAX);
        tokio::spawn(pump(tokio::io::stdin(), settings.message_max, sender, |read| read));
        reads
    });
    let guard = Guard::start().map_err(|error| {
        tracing::warn!(%error, "nobody ends the server's processes if this one is killed");
    });
    let mut supervisor = Supervisor::new(settings, launcher, client, orders.events.clone());
    supervisor.guard = guard.ok();
    supervisor.config_wait = orders.config_wait;
    let streams = Streams { happenings, drained, read, written };
    let run = supervisor.run(orders, streams);
    tokio::select! {
        ended = run => ended,
        never = reaper::reap(), if reaper::is_first() => match never {},
    }
}

/// What happens around a supervisor.
struct Streams {
    happenings: mpsc::Receiver<Happening>,
    drained: Arc<Notify>,
    read: Option<mpsc::Receiver<Read>>,
    written: Option<JoinHandle<std::io::Result<()>>>,
}

/// What happened next.
enum Next {
    Close(Farewell),
    Time,
    Config,
    Settings,
    Signal(i32),
    Happening(Happening),
    Client(Read),
    /// There is room again for what waits to be written.
    Drained,
}

/// Something that is still to be carried out.
enum Work {
    Order(Order),
    Effect(Effect),
}

struct Running {
    process: Process,
    /// Whether it has said anything that makes sense: only then it is proven to serve.
    spoke: bool,
    /// A revision that is effective as soon as it does.
    unproven: Option<Revision>,
    /// Whether it has ever served: its exit code is then the server's.
    served: bool,
    since: Instant,
}

struct Supervisor {
    settings: Child,
    launcher: Launcher,
    origin: tokio::time::Instant,
    keeper: Option<Keeper>,
    plan: Plan,
    processes: BTreeMap<Generation, Running>,
    client: Option<Outlet>,
    events: mpsc::Sender<ChildEvent>,
    taken_up: BTreeMap<Revision, Instant>,
    guard: Option<Guard>,
    config_wait: Duration,
    any_served: bool,
    /// Whose exit code counts, once everything ends.
    last: Option<Generation>,
    configured: bool,
    closing: bool,
    code: u8,
}

impl Supervisor {
    fn new(
        settings: Child,
        launcher: Launcher,
        client: Option<Outlet>,
        events: mpsc::Sender<ChildEvent>,
    ) -> Self {
        let keeps_session = client.is_some();
        let plan = Plan::new(PlanRules {
            on_switch: settings.on_switch,
            keeps_session,
            backoff: Backoff::doubling(settings.backoff, settings.backoff_max),
            steady: STEADY,
        });
        let session = session_rules(&settings);
        Self {
            settings,
            launcher,
            origin: tokio::time::Instant::now(),
            keeper: keeps_session.then(|| Keeper::new(session, Instant::START)),
            plan,
            processes: BTreeMap::new(),
            client,
            events,
            taken_up: BTreeMap::new(),
            guard: None,
            config_wait: CONFIG_WAIT,
            any_served: false,
            last: None,
            configured: false,
            closing: false,
            code: 0,
        }
    }

    async fn run(mut self, mut orders: Orders, mut streams: Streams) -> Ended {
        self.look(&mut orders.configs);
        while !(self.closing && self.processes.is_empty()) {
            let next = self.next(&mut orders, &mut streams).await;
            self.take_in(next, &mut orders);
        }
        drop(self.client);
        if let Some(written) = streams.written {
            tokio::time::timeout(LAST_WORDS, written).await.ok();
        }
        Ended { code: self.code }
    }

    async fn next(&self, orders: &mut Orders, streams: &mut Streams) -> Next {
        let wake = self.origin + self.wake_at().since_start();
        let (client_reads, servers_read) = (self.client_reads(), self.servers_read());
        tokio::select! {
            () = orders.stop.cancelled(), if !self.closing => Next::Close(Farewell::Ask),
            () = tokio::time::sleep_until(wake) => Next::Time,
            Ok(()) = orders.configs.changed() => Next::Config,
            Ok(()) = orders.settings.changed() => Next::Settings,
            Some(signal) = orders.signals.recv() => Next::Signal(signal),
            Some(happening) = streams.happenings.recv(), if client_reads => {
                Next::Happening(happening)
            }
            read = client_line(&mut streams.read), if servers_read => {
                read.map_or(Next::Close(Farewell::Hurry), Next::Client)
            }
            () = gone(&mut streams.written), if !self.closing => Next::Close(Farewell::Hurry),
            () = streams.drained.notified() => Next::Drained,
        }
    }

    fn take_in(&mut self, next: Next, orders: &mut Orders) {
        match next {
            Next::Close(farewell) => self.close(farewell),
            Next::Time => self.on_time(),
            Next::Config => self.look(&mut orders.configs),
            Next::Settings => {
                let settings = orders.settings.borrow_and_update().clone();
                self.resettle(settings);
                self.look(&mut orders.configs);
            }
            Next::Signal(signal) => self.forward(signal),
            Next::Happening(happening) => self.on_happening(happening),
            Next::Client(read) => self.on_client(read),
            Next::Drained => {}
        }
    }

    fn now(&self) -> Instant {
        Instant::new(self.origin.elapsed())
    }

    fn wake_at(&self) -> Instant {
        let config = (!self.configured).then(|| Instant::START + self.config_wait);
        let keeper = self.keeper.as_ref().and_then(Keeper::deadline);
        // Nothing to wait for is looked at again in an hour.
        let idle = self.now() + Duration::from_secs(3600);
        [config, keeper, self.plan.deadline()].into_iter().flatten().fold(idle, Instant::min)
    }

    /// Whether what servers say can be passed on. When everything ends, nobody is waited for.
    fn client_reads(&self) -> bool {
        self.closing || !self.client.as_ref().is_some_and(Outlet::is_full)
    }

    fn servers_read(&self) -> bool {
        let full = |one: &Running| one.process.input.as_ref().is_some_and(Outlet::is_full);
        !self.processes.values().any(full)
    }

    /// Goes on by other settings. What its streams are, and how long a message may be, was settled
    /// when they were opened.
    fn resettle(&mut self, settings: Child) {
        let Child { stdio, message_max, .. } = self.settings;
        if (stdio, message_max) != (settings.stdio, settings.message_max) {
            tracing::warn!(
                "`stdio` and `message_max` of [child] are in force once the sidecar is started anew"
            );
        }
        self.settings = Child { stdio, message_max, ..settings };
        self.launcher.stop_timeout = self.settings.stop_timeout;
        let backoff = Backoff::doubling(self.settings.backoff, self.settings.backoff_max);
        self.plan.resettle(self.settings.on_switch, backoff);
        if let Some(keeper) = &mut self.keeper {
            keeper.resettle(session_rules(&self.settings));
        }
    }

    fn look(&mut self, configs: &mut watch::Receiver<Option<Arc<Given>>>) {
        let given = configs.borrow_and_update().clone();
        let Some(given) = given else { return };
        let variables = variables(&self.settings, &given);
        self.configure(Wanted { revision: given.config.revision, variables });
    }

    fn configure(&mut self, wanted: Wanted) {
        self.configured = true;
        let now = self.now();
        self.taken_up.entry(wanted.revision).or_insert(now);
        while self.taken_up.len() > REVISIONS_REMEMBERED {
            self.taken_up.pop_first();
        }
        let orders = self.plan.configured(now, wanted);
        self.carry_out(orders);
    }

    fn on_time(&mut self) {
        let now = self.now();
        if !self.configured && now >= Instant::START + self.config_wait {
            tracing::error!("no configuration came; starting the server with our own environment");
            self.configure(Wanted::default());
        }
        let orders = self.plan.tick(now);
        self.carry_out(orders);
        self.session(Input::Tick);
    }

    fn on_client(&mut self, read: Read) {
        match read {
            Read::Lines(lines) => lines.into_iter().for_each(|line| {
                self.session(Input::Client(line));
            }),
            Read::TooLong => self.session(Input::ClientTooLong),
        }
    }

    fn on_happening(&mut self, happening: Happening) {
        match happening {
            Happening::Wrote(generation, Read::Lines(lines)) => {
                if lines.iter().any(|line| line.starts_with(b"{")) {
                    self.heard_from(generation);
                }
                for line in lines {
                    self.session(Input::Server(generation, line));
                }
            }
            Happening::Wrote(generation, Read::TooLong) => {
                // Whose answer it was cannot be told, so nobody may wait for it for ever.
                tracing::error!(%generation, "the server wrote a message that is too long");
                if let Some(running) = self.processes.get_mut(&generation) {
                    running.process.end(Farewell::Ask);
                }
            }
            Happening::Ended(generation, code) => self.on_end(generation, code),
        }
    }

    fn heard_from(&mut self, generation: Generation) {
        let Some(running) = self.processes.get_mut(&generation) else { return };
        running.spoke = true;
        if let Some(revision) = running.unproven.take() {
            self.effective(generation, revision);
        }
    }

    fn effective(&self, generation: Generation, revision: Revision) {
        let now = self.now();
        let took = self.taken_up.get(&revision).map_or(Duration::ZERO, |at| now - *at);
        self.tell(ChildEvent::Effective { generation, revision, took });
    }

    fn on_end(&mut self, generation: Generation, code: u8) {
        let Some(running) = self.processes.remove(&generation) else { return };
        if let (Some(guard), Some(group)) = (&mut self.guard, running.process.group) {
            guard.release(group);
        }
        let now = self.now();
        let uptime = now - running.since;
        let wanted = running.process.is_ending();
        self.tell(ChildEvent::Ended { generation, code, wanted, uptime });
        // The exit code is that of the one that served last, or of the only one there was.
        let served = running.served || !self.any_served;
        if served && self.last.is_none_or(|last| last == generation) {
            self.code = code;
        }
        self.session(Input::Ended(generation));
        let done = self.keeper.is_none() && code == 0 && served;
        let never_ran = NOT_RUN.contains(&code) && generation == Generation::default().next();
        if !wanted && (done || never_ran) {
            return self.close(Farewell::Ask);
        }
        let orders = self.plan.ended(now, generation);
        self.carry_out(orders);
    }

    /// Ends everything; a second, more urgent call hastens it.
    fn close(&mut self, farewell: Farewell) {
        self.closing = true;
        self.last = self.last.or(self.plan.serving());
        self.plan.close();
        for running in self.processes.values_mut() {
            running.process.end(farewell);
        }
    }

    fn forward(&self, signal: i32) {
        let serving = self.plan.serving().and_then(|serving| self.processes.get(&serving));
        if let Some(running) = serving {
            running.process.signal(signal);
        }
    }

    fn session(&mut self, input: Input) {
        let now = self.now();
        let effects = self.keeper.as_mut().map(|keeper| keeper.step(now, input));
        self.work(effects.unwrap_or_default().into_iter().map(Work::Effect).collect());
    }

    fn carry_out(&mut self, orders: Vec<Order>) {
        self.work(orders.into_iter().map(Work::Order).collect());
    }

    fn work(&mut self, mut work: VecDeque<Work>) {
        while let Some(next) = work.pop_front() {
            match next {
                Work::Effect(effect) => {
                    work.extend(self.effect(effect).into_iter().map(Work::Order));
                }
                Work::Order(order) => work.extend(self.order(order)),
            }
        }
    }

    fn effect(&mut self, effect: Effect) -> Vec<Order> {
        let now = self.now();
        match effect {
            Effect::ToClient(line) => {
                if let Some(client) = &self.client {
                    client.send(line);
                }
            }
            Effect::ToServer(generation, line) => {
                let running = self.processes.get(&generation);
                if let Some(input) = running.and_then(|running| running.process.input.as_ref()) {
                    input.send(line);
                }
            }
            Effect::Serves(generation) => return self.plan.serves(now, generation),
            Effect::Unfit(generation, why) => {
                let revision = self.plan.revision(generation);
                let (orders, retry) = self.plan.unfit(now, generation);
                if why != Unfit::Superseded && !self.closing {
                    self.tell(ChildEvent::SwitchFailed { generation, revision, why, retry });
                }
                return orders;
            }
            Effect::Released(generation) => return self.plan.released(generation),
            Effect::Stray(_, line) => {
                // As if it had been written to where it belongs. A terminal may refuse it.
                std::io::stderr().write_all(&[&line, &b"\n"[..]].concat()).ok();
            }
            Effect::Substituted { reason, .. } => self.tell(ChildEvent::Substituted { reason }),
        }
        Vec::new()
    }

    fn order(&mut self, order: Order) -> Vec<Work> {
        match order {
            Order::Start(generation, wanted) => return self.start(generation, &wanted),
            Order::Park => return self.step(Input::Park),
            Order::Stop(generation) => {
                let speaks = self.keeper.is_some();
                let farewell = if speaks { Farewell::Leave } else { Farewell::Ask };
                if let Some(running) = self.processes.get_mut(&generation) {
                    running.process.end(farewell);
                }
            }
            Order::Signal(generation, revision, signal) => {
                if let Some(running) = self.processes.get(&generation) {
                    running.process.signal(signal);
                    self.tell(ChildEvent::Signalled { revision });
                }
            }
            Order::Effective(generation, revision) => {
                let speaks = self.keeper.is_some();
                let Some(running) = self.processes.get_mut(&generation) else { return Vec::new() };
                running.served = true;
                self.any_served = true;
                if speaks && !running.spoke {
                    running.unproven = Some(revision);
                } else {
                    self.effective(generation, revision);
                }
            }
        }
        Vec::new()
    }

    fn start(&mut self, generation: Generation, wanted: &Wanted) -> Vec<Work> {
        let (now, revision) = (self.now(), wanted.revision);
        match self.launcher.start(generation, &wanted.variables) {
            Ok(process) => {
                self.tell(ChildEvent::Started { generation, revision, pid: process.pid });
                if let (Some(guard), Some(group)) = (&mut self.guard, process.group) {
                    guard.watch(group);
                }
                self.processes.insert(
                    generation,
                    Running { process, spoke: false, unproven: None, served: false, since: now },
                );
                if self.keeper.is_some() {
                    self.step(Input::Started(generation))
                } else {
                    self.plan.serves(now, generation).into_iter().map(Work::Order).collect()
                }
            }
            Err(error) => {
                tracing::error!(%error, "failed to start a process");
                let retry = self.plan.not_started(now, generation);
                self.tell(ChildEvent::NotStarted { revision, retry });
                Vec::new()
            }
        }
    }

    fn step(&mut self, input: Input) -> Vec<Work> {
        let now = self.now();
        let effects = self.keeper.as_mut().map(|keeper| keeper.step(now, input));
        effects.unwrap_or_default().into_iter().map(Work::Effect).collect()
    }

    fn tell(&self, event: ChildEvent) {
        event.log();
        if let Err(error) = self.events.try_send(event) {
            tracing::trace!(%error, "nobody takes the event");
        }
    }
}

/// The next of what the client writes; `None` once, when it is gone, and then never anything.
async fn client_line(reads: &mut Option<mpsc::Receiver<Read>>) -> Option<Read> {
    let Some(open) = reads else { return std::future::pending().await };
    let read = open.recv().await;
    if read.is_none() {
        *reads = None;
    }
    read
}

/// Comes back when the client reads no more.
async fn gone(written: &mut Option<JoinHandle<std::io::Result<()>>>) {
    match written {
        Some(task) => {
            task.await.ok();
            *written = None;
        }
        None => std::future::pending().await,
    }
}

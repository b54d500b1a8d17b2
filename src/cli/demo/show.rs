//! The performance: watches everything at once, and acts when the script or a person says so.

use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::admin::document::StatusDocument;
use crate::chaos::fault::Fault;
use crate::chaos::observe::Listener;
use crate::cli::connect::Link;
use crate::cli::demo::keys::Keys;
use crate::cli::demo::narrator::{self, Narrator, standing};
use crate::cli::demo::script::{Cue, Script, Times};
use crate::cli::demo::sidecar::Sidecar;
use crate::cli::demo::stage::Stage;
use crate::cli::demo::timeline::Timeline;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::terminal::{Terminal, Tone};
use crate::cli::time;
use crate::core::action::{Event, MoveKind};
use crate::core::health::Health;
use crate::core::record::EventRecord;

/// Time between two looks at the env file: what the time to publish is accurate to.
const ENV_LOOK: Duration = Duration::from_millis(10);
/// Time between two looks at the status.
const STATUS_LOOK: Duration = Duration::from_millis(100);
/// How slow a slow upstream is: beyond any deadline of the demo's policy.
const SLOW: Duration = Duration::from_secs(3);

/// Whether the show goes on.
type Verdict = Option<Exit>;

/// Plays the demo to its end.
///
/// # Errors
/// When the sidecar fails, a stage misses its deadline, or the terminal goes away.
pub(super) async fn perform(
    stage: &Stage,
    once: bool,
    terminal: Terminal,
) -> Result<Exit, Failure> {
    let mut sidecar = Sidecar::start(stage.policy_path())?;
    let mut show = Show::new(stage, once, terminal);
    show.title()?;
    let exit = tokio::select! {
        exit = show.run() => exit,
        failure = sidecar.failed() => Err(failure),
    };
    show.timeline.settle()?;
    drop(sidecar);
    if let (Ok(Exit::Fine), true) = (&exit, once) {
        show.summary()?;
    }
    if let Some(dir) = stage.kept() {
        show.timeline.plain(&format!("\n  kept in {}", dir.display()))?;
    }
    exit
}

struct Show<'a> {
    stage: &'a Stage,
    link: Link,
    timeline: Timeline,
    narrator: Narrator,
    script: Script,
    keys: Option<Keys>,
    env: String,
}

impl<'a> Show<'a> {
    fn new(stage: &'a Stage, once: bool, terminal: Terminal) -> Self {
        let keys = if once || !terminal.interactive() { None } else { Keys::open() };
        Self {
            stage,
            link: Link::new(stage.socket_path()),
            timeline: Timeline::new(terminal),
            narrator: Narrator::default(),
            script: Script::new(once, Instant::now()),
            keys,
            env: String::new(),
        }
    }

    fn title(&mut self) -> Result<(), Failure> {
        let terminal = self.timeline.terminal();
        let row = |label: &str, value: String, note: &str| {
            let value = terminal.paint(Tone::Accent, value);
            let note = terminal.paint(Tone::Quiet, note);
            format!("    {label:<10} {value}  {note}").trim_end().to_owned()
        };
        let stage = self.stage;
        let path = |path: PathBuf| path.display().to_string();
        let lines = [
            String::new(),
            terminal
                .paint(Tone::Strong, "  mcp-failover: one service, two upstreams, one sidecar."),
            String::new(),
            row("primary", format!("http://{}", stage.primary.address()), ""),
            row("secondary", format!("http://{}", stage.secondary.address()), ""),
            row("policy", path(stage.policy_path()), "edit it and save: it takes effect at once"),
            row("env file", path(stage.env_path()), "what an MCP server would read"),
            row("status", format!("http://{}/", stage.admin()), "open it in a browser"),
            String::new(),
        ];
        lines.iter().try_for_each(|line| self.timeline.plain(line))
    }

    async fn run(&mut self) -> Result<Exit, Failure> {
        let mut leave = Leave::install()?;
        let (sender, mut events) = mpsc::unbounded_channel();
        let hear = move |record, _first| sender.send(record).is_ok();
        let _listener = Listener::start(self.stage.socket_path(), hear);
        let (mut env_look, mut status_look) = (every(ENV_LOOK), every(STATUS_LOOK));
        loop {
            let verdict = tokio::select! {
                () = leave.asked() => Some(Exit::Fine),
                key = next_key(&mut self.keys) => self.key(key)?,
                Some(record) = events.recv() => self.event(&record)?,
                _ = env_look.tick() => self.look_at_env()?,
                _ = status_look.tick() => {
                    let document = self.link.status().await;
                    self.look_at_status(document.ok().as_ref())?
                }
            };
            if let Some(exit) = verdict {
                return Ok(exit);
            }
        }
    }

    fn event(&mut self, record: &EventRecord) -> Result<Verdict, Failure> {
        let now = Instant::now();
        if let Event::StatusChange { endpoint, to: Health::Unhealthy, .. } = &record.event
            && endpoint.as_str() == "primary"
        {
            self.script.detected(now);
        }
        if let Event::Switched(decision) = &record.event
            && decision.kind == MoveKind::Failover
        {
            self.script.decided(now);
        }
        narrator::event(&record.event, &mut self.timeline)?;
        Ok(None)
    }

    fn look_at_env(&mut self) -> Result<Verdict, Failure> {
        let text = std::fs::read_to_string(self.stage.env_path()).unwrap_or_default();
        if text != self.env {
            self.narrator.env(&text, &mut self.timeline)?;
            self.env = text;
        }
        let now = Instant::now();
        let faulty = self.stage.primary.fault() != Fault::None;
        self.script.observe(faulty, self.narrator.published(), now);
        match self.script.cue(now) {
            Cue::Wait => {}
            Cue::Break => self.act(Fault::Killed, "script")?,
            Cue::Slow => self.act(Fault::Slow(SLOW), "script")?,
            Cue::Heal => self.act(Fault::None, "script")?,
            Cue::Done => return Ok(Some(Exit::Fine)),
            Cue::Missed(what) => return Err(Failure::Demo { missed: what.into() }),
        }
        Ok(None)
    }

    fn look_at_status(&mut self, document: Option<&StatusDocument>) -> Result<Verdict, Failure> {
        let Some(document) = document else { return Ok(None) };
        self.narrator.status(document, &mut self.timeline)?;
        let mut parts = standing(document);
        if self.keys.is_some() {
            let auto = if self.script.auto() { "" } else { "  a auto" };
            parts.push((Tone::Quiet, format!("   b break  h heal  s slow{auto}  q quit")));
        }
        self.timeline.live(&parts)?;
        Ok(None)
    }

    fn key(&mut self, key: char) -> Result<Verdict, Failure> {
        let fault = match key {
            'b' => Fault::Killed,
            'h' => Fault::None,
            's' => Fault::Slow(SLOW),
            'a' => {
                self.script.set_auto(true);
                self.timeline.line(Tone::Accent, "you", "let the script go on")?;
                return Ok(None);
            }
            'q' => return Ok(Some(Exit::Fine)),
            _ => return Ok(None),
        };
        self.script.set_auto(false);
        self.act(fault, "you")?;
        Ok(None)
    }

    fn act(&mut self, fault: Fault, who: &str) -> Result<(), Failure> {
        self.stage.primary.ask(fault);
        // Observed at once, so that the times are counted from here.
        self.script.observe(fault != Fault::None, self.narrator.published(), Instant::now());
        let text = if fault == Fault::None {
            "heal the primary".to_owned()
        } else {
            format!("break the primary: it {}", fault.sentence())
        };
        let text = self.timeline.terminal().paint(Tone::Strong, text);
        self.timeline.line(Tone::Warn, who, text)
    }

    fn summary(&mut self) -> Result<(), Failure> {
        let terminal = self.timeline.terminal();
        let Times { broken, detected, decided, published, healed, returned } = self.script.times();
        let row = |label: &str, from: Option<Instant>, to: Option<Instant>, note: &str| {
            let span = from.zip(to).map(|(from, to)| to.saturating_duration_since(from));
            let span = span.map_or_else(|| "not seen".to_owned(), time::latency);
            format!("    {label:<12} {span:>8}   {}", terminal.paint(Tone::Quiet, note))
        };
        let lines = [
            String::new(),
            terminal.paint(Tone::Good, "  The demo went right."),
            String::new(),
            row("detect", broken, detected, "from the break to three failures in a row"),
            row(
                "publish",
                decided,
                published,
                "from the decision to the env file, seen every 10 ms",
            ),
            row("fail over", broken, published, "from the break to the env file"),
            row("fail back", healed, returned, "from the heal to the env file, hold included"),
            String::new(),
        ];
        lines.iter().try_for_each(|line| self.timeline.plain(line))
    }
}

/// A look at a steady pace that is never made up for.
fn every(period: Duration) -> Interval {
    let mut look = interval(period);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    look
}

/// Waits for a key; for ever where there is no keyboard.
async fn next_key(keys: &mut Option<Keys>) -> char {
    if let Some(keys) = keys
        && let Some(key) = keys.next().await
    {
        return key;
    }
    std::future::pending().await
}

/// The ways to be told to leave.
struct Leave {
    interrupt: Signal,
    terminate: Signal,
}

impl Leave {
    fn install() -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(Failure::Stage);
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

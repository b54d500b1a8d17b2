//! `status`: what a running sidecar knows, at a glance.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use crate::admin::document::{
    BackupDocument, EndpointDocument, OutputDocument, PolicyInfo, RedisDocument, RedisState,
    ServiceDocument, StatusDocument,
};
use crate::cli::connect::{ControlArgs, Link, block_on};
use crate::cli::events::{breaker_tone, health_tone, left_of, words};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{Terminal, Tone};
use crate::cli::time;
use crate::core::id::Revision;
use crate::core::status::{AdminState, ServiceState};

/// A certificate is spoken of when it ends sooner than this.
const CERTIFICATE_SOON: Duration = Duration::from_secs(21 * 24 * 60 * 60);
/// Time between two looks of `--watch`.
const LOOK: Duration = Duration::from_secs(1);

/// Show what a running sidecar knows.
#[derive(Args, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    control: ControlArgs,
    /// Keep looking, once a second, until interrupted.
    #[arg(long, short)]
    watch: bool,
    /// Print JSON: one document, or one a line with --watch.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let link = self.control.link()?;
        if self.watch {
            return block_on(self.follow(&link, terminal))?;
        }
        let document = block_on(link.status())??;
        if self.json {
            terminal.print_json(&document)?;
        } else {
            terminal.print(&view(&document, terminal, time::now()))?;
        }
        Ok(Exit::Fine)
    }

    async fn follow(&self, link: &Link, terminal: Terminal) -> Result<Exit, Failure> {
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            match link.status().await {
                Ok(document) if self.json => terminal.print_json_line(&document)?,
                Ok(document) => redraw(&view(&document, terminal, time::now()), terminal)?,
                Err(failure) if terminal.interactive() && !self.json => {
                    let text = terminal.paint(Tone::Bad, failure.chain());
                    redraw(&format!("no answer: {text}\n"), terminal)?;
                }
                Err(failure) => return Err(failure),
            }
        }
    }
}

/// Draws over what was drawn before, line by line, so that nothing flickers.
fn redraw(text: &str, terminal: Terminal) -> Result<(), Failure> {
    if !terminal.interactive() {
        return terminal.print(&format!("{text}\n"));
    }
    let lines = text.replace('\n', "\x1b[K\n");
    terminal.print(&format!("\x1b[H{lines}\x1b[J"))
}

/// The whole page.
pub(crate) fn view(document: &StatusDocument, terminal: Terminal, now: Timestamp) -> String {
    let mut text = head(document, terminal, now);
    text.push('\n');
    text.push_str(&services(document, now).render(terminal));
    text.push('\n');
    text.push_str(&endpoints(document, now).render(terminal));
    if !document.outputs.is_empty() {
        text.push('\n');
        text.push_str(&outputs(document, now).render(terminal));
    }
    text
}

fn head(document: &StatusDocument, terminal: Terminal, now: Timestamp) -> String {
    let sidecar = &document.sidecar;
    let up = time::since(&sidecar.started_at, now).map(time::span).unwrap_or_default();
    let mut text = format!(
        "{}  version {}, pid {}, up {up}, revision {}\n",
        terminal.paint(Tone::Strong, &sidecar.name),
        sidecar.version,
        sidecar.pid,
        document.revision,
    );
    text.push_str(&policy_lines(&document.policy, terminal, now));
    if !document.references.is_empty() {
        let reached = document.references.iter().filter(|one| one.reached == Some(true)).count();
        let total = document.references.len();
        let line = format!("references: {reached} of {total} answered\n");
        text.push_str(&line);
    }
    if let Some(backup) = &document.backup {
        text.push_str(&backup_line(backup, terminal, now));
    }
    if let Some(redis) = &document.redis {
        text.push_str(&redis_line(redis, terminal, now));
    }
    if document.isolated {
        let warning = "isolated: the sidecar believes that it is itself cut off, and holds still";
        text += &terminal.paint(Tone::Bad, warning);
        text.push('\n');
    }
    if document.confirmation_wait_seconds > 0.0 {
        let warning = format!(
            "crowded: too many endpoints waver at once; asking one again waits {:.1} s for its turn",
            document.confirmation_wait_seconds
        );
        text += &terminal.paint(Tone::Bad, &warning);
        text.push('\n');
    }
    text
}

fn backup_line(backup: &BackupDocument, terminal: Terminal, now: Timestamp) -> String {
    let good = backup.good_at.as_deref().and_then(|at| time::since(at, now)).map(time::span);
    let good = good.map_or_else(|| "none yet".to_owned(), |age| format!("good {age} ago"));
    let mut text = format!("backup {}, {good}", backup.to);
    if let Some(kept) = backup.kept {
        text = format!("{text}, {kept} kept");
    }
    if let Some(name) = &backup.recovered_from {
        text = format!("{text}, started from {name}");
    }
    match &backup.failure {
        Some(why) => {
            let why = format!("failed {} times in a row: {why}", backup.failures);
            format!("{text}\n  {}\n", terminal.paint(Tone::Bad, why))
        }
        None => format!("{text}\n"),
    }
}

fn redis_line(redis: &RedisDocument, terminal: Terminal, now: Timestamp) -> String {
    let (word, tone) = match redis.state {
        RedisState::Starting => ("starting", Tone::Quiet),
        RedisState::Up => ("up", Tone::Good),
        RedisState::Down => ("down", Tone::Bad),
        RedisState::Conflict => ("conflict", Tone::Bad),
    };
    let RedisDocument { url, keys, .. } = redis;
    let mut text = format!("{url} {keys}, {}", terminal.paint(tone, word));
    let at = redis.committed_at.as_deref().and_then(|at| time::since(at, now)).map(time::span);
    if let Some((age, revision)) = at.zip(redis.revision) {
        text = format!("{text}, revision {revision} confirmed {age} ago");
    }
    if redis.outbox > 0 {
        text = format!("{text}, {} decisions wait", redis.outbox);
    }
    if redis.dropped > 0 {
        text = format!("{text}, {} to be read from disk", redis.dropped);
    }
    if let Some(from) = &redis.recovered_from {
        text = format!("{text}, started from {from}");
    }
    match (&redis.failure, &redis.help) {
        (Some(why), help) => {
            let help = help.as_deref().map_or_else(String::new, |help| format!("; {help}"));
            format!("{text}\n  {}\n", terminal.paint(Tone::Bad, format!("{why}{help}")))
        }
        (None, _) => format!("{text}\n"),
    }
}

fn policy_lines(policy: &PolicyInfo, terminal: Terminal, now: Timestamp) -> String {
    let age = time::since(&policy.loaded_at, now).map(time::span).unwrap_or_default();
    if policy.valid {
        return format!("policy {}, loaded {age} ago\n", policy.path);
    }
    let text = format!("policy {} is not valid; running on the one loaded {age} ago", policy.path);
    let lines: Vec<String> =
        policy.diagnostics.iter().map(|diagnostic| format!("  {diagnostic}\n")).collect();
    format!("{}\n{}", terminal.paint(Tone::Bad, text), lines.concat())
}

fn services(document: &StatusDocument, now: Timestamp) -> Table {
    let mut table = Table::new(&["SERVICE", "STATE", "ACTIVE", "SINCE", "STRATEGY", "NOTE"]);
    for (name, service) in &document.services {
        let active = service.active.as_ref().map_or_else(Cell::none, |name| name.as_str().into());
        table.row(vec![
            Cell::new(Tone::Strong, name.as_str()),
            Cell::new(state_tone(service), words(service.state.label())),
            active,
            ago(service.active_since.as_deref(), now),
            service.strategy.label().into(),
            service_note(service, now).into(),
        ]);
    }
    table
}

/// How bad a service's state is.
pub(crate) const fn state_tone(service: &ServiceDocument) -> Tone {
    match service.state {
        ServiceState::Starting => Tone::Quiet,
        ServiceState::Healthy => Tone::Good,
        ServiceState::FailedOver | ServiceState::Holding => Tone::Warn,
        ServiceState::AllDown => Tone::Bad,
    }
}

fn service_note(service: &ServiceDocument, now: Timestamp) -> String {
    let mut notes = Vec::new();
    if service.critical {
        notes.push("critical".to_owned());
    }
    if let Some(endpoint) = &service.pinned {
        let left = service.pinned_until.as_deref().and_then(|at| time::until(at, now));
        let left = left.map(|left| format!(" for {}", time::span(left))).unwrap_or_default();
        notes.push(format!("pinned to {endpoint}{left}"));
    }
    if service.paused {
        notes.push("paused".to_owned());
    }
    if let Some(why) = service.held {
        notes.push(format!("held: {}", words(why.label())));
    }
    if let Some(left) = service.failback_at.as_deref().and_then(|at| time::until(at, now)) {
        notes.push(format!("returns in {}", time::span(left)));
    }
    notes.join(", ")
}

fn endpoints(document: &StatusDocument, now: Timestamp) -> Table {
    let header =
        ["ENDPOINT", "TIER", "HEALTH", "BREAKER", "SCORE", "LAST", "LATENCY", "PROBED", "NOTE"];
    let mut table = Table::new(&header);
    for (service_name, service) in &document.services {
        for (name, endpoint) in &service.endpoints {
            let active = service.active.as_ref() == Some(name);
            let tone = if active { Tone::Strong } else { Tone::Plain };
            let mut row = vec![Cell::new(tone, format!("{service_name}/{name}"))];
            row.extend(endpoint_cells(endpoint, now));
            row.push(endpoint_note(endpoint, active, now).into());
            table.row(row);
        }
    }
    table
}

fn endpoint_cells(endpoint: &EndpointDocument, now: Timestamp) -> Vec<Cell> {
    let outcome = endpoint.last_outcome.as_deref();
    let latency = endpoint.latency_seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
    vec![
        endpoint.tier.to_string().into(),
        Cell::new(health_tone(endpoint.health), words(endpoint.health.label())),
        Cell::new(breaker_tone(endpoint.breaker), words(endpoint.breaker.label())),
        format!("{:.2}", endpoint.score).into(),
        outcome.map_or_else(Cell::none, |outcome| words(outcome).into()),
        latency.map_or_else(Cell::none, |latency| time::latency(latency).into()),
        ago(endpoint.last_probe_at.as_deref(), now),
    ]
}

fn endpoint_note(endpoint: &EndpointDocument, active: bool, now: Timestamp) -> String {
    let mut notes = Vec::new();
    if active {
        notes.push("active".to_owned());
    }
    if endpoint.admin == AdminState::Drained {
        notes.push("drained".to_owned());
    }
    if let Some(detail) = &endpoint.last_detail {
        notes.push(detail.to_string());
    }
    let quota = endpoint.quota.as_ref();
    notes.extend(quota.and_then(|quota| left_of(quota.remaining, quota.limit)));
    let certificate = endpoint.certificate_expires_in_seconds;
    if let Some(left) = certificate.and_then(|left| Duration::try_from_secs_f64(left).ok())
        && left < CERTIFICATE_SOON
    {
        notes.push(format!("certificate ends in {}", time::span(left)));
    }
    if endpoint.suppressed {
        notes.push("flapping".to_owned());
    }
    if let Some(left) = endpoint.throttled_until.as_deref().and_then(|at| time::until(at, now)) {
        notes.push(format!("left alone for {}", time::span(left)));
    }
    notes.join(", ")
}

fn outputs(document: &StatusDocument, now: Timestamp) -> Table {
    let mut table = Table::new(&["OUTPUT", "REVISION", "AT", "IN USE", "NOTE"]);
    let number = |revision: &Option<Revision>| {
        revision.map_or_else(Cell::none, |revision| revision.to_string().into())
    };
    for (name, output) in &document.outputs {
        let OutputDocument { revision, failure, at, effective, awaited_seconds, .. } = output;
        let waiting = awaited_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let note = match (failure, waiting) {
            (Some(failure), _) => Cell::new(Tone::Bad, &**failure),
            (None, Some(waiting)) => {
                Cell::new(Tone::Warn, format!("not in use for {}", time::span(waiting)))
            }
            (None, None) => Cell::new(Tone::Good, "written"),
        };
        let at = ago(at.as_deref(), now);
        table.row(vec![(&**name).into(), number(revision), at, number(effective), note]);
    }
    table
}

fn ago(at: Option<&str>, now: Timestamp) -> Cell {
    let since = at.and_then(|at| time::since(at, now));
    match since {
        None => Cell::none(),
        Some(since) if since < Duration::from_secs(1) => "now".into(),
        Some(since) => format!("{} ago", time::span(since)).into(),
    }
}

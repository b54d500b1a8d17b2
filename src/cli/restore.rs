//! `restore`: puts a backup in place of the state of a sidecar that does not run.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::backup::{all, chosen, failed, fetch, patient, wanted};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::locate::PolicyArgs;
use crate::cli::table::{Cell, Table, counted};
use crate::cli::terminal::{Terminal, Tone};
use crate::cli::time;
use crate::core::record::SCHEMA;
use crate::core::snapshot::{ServiceSnapshot, Snapshot};
use crate::daemon::{Clock, rfc3339};
use crate::policy::model::{self, Policy};
use crate::store::backup::{self, Backup, BackupError, Plan};
use crate::store::{Saved, Store};

/// What stands for the newest good one.
const LATEST: &str = "latest";

/// Put a backup in place of the state of a sidecar that does not run.
///
/// The revision never goes back: the restored state carries one above all that are known. The
/// history is added to the one that is there. The state before is kept in the state directory, and
/// can be restored in turn by its path.
#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// Which: a name from `backup list`, the path of a file, or the newest good one.
    #[arg(value_name = "NAME", default_value = LATEST)]
    name: String,
    /// Say what it would do, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Restore even though the state that is there is newer.
    #[arg(long)]
    force: bool,
    /// Where the state is, instead of where the policy says.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// What is restored, and from where.
struct Source {
    name: String,
    backup: Backup,
}

/// What came of it, or would.
struct Outcome {
    plan: Plan,
    before: Option<Snapshot>,
    kept: Option<PathBuf>,
}

impl Restore {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let policy = self.policy.load(terminal)?;
        terminal.progress("looking for the backup…");
        let source = self.source(&policy, terminal);
        terminal.progress("");
        let source = source?;
        let dir = self.state_dir.as_ref().unwrap_or(&policy.sidecar.state_dir);
        let snapshot = source.backup.snapshot(&policy.rules);
        let outcome = if self.dry_run {
            preview(dir, &source)?
        } else {
            self.carry_out(dir, &source, snapshot.clone())?
        };
        if self.json {
            let document = document(&source, dir, &outcome, self.dry_run);
            terminal.print_json(&document)?;
        } else {
            terminal.print(&table(&snapshot, outcome.before.as_ref()).render(terminal))?;
            terminal.print(&self.sentence(&source, dir, &outcome))?;
        }
        Ok(Exit::Fine)
    }

    fn source(&self, policy: &Policy, terminal: Terminal) -> Result<Source, Failure> {
        if self.name.contains('/') {
            return of_file(Path::new(&self.name));
        }
        let wanted = wanted(policy)?;
        if self.name != LATEST {
            let name = chosen(&all(wanted)?, &self.name)?;
            return Ok(Source { name: name.to_string(), backup: fetch(wanted, name)? });
        }
        latest(wanted, terminal)
    }

    fn carry_out(
        &self,
        dir: &Path,
        source: &Source,
        snapshot: Snapshot,
    ) -> Result<Outcome, Failure> {
        let now_ms = Clock::start().wall_ms();
        let mut opened = Store::open(dir, now_ms).map_err(Failure::Store)?;
        let before = opened.snapshot.as_ref().and_then(readable);
        let floor = opened.revision_floor;
        let plan = backup::plan(opened.snapshot.as_ref(), floor, &source.backup);
        if plan.newer && !self.force {
            return Err(Failure::NewerState { dir: dir.to_owned() });
        }
        let kept = backup::restore(&mut opened, &source.backup, snapshot, now_ms)
            .map_err(Failure::Store)?;
        Ok(Outcome { plan, before, kept })
    }

    fn sentence(&self, source: &Source, dir: &Path, outcome: &Outcome) -> String {
        let Source { name, backup } = source;
        let made = time::since(&rfc3339(backup.at_ms()), time::now()).map(time::span);
        let (made, moves, from) = (made.unwrap_or_default(), backup.records(), backup.revision());
        let moves = counted(moves, "move");
        let Plan { revision, newer } = outcome.plan;
        let what = format!("{name}: revision {from} of {made} ago, {moves}");
        let dir = dir.display();
        let mut text = if self.dry_run {
            format!("would restore {what}, into {dir} as revision {revision}\n")
        } else {
            format!("restored {what}, into {dir} as revision {revision}\n")
        };
        if newer && self.dry_run && !self.force {
            text.push_str("refused without --force: the state that is there is newer\n");
        }
        if let Some(kept) = &outcome.kept {
            let line = format!("the state before is kept in {}\n", kept.display());
            text.push_str(&line);
        }
        text
    }
}

fn of_file(path: &Path) -> Result<Source, Failure> {
    let name = path.display().to_string();
    let backup = backup::read_path(path).map_err(failed)?;
    Ok(Source { name, backup })
}

fn latest(wanted: &model::Backup, terminal: Terminal) -> Result<Source, Failure> {
    let found = patient(wanted, |vault| {
        Box::pin(async move {
            let mut passed_over = |_, error: &BackupError| {
                terminal.warn(&format!("a newer backup is passed over: failed to {error}"));
            };
            backup::newest_good(&vault, &mut passed_over).await
        })
    })?;
    let found = found.ok_or_else(|| Failure::NothingGood { to: wanted.to.to_string() })?;
    Ok(Source { name: found.name.to_string(), backup: found.backup })
}

/// What a restore would come to; nothing is touched.
fn preview(dir: &Path, source: &Source) -> Result<Outcome, Failure> {
    let peeked = Store::peek(dir).map_err(Failure::Store)?;
    let saved = peeked.snapshot.as_ref();
    let floor = saved.map_or(0, |saved| saved.revision);
    let plan = backup::plan(saved, floor, &source.backup);
    Ok(Outcome { plan, before: saved.and_then(readable), kept: None })
}

fn readable(saved: &Saved) -> Option<Snapshot> {
    serde_json::from_slice(&saved.json).ok()
}

fn document(source: &Source, dir: &Path, outcome: &Outcome, dry_run: bool) -> Value {
    let Source { name, backup } = source;
    let services: serde_json::Map<String, Value> = backup
        .shown()
        .services
        .iter()
        .map(|(name, kept)| {
            let pinned = kept.pin.as_ref().map(|pin| pin.endpoint.as_str());
            let now = outcome.before.as_ref().and_then(|before| before.services.get(name));
            let now = now.and_then(|now| now.active.as_ref());
            let value = json!({ "active": kept.active, "pinned": pinned, "active_before": now });
            (name.to_string(), value)
        })
        .collect();
    json!({
        "schema": SCHEMA,
        "restored": !dry_run,
        "backup": name,
        "at": rfc3339(backup.at_ms()),
        "sidecar": backup.sidecar(),
        "policy": backup.policy(),
        "records": backup.records(),
        "state_dir": dir,
        "backup_revision": backup.revision(),
        "revision": outcome.plan.revision,
        "local_newer": outcome.plan.newer,
        "kept": outcome.kept,
        "services": services,
    })
}

fn table(snapshot: &Snapshot, before: Option<&Snapshot>) -> Table {
    let mut table = Table::new(&["SERVICE", "BEFORE", "RESTORED", "NOTE"]);
    let active = |kept: Option<&ServiceSnapshot>| {
        let name = kept.and_then(|kept| kept.active.as_ref());
        name.map_or_else(Cell::none, |name| name.as_str().into())
    };
    for (name, kept) in &snapshot.services {
        let old = before.and_then(|before| before.services.get(name));
        let row = vec![
            Cell::new(Tone::Strong, name.as_str()),
            active(old),
            active(Some(kept)),
            note(kept).into(),
        ];
        table.row(row);
    }
    table
}

fn note(kept: &ServiceSnapshot) -> String {
    let mut notes = Vec::new();
    if let Some(pin) = &kept.pin {
        notes.push(format!("pinned to {}", pin.endpoint));
    }
    if kept.paused {
        notes.push("paused".to_owned());
    }
    let drained = kept.endpoints.iter().filter(|(_, kept)| kept.drained);
    notes.extend(drained.map(|(name, _)| format!("{name} drained")));
    notes.join(", ")
}

//! `backup`: copies of the state, made now or looked at.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::admin::control_client::ControlError;
use crate::admin::document::BackupDocument;
use crate::admin::protocol::{Answer, Request};
use crate::cli::connect::{ControlArgs, block_on};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::locate::PolicyArgs;
use crate::cli::table::{Cell, Table, counted};
use crate::cli::terminal::{Terminal, Tone};
use crate::cli::time;
use crate::core::id::Revision;
use crate::core::record::SCHEMA;
use crate::daemon::{Clock, rfc3339};
use crate::policy::model::{self, Policy};
use crate::store::Store;
use crate::store::backup::{self, BackupError, Listed, Made, Name, Parts, Round, Vault};

/// How long one step with the place of the backups may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Back the state up now, or look at the backups there are.
///
/// A running sidecar is asked to do it; where none runs, its state directory is read. A state that
/// the newest backup has already is not stored again.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Backup {
    #[command(subcommand)]
    look: Option<Look>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    control: ControlArgs,
}

#[derive(Debug, Subcommand)]
enum Look {
    List(List),
    Verify(Verify),
}

/// List the backups there are, newest first.
#[derive(Args, Debug)]
struct List {
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// Read backups and say which are good.
///
/// Exit code 3 when one is not.
#[derive(Args, Debug)]
struct Verify {
    /// Read this one only; all by default.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    policy: PolicyArgs,
}

impl Backup {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        match self.look {
            Some(Look::List(list)) => list.run(terminal),
            Some(Look::Verify(verify)) => verify.run(terminal),
            None => now(&self.control, self.json, terminal),
        }
    }
}

fn now(control: &ControlArgs, json: bool, terminal: Terminal) -> Result<Exit, Failure> {
    let link = control.link()?;
    terminal.progress("backing up…");
    let asked = block_on(async { link.ask(&Request::Backup).await })?;
    terminal.progress("");
    let (document, by) = match asked {
        Ok(Answer::Backup(document)) => (document, "by the running sidecar"),
        Ok(_) => return Err(Failure::OddAnswer),
        Err(Failure::Control(ControlError::Unreachable { .. })) => {
            (offline(&control.policy().load(terminal)?)?, "from the state directory")
        }
        Err(failure) => return Err(failure),
    };
    if json {
        let value = serde_json::to_value(&document).map_err(Failure::Encode)?;
        terminal.print_json(&json!({ "schema": SCHEMA, "backup": value }))?;
        return Ok(Exit::Fine);
    }
    let BackupDocument { to, newest, revision, bytes, kept, .. } = document;
    let name = newest.unwrap_or_default();
    let revision = revision.unwrap_or_default();
    let (bytes, kept) = (size(bytes.unwrap_or_default()), kept.unwrap_or_default());
    terminal.print(&format!(
        "{name} in {to} is good: revision {revision}, {bytes}, made {by}; {kept} kept\n"
    ))?;
    Ok(Exit::Fine)
}

/// Backs up the state directory of a sidecar that does not run.
fn offline(policy: &Policy) -> Result<BackupDocument, Failure> {
    let wanted = wanted(policy)?;
    let peeked = Store::peek(&policy.sidecar.state_dir).map_err(Failure::Store)?;
    let dir = || policy.sidecar.state_dir.clone();
    let saved = peeked.snapshot.ok_or_else(|| Failure::NoState { dir: dir() })?;
    let parts = Parts {
        snapshot: saved.json,
        at_ms: saved.saved_at_ms,
        history: peeked.history,
        sidecar: policy.sidecar.name.clone(),
        policy: policy.digest.to_string(),
    };
    let made = backup::Backup::new(parts).map_err(|why| failed(BackupError::Unfit { why }))?;
    let now_ms = Clock::start().wall_ms();
    let Round { name, bytes, made, kept, .. } = patient(wanted, |vault| {
        Box::pin(async move { backup::make(&vault, made, wanted.keep, now_ms).await })
    })?;
    let good_at = matches!(made, Made::Stored | Made::Unchanged).then(|| rfc3339(now_ms));
    Ok(BackupDocument {
        to: wanted.to.to_string(),
        good_at,
        newest: Some(name.to_string()),
        revision: Some(Revision::new(name.revision)),
        bytes: Some(bytes),
        kept: Some(kept),
        ..BackupDocument::default()
    })
}

impl List {
    fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let policy = self.policy.load(terminal)?;
        let wanted = wanted(&policy)?;
        let found = all(wanted)?;
        if self.json {
            let list: Vec<Value> = found.iter().map(of_listed).collect();
            let to = wanted.to.to_string();
            terminal.print_json(&json!({ "schema": SCHEMA, "to": to, "backups": list }))?;
        } else if found.is_empty() {
            terminal.say(&format!("no backup in {} so far\n", wanted.to));
        } else {
            let mut table = Table::new(&["NAME", "MADE", "REVISION", "SIZE"]);
            let now = time::now();
            for one in &found {
                table.row(cells(one, now));
            }
            terminal.print(&table.render(terminal))?;
        }
        Ok(Exit::Fine)
    }
}

impl Verify {
    fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let policy = self.policy.load(terminal)?;
        let wanted = wanted(&policy)?;
        let mut found = all(wanted)?;
        if let Some(name) = &self.name {
            let name = chosen(&found, name)?;
            found.retain(|one| one.name == name);
        }
        let mut table = Table::new(&["NAME", "MADE", "REVISION", "SIZE", "STATE", "NOTE"]);
        let (mut list, mut broken, now) = (Vec::new(), 0, time::now());
        for (number, one) in (1..).zip(&found) {
            terminal.progress(&format!("reading {number} of {}: {}", found.len(), one.name));
            let mut row = cells(one, now);
            let told = match fetch(wanted, one.name) {
                Ok(good) => {
                    row.push(Cell::new(Tone::Good, "good"));
                    let (services, records) = (good.shown().services.len(), good.records());
                    let (services, moves) =
                        (counted(services, "service"), counted(records, "move"));
                    row.push(format!("{services}, {moves}").into());
                    json!({
                        "good": true,
                        "sidecar": good.sidecar(),
                        "policy": good.policy(),
                        "records": records,
                    })
                }
                Err(Failure::Backup(error)) if is_damage(&error) => {
                    broken += 1;
                    let why = error.explain();
                    row.push(Cell::new(Tone::Bad, "broken"));
                    row.push(why.as_str().into());
                    json!({ "good": false, "why": why })
                }
                Err(failure) => return Err(failure),
            };
            let mut value = of_listed(one);
            if let (Some(value), Value::Object(told)) = (value.as_object_mut(), told) {
                value.extend(told);
            }
            list.push(value);
            table.row(row);
        }
        terminal.progress("");
        if self.json {
            let to = wanted.to.to_string();
            terminal.print_json(&json!({ "schema": SCHEMA, "to": to, "backups": list }))?;
        } else if found.is_empty() {
            terminal.say(&format!("no backup in {} so far\n", wanted.to));
        } else {
            terminal.print(&table.render(terminal))?;
        }
        Ok(if broken == 0 { Exit::Fine } else { Exit::Unhealthy })
    }
}

const fn is_damage(error: &BackupError) -> bool {
    matches!(error, BackupError::Damaged { .. } | BackupError::Missing { .. })
}

fn of_listed(one: &Listed) -> Value {
    let Listed { name, bytes } = one;
    let (at, revision) = (rfc3339(name.stamp_ms), name.revision);
    json!({ "name": name.to_string(), "at": at, "revision": revision, "bytes": bytes })
}

fn cells(one: &Listed, now: Timestamp) -> Vec<Cell> {
    let made = time::since(&rfc3339(one.name.stamp_ms), now).map(time::span).unwrap_or_default();
    vec![
        Cell::new(Tone::Strong, one.name.to_string()),
        format!("{made} ago").into(),
        one.name.revision.to_string().into(),
        size(one.bytes).into(),
    ]
}

/// Bytes in the words of people.
fn size(bytes: u64) -> String {
    match bytes {
        ..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

/// What the policy says of backups.
pub(super) fn wanted(policy: &Policy) -> Result<&model::Backup, Failure> {
    policy.backup.as_deref().ok_or(Failure::NoBackup)
}

/// Everything there is, newest first.
pub(super) fn all(wanted: &model::Backup) -> Result<Vec<Listed>, Failure> {
    patient(wanted, |vault| Box::pin(async move { vault.list().await }))
}

/// Reads one and verifies it.
pub(super) fn fetch(wanted: &model::Backup, name: Name) -> Result<backup::Backup, Failure> {
    patient(wanted, |vault| Box::pin(async move { backup::read(&vault, name).await }))
}

/// The one that is meant.
pub(super) fn chosen(found: &[Listed], name: &str) -> Result<Name, Failure> {
    let unknown = || Failure::UnknownBackup { name: name.to_owned() };
    let name: Name = name.parse().map_err(|_odd| unknown())?;
    found.iter().any(|one| one.name == name).then_some(name).ok_or_else(unknown)
}

type Step<'a, T> = std::pin::Pin<Box<dyn Future<Output = Result<T, BackupError>> + 'a>>;

/// Does something with the place of the backups, for so long and no longer.
pub(super) fn patient<'a, T>(
    wanted: &model::Backup,
    step: impl FnOnce(Vault) -> Step<'a, T>,
) -> Result<T, Failure> {
    let clock = Clock::start();
    let vault = Vault::new(wanted, Arc::new(move || clock.wall_ms())).map_err(failed)?;
    let place = vault.shown().to_owned();
    let late = |_elapsed| BackupError::Late { place, limit: PATIENCE };
    let ended = block_on(async { tokio::time::timeout(PATIENCE, step(vault)).await })?;
    ended.map_err(late).flatten().map_err(failed)
}

pub(super) fn failed(error: BackupError) -> Failure {
    Failure::Backup(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        assert_eq!(size(9_999), "9999 B");
        assert_eq!(size(10_000), "10 kB");
        assert_eq!(size(12_345_678), "12 MB");
    }
}

//! `init`: a first policy, from the variables that are already there.
//!
//! The policy refers to variables as `${NAME}`; no value is ever copied into it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::terminal::Terminal;
use crate::core::ordered::Gather as _;

/// Services whose variables are looked for; each is also the name of a preset.
const SERVICES: [&str; 4] = ["pinecone", "neo4j", "graphlit", "tavily"];

/// Parts of a variable's name that make it one of a backup.
const MARKS: [&str; 4] = ["BACKUP", "SECONDARY", "FALLBACK", "STANDBY"];

/// Write a policy from the environment variables found.
///
/// Looks for PINECONE_*, NEO4J_*, GRAPHLIT_* and TAVILY_*; `PINECONE_BACKUP_HOST` and the like
/// become a second endpoint. The policy refers to variables as ${NAME} and holds no value.
#[derive(Args, Debug)]
pub(crate) struct Init {
    /// Where to write the policy.
    #[arg(value_name = "FILE", default_value = "failover.toml")]
    file: PathBuf,
    /// Where the sidecar is to write the active variables.
    #[arg(long, value_name = "PATH", default_value = "failover.env")]
    env_file: String,
    /// Replace the file if it exists.
    #[arg(long)]
    force: bool,
    /// Print the policy instead of writing it.
    #[arg(long, conflicts_with = "force")]
    stdout: bool,
}

impl Init {
    pub(crate) fn run(self, terminal: Terminal) -> Result<Exit, Failure> {
        let names: BTreeSet<String> =
            std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).gather_set();
        let services = discover(&names);
        if services.is_empty() {
            return Err(Failure::NothingFound);
        }
        let text = policy(&services, &self.env_file);
        if self.stdout {
            terminal.print(&text)?;
            return Ok(Exit::Fine);
        }
        write(&self.file, &text, self.force)?;
        terminal.print(&next_steps(&self.file, &services))?;
        Ok(Exit::Fine)
    }
}

/// What a service's deep probe cannot do without: the end of a variable's name.
const DEEP_NEEDS: [(&str, &str); 3] =
    [("neo4j", "_PASSWORD"), ("graphlit", "_JWT_SECRET"), ("tavily", "_API_KEY")];

/// One service found.
#[derive(Debug, Eq, PartialEq)]
struct Found {
    service: &'static str,
    /// The variables of the service by the name that its server reads.
    primary: BTreeSet<String>,
    /// The backups by name: the variable to refer to, by the name that the server reads.
    backups: BTreeMap<String, BTreeMap<String, String>>,
}

fn discover(names: &BTreeSet<String>) -> Vec<Found> {
    SERVICES.iter().filter_map(|service| discover_one(service, names)).collect()
}

fn discover_one(service: &'static str, names: &BTreeSet<String>) -> Option<Found> {
    let prefix = format!("{}_", service.to_uppercase());
    let mut found = Found { service, primary: BTreeSet::new(), backups: BTreeMap::new() };
    for name in names.iter().filter(|name| name.starts_with(&prefix)) {
        match unmark(name) {
            None => {
                found.primary.insert(name.clone());
            }
            Some((backup, plain)) => {
                found.backups.entry(backup).or_default().insert(plain, name.clone());
            }
        }
    }
    // What a backup does not have of its own, such as a user's name, it shares with the primary.
    for variables in found.backups.values_mut() {
        variables.retain(|plain, _| found.primary.contains(plain));
        for plain in &found.primary {
            variables.entry(plain.clone()).or_insert_with(|| plain.clone());
        }
    }
    (!found.primary.is_empty()).then_some(found)
}

/// Splits `NEO4J_BACKUP_2_URI` into `backup-2` and `NEO4J_URI`; `None` for what is no backup's.
fn unmark(name: &str) -> Option<(String, String)> {
    let mut parts: Vec<&str> = name.split('_').collect();
    let at = parts.iter().position(|part| MARKS.contains(part))?;
    let mut backup = parts.remove(at).to_lowercase();
    if let Some(number) = parts.get(at).filter(|part| part.parse::<u32>().is_ok()) {
        backup = format!("{backup}-{number}");
        parts.remove(at);
    }
    Some((backup, parts.join("_")))
}

fn policy(services: &[Found], env_file: &str) -> String {
    let mut text = String::from(
        "# Which service to probe, and where to go when it dies.\n\
         # Check it with `mcp-failover check`, try it with `mcp-failover probe`, and run it with\n\
         # `mcp-failover run`. Edits take effect while it runs.\n\
         version = 1\n",
    );
    for found in services {
        text += &service_text(found);
    }
    let path = quoted(env_file);
    format!(
        "{text}\n# The variables of the active endpoints, rewritten in one step at every switch.\n\
         [[outputs]]\n\
         type = \"env_file\"\n\
         path = {path}\n"
    )
}

fn service_text(found: &Found) -> String {
    let service = found.service;
    let mut text = format!("\n[services.{service}]\npreset   = \"{service}\"\ncritical = true\n");
    let own: BTreeMap<String, String> =
        found.primary.iter().map(|name| (name.clone(), name.clone())).gather_map();
    let lacking = DEEP_NEEDS.iter().any(|(needy, ending)| {
        *needy == service && !found.primary.iter().any(|name| name.ends_with(ending))
    });
    if lacking {
        text.push_str(
            "deep_probe = { type = \"none\" }   # it needs a credential, and none was set\n",
        );
    }
    text.push_str(&endpoint_text(service, "primary", 0, &own));
    for (tier, (name, variables)) in (1..).zip(&found.backups) {
        text.push_str(&endpoint_text(service, name, tier, variables));
    }
    if found.backups.is_empty() {
        text.push_str(&backup_hint(found));
    }
    text
}

fn endpoint_text(
    service: &str,
    name: &str,
    priority: u32,
    variables: &BTreeMap<String, String>,
) -> String {
    let width = variables.keys().map(String::len).max().unwrap_or_default();
    let line = |(plain, variable)| format!("{plain:width$} = \"${{{variable}}}\"\n");
    let env: Vec<String> = variables.iter().map(line).collect();
    format!(
        "\n[[services.{service}.endpoints]]\nname     = \"{name}\"\npriority = {priority}\n\
         [services.{service}.endpoints.env]\n{}",
        env.concat()
    )
}

/// A second endpoint to fill in, as a comment.
fn backup_hint(found: &Found) -> String {
    let prefix = found.service.to_uppercase();
    let backup = |plain: &String| plain.replacen(&prefix, &format!("{prefix}_BACKUP"), 1);
    let variables = found.primary.iter().map(|plain| (plain.clone(), backup(plain))).gather_map();
    let endpoint = endpoint_text(found.service, "backup", 1, &variables);
    let lines: Vec<String> = endpoint.trim().lines().map(|line| format!("# {line}\n")).collect();
    format!(
        "\n# There is nothing to fail over to yet: no {prefix}_BACKUP_* variable was set. Fill in a\n\
         # second endpoint, and remove the `#`.\n{}",
        lines.concat()
    )
}

/// The text as a TOML string: every JSON string is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn next_steps(file: &Path, services: &[Found]) -> String {
    let names: Vec<String> = services
        .iter()
        .map(|found| match found.backups.len() {
            0 => format!("{} (no backup yet)", found.service),
            1 => format!("{} (1 backup)", found.service),
            more => format!("{} ({more} backups)", found.service),
        })
        .collect();
    let file = file.display();
    format!(
        "wrote {file}: {}\nnext: mcp-failover check {file} && mcp-failover probe --policy {file}\n",
        names.join(", ")
    )
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let failed = |source| Failure::Write { path: path.to_owned(), source };
    if !force {
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o644).open(path);
        return match opened {
            Ok(mut file) => file.write_all(text.as_bytes()).map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Failure::Exists { path: path.to_owned() })
            }
            Err(error) => Err(failed(error)),
        };
    }
    // A sidecar may be watching: it must never see half a policy.
    let beside = path.with_extension("toml.new");
    fs::write(&beside, text).and_then(|()| fs::rename(&beside, path)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_backup_borrows_what_it_does_not_have_of_its_own() {
        let names = names(&["NEO4J_URI", "NEO4J_PASSWORD", "NEO4J_BACKUP_URI", "HOME"]);
        let found = discover(&names);
        assert_eq!(found.len(), 1);
        let backup = &found[0].backups["backup"];
        assert_eq!(backup["NEO4J_URI"], "NEO4J_BACKUP_URI");
        assert_eq!(backup["NEO4J_PASSWORD"], "NEO4J_PASSWORD");
    }

    #[test]
    fn marks_are_taken_out_of_names() {
        let split = |name| unmark(name).expect("a mark");
        assert_eq!(split("NEO4J_BACKUP_URI"), ("backup".into(), "NEO4J_URI".into()));
        assert_eq!(split("NEO4J_BACKUP_2_URI"), ("backup-2".into(), "NEO4J_URI".into()));
        assert_eq!(split("TAVILY_API_KEY_STANDBY"), ("standby".into(), "TAVILY_API_KEY".into()));
        assert_eq!(unmark("NEO4J_URI"), None);
    }

    #[test]
    fn a_service_without_backup_says_how_to_add_one() {
        let found = discover(&names(&["TAVILY_API_KEY"]));
        let text = policy(&found, "out.env");
        assert!(text.contains("# TAVILY_API_KEY = \"${TAVILY_BACKUP_API_KEY}\""), "{text}");
        assert!(text.contains("path = \"out.env\""), "{text}");
    }

    #[test]
    fn a_deep_probe_that_lacks_its_credential_is_left_out() {
        let deep =
            |list| policy(&discover(&names(list)), "out.env").contains("deep_probe = { type");
        assert!(deep(&["NEO4J_URI"]));
        assert!(!deep(&["NEO4J_URI", "NEO4J_PASSWORD"]));
        assert!(!deep(&["TAVILY_API_KEY"]));
    }
}

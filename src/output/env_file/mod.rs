//! The text of an env file.
//!
//! Owns what stands in the file and how it is escaped; it reads and writes no file. The same
//! configuration always gives the same bytes, and rendering into its own result changes nothing.
//!
//! A text file ends with a line that names the revision and the SHA-256 of every byte before that
//! line; a JSON file has the same in its last members. So any reader can prove that it read the
//! whole of one revision.

mod escape;
mod json;
mod merge;
mod seal;
mod statement;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use crate::output::{ActiveConfig, OutputError};
use crate::policy::model::{Env, EnvFormat, EnvMode, File};
use crate::policy::secret::Secret;

pub use seal::{Verified, VerifyError, verify};

/// Where the revision stands.
const REVISION: &str = "MCP_FAILOVER_REVISION";
const HEADER: &str = "# Written by mcp-failover. Edits are undone.\n";

/// The variables in the order of the file: sorted, then the endpoints' names, then the revision.
struct Variables(Vec<(String, Secret)>);

impl Variables {
    fn get(&self, name: &str) -> Option<&Secret> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }
}

/// The bytes of a file of variables.
pub(super) fn render(
    file: &File,
    env: Env,
    config: &ActiveConfig,
    existing: Option<&[u8]>,
) -> Result<Zeroizing<Vec<u8>>, OutputError> {
    let variables = variables(file, env.format, config)?;
    let foreign = match env.mode {
        EnvMode::Own => None,
        EnvMode::Merge => Some(existing.unwrap_or_default()),
    };
    let mut text = Zeroizing::new(Vec::with_capacity(capacity(&variables, existing)));
    match (env.format, foreign) {
        (EnvFormat::Json, foreign) => json::compose(&mut text, &variables, foreign)?,
        (format, Some(foreign)) => merge::compose(&mut text, format, &variables, foreign)?,
        (format, None) => {
            text.extend_from_slice(HEADER.as_bytes());
            for (name, value) in &variables.0 {
                text.extend_from_slice(escape::line(format, name, value.expose())?.as_bytes());
            }
        }
    }
    seal::seal(&mut text, env.format, config.revision);
    Ok(text)
}

/// Room for the whole text, so that growing leaves no unwiped copies of it behind.
fn capacity(variables: &Variables, existing: Option<&[u8]>) -> usize {
    let own: usize = variables.0.iter().map(|(n, v)| 3 * n.len() + 6 * v.expose().len() + 32).sum();
    own + existing.map_or(0, <[u8]>::len) * 2 + 1024
}

fn variables(
    file: &File,
    format: EnvFormat,
    config: &ActiveConfig,
) -> Result<Variables, OutputError> {
    let chosen = || config.services.iter().filter(|(name, _)| file.wants(name));
    let mut env = BTreeMap::new();
    for (name, value) in chosen().flat_map(|(_, service)| &service.env) {
        let earlier = env.insert(name.clone(), value.clone());
        if earlier.is_some_and(|earlier| earlier != *value) {
            return Err(OutputError::Clash { name: name.as_str().into() });
        }
    }
    if let Some(name) =
        [REVISION, seal::CHECKSUM, json::MANAGES].iter().find(|n| env.contains_key(**n))
    {
        return Err(OutputError::Clash { name: (*name).into() });
    }
    let mut own = BTreeMap::new();
    for (name, service) in chosen() {
        let name = endpoint_variable(name.as_str());
        let endpoint = service.endpoint.as_ref().map_or("", |endpoint| endpoint.as_str());
        if env.contains_key(&name) || own.insert(name.clone(), Secret::from(endpoint)).is_some() {
            return Err(OutputError::Clash { name: name.into() });
        }
    }
    let revision = (REVISION.to_owned(), Secret::new(config.revision.to_string()));
    let all: Vec<_> = env.into_iter().chain(own).chain([revision]).collect();
    all.iter().try_for_each(|(name, value)| check(format, name, value.expose()))?;
    Ok(Variables(all))
}

/// `MCP_FAILOVER_<SERVICE>_ENDPOINT`.
pub(super) fn endpoint_variable(service: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("MCP_FAILOVER_{}_ENDPOINT", service.chars().map(plain).collect::<String>())
}

/// What no environment can hold, whatever the format.
fn check(format: EnvFormat, name: &str, value: &str) -> Result<(), OutputError> {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(OutputError::Name { name: name.into() });
    }
    if value.contains('\0') {
        return Err(escape::refused(format, name, "has a NUL byte"));
    }
    Ok(())
}

/// Whether a reader of `wanted`, just rendered, and one of `found` see the same variables of ours,
/// the revision apart. In a file of our own every variable is ours.
pub(super) fn same_variables(env: Env, wanted: &[u8], found: &[u8]) -> bool {
    let assignments = |text| {
        if env.format == EnvFormat::Json {
            json::assignments(text)
        } else {
            merge::assignments(env.format, text)
        }
    };
    let (Ok(wanted), Ok(found)) = (assignments(wanted), assignments(found)) else { return false };
    let managed = &wanted.managed | &found.managed;
    let counts = |name: &str| {
        !matches!(name, REVISION | json::MANAGES | seal::CHECKSUM)
            && (env.mode == EnvMode::Own || managed.contains(name))
    };
    let wanted = wanted.all.iter().filter(|(name, _)| counts(name));
    wanted.eq(found.all.iter().filter(|(name, _)| counts(name)))
}

/// What a file assigns, and which of it was ours when it was written.
struct Assignments<'a> {
    all: Vec<(Cow<'a, str>, &'a [u8])>,
    managed: BTreeSet<String>,
}

//! Our variables among the lines of somebody else.
//!
//! Key by key: a line that assigns one of our variables is replaced where it stands, further
//! lines that assign it again go, what is missing is added at the end, and every other line stays
//! as it is, byte for byte and in its place. One comment names the variables that are ours, so
//! that one that the next endpoint does not have is taken away with the endpoint that had it.

use std::collections::BTreeSet;

use crate::core::ordered::Gather as _;
use crate::output::OutputError;
use crate::output::env_file::seal::TRAILER;
use crate::output::env_file::statement::{Statement, statements};
use crate::output::env_file::{Assignments, Variables, escape};
use crate::policy::model::EnvFormat;

const MANAGES: &str = "# mcp-failover manages ";

/// Adds everything but the last line to `text`.
pub(super) fn compose(
    text: &mut Vec<u8>,
    format: EnvFormat,
    variables: &Variables,
    foreign: &[u8],
) -> Result<(), OutputError> {
    let statements = statements(format, without_padding(foreign))?;
    let managed = managed(&statements);
    let mut written = BTreeSet::new();
    for statement in statements.iter().filter(|statement| !is_ours(statement.text)) {
        match statement.name.map(|name| (name, variables.get(name))) {
            Some((name, Some(value))) => {
                if written.insert(name) {
                    let line = escape::line(format, name, value.expose())?;
                    let export = statement.exported && format == EnvFormat::Dotenv;
                    text.extend_from_slice(if export { b"export " } else { b"" });
                    text.extend_from_slice(line.as_bytes());
                }
            }
            Some((name, None)) if managed.contains(name) => {}
            _ => text.extend_from_slice(statement.text),
        }
    }
    if text.last().is_some_and(|&last| last != b'\n') {
        text.push(b'\n');
    }
    for (name, value) in variables.0.iter().filter(|(name, _)| !written.contains(name.as_str())) {
        text.extend_from_slice(escape::line(format, name, value.expose())?.as_bytes());
    }
    text.extend_from_slice(manages(variables).as_bytes());
    Ok(())
}

fn manages(variables: &Variables) -> String {
    format!("{MANAGES}{}\n", names(variables))
}

/// The names of ours, apart by blanks.
pub(super) fn names(variables: &Variables) -> String {
    variables.0.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
}

/// The variables that were ours when the file was last written.
fn managed(statements: &[Statement<'_>]) -> BTreeSet<String> {
    let lines = statements.iter().filter_map(|statement| std::str::from_utf8(statement.text).ok());
    let lists = lines.filter_map(|line| line.strip_prefix(MANAGES));
    lists.flat_map(str::split_whitespace).map(str::to_owned).gather_set()
}

pub(super) fn assignments(format: EnvFormat, text: &[u8]) -> Result<Assignments<'_>, OutputError> {
    let statements = statements(format, text)?;
    let managed = managed(&statements);
    let named = statements.into_iter().filter_map(|one| Some((one.name?.into(), one.text)));
    Ok(Assignments { all: named.collect(), managed })
}

/// Line breaks after our last line are left over from an interrupted write in place.
fn without_padding(text: &[u8]) -> &[u8] {
    let trimmed = text.trim_ascii_end();
    let last_line = trimmed.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
    if last_line.starts_with(TRAILER.as_bytes()) { trimmed } else { text }
}

fn is_ours(text: &[u8]) -> bool {
    text.starts_with(MANAGES.as_bytes()) || text.starts_with(TRAILER.as_bytes())
}

//! What stands in a file, whatever its kind, and how far a file is from it.

use zeroize::Zeroizing;

use crate::output::{ActiveConfig, OutputError, env_file, template};
use crate::policy::model::{Content, File};

/// How far a file was from what it should be.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Change {
    /// Not at all; nothing was written.
    None,
    /// In its owner or permissions.
    Access,
    /// In the revision and checksum, or in what is none of ours.
    Text,
    /// In what a server reads from it, or it was not there.
    Content,
}

/// The bytes that belong into `file` while `config` is active.
///
/// `existing` is what the file holds now; it matters only when the file is merged into.
///
/// # Errors
/// When a value cannot be carried by the format, two services set one variable, a template cannot
/// be filled in, or the existing file cannot be merged into.
pub fn render(
    file: &File,
    config: &ActiveConfig,
    existing: Option<&[u8]>,
) -> Result<Zeroizing<Vec<u8>>, OutputError> {
    match &file.content {
        Content::Env(env) => env_file::render(file, *env, config, existing),
        Content::Template(template) => template::render(file, template, config),
    }
}

/// What the bytes of a file say, owner and permissions apart.
pub(super) fn difference(
    file: &File,
    config: &ActiveConfig,
    current: Option<&[u8]>,
) -> Result<Change, OutputError> {
    let Some(current) = current else { return Ok(Change::Content) };
    let wanted = render(file, config, Some(current))?;
    if *wanted == *current {
        return Ok(Change::None);
    }
    let same = match &file.content {
        Content::Env(env) => env_file::same_variables(*env, &wanted, current),
        Content::Template(template) => template::same_but_revision(file, template, config, current),
    };
    Ok(if same { Change::Text } else { Change::Content })
}

//! Has a command look at a new file before it takes the old one's place.
//!
//! Blocks for as long as the command takes, which its timeout bounds: the file that it looks at is
//! held by whoever writes it. It gets nothing of our environment but where to find programs, and
//! what it prints is quoted without values.

use std::path::Path;

use crate::output::hook::command::{self, Told};
use crate::output::{ActiveConfig, OutputError};
use crate::policy::model::{File, FileCheck};

/// Runs the check of `file`, if it has one, on the copy that is `staged`.
pub(super) fn run(file: &File, config: &ActiveConfig, staged: &Path) -> Result<(), OutputError> {
    let Some(check) = &file.check else { return Ok(()) };
    let refused =
        |why: String| OutputError::Refused { path: file.path.as_path().into(), why: why.into() };
    let Some(path) = staged.to_str() else {
        return Err(refused("cannot be told of a path that is not UTF-8".to_owned()));
    };
    let argv: Vec<String> =
        check.argv.iter().map(|argument| argument.replace(FileCheck::STAGED, path)).collect();
    // A runtime of its own: writers block, with or without one around them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| OutputError::io("prepare the check of", &file.path, error))?;
    let told = Told { config, file };
    let ran = runtime.block_on(Box::pin(command::run(&argv, check.timeout, told)));
    ran.map_err(|error| refused(format!("failed to {error}")))
}

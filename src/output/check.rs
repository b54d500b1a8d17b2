//! Has a command look at a new file before it takes the old one's place.
//!
//! Blocks for as long as the command takes, which its timeout bounds and a newer configuration
//! ends: a check that hangs must not hold up a failover. The file that it looks at is held by
//! whoever writes it. It gets nothing of our environment but where to find programs, and
//! what it prints is quoted without values.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use crate::output::hook::command::{self, Told};
use crate::output::{ActiveConfig, OutputError};
use crate::policy::model::{File, FileCheck};

/// Tells when a configuration is no longer the latest, where there can be another.
pub(super) type Newer = Option<watch::Receiver<Option<Arc<ActiveConfig>>>>;

/// Runs the check of `file`, if it has one, on the copy that is `staged`.
pub(super) fn run(
    file: &File,
    config: &ActiveConfig,
    staged: &Path,
    newer: &Newer,
) -> Result<(), OutputError> {
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
    runtime.block_on(async {
        tokio::select! {
            ran = Box::pin(command::run(&argv, check.timeout, told)) => {
                ran.map_err(|error| refused(format!("failed to {error}")))
            }
            () = comes(newer.clone()) => {
                Err(OutputError::Superseded { path: file.path.as_path().into() })
            }
        }
    })
}

async fn comes(newer: Newer) {
    if let Some(mut configs) = newer
        && configs.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

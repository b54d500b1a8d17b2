//! Variables and files by name, for compiling without an environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mcp_failover::policy::{Compiled, Lookup, Source, compile, diagnostic};

/// Variables and files by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    vars: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, String>,
}

impl Given {
    pub(crate) fn with_var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn with_file(mut self, path: &str, content: &str) -> Self {
        self.files.insert(PathBuf::from(path), content.to_owned());
        self
    }

    /// The names of the variables.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.vars.keys().map(String::as_str)
    }
}

impl Lookup for Given {
    fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).cloned()
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        self.files.get(path).cloned().ok_or_else(|| "no such file".to_owned())
    }
}

pub(crate) fn source(text: &str) -> Source<'_> {
    Source { name: "failover.toml", text }
}

/// Compiles what must compile, or shows why it does not.
pub(crate) fn compiled(text: &str, given: &Given) -> Compiled {
    compile(&source(text), given).unwrap_or_else(|found| {
        panic!("{}", diagnostic::render_text(&found.0, &source(text), false))
    })
}

/// The codes of every finding, errors and warnings.
pub(crate) fn codes(text: &str, given: &Given) -> Vec<&'static str> {
    let found = match compile(&source(text), given) {
        Ok(compiled) => compiled.warnings,
        Err(found) => found.0,
    };
    found.iter().map(|one| one.code.as_str()).collect()
}

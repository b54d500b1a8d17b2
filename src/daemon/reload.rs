//! From a text to the policy in force, without ever stopping what runs before the new one is
//! proven.
//!
//! Invariants
//! 1. An invalid text changes nothing but what is said about it.
//! 2. A text that does not compile is given [`DOUBT`] to become whole before it is called invalid:
//!    an editor may be half-way through writing it. Asked for by a person, the answer comes at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::admin::document::PolicyInfo;
use crate::admin::protocol::Response;
use crate::core::time::Instant;
use crate::daemon::clock::Clock;
use crate::policy::diagnostic::{Diagnostic, render_json, render_text};
use crate::policy::model::{Digest, Policy};
use crate::policy::{Compiled, Source as Text, compile};
use crate::watch::{Seen, SystemLookup};

/// How long a text that does not compile may take to become whole.
const DOUBT: Duration = Duration::from_secs(1);

/// A text that compiled.
#[derive(Debug)]
pub(crate) struct Proven {
    pub(crate) policy: Policy,
    pub(crate) text: Arc<str>,
    /// The secret files that were read for it, and what was in them.
    pub(crate) secrets: Seen,
}

/// A text that did not, with what is to be said of it.
#[derive(Clone, Debug)]
pub(crate) struct Invalid {
    /// For people, without colour.
    pub(crate) text: String,
    /// One line each, for status.
    pub(crate) lines: Vec<String>,
    /// For programs.
    pub(crate) json: serde_json::Value,
    /// What it read, so that mending a secret file is noticed too.
    pub(crate) secrets: Seen,
}

/// Compiles a text with the variables and files of this machine.
pub(crate) fn prove(path: &Path, text: &Arc<str>) -> Result<Proven, Box<Invalid>> {
    let name = path.display().to_string();
    let source = Text { name: &name, text };
    let lookup = SystemLookup::new();
    match compile(&source, &lookup) {
        Ok(Compiled { policy, warnings }) => {
            for warning in lines(&warnings, &source) {
                tracing::warn!("{warning}");
            }
            Ok(Proven { policy, text: Arc::clone(text), secrets: lookup.seen() })
        }
        Err(diagnostics) => Err(Box::new(Invalid {
            text: render_text(&diagnostics.0, &source, false),
            lines: lines(&diagnostics.0, &source),
            json: render_json(&diagnostics.0, &source),
            secrets: lookup.seen(),
        })),
    }
}

fn lines(diagnostics: &[Diagnostic], source: &Text<'_>) -> Vec<String> {
    let line = |one: &Diagnostic| {
        let (file, place) = one.place(source.name);
        let place = place.map_or_else(String::new, |at| format!(":{}:{}", at.line, at.column));
        format!("{file}{place}: {}: {}", one.code, one.message)
    };
    diagnostics.iter().map(line).collect()
}

/// What is known of the policy file.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file.
    pub(crate) path: PathBuf,
    /// The latest text seen, valid or not.
    pub(crate) text: Arc<str>,
    /// Who asked for a reload and waits for what becomes of it.
    pub(crate) waiting: Vec<oneshot::Sender<Response>>,
    digest: Digest,
    loaded_at: Instant,
    complaint: Vec<String>,
    doubt: Option<(Instant, Box<Invalid>)>,
}

impl Source {
    /// The file as it was at the start.
    pub(crate) fn new(path: PathBuf, text: Arc<str>, digest: Digest, now: Instant) -> Self {
        Self {
            path,
            text,
            waiting: Vec::new(),
            digest,
            loaded_at: now,
            complaint: Vec::new(),
            doubt: None,
        }
    }

    /// What status says of it.
    pub(crate) fn info(&self, clock: &Clock) -> PolicyInfo {
        PolicyInfo {
            digest: self.digest.to_string(),
            valid: self.complaint.is_empty(),
            loaded_at: clock.rfc3339(self.loaded_at),
            path: self.path.display().to_string(),
            diagnostics: self.complaint.clone(),
        }
    }

    /// Digest of the policy in force.
    pub(crate) const fn digest(&self) -> Digest {
        self.digest
    }

    /// A policy came into force, or proved to be the one in force.
    pub(crate) fn accepted(&mut self, digest: Digest, now: Instant) {
        if self.digest != digest {
            self.loaded_at = now;
        }
        self.digest = digest;
        self.complaint.clear();
        self.doubt = None;
    }

    /// Something is wrong with the file; the policy in force stays.
    pub(crate) fn complain(&mut self, lines: Vec<String>) {
        self.complaint = lines;
        self.doubt = None;
    }

    /// A text that does not compile may still be half-written.
    pub(crate) fn doubt(&mut self, invalid: Box<Invalid>, now: Instant) {
        self.doubt = Some((now + DOUBT, invalid));
    }

    /// When a doubted text is to be called invalid.
    pub(crate) fn verdict_at(&self) -> Option<Instant> {
        self.doubt.as_ref().map(|(at, _)| *at)
    }

    /// The doubted text, to be called invalid.
    pub(crate) fn take_doubt(&mut self) -> Option<Box<Invalid>> {
        self.doubt.take().map(|(_, invalid)| invalid)
    }
}

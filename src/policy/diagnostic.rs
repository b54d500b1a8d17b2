//! What the compiler has to say, as data first and as text second.
//!
//! Owns the finding, its place in the source, and the two renderings. A message never holds a
//! value; the quoted source is the author's own text, with credentials in it masked.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use crate::policy::code::{Code, Severity};
use crate::policy::{Source, mask};

/// A place in the source.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Label {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// Line of `start`, from 1.
    pub line: usize,
    /// Column of `start` in characters, from 1.
    pub column: usize,
    /// What is to be said about this place; `None` for the main one.
    pub text: Option<String>,
}

/// A place in a file that the policy names, such as a template.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Elsewhere {
    /// The file, as the policy names it.
    pub file: String,
    /// Its text.
    pub text: Arc<str>,
    /// The place.
    pub label: Label,
}

/// One finding.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Diagnostic {
    /// Its stable identity.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: a lower-case fragment without a value in it.
    pub message: String,
    /// Where; the main place first. Empty when it concerns the whole file.
    pub labels: Vec<Label>,
    /// Where exactly, when that is in another file; `labels` then say where the policy names it.
    pub elsewhere: Option<Elsewhere>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// The file and the place that it is about; `policy` is the name of the policy itself.
    #[must_use]
    pub fn place<'a>(&'a self, policy: &'a str) -> (&'a str, Option<&'a Label>) {
        match &self.elsewhere {
            Some(elsewhere) => (&elsewhere.file, Some(&elsewhere.label)),
            None => (policy, self.labels.first()),
        }
    }
}

/// All errors and warnings of a policy that cannot be used; never without an error.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// How many of them are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.0.iter().filter(|found| found.severity == Severity::Error).count()
    }
}

impl fmt::Display for Diagnostics {
    /// The first error with its place, and how many more there are: fit for a log line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut errors = self.0.iter().filter(|found| found.severity == Severity::Error);
        let Some(first) = errors.next() else { return f.write_str("invalid policy") };
        write!(f, "{}: {}", first.code, first.message)?;
        if let (file, Some(label)) = first.place("") {
            write!(f, " at line {}, column {}", label.line, label.column)?;
            if !file.is_empty() {
                write!(f, " of {file}")?;
            }
        }
        match errors.count() {
            0 => Ok(()),
            more => write!(f, " (and {more} more)"),
        }
    }
}

impl std::error::Error for Diagnostics {}

/// Renders findings the way the Rust compiler does.
#[must_use]
pub fn render_text(found: &[Diagnostic], source: &Source<'_>, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let text = mask::mask(source.text);
    let mut out = String::new();
    for one in found {
        let elsewhere = one.elsewhere.as_ref().map(|elsewhere| mask::mask(&elsewhere.text));
        out.push_str(&renderer.render(&groups(one, source.name, &text, elsewhere.as_deref())));
        out.push_str("\n\n");
    }
    out
}

fn groups<'a>(
    one: &'a Diagnostic,
    name: &'a str,
    text: &'a str,
    elsewhere: Option<&'a str>,
) -> Vec<Group<'a>> {
    let level = match one.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group =
        Group::with_title(level.primary_title(one.message.as_str()).id(one.code.as_str()));
    if let (Some(Elsewhere { file, label, .. }), Some(text)) = (&one.elsewhere, elsewhere) {
        let mark = AnnotationKind::Primary.span(within(text, label.start..label.end));
        group = group.element(Snippet::source(text).path(file).annotation(mark));
    }
    if one.labels.is_empty() {
        group = group.element(Origin::path(name));
    } else {
        let marks = one.labels.iter().enumerate().map(|(index, label)| {
            let primary = index == 0 && elsewhere.is_none();
            let kind = if primary { AnnotationKind::Primary } else { AnnotationKind::Context };
            kind.span(within(text, label.start..label.end)).label(label.text.as_deref())
        });
        group = group.element(Snippet::source(text).path(name).annotations(marks));
    }
    if let Some(help) = &one.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    vec![group]
}

/// Clamps a span to character boundaries of the text it is to be drawn on.
fn within(text: &str, span: Range<usize>) -> Range<usize> {
    let floor = |at: usize| {
        let at = at.min(text.len());
        (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
    };
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

/// Renders findings as the JSON document of `check --format json`.
#[must_use]
pub fn render_json(found: &[Diagnostic], source: &Source<'_>) -> Value {
    let list: Vec<_> = found.iter().map(|one| json_of(one, source.name)).collect();
    json!({ "schema": 1, "diagnostics": list })
}

fn json_of(one: &Diagnostic, file: &str) -> Value {
    let (file, place) = one.place(file);
    json!({
        "code": one.code.as_str(),
        "severity": one.severity.label(),
        "message": one.message,
        "file": file,
        "line": place.map(|label| label.line),
        "column": place.map(|label| label.column),
        "help": one.help,
    })
}

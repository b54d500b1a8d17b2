//! Walking the spanned tree: places, tables whose keys are ticked off, and the reporter.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator};
use toml::de::{DeTable, DeValue};

use crate::policy::Lookup;
use crate::policy::code::{Code, Severity};
use crate::policy::diagnostic::{Diagnostic, Elsewhere, Label};

/// A byte range of the source; [`Span::NONE`] for what a preset brought in.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    /// Stands nowhere in the source.
    pub(crate) const NONE: Self = Self { start: 0, end: 0 };

    /// This place, or `other` when it stands nowhere.
    pub(crate) fn or(self, other: Self) -> Self {
        if self == Self::NONE { other } else { self }
    }

    /// The part `range` of what stands here.
    pub(crate) fn part(self, range: &Range<usize>) -> Self {
        Self { start: self.start + range.start, end: self.start + range.end }
    }
}

/// A value and where it stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

/// Where a table stands, and which of its keys were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) span: Span,
    pub(crate) keys: Vec<(&'static str, Span)>,
}

impl Place {
    /// Where the key stands, else where the table stands.
    pub(crate) fn of(&self, key: &str) -> Span {
        self.keys.iter().find(|(known, _)| *known == key).map_or(self.span, |(_, span)| *span)
    }

    /// Whether the key was given, readable or not.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|(known, _)| *known == key)
    }
}

/// A key that a table cannot do without. `None` when it was missing or unreadable, which has
/// been reported by then.
#[derive(Clone, Debug)]
pub(crate) struct Need<T>(pub(crate) Option<T>);

impl<T> Default for Need<T> {
    fn default() -> Self {
        Self(None)
    }
}

#[cfg(test)]
impl<T: JsonSchema> JsonSchema for Need<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }
}

/// One value of the tree.
#[derive(Clone, Copy)]
pub(crate) struct Node<'n> {
    pub(crate) value: &'n DeValue<'n>,
    pub(crate) span: Span,
}

/// What can be read from a value.
pub(crate) trait Read: Sized {
    /// Reads the value, or reports why it cannot be read.
    fn read(node: Node<'_>, ctx: &mut Ctx<'_>) -> Option<Self>;
}

/// What can stand for a key of a table.
pub(crate) trait Field: Sized {
    /// Takes the key from the table.
    fn take(table: &mut TableReader<'_>, key: &'static str, ctx: &mut Ctx<'_>) -> Self;
}

impl<T: Read> Field for Option<T> {
    fn take(table: &mut TableReader<'_>, key: &'static str, ctx: &mut Ctx<'_>) -> Self {
        table.take(key, ctx).and_then(|node| T::read(node, ctx))
    }
}

impl<T: Read> Field for Need<T> {
    fn take(table: &mut TableReader<'_>, key: &'static str, ctx: &mut Ctx<'_>) -> Self {
        let node = table.take(key, ctx);
        if node.is_none() {
            let message = format!("missing key `{key}`");
            ctx.error(Code::MissingKey, table.place.span, message, "");
        }
        Self(node.and_then(|node| T::read(node, ctx)))
    }
}

/// Laying one layer of settings over another.
pub(crate) trait Over: Sized {
    /// This layer where it says something, else the one below.
    fn over(self, below: Self) -> Self;
}

impl<T: Over> Over for Option<T> {
    fn over(self, below: Self) -> Self {
        match (self, below) {
            (Some(above), Some(below)) => Some(above.over(below)),
            (above, below) => above.or(below),
        }
    }
}

impl<T: Over> Over for Need<T> {
    fn over(self, below: Self) -> Self {
        Self(self.0.over(below.0))
    }
}

/// A table whose keys are ticked off as they are read.
pub(crate) struct TableReader<'n> {
    table: &'n DeTable<'n>,
    known: Vec<&'static str>,
    /// Where it stands and what was given.
    pub(crate) place: Place,
}

impl<'n> TableReader<'n> {
    /// Opens a table, or reports that the value is none.
    pub(crate) fn open(node: Node<'n>, ctx: &mut Ctx<'_>) -> Option<Self> {
        let Some(table) = node.value.as_table() else {
            ctx.wrong_type(node, "a table");
            return None;
        };
        let place = Place { span: node.span, keys: Vec::new() };
        Some(Self { table, known: Vec::new(), place })
    }

    fn take(&mut self, key: &'static str, ctx: &Ctx<'_>) -> Option<Node<'n>> {
        self.known.push(key);
        let (at, value) = self.table.get_key_value(key)?;
        self.place.keys.push((key, ctx.span(at.span())));
        Some(Node { value: value.get_ref(), span: ctx.span(value.span()) })
    }

    /// Reports every key that nobody asked for.
    pub(crate) fn finish(self, ctx: &mut Ctx<'_>) -> Place {
        if self.table.len() > self.place.keys.len() {
            for (key, _) in self.table {
                let name: &str = key.get_ref();
                if !self.known.contains(&name) {
                    let help = nearest(name, &self.known, "known keys");
                    let message = format!("unknown key `{}`", name.escape_debug());
                    ctx.error(Code::UnknownKey, ctx.span(key.span()), message, help);
                }
            }
        }
        self.place
    }
}

/// Suggests the nearest of some words, or lists them all.
pub(crate) fn nearest(word: &str, known: &[&str], what: &str) -> String {
    let folded = word.to_ascii_lowercase().replace('-', "_");
    let best = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&folded, candidate), *candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((score, candidate)) if score > 0.82 => format!("did you mean `{candidate}`?"),
        _ => {
            let list: Vec<_> = known.iter().map(|word| format!("`{word}`")).collect();
            format!("{what}: {}", list.join(", "))
        }
    }
}

/// Collects findings and knows lines and columns.
#[derive(Debug)]
pub(crate) struct Reporter<'a> {
    text: &'a str,
    lines: Vec<usize>,
    seen: BTreeSet<(Code, Span, String)>,
    found: Vec<Diagnostic>,
    /// Whether the finding reported last was a new one.
    fresh: bool,
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        Self { text, lines, seen: BTreeSet::new(), found: Vec::new(), fresh: false }
    }

    /// Reports a finding once; [`Span::NONE`] concerns the whole file.
    pub(crate) fn report(&mut self, code: Code, span: Span, message: String, help: String) {
        self.fresh = self.seen.insert((code, span, message.clone()));
        if !self.fresh {
            return;
        }
        let labels = if span == Span::NONE { Vec::new() } else { vec![self.label(span, None)] };
        let help = (!help.is_empty()).then_some(help);
        let severity = code.severity();
        self.found.push(Diagnostic { code, severity, message, labels, elsewhere: None, help });
    }

    /// Adds another place to the finding reported last.
    pub(crate) fn also(&mut self, span: Span, text: &str) {
        let label = self.label(span, Some(text.to_owned()));
        if let Some(last) = self.found.last_mut()
            && self.fresh
            && span != Span::NONE
            && !last.labels.contains(&label)
        {
            last.labels.push(label);
        }
    }

    /// Says that the finding reported last is about a place in another file.
    pub(crate) fn within(&mut self, file: &str, text: &Arc<str>, range: Range<usize>) {
        let label = Reporter::new(text).label(Span { start: range.start, end: range.end }, None);
        if let Some(last) = self.found.last_mut().filter(|_| self.fresh) {
            last.elsewhere =
                Some(Elsewhere { file: file.to_owned(), text: Arc::clone(text), label });
        }
    }

    fn label(&self, span: Span, text: Option<String>) -> Label {
        let line = self.lines.partition_point(|start| *start <= span.start).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..span.start).unwrap_or("");
        let column = before.trim_start_matches('\u{feff}').chars().count() + 1;
        Label { start: span.start, end: span.end, line, column, text }
    }

    /// Whether anything so far makes the policy unusable.
    pub(crate) fn failed(&self) -> bool {
        self.found.iter().any(|found| found.severity == Severity::Error)
    }

    /// Everything found, in the order of the file.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|found| (found.labels.first().map(|at| at.start), found.code));
        self.found
    }
}

/// What reading and compiling carry along.
pub(crate) struct Ctx<'a> {
    /// Where findings go.
    pub(crate) reporter: Reporter<'a>,
    /// Variables and files.
    pub(crate) lookup: &'a dyn Lookup,
    /// Files read so far, with what was in them or why not.
    pub(crate) files: BTreeMap<PathBuf, Result<String, String>>,
    /// Whether the tree being read is the author's file, not a preset.
    pub(crate) own: bool,
    /// Where to point when something that a preset brought in is wrong.
    pub(crate) fallback: Span,
}

impl<'a> Ctx<'a> {
    pub(crate) fn new(text: &'a str, lookup: &'a dyn Lookup) -> Self {
        Self {
            reporter: Reporter::new(text),
            lookup,
            files: BTreeMap::new(),
            own: true,
            fallback: Span::NONE,
        }
    }

    /// A place in the author's file; nowhere while a preset is read.
    pub(crate) fn span(&self, range: Range<usize>) -> Span {
        if self.own { Span { start: range.start, end: range.end } } else { Span::NONE }
    }

    /// The source text at a place.
    pub(crate) fn text_at(&self, span: Span) -> &'a str {
        self.reporter.text.get(span.start..span.end).unwrap_or("")
    }

    /// Reports a finding; an empty `help` is none.
    pub(crate) fn error(
        &mut self,
        code: Code,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.reporter.report(code, span.or(self.fallback), message.into(), help.into());
    }

    /// Reports a value of the wrong type.
    pub(crate) fn wrong_type(&mut self, node: Node<'_>, wanted: &str) {
        let found = type_name(node.value);
        let scalar = !(node.value.is_array() || node.value.is_table());
        let help = if scalar && wanted == "text" { "put it in quotes" } else { "" };
        let message = format!("expected {wanted}, found {found}");
        self.error(Code::WrongType, node.span, message, help);
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

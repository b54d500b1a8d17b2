//! What is wrong with a template, and where.

use std::borrow::Cow;
use std::error::Error as _;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object};
use minijinja::{Error, ErrorKind, Value};

use crate::policy::model::Quoting;
use crate::policy::template::quote::Refusal;
use crate::policy::template::{Context, MAX_BYTES, Rendered, render_text};

/// As many faults of one template are told at once.
const TOLD: usize = 16;
/// Stands for what could not be evaluated, so that the rest can be looked at.
const ANYTHING: &str = "_";

/// What is wrong with a template. Never holds a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// What sort of mistake.
    pub kind: FaultKind,
    /// What is wrong: a lower-case fragment.
    pub what: Cow<'static, str>,
    /// In which line, from 1; 0 when it is none in particular.
    pub line: usize,
    /// Where exactly, in bytes, if that is known.
    pub range: Option<Range<usize>>,
}

/// A sort of mistake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultKind {
    /// The text is no template.
    Syntax,
    /// It uses a name that is not defined.
    Undefined,
    /// It uses a filter, test, function or method that there is not.
    Unknown,
    /// It takes too long or grows too large.
    Unbounded,
    /// Anything else that cannot be done with these values.
    Operation,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.what),
            line => write!(f, "line {line}: {}", self.what),
        }
    }
}

impl std::error::Error for Fault {}

/// What the engine's kinds of errors mean. Its own words may quote values, except on syntax.
const KINDS: [(ErrorKind, FaultKind, &str); 10] = [
    (ErrorKind::SyntaxError, FaultKind::Syntax, "a syntax error"),
    (ErrorKind::BadEscape, FaultKind::Syntax, "a bad escape sequence"),
    (ErrorKind::UndefinedError, FaultKind::Undefined, "a name that is not defined"),
    (ErrorKind::UnknownFilter, FaultKind::Unknown, "an unknown filter"),
    (ErrorKind::UnknownTest, FaultKind::Unknown, "an unknown test"),
    (ErrorKind::UnknownFunction, FaultKind::Unknown, "an unknown function"),
    (ErrorKind::UnknownMethod, FaultKind::Unknown, "an unknown method"),
    (ErrorKind::OutOfFuel, FaultKind::Unbounded, "more work than one rendering may take"),
    (ErrorKind::TooManyArguments, FaultKind::Operation, "too many arguments"),
    (ErrorKind::MissingArgument, FaultKind::Operation, "a missing argument"),
];

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let known = KINDS.iter().find(|(kind, ..)| *kind == error.kind());
        let (kind, what) = known.map_or(
            (FaultKind::Operation, "an operation that these values do not allow"),
            |(_, kind, what)| (*kind, *what),
        );
        let refusal = error.source().and_then(|source| source.downcast_ref::<Refusal>());
        let (kind, what) = match (error.kind(), refusal) {
            (_, Some(refusal)) => (kind, Cow::Borrowed(refusal.0)),
            (ErrorKind::SyntaxError, None) => {
                (kind, error.detail().map_or(Cow::Borrowed(what), |text| text.to_owned().into()))
            }
            (ErrorKind::WriteFailure, None) => {
                (FaultKind::Unbounded, format!("more than {MAX_BYTES} bytes of text").into())
            }
            (_, None) => (kind, Cow::Borrowed(what)),
        };
        Self { kind, what, line: error.line().unwrap_or_default(), range: error.range() }
    }
}

/// Everything that is wrong with a text when it is filled in with this context, as far as one
/// mistake does not hide the next; and what it gives when nothing is.
pub(crate) fn faults(
    text: &str,
    quoting: Quoting,
    context: &Context<'_>,
) -> Result<Rendered, Vec<Fault>> {
    let context = context.value();
    let mut rest = text.to_owned();
    let mut found: Vec<Fault> = Vec::new();
    while found.len() < TOLD {
        let rendered = render_text(&rest, quoting, context.clone(), |environment| {
            environment.add_global(ANYTHING, Value::from_object(Anything));
        });
        let mut fault = match rendered {
            Ok(rendered) if found.is_empty() => return Ok(rendered),
            Ok(_) => break,
            Err(fault) => fault,
        };
        fault.range = fault.range.map(|range| expression(&rest, whole(&rest, range)));
        let plain = matches!(fault.kind, FaultKind::Undefined | FaultKind::Unknown);
        // What else goes wrong with a stand-in in it says nothing about the template.
        if !plain && !found.is_empty() {
            break;
        }
        let next = fault.range.as_ref().and_then(|range| without(&rest, range));
        found.push(fault);
        match next {
            Some(next) if plain && next != rest => rest = next,
            _ => break,
        }
    }
    Err(found)
}

/// The engine may point into a character.
fn whole(text: &str, range: Range<usize>) -> Range<usize> {
    let end = range.end.min(text.len());
    let start = (0..=range.start.min(end)).rev().find(|&at| text.is_char_boundary(at));
    let end = (end..=text.len()).find(|&at| text.is_char_boundary(at));
    start.unwrap_or_default()..end.unwrap_or(text.len())
}

/// The whole expression of which the engine names the last part.
fn expression(text: &str, range: Range<usize>) -> Range<usize> {
    let joins = |c: char| matches!(c, '.' | '[' | '|');
    let path = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '[' | ']' | '"' | '\'');
    let mut start = range.start;
    loop {
        let before = text.get(..start).unwrap_or_default();
        let rest = text.get(start..).unwrap_or_default();
        let piped = before.trim_end().strip_suffix('|').map(str::trim_end);
        let before = match piped {
            Some(piped) => piped,
            None if rest.starts_with(joins) || start == range.start => before,
            None => break,
        };
        let longer = before.trim_end_matches(path).len();
        if longer >= start || (piped.is_none() && !rest.starts_with(joins)) {
            break;
        }
        start = longer;
    }
    start..range.end
}

/// The text with a stand-in at a place, and every line where it was.
fn without(text: &str, range: &Range<usize>) -> Option<String> {
    let (before, after) = (text.get(..range.start)?, text.get(range.end..)?);
    let gone = text.get(range.clone())?;
    let blank = |c: char| if c == '\n' { "\n".to_owned() } else { " ".repeat(c.len_utf8()) };
    let padding: String = gone.chars().skip(1).map(blank).collect();
    gone.starts_with(|c: char| c.is_ascii()).then(|| format!("{before}{ANYTHING}{padding}{after}"))
}

/// Has every member, and is written as nothing.
#[derive(Debug)]
pub(super) struct Anything;

impl Object for Anything {
    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::from_object(Self))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Empty
    }
}

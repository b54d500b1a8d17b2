//! The types of single values.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

use crate::policy::code::Code;
use crate::policy::duration::{self, DurationError};
use crate::policy::raw::node::{Node, Over};
use crate::policy::raw::{At, Ctx, Read, Span};

/// Text that may hold interpolations.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Text {
    pub(crate) value: String,
    /// The literal with its quotes.
    pub(crate) span: Span,
    /// The content alone, when it is written without escapes: places inside it are then exact.
    pub(crate) inner: Option<Span>,
}

impl Read for Text {
    fn read(node: Node<'_>, ctx: &mut Ctx<'_>) -> Option<Self> {
        let Some(value) = node.value.as_str() else {
            ctx.wrong_type(node, "text");
            return None;
        };
        let literal = ctx.text_at(node.span);
        let quotes = opening(literal);
        let inner =
            Span { start: node.span.start + quotes, end: node.span.start + quotes + value.len() };
        let inner = (ctx.text_at(inner) == value).then_some(inner);
        Some(Self { value: value.to_owned(), span: node.span, inner })
    }
}

/// How long the beginning of a text is: three quotes may have a line break behind them.
fn opening(literal: &str) -> usize {
    let Some(rest) = ["\"\"\"", "'''"].iter().find_map(|open| literal.strip_prefix(open)) else {
        return 1;
    };
    let first = ["\r\n", "\n"].iter().find(|first| rest.starts_with(**first));
    3 + first.map_or(0, |first| first.len())
}

impl Read for At<bool> {
    fn read(node: Node<'_>, ctx: &mut Ctx<'_>) -> Option<Self> {
        let value = node.value.as_bool();
        if value.is_none() {
            ctx.wrong_type(node, "a boolean");
        }
        value.map(|value| Self { value, span: node.span })
    }
}

/// A whole number within limits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Int<const MIN: u32, const MAX: u32> {
    pub(crate) value: u32,
    pub(crate) span: Span,
}

impl<const MIN: u32, const MAX: u32> Read for Int<MIN, MAX> {
    fn read(node: Node<'_>, ctx: &mut Ctx<'_>) -> Option<Self> {
        let Some(integer) = node.value.as_integer() else {
            ctx.wrong_type(node, "an integer");
            return None;
        };
        let value = u32::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|value| (MIN..=MAX).contains(value));
        if value.is_none() {
            let help = format!("from {MIN} to {MAX}");
            ctx.error(Code::OutOfRange, node.span, "a number out of range", help);
        }
        value.map(|value| Self { value, span: node.span })
    }
}

/// A part of one, from 0 to `MAX` per mille.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ratio<const MAX: u32> {
    pub(crate) permille: u32,
}

impl<const MAX: u32> Read for Ratio<MAX> {
    fn read(node: Node<'_>, ctx: &mut Ctx<'_>) -> Option<Self> {
        let text = match node.value {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(integer) => integer.as_str(),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                ctx.wrong_type(node, "a number");
                return None;
            }
        };
        let number = text.parse::<f64>().unwrap_or(f64::NAN) * 1000.0;
        let permille = format!("{number:.0}").parse().ok().filter(|permille| *permille <= MAX);
        if permille.is_none() {
            let help = format!("from 0.0 to {}", f64::from(MAX) / 1000.0);
            ctx.error(Code::OutOfRange, node.span, "a number out of range", help);
        }
        permille.map(|permille| Self { permille })
    }
}

/// A span of time that must be longer than nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Positive {
    pub(crate) value: Duration,
    pub(crate) span: Span,
}

/// A span of time that may be nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NonNegative {
    pub(crate) value: Duration,
    pub(crate) span: Span,
}

fn read_duration(node: Node<'_>, ctx: &mut Ctx<'_>) -> Option<Duration> {
    match node.value {
        DeValue::String(text) => match duration::parse(text) {
            Ok(span) => Some(span),
            Err(error) => {
                refuse_duration(text, error, node.span, ctx);
                None
            }
        },
        DeValue::Integer(integer) => {
            let help =
                format!("write \"{}s\" or \"{0}ms\"", integer.as_str().trim_start_matches('-'));
            ctx.error(Code::BareDuration, node.span, "a duration needs a unit", help);
            None
        }
        DeValue::Float(_) => {
            let help = "write whole numbers with a unit, such as \"1s 500ms\"";
            ctx.error(Code::BareDuration, node.span, "a duration needs a unit", help);
            None
        }
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            ctx.wrong_type(node, "a duration");
            None
        }
    }
}

fn refuse_duration(text: &str, error: DurationError, span: Span, ctx: &mut Ctx<'_>) {
    let known = "such as \"500ms\", \"5s\" or \"1m 30s\"";
    let (code, help) = match error {
        DurationError::Negative => (Code::NotPositive, String::new()),
        DurationError::NoUnit => {
            (Code::BareDuration, format!("write \"{0}s\" or \"{0}ms\"", text.trim()))
        }
        DurationError::UnknownUnit => (Code::BadDuration, "units: d, h, m, s, ms".to_owned()),
        DurationError::Order => {
            (Code::BadDuration, "largest unit first, each at most once".to_owned())
        }
        DurationError::Malformed if text.contains("${") => (
            Code::BadDuration,
            "durations are written out; variables are not known here".to_owned(),
        ),
        DurationError::Fraction | DurationError::TooLong | DurationError::Malformed => {
            (Code::BadDuration, known.to_owned())
        }
    };
    ctx.error(code, span, error.to_string(), help);
}

impl Read for NonNegative {
    fn read(node: Node<'_>, ctx: &mut Ctx<'_>) -> Option<Self> {
        read_duration(node, ctx).map(|value| Self { value, span: node.span })
    }
}

impl Read for Positive {
    fn read(node: Node<'_>, ctx: &mut Ctx<'_>) -> Option<Self> {
        let value = read_duration(node, ctx)?;
        if value.is_zero() {
            ctx.error(Code::NotPositive, node.span, "a duration of zero", "");
            return None;
        }
        Some(Self { value, span: node.span })
    }
}

/// Entries under names that the author chooses, each with the place of its name.
#[derive(Clone, Debug)]
pub(crate) struct Map<T>(pub(crate) BTreeMap<String, (Span, T)>);

impl<T> Default for Map<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Read> Read for Map<T> {
    fn read(node: Node<'_>, ctx: &mut Ctx<'_>) -> Option<Self> {
        let Some(table) = node.value.as_table() else {
            ctx.wrong_type(node, "a table");
            return None;
        };
        let mut entries = BTreeMap::new();
        for (key, value) in table {
            let span = ctx.span(value.span());
            if let Some(read) = T::read(Node { value: value.get_ref(), span }, ctx) {
                entries.insert(key.get_ref().to_string(), (ctx.span(key.span()), read));
            }
        }
        Some(Self(entries))
    }
}

impl<T> Over for Map<T> {
    fn over(mut self, below: Self) -> Self {
        for (key, entry) in below.0 {
            self.0.entry(key).or_insert(entry);
        }
        self
    }
}

/// A list, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct List<T> {
    pub(crate) items: Vec<T>,
    pub(crate) span: Span,
    /// Whether nothing was written in it; unreadable items do not make it empty.
    pub(crate) empty: bool,
}

impl<T: Read> Read for List<T> {
    fn read(node: Node<'_>, ctx: &mut Ctx<'_>) -> Option<Self> {
        let Some(array) = node.value.as_array() else {
            ctx.wrong_type(node, "a list");
            return None;
        };
        let mut items = Vec::with_capacity(array.len());
        for item in array {
            let span = ctx.span(item.span());
            items.extend(T::read(Node { value: item.get_ref(), span }, ctx));
        }
        Some(Self { items, span: node.span, empty: array.is_empty() })
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug)]
pub(crate) struct OneOrMany<T> {
    pub(crate) items: Vec<T>,
    pub(crate) span: Span,
    /// Whether nothing was written in it.
    pub(crate) empty: bool,
}

impl<T: Read> Read for OneOrMany<T> {
    fn read(node: Node<'_>, ctx: &mut Ctx<'_>) -> Option<Self> {
        if node.value.is_array() {
            List::read(node, ctx).map(|list| Self {
                items: list.items,
                span: list.span,
                empty: list.empty,
            })
        } else {
            T::read(node, ctx).map(|item| Self { items: vec![item], span: node.span, empty: false })
        }
    }
}

/// A status pattern: a number, `2xx` or `200-299`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Status {
    pub(crate) range: (u16, u16),
}

impl Status {
    /// Reads a pattern.
    pub(crate) fn parse(text: &str) -> Option<(u16, u16)> {
        let whole = |text: &str| {
            let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<u16>().ok()).flatten().filter(|n| (100..600).contains(n))
        };
        let text = text.trim();
        if let Some(class) = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
            let class = whole(&format!("{class}00"))?;
            return Some((class, class + 99));
        }
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let range = (whole(low.trim())?, whole(high.trim())?);
        (range.0 <= range.1).then_some(range)
    }
}

impl Read for Status {
    fn read(node: Node<'_>, ctx: &mut Ctx<'_>) -> Option<Self> {
        let text = match node.value {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(integer) => integer.as_str(),
            DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                ctx.wrong_type(node, "a status");
                return None;
            }
        };
        let range = Self::parse(text);
        if range.is_none() {
            let help = "such as 200, \"2xx\" or \"200-299\"";
            ctx.error(Code::BadStatus, node.span, "not a status pattern", help);
        }
        range.map(|range| Self { range })
    }
}

/// Any value, as JSON.
#[derive(Clone, Debug)]
pub(crate) struct Json(pub(crate) serde_json::Value);

impl Read for Json {
    fn read(node: Node<'_>, ctx: &mut Ctx<'_>) -> Option<Self> {
        let json = to_json(node.value);
        if json.is_none() {
            ctx.error(Code::WrongType, node.span, "a value that JSON does not have", "");
        }
        json.map(Self)
    }
}

fn to_json(value: &DeValue<'_>) -> Option<serde_json::Value> {
    use serde_json::Value;
    Some(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(integer) => {
            Value::from(i64::from_str_radix(integer.as_str(), integer.radix()).ok()?)
        }
        DeValue::Float(float) => {
            Value::Number(serde_json::Number::from_f64(float.as_str().parse().ok()?)?)
        }
        DeValue::Datetime(_) => return None,
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| to_json(item.get_ref())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
                let key: &Cow<'_, str> = key.get_ref();
                Some((key.to_string(), to_json(value.get_ref())?))
            };
            Value::Object(table.iter().map(entry).collect::<Option<_>>()?)
        }
    })
}

/// A single value has no parts to lay over each other: the upper layer wins.
macro_rules! whole {
    ($([$($generics:tt)*] $type:ty),* $(,)?) => {$(
        impl<$($generics)*> Over for $type {
            fn over(self, _below: Self) -> Self {
                self
            }
        }
    )*};
}
whole!([] Text, [T] At<T>, [const A: u32, const B: u32] Int<A, B>, [const A: u32] Ratio<A>);
whole!([] NonNegative, [] Positive, [T] List<T>, [T] OneOrMany<T>, [] Json);

/// How single values appear in the JSON Schema.
#[cfg(test)]
macro_rules! schema {
    ($([$($generics:tt)*] $type:ty, |$generator:ident| $schema:expr;)*) => {$(
        impl<$($generics)*> JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($type))
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}
/// What the schema says of a duration.
#[cfg(test)]
const DURATION: &str = r"^\s*([0-9]+\s*(d|h|m|s|ms)\s*)+$";
#[cfg(test)]
schema! {
    [] Text, |_generator| json_schema!({ "type": "string" });
    [T: JsonSchema] At<T>, |generator| generator.subschema_for::<T>();
    [const A: u32, const B: u32] Int<A, B>,
        |_generator| json_schema!({ "type": "integer", "minimum": A, "maximum": B });
    [const A: u32] Ratio<A>,
        |_generator| json_schema!({ "type": "number", "minimum": 0, "maximum": f64::from(A) / 1000.0 });
    [] NonNegative, |_generator| json_schema!({ "type": "string", "pattern": DURATION });
    [] Positive, |_generator| json_schema!({ "type": "string", "pattern": DURATION });
    [T: JsonSchema] Map<T>, |generator| json_schema!({
        "type": "object", "additionalProperties": generator.subschema_for::<T>()
    });
    [T: JsonSchema] List<T>, |generator| json_schema!({
        "type": "array", "items": generator.subschema_for::<T>()
    });
    [T: JsonSchema] OneOrMany<T>, |generator| {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    };
    [] Status, |_generator| json_schema!({ "anyOf": [
        { "type": "integer", "minimum": 100, "maximum": 599 },
        { "type": "string", "pattern": "^\\s*[1-5](xx|XX|[0-9][0-9](\\s*-\\s*[1-5][0-9][0-9])?)\\s*$" }
    ] });
    [] Json, |_generator| json_schema!(true);
}

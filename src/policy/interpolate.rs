//! Fills `${…}` in.
//!
//! Owns the grammar of interpolation and the origin of values: whatever came from a variable or a
//! file is marked secret. It never puts a value into a diagnostic.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::policy::code::Code;
use crate::policy::raw::{Ctx, Span, Text};
use crate::policy::secret::Secret;

/// A value after interpolation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Value {
    /// The text.
    pub(crate) text: Secret,
    /// Whether any of it came from a variable or a file.
    pub(crate) secret: bool,
}

impl Value {
    /// The text itself.
    pub(crate) fn expose(&self) -> &str {
        self.text.expose()
    }
}

/// What `${endpoint.…}` stands for.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'a> {
    /// There is no endpoint here.
    Global,
    /// The endpoint's own settings: its name is known, its variables are being made.
    Naming(&'a str),
    /// Its probes: name and variables are known.
    Endpoint(&'a str, &'a BTreeMap<String, Value>),
}

/// Which control characters a value may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Control {
    /// None.
    Refused,
    /// Line breaks and tabs.
    Lines,
    /// Any.
    Any,
}

/// A piece of a text: literal, or what stands between `${` and `}`.
enum Piece<'a> {
    Literal(&'a str),
    Braced(&'a str, Range<usize>),
    Unclosed(Range<usize>),
}

/// Expands a text and checks its characters; `None` when anything about it was reported.
pub(crate) fn expand(
    text: &Text,
    scope: Scope<'_>,
    control: Control,
    ctx: &mut Ctx<'_>,
) -> Option<Value> {
    let mut out = String::new();
    let mut secret = false;
    let mut whole = true;
    for piece in pieces(&text.value) {
        match piece {
            Piece::Literal(literal) => out.push_str(literal),
            Piece::Unclosed(range) => {
                whole = false;
                let message = "an interpolation without its closing brace";
                let help = "write `${NAME}`; a literal dollar sign is `$$`";
                ctx.error(Code::BadInterpolation, place(text, &range), message, help);
            }
            Piece::Braced(name, range) => match resolve(name, scope, place(text, &range), ctx) {
                Some(value) => {
                    secret |= value.secret;
                    out.push_str(value.expose());
                }
                None => whole = false,
            },
        }
    }
    let value = Value { text: Secret::new(out), secret };
    (whole && printable(&value, text.span, control, ctx)).then_some(value)
}

/// Whether a text holds any interpolation.
pub(crate) fn is_literal(text: &str) -> bool {
    pieces(text).all(|piece| matches!(piece, Piece::Literal(_)))
}

fn printable(value: &Value, span: Span, control: Control, ctx: &mut Ctx<'_>) -> bool {
    let allowed = |c: char| match control {
        Control::Refused => false,
        Control::Lines => matches!(c, '\n' | '\r' | '\t'),
        Control::Any => true,
    };
    let bad = value.expose().chars().any(|c| c.is_control() && !allowed(c));
    if bad {
        let help =
            if value.secret { "look for a stray line break in the variable or file" } else { "" };
        ctx.error(Code::ControlCharacter, span, "a control character in the value", help);
    }
    !bad
}

fn place(text: &Text, range: &Range<usize>) -> Span {
    text.inner
        .map_or(text.span, |inner| if inner == Span::NONE { inner } else { inner.part(range) })
}

/// Cuts a text into its pieces.
fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        let start = at;
        if let Some(after) = rest.strip_prefix("${") {
            let Some(end) = after.find('}') else {
                at = text.len();
                return Some(Piece::Unclosed(start..text.len()));
            };
            at += end + 3;
            return Some(Piece::Braced(after.get(..end)?, start..at));
        }
        if rest.starts_with("$$") {
            at += 2;
            return Some(Piece::Literal("$"));
        }
        let skip = usize::from(rest.starts_with('$'));
        let end = rest.get(skip..)?.find('$').map_or(rest.len(), |end| end + skip);
        at += end;
        Some(Piece::Literal(rest.get(..end)?))
    })
}

/// Finds what one `${…}` stands for.
fn resolve(inside: &str, scope: Scope<'_>, span: Span, ctx: &mut Ctx<'_>) -> Option<Value> {
    if let Some(path) = inside.strip_prefix("file:") {
        return file(Path::new(path), span, ctx).map(|content| {
            let content = content.strip_suffix('\n').unwrap_or(&content);
            let content = content.strip_suffix('\r').unwrap_or(content);
            Value { text: Secret::from(content), secret: true }
        });
    }
    if let Some(key) = inside.strip_prefix("endpoint.") {
        return endpoint(key, scope, span, ctx);
    }
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_variable_name(name) {
        let (code, help) = if name.contains([':', '.']) {
            (Code::UnknownInterpolation, "known: `${NAME}`, `${file:PATH}`, `${endpoint.…}`")
        } else {
            (Code::BadInterpolation, "write `${NAME}` or `${NAME:-default}`")
        };
        ctx.error(code, span, "an interpolation that cannot be read", help);
        return None;
    }
    let found = ctx.lookup.var(name);
    match (found, default) {
        (Some(value), None) => Some(Value { text: Secret::new(value), secret: true }),
        (Some(value), Some(_)) if !value.is_empty() => {
            Some(Value { text: Secret::new(value), secret: true })
        }
        (_, Some(default)) => Some(Value { text: Secret::from(default), secret: false }),
        (None, None) => {
            let message = format!("variable `{name}` is not set");
            let help = format!("set it, or give a default: `${{{name}:-…}}`");
            ctx.error(Code::UnsetVariable, span, message, help);
            None
        }
    }
}

/// `${endpoint.name}`, or `${endpoint.env.A|B:-default}`: the first of the variables that is there.
fn endpoint(key: &str, scope: Scope<'_>, span: Span, ctx: &mut Ctx<'_>) -> Option<Value> {
    let variables = key.strip_prefix("env.");
    let (name, env) = match (scope, key, variables) {
        (_, key, None) if key != "name" => {
            let help = "known: `${endpoint.name}`, `${endpoint.env.NAME}`";
            ctx.error(Code::UnknownInterpolation, span, "an unknown interpolation", help);
            return None;
        }
        (Scope::Global, ..) | (Scope::Naming(_), _, Some(_)) => {
            let message = "an interpolation that has no meaning here";
            ctx.error(Code::InterpolationNotAllowed, span, message, "it is known in probes");
            return None;
        }
        (Scope::Naming(name), ..) => (name, None),
        (Scope::Endpoint(name, env), ..) => (name, Some(env)),
    };
    let Some(variables) = variables else {
        return Some(Value { text: Secret::from(name), secret: false });
    };
    let (names, default) = match variables.split_once(":-") {
        Some((names, default)) => (names, Some(default)),
        None => (variables, None),
    };
    let env = |name: &str| env.and_then(|env| env.get(name));
    let usable = |value: &&Value| default.is_none() || !value.expose().is_empty();
    let found = names.split('|').filter_map(env).find(usable);
    match (found, default) {
        (Some(found), _) => Some(found.clone()),
        (None, Some(default)) => Some(Value { text: Secret::from(default), secret: false }),
        (None, None) => {
            let first = names.split('|').next().unwrap_or(names).escape_debug();
            let message =
                format!("endpoint `{name}` lacks the variable `{first}` that its probe needs");
            let help = format!("add `{first}` to its `env`");
            ctx.error(Code::MissingEndpointVariable, span, message, help);
            None
        }
    }
}

/// Reads a file once; the same file may be named many times.
pub(crate) fn file(path: &Path, span: Span, ctx: &mut Ctx<'_>) -> Option<String> {
    if path.as_os_str().is_empty() {
        ctx.error(Code::BadInterpolation, span, "a file without a path", "write `${file:PATH}`");
        return None;
    }
    let lookup = ctx.lookup;
    let content = ctx.files.entry(PathBuf::from(path)).or_insert_with(|| lookup.file(path)).clone();
    match content {
        Ok(content) => Some(content),
        Err(reason) => {
            let message = format!("cannot read the file: {reason}");
            ctx.error(Code::UnreadableFile, span, message, "");
            None
        }
    }
}

/// Whether a text can name an environment variable.
pub(crate) fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

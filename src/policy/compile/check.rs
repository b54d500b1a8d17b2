//! Small checks that several tables share.

use std::path::PathBuf;

use crate::policy::code::Code;
use crate::policy::interpolate::{self, Control, Scope, Value};
use crate::policy::mask;
use crate::policy::raw::{Ctx, List, Map, Span, Text};

/// Headers that belong to the connection.
const OWN_HEADERS: [&str; 5] =
    ["host", "content-length", "connection", "transfer-encoding", "upgrade"];

/// Checks the name of a service: it becomes part of variable names.
pub(super) fn service_name(name: &str, span: Span, ctx: &mut Ctx<'_>) -> bool {
    let good =
        fits(name, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'));
    if !good {
        let help = "lower-case letters, digits, `-` and `_`; at most 63";
        ctx.error(Code::BadName, span, "not a usable name for a service", help);
    }
    good
}

/// Checks any other name.
pub(super) fn name(text: &Text, ctx: &mut Ctx<'_>) -> Option<String> {
    let good = fits(&text.value, |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !good {
        let help = "letters, digits, `-`, `_` and `.`, a letter or digit first; at most 63";
        ctx.error(Code::BadName, text.span, "not a usable name", help);
    }
    good.then(|| text.value.clone())
}

fn fits(name: &str, allowed: fn(char) -> bool) -> bool {
    (1..=63).contains(&name.len())
        && name.chars().all(allowed)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// Expands a text that may hold no control characters.
pub(super) fn text(text: &Text, scope: Scope<'_>, ctx: &mut Ctx<'_>) -> Option<Value> {
    interpolate::expand(text, scope, Control::Refused, ctx)
}

/// Expands the path of a file.
pub(super) fn path(raw: &Text, ctx: &mut Ctx<'_>) -> Option<PathBuf> {
    let value = text(raw, Scope::Global, ctx)?;
    if value.expose().trim().is_empty() {
        ctx.error(Code::BadPath, raw.span, "an empty path", "");
        return None;
    }
    Some(PathBuf::from(value.expose()))
}

/// Expands the arguments of a command.
pub(super) fn argv(raw: &List<Text>, scope: Scope<'_>, ctx: &mut Ctx<'_>) -> Option<Vec<String>> {
    let given = raw.items.len();
    let argv: Vec<String> = raw
        .items
        .iter()
        .filter_map(|item| text(item, scope, ctx))
        .map(|value| value.expose().to_owned())
        .collect();
    if raw.items.first().is_none_or(|program| program.value.trim().is_empty()) {
        let help = "write a list: the program, then its arguments";
        ctx.error(Code::EmptyValue, raw.span, "a command without a program", help);
        return None;
    }
    (argv.len() == given).then_some(argv)
}

/// Expands request headers.
pub(super) fn headers(
    raw: Option<&Map<Text>>,
    scope: Scope<'_>,
    ctx: &mut Ctx<'_>,
) -> Vec<(String, Value)> {
    let mut out = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for (name, (span, raw)) in raw.iter().flat_map(|map| &map.0) {
        let folded = name.to_ascii_lowercase();
        if !header_name(name) {
            ctx.error(Code::BadHeader, *span, "not a header name", "letters, digits and `-`");
        } else if OWN_HEADERS.contains(&folded.as_str()) {
            let help = "leave it out";
            ctx.error(Code::BadHeader, *span, "a header that belongs to the connection", help);
        } else if seen.contains(&folded) {
            ctx.error(Code::DuplicateName, *span, "a header given twice", "case does not matter");
        }
        seen.push(folded);
        if let Some(value) = text(raw, scope, ctx) {
            literal_credential(name, raw, ctx);
            out.push((name.clone(), value));
        }
    }
    out
}

/// Whether a text is a header name (RFC 9110 token).
pub(super) fn header_name(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(token)
}

/// Warns of a credential that stands in the file itself.
pub(super) fn literal_credential(name: &str, raw: &Text, ctx: &mut Ctx<'_>) {
    let literal = interpolate::is_literal(&raw.value) && !raw.value.is_empty();
    let own = raw.span != Span::NONE;
    if own && literal && (mask::is_credential_name(name) || mask::is_credential(&raw.value)) {
        let message = "a credential written into the policy";
        let help = "use `${NAME}` or `${file:PATH}`";
        ctx.error(Code::LiteralCredential, raw.span, message, help);
    }
}

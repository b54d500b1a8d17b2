//! What an HTTP answer must be.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::policy::code::Code;
use crate::policy::compile::check;
use crate::policy::model::{HttpExpect, MappedOutcome};
use crate::policy::raw::{Ctx, Expect, Mapped, OneOrMany, Span, Status, Text};

/// The literal texts of a list.
pub(super) fn texts(list: Option<&OneOrMany<Text>>) -> Vec<String> {
    list.iter().flat_map(|list| &list.items).map(|text| text.value.clone()).collect()
}

/// Builds the expectations of an HTTP request.
pub(super) fn http(raw: Option<&Expect>, ctx: &mut Ctx<'_>) -> HttpExpect {
    let default = Expect::default();
    let raw = raw.unwrap_or(&default);
    HttpExpect {
        status: statuses(raw.status.as_ref(), ctx),
        outcomes: outcomes(raw, ctx),
        headers: expected_headers(raw, ctx),
        body_contains: texts(raw.body_contains.as_ref()),
        body_excludes: texts(raw.body_excludes.as_ref()),
        body_matches: raw.body_matches.as_ref().and_then(|pattern| regex(pattern, ctx)),
        json: json(raw, ctx),
        graphql: raw.graphql.is_some_and(|graphql| graphql.value),
        quota_used: raw.quota_used.as_ref().map(|text| pointer(text, ctx)),
        quota_limit: raw.quota_limit.as_ref().map(|text| pointer(text, ctx)),
        slow: raw.slow.map(|slow| slow.value),
    }
}

fn statuses(raw: Option<&OneOrMany<Status>>, ctx: &mut Ctx<'_>) -> Vec<(u16, u16)> {
    let Some(raw) = raw else { return vec![(200, 299)] };
    if raw.empty {
        ctx.error(Code::EmptyValue, raw.span, "an empty list of statuses", "no answer could pass");
    }
    raw.items.iter().map(|status| status.range).collect()
}

fn outcomes(raw: &Expect, ctx: &mut Ctx<'_>) -> BTreeMap<u16, MappedOutcome> {
    let mut out = BTreeMap::new();
    for (pattern, (span, mapped)) in raw.outcomes.iter().flat_map(|map| &map.0) {
        let Some((low, high)) = Status::parse(pattern) else {
            let help = "such as 402, \"4xx\" or \"500-503\"";
            ctx.error(Code::BadStatus, *span, "not a status pattern", help);
            continue;
        };
        let outcome = match mapped.value {
            Mapped::Ok => MappedOutcome::Ok,
            Mapped::Degraded => MappedOutcome::Degraded,
            Mapped::ServerError => MappedOutcome::ServerError,
            Mapped::Throttled => MappedOutcome::Throttled,
            Mapped::Auth => MappedOutcome::Auth,
            Mapped::ClientError => MappedOutcome::ClientError,
            Mapped::WrongRole => MappedOutcome::WrongRole,
        };
        // A single status says more than a class, whatever their order.
        for status in low..=high {
            if low == high {
                out.insert(status, outcome);
            } else {
                out.entry(status).or_insert(outcome);
            }
        }
    }
    out
}

fn expected_headers(raw: &Expect, ctx: &mut Ctx<'_>) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (name, (span, text)) in raw.headers.iter().flat_map(|map| &map.0) {
        if !check::header_name(name) {
            ctx.error(Code::BadHeader, *span, "not a header name", "letters, digits and `-`");
        }
        out.insert(name.to_ascii_lowercase(), text.value.clone());
    }
    out
}

fn regex(pattern: &Text, ctx: &mut Ctx<'_>) -> Option<regex_lite::Regex> {
    match regex_lite::Regex::new(&pattern.value) {
        Ok(regex) => Some(regex),
        Err(error) => {
            let help = error.to_string();
            ctx.error(Code::BadPattern, pattern.span, "not a regular expression", help);
            None
        }
    }
}

fn json(raw: &Expect, ctx: &mut Ctx<'_>) -> BTreeMap<String, Option<Json>> {
    let mut out = BTreeMap::new();
    for (pointer, (span, value)) in raw.json.iter().flat_map(|map| &map.0) {
        check_pointer(pointer, *span, ctx);
        let exists = value.0 == Json::Bool(true);
        out.insert(pointer.clone(), (!exists).then(|| value.0.clone()));
    }
    out
}

fn pointer(raw: &Text, ctx: &mut Ctx<'_>) -> String {
    check_pointer(&raw.value, raw.span, ctx);
    raw.value.clone()
}

fn check_pointer(pointer: &str, span: Span, ctx: &mut Ctx<'_>) {
    if !is_pointer(pointer) {
        let help = "start with `/`; `~` is written `~0`, `/` within a name `~1`";
        ctx.error(Code::BadPointer, span, "not a JSON pointer", help);
    }
}

/// Whether a text is a JSON pointer (RFC 6901).
fn is_pointer(text: &str) -> bool {
    let escapes = || text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    (text.is_empty() || text.starts_with('/')) && escapes()
}

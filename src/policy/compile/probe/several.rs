//! Several checks with one verdict.

use std::collections::BTreeMap;

use crate::policy::code::Code;
use crate::policy::compile::check;
use crate::policy::compile::probe::{Site, keys, missing_key};
use crate::policy::model::{Check, SeveralCheck};
use crate::policy::raw::{self, Ctx, ProbeKind, Span};

/// Most checks of one combination.
const MAX_CHECKS: usize = 16;

/// A combination: `all`, `any`, or `k_of_n`.
pub(super) fn several(
    kind: ProbeKind,
    raw: &raw::Probe,
    site: &Site<'_>,
    ctx: &mut Ctx<'_>,
) -> Option<SeveralCheck> {
    let Some(list) = &raw.checks else {
        let help = "add `checks = [{ type = \"…\", … }, …]`";
        missing_key("checks", raw, help, ctx);
        return None;
    };
    if list.empty || list.items.len() > MAX_CHECKS {
        let message = format!("a combination of {} checks", list.items.len());
        let help = format!("from 1 to {MAX_CHECKS}");
        ctx.error(Code::BadCombination, list.span, message, help);
        return None;
    }
    let mut names = BTreeMap::new();
    let checks: Vec<_> = list.items.iter().map(|raw| named(raw, site, &mut names, ctx)).collect();
    let need = if kind == ProbeKind::KOfN {
        need(raw, list.items.len(), ctx)
    } else {
        Some(if kind == ProbeKind::Any { 1 } else { list.items.len() })
    };
    let checks = checks.into_iter().collect::<Option<Vec<_>>>()?;
    Some(SeveralCheck { need: need?, checks })
}

fn need(raw: &raw::Probe, checks: usize, ctx: &mut Ctx<'_>) -> Option<usize> {
    let Some(need) = raw.need else {
        missing_key("need", raw, "how many of the checks must pass, such as `need = 2`", ctx);
        return None;
    };
    let count = usize::try_from(need.value).ok()?;
    if count > checks {
        let message = format!("{count} of {checks} checks can never pass");
        ctx.error(Code::BadCombination, need.span, message, "add checks, or lower `need`");
        return None;
    }
    Some(count)
}

/// One check of a combination; its name is its type unless it has one.
fn named(
    raw: &raw::Probe,
    site: &Site<'_>,
    names: &mut BTreeMap<String, Span>,
    ctx: &mut Ctx<'_>,
) -> Option<(String, Check)> {
    let of_whole = |key: &str| key != "type" && (keys::TIMED.contains(&key) || key == "addresses");
    for (key, span) in raw.at.keys.iter().filter(|(key, _)| of_whole(key)) {
        let message = format!("`{key}` cannot differ between the checks of a combination");
        ctx.error(Code::NotApplicable, *span, message, "set it beside `checks`");
    }
    let combination = [ProbeKind::All, ProbeKind::Any, ProbeKind::KOfN, ProbeKind::None];
    if let Some(kind) = raw.r#type.filter(|kind| combination.contains(&kind.value)) {
        let message = "a combination within a combination";
        ctx.error(Code::BadCombination, kind.span, message, "put its checks into the outer one");
        return None;
    }
    let given = match &raw.name {
        Some(name) => Some(check::name(name, ctx)?),
        None => None,
    };
    let check = super::check(raw, &[Some(raw)], site, ctx)?;
    let name = given.unwrap_or_else(|| check.label().to_owned());
    let span = raw.name.as_ref().map_or(raw.at.span, |name| name.span);
    if let Some(first) = names.insert(name.clone(), span) {
        let help = "give each check a `name` of its own";
        ctx.error(Code::DuplicateName, span, "a name of a check used twice", help);
        ctx.reporter.also(first, "first used here");
        return None;
    }
    Some((name, check))
}

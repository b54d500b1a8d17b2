//! Builds the references: targets outside that answer as long as our own network works.
//!
//! The scheme of each address tells how it is asked. Any answer will do: a reference that refuses
//! a request has been reached.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::code::Code;
use crate::policy::compile::probe::{self, Site};
use crate::policy::compile::{address, check};
use crate::policy::interpolate::Scope;
use crate::policy::model::{Reference, References};
use crate::policy::raw::{self, Ctx, Expect, Isolation, OneOrMany, ProbeKind, Status, Text};

/// Most references of one policy.
const MAX_REFERENCES: usize = 16;
const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(3);
/// A name that every resolver knows.
const KNOWN_NAME: &str = "example.com";

/// Builds all of them.
pub(super) fn build(raw: Option<&Isolation>, ctx: &mut Ctx<'_>) -> References {
    let interval = raw.and_then(|raw| raw.reference_interval).map_or(INTERVAL, |span| span.value);
    let timeout = raw.and_then(|raw| raw.reference_timeout).map_or(TIMEOUT, |span| span.value);
    let list = raw.and_then(|raw| raw.references.as_ref());
    if let Some(list) = list.filter(|list| list.items.len() > MAX_REFERENCES) {
        let message = format!("{} references are too many", list.items.len());
        ctx.error(Code::TooMany, list.span, message, format!("at most {MAX_REFERENCES}"));
    }
    let urls = list.into_iter().flat_map(|list| &list.items);
    let targets = urls.filter_map(|url| reference(url, timeout, ctx)).collect();
    References { targets, interval }
}

fn reference(url: &Text, timeout: Duration, ctx: &mut Ctx<'_>) -> Option<Reference> {
    let full = check::text(url, Scope::Global, ctx)?;
    let located = address::locate(full, &url.value, url.span, None, ctx)?;
    let env = BTreeMap::new();
    let site = Site {
        name: "",
        span: url.span,
        env: &env,
        address: Some(&located),
        over_http: ProbeKind::Http,
    };
    let known_name = Text { value: KNOWN_NAME.to_owned(), ..Text::default() };
    let named = located.address.scheme != "dns" || !located.address.path.is_empty();
    let any = Status { range: (100, 599) };
    let raw = raw::Probe {
        query: (!named).then_some(known_name),
        expect: Some(Expect {
            status: Some(OneOrMany { items: vec![any], span: url.span, empty: false }),
            ..Expect::default()
        }),
        ..raw::Probe::default()
    };
    let probe = probe::build(&raw, &[], timeout, &site, ctx)?;
    Some(Reference { name: located.shown.into(), probe: Arc::new(probe) })
}

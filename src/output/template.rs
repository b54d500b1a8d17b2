//! The text of a file that is made from a template.
//!
//! Such a file has no place for a line of ours: whether it is as it should be is told by
//! rendering it again and comparing every byte. Whether a difference is more than the revision's
//! number, which a template may print anywhere, is told by rendering with a number that stands
//! nowhere else and looking which number the file has there. Where that cannot be told, such as
//! after arithmetic with it, the file counts as changed: a hook too many is better than one too few.

use zeroize::Zeroizing;

use crate::core::id::Revision;
use crate::core::ordered::Gather as _;
use crate::output::{ActiveConfig, ActiveService, OutputError};
use crate::policy::model::{File, Template};
use crate::policy::template::{self, Context, Facts};

/// No publication has this number.
const NO_REVISION: Revision = Revision::new(17_446_744_073_709_551_557);
/// Digits that a revision may have.
const DIGITS: usize = 20;

/// The bytes of the file.
pub(super) fn render(
    file: &File,
    template: &Template,
    config: &ActiveConfig,
) -> Result<Zeroizing<Vec<u8>>, OutputError> {
    fill_in(file, template, config, config.revision)
}

fn fill_in(
    file: &File,
    template: &Template,
    config: &ActiveConfig,
    revision: Revision,
) -> Result<Zeroizing<Vec<u8>>, OutputError> {
    let chosen = config.services.iter().filter(|(name, _)| file.wants(name));
    let services = chosen.map(|(name, active)| (name.as_str(), facts(active))).gather_map();
    template::render(template, &Context { revision, services })
        .map_err(|fault| OutputError::Template { fault })
}

fn facts(active: &ActiveService) -> Facts<'_> {
    let moved = active.moved.as_ref();
    Facts {
        endpoint: active.endpoint.as_ref().map_or("", |endpoint| endpoint.as_str()),
        url: active.url.as_deref().unwrap_or_default(),
        env: &active.env,
        from: moved.and_then(|moved| moved.from.as_ref()).map_or("", |endpoint| endpoint.as_str()),
        cause: moved.map_or("", |moved| &moved.cause),
        kind: moved.map_or("", |moved| moved.kind.label()),
    }
}

/// Whether `found` is what the file would hold if only the revision's number were another one.
pub(super) fn same_but_revision(
    file: &File,
    template: &Template,
    config: &ActiveConfig,
    found: &[u8],
) -> bool {
    let Ok(marked) = fill_in(file, template, config, NO_REVISION) else { return false };
    let marker = NO_REVISION.to_string().into_bytes();
    let parts = split(&marked, &marker);
    let Some((first, rest)) = parts.split_first() else { return false };
    let Some(after) = found.strip_prefix(*first) else { return false };
    let digits = after.iter().take(DIGITS).take_while(|byte| byte.is_ascii_digit()).count();
    // Digits of the template's own may stand right behind the number.
    !rest.is_empty()
        && (1..=digits).any(|length| {
            let number = after.get(..length).unwrap_or_default();
            joined(first, rest, number, found)
        })
}

fn split<'a>(text: &'a [u8], marker: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(marker.len()).position(|window| window == marker) {
        let (part, after) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        parts.push(part);
        rest = after.get(marker.len()..).unwrap_or_default();
    }
    parts.push(rest);
    parts
}

/// Whether the parts with a number between them make up the whole of a text.
fn joined(first: &[u8], rest: &[&[u8]], number: &[u8], text: &[u8]) -> bool {
    let mut left = text.strip_prefix(first);
    for part in rest {
        left = left.and_then(|left| left.strip_prefix(number)?.strip_prefix(*part));
    }
    left.is_some_and(<[u8]>::is_empty)
}

//! Reads addresses: of endpoints, of checks that go elsewhere, of references.

use crate::policy::code::Code;
use crate::policy::interpolate::Value;
use crate::policy::mask;
use crate::policy::raw::{Ctx, Span};
use crate::policy::url::{self, Address, UrlError};

/// An address in its three forms.
pub(super) struct Located {
    /// Taken apart.
    pub(super) address: Address,
    /// As written, without user info and query.
    pub(super) shown: String,
    /// After interpolation.
    pub(super) full: Value,
    /// Where it stands.
    pub(super) span: Span,
}

/// Reads an address that was written as `written` and came out as `full`; `scheme` stands in for
/// a missing one. Reports what is wrong with it.
pub(super) fn locate(
    full: Value,
    written: &str,
    span: Span,
    scheme: Option<&str>,
    ctx: &mut Ctx<'_>,
) -> Option<Located> {
    match url::parse(full.expose(), scheme) {
        Ok(address) => Some(Located { shown: presentable(written), address, full, span }),
        Err(error) => {
            refuse(error, span, ctx);
            None
        }
    }
}

fn refuse(error: UrlError, span: Span, ctx: &mut Ctx<'_>) {
    let (code, help) = match error {
        UrlError::UnknownScheme => {
            let known: Vec<_> = url::schemes().collect();
            (Code::UnknownScheme, format!("known: {}", known.join(", ")))
        }
        UrlError::NoPort => (Code::BadUrl, "write `scheme://host:port`".to_owned()),
        UrlError::BadEscape => (Code::BadUrl, "a percent sign itself is written `%25`".to_owned()),
        UrlError::BadSocket => {
            let help = "write `unix:/path`, or `http+unix://` with the path's `/` as `%2F`";
            (Code::BadUrl, help.to_owned())
        }
        UrlError::Empty
        | UrlError::NoScheme
        | UrlError::Blank
        | UrlError::NoHost
        | UrlError::BadHost
        | UrlError::BadPort
        | UrlError::Fragment => (Code::BadUrl, "write `scheme://host[:port][/path]`".to_owned()),
    };
    ctx.error(code, span, error.to_string(), help);
}

/// An address fit to be shown: as written, without user info, query and literal credentials.
fn presentable(written: &str) -> String {
    let bare = query(written).and_then(|at| written.get(..at)).unwrap_or(written);
    match bare.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.find('/').unwrap_or(rest.len());
            let user = rest.get(..authority).and_then(|authority| authority.rfind('@'));
            let rest = user.and_then(|at| rest.get(at + 1..)).unwrap_or(rest);
            mask::mask(&format!("{scheme}://{rest}"))
        }
        None => mask::mask(bare),
    }
}

/// Where the query begins. A `?` inside `${…}` belongs to a default, not to the address.
fn query(written: &str) -> Option<usize> {
    let mut braced = false;
    written.char_indices().find_map(|(at, c)| {
        braced = (braced || written.get(at..)?.starts_with("${")) && c != '}';
        (c == '?' && !braced).then_some(at)
    })
}

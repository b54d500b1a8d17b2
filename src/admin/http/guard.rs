//! Keeps web pages out.
//!
//! We listen on loopback without a password, so the danger is a page in the operator's browser: by
//! a name that resolves to us (DNS rebinding), or by a plain cross-site request. Hence each request
//! must name us by a name that is ours, and must not come from another site. A request is judged
//! before its path is looked at, so that an unknown path tells no more than a known one.

use std::net::IpAddr;

use hyper::Uri;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use hyper::http::uri::Authority;

use super::Arrival;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is not even looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rejection {
    /// It names a host that is not ours, several, or none.
    Host,
    /// It comes from a page of another site.
    Origin,
}

impl Rejection {
    /// For the person who wonders; names the setting, never what was sent.
    pub(super) const fn help(self) -> &'static str {
        match self {
            Self::Host => {
                "this Host is not allowed here: use the address the sidecar listens on, \
                 or add the name to admin.allowed_hosts\n"
            }
            Self::Origin => "requests from pages of other sites are not allowed here\n",
        }
    }
}

/// Judges the head of a request.
pub(super) fn check(
    headers: &HeaderMap,
    uri: &Uri,
    arrival: &Arrival<'_>,
) -> Result<(), Rejection> {
    let host = only(headers, &HOST).and_then(authority).ok_or(Rejection::Host)?;
    if !arrival.is_ours(&host) {
        return Err(Rejection::Host);
    }
    // The absolute form names the host a second time, and other software might believe that one.
    if uri.authority().is_some_and(|named| !same(named, &host)) {
        return Err(Rejection::Host);
    }
    if headers.contains_key(ORIGIN) {
        let origin = only(headers, &ORIGIN).and_then(site).ok_or(Rejection::Origin)?;
        if !same(&origin, &host) {
            return Err(Rejection::Origin);
        }
    }
    if headers.contains_key(SEC_FETCH_SITE) {
        let site = only(headers, &SEC_FETCH_SITE).ok_or(Rejection::Origin)?;
        // `same-site` is another port of this machine: as foreign as any other.
        if site != "same-origin" && site != "none" {
            return Err(Rejection::Origin);
        }
    }
    Ok(())
}

impl Arrival<'_> {
    fn is_ours(&self, host: &Authority) -> bool {
        let name = host.host();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        // An address cannot be rebound, so ours is accepted whatever port was forwarded to us.
        if let Ok(address) = bare.parse::<IpAddr>() {
            let own = [self.listen, Some(self.local)].into_iter().flatten();
            let mut own = own.map(|own| own.ip().to_canonical());
            if address.is_loopback() || own.any(|own| own == address.to_canonical()) {
                return true;
            }
        }
        name.eq_ignore_ascii_case("localhost")
            || self.allowed_hosts.iter().any(|allowed| {
                allowed.eq_ignore_ascii_case(name) || allowed.eq_ignore_ascii_case(host.as_str())
            })
    }
}

/// The header's value, when there is exactly one and it is plain text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    HeaderValue::to_str(value).ok()
}

fn authority(text: &str) -> Option<Authority> {
    let authority: Authority = text.parse().ok()?;
    // User info has no place here, and parsers disagree on what it hides.
    (!text.contains('@')).then_some(authority)
}

fn site(origin: &str) -> Option<Authority> {
    let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))?;
    authority(rest)
}

fn same(one: &Authority, other: &Authority) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}

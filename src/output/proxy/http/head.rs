//! What is changed about the heads of requests and answers on their way through.

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, Uri};

use crate::policy::model::{Target, Upstream};
use crate::policy::secret::Secret;

/// Headers of one connection only (RFC 9110, section 7.6.1), which are never passed on.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Removes what is of the connection and not of the message; keeps that trailers are welcome.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    let trailers = headers.get(TE).is_some_and(|te| {
        te.to_str().is_ok_and(|te| te.split(',').any(|one| one.trim() == "trailers"))
    });
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Makes the caller's headers those of a request to the upstream.
///
/// Returns the host to be named instead of the endpoint's own, when the policy sets one.
pub(super) fn outgoing(
    headers: &mut HeaderMap,
    set: &[(HeaderName, HeaderValue)],
) -> Option<HeaderValue> {
    strip(headers);
    // The client library frames the body anew and names the host itself; nobody waits for a 100.
    for name in [HOST, CONTENT_LENGTH, EXPECT, TRAILER] {
        headers.remove(name);
    }
    for (name, _) in set {
        headers.remove(name);
    }
    for (name, value) in set {
        headers.append(name.clone(), value.clone());
    }
    headers.remove(HOST)
}

/// The headers that a policy sets, ready for use; what no header can hold is left out.
pub(in crate::output::proxy) fn set_headers(
    policy: &[(String, Secret)],
) -> Vec<(HeaderName, HeaderValue)> {
    let prepared = policy.iter().filter_map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let mut value = HeaderValue::from_bytes(value.expose().as_bytes()).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    });
    prepared.collect()
}

/// Where a request goes: the endpoint's address with the caller's path behind its own.
///
/// The endpoint's path is put before the caller's unless it already is there, as it is when the
/// caller was given the endpoint's whole address with another host.
pub(super) fn address(upstream: &Upstream, host: Option<&HeaderValue>, asked: &Uri) -> Option<Uri> {
    let scheme = if upstream.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let authority = match host {
        Some(host) => Authority::try_from(host.as_bytes()).ok()?,
        None => authority(&upstream.target, upstream.tls.is_some())?,
    };
    let own = upstream.path.expose();
    let (own_path, own_query) = own.split_once('?').unwrap_or((own, ""));
    let path = join(own_path, asked.path());
    let query = [own_query, asked.query().unwrap_or_default()];
    let query: Vec<&str> = query.into_iter().filter(|part| !part.is_empty()).collect();
    let whole = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
    let whole = PathAndQuery::try_from(whole).ok()?;
    Uri::builder().scheme(scheme).authority(authority).path_and_query(whole).build().ok()
}

fn join(own: &str, asked: &str) -> String {
    let base = own.trim_end_matches('/');
    let inside =
        asked.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match asked {
        _ if base.is_empty() || inside => asked.to_owned(),
        "/" | "" => own.to_owned(),
        _ => format!("{base}{asked}"),
    }
}

/// The host as a request names it: without the scheme's own port.
fn authority(target: &Target, tls: bool) -> Option<Authority> {
    let own = if tls { 443 } else { 80 };
    let full = target.to_string();
    let short = full.strip_suffix(&format!(":{own}")).filter(|_| target.port == own);
    Authority::try_from(short.unwrap_or(&full)).ok()
}

/// Whether a request may be sent twice without being done twice (RFC 9110, section 9.2.2).
pub(super) fn idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE]
        .contains(method)
}

/// The protocol that a caller wants to go on with, if any.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wants = headers.get_all(CONNECTION).iter().any(|value| {
        value.to_str().is_ok_and(|value| {
            value.split(',').any(|one| one.trim().eq_ignore_ascii_case("upgrade"))
        })
    });
    wants.then(|| headers.get(UPGRADE).cloned()).flatten()
}

/// Whether a browser on a foreign page, or a name that was made to point here, may be behind a
/// request: such a one must not get the use of our credentials.
pub(super) fn foreign(headers: &HeaderMap, asked: &Uri) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = asked.authority().map(Authority::as_str).or(host);
    let strange = host.is_none_or(|host| !is_local(host_of(host)));
    let origin = headers.get(ORIGIN).map(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        origin.is_none_or(|(_, host)| !is_local(host_of(host)))
    });
    strange || origin == Some(true)
}

/// The host of an authority, without port and brackets.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

fn is_local(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    loopback || host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::Trust;

    fn upstream(path: &str) -> Upstream {
        Upstream {
            scheme: "https",
            target: Target { host: "api.example.com".to_owned(), port: 443 },
            tls: Some(Trust::Verified),
            path: Secret::from(path),
        }
    }

    fn joined(own: &str, asked: &str) -> String {
        let asked: Uri = asked.parse().unwrap();
        address(&upstream(own), None, &asked).unwrap().to_string()
    }

    #[test]
    fn the_endpoints_path_stands_before_the_callers() {
        assert_eq!(joined("", "/a?b=c"), "https://api.example.com/a?b=c");
        assert_eq!(joined("/v1/", "/a"), "https://api.example.com/v1/a");
        assert_eq!(joined("/mcp", "/"), "https://api.example.com/mcp");
        assert_eq!(joined("/v1?key=k", "/a?b=c"), "https://api.example.com/v1/a?key=k&b=c");
        assert_eq!(joined("/v1", "/v1/graphql"), "https://api.example.com/v1/graphql");
        assert_eq!(joined("/v1", "/v10"), "https://api.example.com/v1/v10");
    }

    #[test]
    fn a_host_that_the_policy_sets_is_the_one_named() {
        let host = HeaderValue::from_static("inner.example.com:8443");
        let uri = address(&upstream(""), Some(&host), &Uri::from_static("/a")).unwrap();
        assert_eq!(uri.to_string(), "https://inner.example.com:8443/a");
    }

    #[test]
    fn what_is_of_the_connection_stays_on_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Inner"),
            ("x-inner", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers, deflate"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic eA=="),
            ("x-outer", "1"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["te", "x-outer"]);
        assert_eq!(headers.get("te").unwrap(), "trailers");
    }

    #[test]
    fn the_callers_own_credential_is_replaced() {
        let mut headers = HeaderMap::new();
        headers.append("authorization", HeaderValue::from_static("Bearer caller"));
        headers.append("authorization", HeaderValue::from_static("Bearer twice"));
        let set = [("authorization".parse().unwrap(), HeaderValue::from_static("Bearer ours"))];
        outgoing(&mut headers, &set);
        let all: Vec<_> = headers.get_all("authorization").iter().collect();
        assert_eq!(all, ["Bearer ours"]);
    }

    #[test]
    fn a_page_from_elsewhere_does_not_get_our_credentials() {
        let with = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            foreign(&headers, &Uri::from_static("/"))
        };
        assert!(!with("127.0.0.1:8080", None));
        assert!(!with("localhost:8080", Some("http://localhost:6274")));
        assert!(!with("[::1]:8080", None));
        assert!(with("rebound.example.com:8080", None));
        assert!(with("127.0.0.1:8080", Some("https://example.com")));
        assert!(with("127.0.0.1:8080", Some("null")));
        assert!(with("localhost.example.com", None));
    }

    #[test]
    fn only_what_may_be_done_twice_is_idempotent() {
        assert!(idempotent(&Method::GET) && idempotent(&Method::PUT));
        assert!(!idempotent(&Method::POST) && !idempotent(&Method::PATCH));
        assert!(!idempotent(&Method::from_bytes(b"SEARCH").unwrap()));
    }
}

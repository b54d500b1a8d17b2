//! Addresses of endpoints: scheme, host, port and the rest, strictly checked.
//!
//! A small parser instead of a crate, because an address here is also `bolt+s://`, `unix:/path` or
//! `postgres://`, nothing is ever resolved against a base, and every refusal needs its own words.
//! The user info is kept as a secret, with its escapes taken out.

use std::net::Ipv6Addr;

use crate::policy::secret::Secret;

/// Longest path of a socket, in bytes: the size of `sun_path` without its end.
pub(crate) const MAX_SOCKET_PATH: usize = 107;

/// Schemes with their default port (0: must be given) and whether TLS is used.
const SCHEMES: [(&str, u16, bool); 27] = [
    ("http", 80, false),
    ("https", 443, true),
    ("ws", 80, false),
    ("wss", 443, true),
    ("tcp", 0, false),
    ("tls", 443, true),
    ("bolt", 7687, false),
    ("bolt+s", 7687, true),
    ("bolt+ssc", 7687, true),
    ("neo4j", 7687, false),
    ("neo4j+s", 7687, true),
    ("neo4j+ssc", 7687, true),
    ("redis", 6379, false),
    ("rediss", 6379, true),
    ("postgres", 5432, false),
    ("postgresql", 5432, false),
    ("mysql", 3306, false),
    ("mongodb", 27017, false),
    ("amqp", 5672, false),
    ("amqps", 5671, true),
    ("nats", 4222, false),
    ("memcached", 11211, false),
    ("grpc", 0, false),
    ("grpcs", 443, true),
    ("dns", 53, false),
    ("unix", 80, false),
    ("http+unix", 80, false),
];

/// The schemes, for help texts.
pub(crate) fn schemes() -> impl Iterator<Item = &'static str> {
    SCHEMES.iter().map(|(name, _, _)| *name)
}

/// An address, taken apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Address {
    /// In lower case.
    pub(crate) scheme: &'static str,
    /// Whether the scheme means TLS.
    pub(crate) tls: bool,
    /// User and password before the host.
    pub(crate) user: Option<User>,
    /// The unix socket to connect to; the host is then `localhost`.
    pub(crate) socket: Option<String>,
    /// Name or IP literal without brackets, in lower case.
    pub(crate) host: String,
    /// Given or implied by the scheme.
    pub(crate) port: u16,
    /// Starts with `/` or is empty; without query.
    pub(crate) path: String,
    /// What follows `?`.
    pub(crate) query: Option<String>,
}

impl Address {
    /// Whether an HTTP request can be sent there.
    pub(crate) fn is_http(&self) -> bool {
        matches!(self.scheme, "http" | "https" | "unix" | "http+unix")
    }

    /// Whether calls are secured: by the scheme, or for `PostgreSQL` by `sslmode` as its own clients
    /// read it. Certificates are verified all the same.
    pub(crate) fn wants_tls(&self) -> bool {
        let by_mode = || {
            let mode = self.parameter("sslmode");
            matches!(mode, Some("require" | "verify-ca" | "verify-full"))
        };
        self.tls || (self.scheme.starts_with("postgres") && by_mode())
    }

    /// What tells this place from others: the socket, else the host.
    pub(crate) fn place(&self) -> &str {
        self.socket.as_deref().unwrap_or(&self.host)
    }

    /// A parameter of the query.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let pairs = self.query.iter().flat_map(|query| query.split('&'));
        pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|at| at.1)
    }
}

/// User and password of an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct User {
    /// The user; may be empty.
    pub(crate) name: Secret,
    /// The password, when there is a colon.
    pub(crate) password: Option<Secret>,
}

/// Why a text is not an address; names the part, never its content.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum UrlError {
    #[error("the address is empty")]
    Empty,
    #[error("the address has no scheme")]
    NoScheme,
    #[error("the scheme of the address is not known")]
    UnknownScheme,
    #[error("the address has blanks or control characters")]
    Blank,
    #[error("the address has no host")]
    NoHost,
    #[error("the host of the address is not a name or an IP address")]
    BadHost,
    #[error("the port of the address is not a number from 1 to 65535")]
    BadPort,
    #[error("the address needs a port")]
    NoPort,
    #[error("the address has a fragment")]
    Fragment,
    #[error("the address has a percent sign that begins no escape")]
    BadEscape,
    #[error("the address has no usable path of a socket")]
    BadSocket,
}

/// Takes an address apart; `default_scheme` stands in for a missing one.
pub(crate) fn parse(text: &str, default_scheme: Option<&str>) -> Result<Address, UrlError> {
    if text.is_empty() {
        return Err(UrlError::Empty);
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(UrlError::Blank);
    }
    if text.contains('#') {
        return Err(UrlError::Fragment);
    }
    if let Some(rest) = text.strip_prefix("unix:") {
        return unix("unix", rest.strip_prefix("//").unwrap_or(rest), "", None);
    }
    let (scheme, rest) = match (text.split_once("://"), default_scheme) {
        (Some(parts), _) => parts,
        (None, Some(scheme)) => (scheme, text),
        (None, None) => return Err(UrlError::NoScheme),
    };
    let (scheme, default_port, tls) = SCHEMES
        .into_iter()
        .find(|(known, _, _)| known.eq_ignore_ascii_case(scheme))
        .ok_or(UrlError::UnknownScheme)?;
    let (authority, path, query) = split_authority(rest);
    if scheme == "http+unix" {
        return unix(scheme, &unescape(authority)?, path, query);
    }
    let (user, host_port) = match authority.rsplit_once('@') {
        Some((user, host_port)) => (Some(read_user(user)?), host_port),
        None => (None, authority),
    };
    let (host, port) = host_and_port(host_port)?;
    let port = port.unwrap_or(default_port);
    if port == 0 {
        return Err(UrlError::NoPort);
    }
    Ok(Address {
        scheme,
        tls,
        user,
        socket: None,
        host,
        port,
        path: path.to_owned(),
        query: query.map(str::to_owned),
    })
}

/// An address of a unix socket.
fn unix(
    scheme: &'static str,
    socket: &str,
    path: &str,
    query: Option<&str>,
) -> Result<Address, UrlError> {
    if !socket.starts_with('/') || socket.len() > MAX_SOCKET_PATH || socket.contains('\0') {
        return Err(UrlError::BadSocket);
    }
    Ok(Address {
        scheme,
        tls: false,
        user: None,
        socket: Some(socket.to_owned()),
        host: "localhost".to_owned(),
        port: 80,
        path: path.to_owned(),
        query: query.map(str::to_owned),
    })
}

fn read_user(text: &str) -> Result<User, UrlError> {
    let (name, password) = match text.split_once(':') {
        Some((name, password)) => (name, Some(password)),
        None => (text, None),
    };
    let secret = |text: &str| unescape(text).map(Secret::new);
    Ok(User { name: secret(name)?, password: password.map(secret).transpose()? })
}

/// Takes percent escapes out.
pub(crate) fn unescape(text: &str) -> Result<String, UrlError> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit =
            || char::from(bytes.next()?).to_digit(16).and_then(|n| u8::try_from(n).ok());
        let (high, low) = (digit(), digit());
        let (high, low) = high.zip(low).ok_or(UrlError::BadEscape)?;
        out.push(high << 4 | low);
    }
    String::from_utf8(out).map_err(|_bytes| UrlError::BadEscape)
}

fn split_authority(rest: &str) -> (&str, &str, Option<&str>) {
    let (before, query) = match rest.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (rest, None),
    };
    match before.find('/') {
        Some(at) => {
            let (authority, path) = before.split_at(at);
            (authority, path, query)
        }
        None => (before, "", query),
    }
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), UrlError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(UrlError::BadHost)?;
        let _address: Ipv6Addr = host.parse().ok().ok_or(UrlError::BadHost)?;
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err(UrlError::BadHost),
        }
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        check_name(host)?;
        (host, port)
    };
    let port = port.map(read_port).transpose()?;
    Ok((host.to_ascii_lowercase(), port))
}

fn read_port(text: &str) -> Result<u16, UrlError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let port = if digits { text.parse().unwrap_or(0) } else { 0 };
    if port == 0 { Err(UrlError::BadPort) } else { Ok(port) }
}

/// Checks a DNS name or IPv4 literal.
pub(crate) fn check_name(host: &str) -> Result<(), UrlError> {
    if host.is_empty() {
        return Err(UrlError::NoHost);
    }
    let labels = host.strip_suffix('.').unwrap_or(host);
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if host.len() <= 253 && labels.split('.').all(fits) { Ok(()) } else { Err(UrlError::BadHost) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_scheme_gives_port_and_tls() {
        for (text, host, port, tls) in [
            ("https://api.example.com", "api.example.com", 443, true),
            ("HTTP://Example.com:8080/x?y=1", "example.com", 8080, false),
            ("neo4j+s://db.example.com", "db.example.com", 7687, true),
            ("postgres://user:p%40ss@db.example.com/app", "db.example.com", 5432, false),
            ("http://[::1]:9/", "::1", 9, false),
            ("tcp://10.0.0.1:99", "10.0.0.1", 99, false),
        ] {
            let address = parse(text, None).unwrap();
            assert_eq!((address.host.as_str(), address.port, address.tls), (host, port, tls));
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for (text, error) in [
            ("", UrlError::Empty),
            ("example.com", UrlError::NoScheme),
            ("gopher://example.com", UrlError::UnknownScheme),
            ("http://", UrlError::NoHost),
            ("http://:80", UrlError::NoHost),
            ("http://a b", UrlError::Blank),
            ("http://a..b", UrlError::BadHost),
            ("http://[::1", UrlError::BadHost),
            ("http://[1.2.3.4]", UrlError::BadHost),
            ("http://ex\u{e4}mple.com", UrlError::BadHost),
            ("http://a:0", UrlError::BadPort),
            ("http://a:+80", UrlError::BadPort),
            ("http://a:65536", UrlError::BadPort),
            ("tcp://a", UrlError::NoPort),
            ("redis://:a%zz@h", UrlError::BadEscape),
            ("redis://:a%f@h", UrlError::BadEscape),
            ("redis://:%ff@h", UrlError::BadEscape),
            ("unix:run/app.sock", UrlError::BadSocket),
            ("http+unix://run/app.sock", UrlError::BadSocket),
            ("http://a/#x", UrlError::Fragment),
        ] {
            assert_eq!(parse(text, None), Err(error), "{text}");
        }
    }

    #[test]
    fn user_info_is_kept_without_its_escapes_and_never_shown() {
        let address = parse("redis://us%65r:p%40ss%3A@h.example.com", None).unwrap();
        let user = address.user.clone().unwrap();
        assert_eq!(user.name.expose(), "user");
        assert_eq!(user.password.map(|one| one.expose().to_owned()).as_deref(), Some("p@ss:"));
        assert!(!format!("{address:?}").contains("p@ss"));
        let user = parse("redis://:p@h", None).unwrap().user.unwrap();
        assert_eq!((user.name.expose(), user.password.is_some()), ("", true));
        assert_eq!(parse("bolt://user@h", None).unwrap().user.unwrap().password, None);
    }

    #[test]
    fn a_unix_socket_is_an_http_address() {
        for (text, path) in [
            ("unix:/run/app.sock", ""),
            ("unix:///run/app.sock", ""),
            ("http+unix://%2Frun%2Fapp.sock/health", "/health"),
        ] {
            let address = parse(text, None).unwrap();
            assert_eq!((address.place(), address.path.as_str()), ("/run/app.sock", path));
            assert!(address.is_http() && !address.tls);
        }
    }

    #[test]
    fn a_default_scheme_stands_in_for_a_missing_one() {
        assert_eq!(parse("h.example.com", Some("https")).map(|found| found.port), Ok(443));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}") {
            let _checked = parse(&text, Some("https"));
        }
    }
}

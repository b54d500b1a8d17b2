//! `mode = "connect"`: for servers whose hosts are hard-coded. Opens the hosts that the policy
//! names, and passes everything else through untouched, or refuses it.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::output::door::Door;
use crate::output::proxy::authority::{Authority, bundle_path};
use crate::output::proxy::desk::Desk;
use crate::output::proxy::http::{Arrival, Refusal, Reply, converse_h1, converse_h2, exchange};
use crate::output::proxy::resolve::lookup;
use crate::output::proxy::splice::{Flow, splice};
use crate::policy::model::{Intercept, Proxy, ProxyMode};

/// How long a caller may take for a TLS handshake, and to send a head.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEAD_MAX: Duration = Duration::from_secs(60);

/// What a process needs in its environment to go through this proxy; `None` when it is of another
/// mode.
pub(super) fn door(proxy: &Proxy, authority: &Authority) -> Option<Door> {
    let ProxyMode::Connect(intercept) = &proxy.mode else { return None };
    let mut listen = proxy.listen;
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let address = format!("http://{listen}");
    let own = intercept.ca_file.display().to_string();
    let all = bundle_path(&intercept.ca_file).display().to_string();
    let variables = [
        ("HTTPS_PROXY", address.clone()),
        ("https_proxy", address),
        ("NO_PROXY", "localhost,127.0.0.1,::1".to_owned()),
        ("NODE_USE_ENV_PROXY", "1".to_owned()),
        ("NODE_EXTRA_CA_CERTS", own),
        ("SSL_CERT_FILE", all.clone()),
        ("REQUESTS_CA_BUNDLE", all.clone()),
        ("CURL_CA_BUNDLE", all),
        // Certificates are read once: a server that trusts an earlier authority must be replaced.
        ("MCP_FAILOVER_CA", authority.fingerprint()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
    Some(Door { service: proxy.service.clone(), variables })
}

/// Serves a caller who has just connected.
pub(super) async fn converse(desk: Arc<Desk>, client: TcpStream) {
    client.set_nodelay(true).ok();
    let own = Arc::clone(&desk);
    let service = service_fn(move |request| {
        let desk = Arc::clone(&own);
        async move { Ok::<_, Infallible>(Box::pin(answer(&desk, request)).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(client), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = desk.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a caller of a proxy went away");
    }
}

async fn answer(desk: &Arc<Desk>, request: Request<Incoming>) -> Response<Reply> {
    let spec = desk.spec.load();
    let ProxyMode::Connect(intercept) = &spec.policy.mode else {
        return Refusal::Invalid.answer(desk);
    };
    let Some(authority) = request.uri().authority().cloned() else {
        return Refusal::Invalid.answer(desk);
    };
    let host: Arc<str> = Arc::from(bare(authority.host()).to_ascii_lowercase());
    let opens = opens(intercept, &host);
    let connects = request.method() == Method::CONNECT;
    match (connects, authority.port_u16()) {
        (true, _) if opens => opened(desk, host, request),
        (true, Some(port)) if intercept.passthrough => {
            passed(desk, (&host, port), &spec.policy, request).await
        }
        (true, _) => Refusal::Forbidden.answer(desk),
        (false, _) if opens && request.uri().scheme_str() == Some("http") => {
            exchange(desk, &Arrival::Opened, request).await
        }
        (false, _) => Refusal::Invalid.answer(desk),
    }
}

/// Answers a caller who is to find us in place of the host.
fn opened(desk: &Arc<Desk>, host: Arc<str>, mut request: Request<Incoming>) -> Response<Reply> {
    let Some(authority) = desk.authority.get().cloned() else {
        return Refusal::NoEndpoint.answer(desk);
    };
    let Ok(place) = desk.places.load().try_acquire_owned() else {
        return Refusal::Busy.answer(desk);
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let own = Arc::clone(desk);
    desk.tunnels.spawn(async move {
        if let Ok(client) = upgrade.await {
            Box::pin(open(own, &authority, host, client)).await;
        }
        drop(place);
    });
    established()
}

/// Answers a caller who is to be connected with the host itself.
async fn passed(
    desk: &Arc<Desk>,
    (host, port): (&str, u16),
    policy: &Proxy,
    mut request: Request<Incoming>,
) -> Response<Reply> {
    let Ok(place) = desk.places.load().try_acquire_owned() else {
        return Refusal::Busy.answer(desk);
    };
    let Some(mut far) = dial(host, port, policy.connect_timeout).await else {
        return Refusal::Unreached.answer(desk);
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let (closing, idle) = (desk.closing.clone(), policy.idle_timeout);
    desk.tunnels.spawn(async move {
        let Ok(client) = upgrade.await else { return };
        let (mut near, flow) = (TokioIo::new(client), Flow::default());
        tokio::select! {
            _passed = splice(&mut near, &mut far, &flow, None) => {}
            () = closing.cancelled() => {}
            () = flow.silence(idle) => {}
        }
        drop(place);
    });
    established()
}

fn established() -> Response<Reply> {
    Response::new(Either::Left(Full::default()))
}

/// Is the host for the caller, and serves what is asked of it.
async fn open(
    desk: Arc<Desk>,
    authority: &Authority,
    host: Arc<str>,
    client: hyper::upgrade::Upgraded,
) {
    let config = match authority.server(&host) {
        Ok(config) => config,
        Err(error) => return tracing::error!(%error, "failed to open a host"),
    };
    let accepted = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(TokioIo::new(client))).await;
    let Ok(Ok(stream)) = accepted else {
        // A caller that does not trust us goes away here.
        return tracing::debug!("a caller refused our certificate; it must trust `ca_file`");
    };
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let arrival = Arrival::Opened;
    if h2 {
        Box::pin(converse_h2(desk, stream, arrival)).await;
    } else {
        Box::pin(converse_h1(desk, stream, arrival)).await;
    }
}

/// A connection to a host that is not opened.
async fn dial(host: &str, port: u16, within: Duration) -> Option<TcpStream> {
    let dialled = timeout(within, async {
        let addresses = lookup(host, port).await?;
        TcpStream::connect(&*addresses).await
    });
    let stream = dialled.await.ok()?.ok()?;
    stream.set_nodelay(true).ok();
    Some(stream)
}

/// Whether the policy names the host, or a domain that it is of.
fn opens(intercept: &Intercept, host: &str) -> bool {
    intercept.hosts.iter().any(|named| match named.strip_prefix("*.") {
        Some(domain) => host.ends_with(&format!(".{}", domain.to_ascii_lowercase())),
        None => named.eq_ignore_ascii_case(host),
    })
}

/// A host as certificates name it: without brackets, and without a dot at the end.
fn bare(host: &str) -> &str {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn only_named_hosts_are_opened() {
        let hosts = vec!["api.example.com".to_owned(), "*.svc.example.net".to_owned()];
        let intercept =
            Intercept { hosts, ca_file: PathBuf::new(), ca_key_file: None, passthrough: true };
        assert!(opens(&intercept, "api.example.com"));
        assert!(opens(&intercept, "a.b.svc.example.net"));
        assert!(!opens(&intercept, "svc.example.net"));
        assert!(!opens(&intercept, "xsvc.example.net"));
        assert!(!opens(&intercept, "evil.api.example.com"));
        assert!(!opens(&intercept, "example.com"));
    }

    #[test]
    fn a_host_is_named_as_its_certificate_names_it() {
        assert_eq!(bare("api.example.com."), "api.example.com");
        assert_eq!(bare("[::1]"), "::1");
    }
}

//! TLS to the upstreams.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::policy::model::{TlsOptions, Trust};
use crate::tls::{self, Roots};

/// How one upstream's connections are secured.
#[derive(Clone, Debug)]
pub(super) struct Secured {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

/// Prepares connections to `host`; `None` when the options cannot work.
pub(super) fn prepare(
    host: &str,
    trust: Trust,
    options: &TlsOptions,
    protocols: &[&[u8]],
) -> Option<Secured> {
    let name = tls::server_name(options.server_name.as_deref().unwrap_or(host))?;
    let lenient = trust == Trust::SelfSigned || options.trust == Trust::SelfSigned;
    let roots = match &options.ca_pem {
        _ if lenient => Roots::Anybody,
        Some(pem) => Roots::Given(pem),
        None => Roots::Platform,
    };
    let mut config = tls::client(roots).ok()?.with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Some(Secured { config: Arc::new(config), name })
}

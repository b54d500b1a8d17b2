//! Certificates of every kind a server may show, and server configurations that show them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A certificate with its key.
#[derive(Debug)]
pub(crate) struct Certified {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Certified {
    /// A certificate that vouches for itself, for `localhost`.
    pub(crate) fn self_signed() -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        Self { certificate: params.self_signed(&key).expect("a certificate"), key }
    }

    /// The certificate as PEM.
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The private key as PEM.
    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// A server configuration that shows this certificate.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::new(Shown::new(self)).server()
    }

    /// One that shows this certificate, and has the key of another.
    pub(crate) fn server_with_key_of(&self, other: &Self) -> Arc<ServerConfig> {
        let key = Arc::clone(&other.signing().key);
        let mixed = CertifiedKey::new(self.signing().cert.clone(), key);
        Arc::new(Shown(Mutex::new(Arc::new(mixed)))).server()
    }

    fn signing(&self) -> Arc<CertifiedKey> {
        let chain = vec![self.certificate.der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let key = any_supported_type(&key).expect("a key that ring knows");
        Arc::new(CertifiedKey::new(chain, key))
    }
}

/// The certificate that a server shows, and may replace while it runs.
#[derive(Debug)]
pub(crate) struct Shown(Mutex<Arc<CertifiedKey>>);

impl Shown {
    /// Shows this one at first.
    pub(crate) fn new(certified: &Certified) -> Self {
        Self(Mutex::new(certified.signing()))
    }

    /// Shows this one from now on.
    pub(crate) fn replace(&self, certified: &Certified) {
        *self.0.lock().expect("no panic while replacing") = certified.signing();
    }

    /// A server configuration that shows it, and resumes the sessions of who wants that.
    pub(crate) fn server(self: Arc<Self>) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(self);
        Arc::new(config)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock().expect("no panic while replacing")))
    }
}

/// A certificate authority of the test's own.
#[derive(Debug)]
pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, known to nobody.
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "a test's authority");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Its certificate as PEM: what a client trusts.
    pub(crate) fn pem(&self) -> String {
        self.pem.clone()
    }

    /// A certificate for this name or address, valid for decades.
    pub(crate) fn issue(&self, name: &str) -> Certified {
        self.sign(&params(name))
    }

    /// One for `localhost` that ends this long from now.
    pub(crate) fn issue_ending_in(&self, left: Duration) -> Certified {
        #[expect(clippy::disallowed_methods, reason = "certificates end by the wall clock")]
        let now = std::time::SystemTime::now();
        let mut params = params("localhost");
        params.not_after = (now + left).into();
        self.sign(&params)
    }

    /// One for `localhost` that ended long ago.
    pub(crate) fn issue_expired(&self) -> Certified {
        let mut params = params("localhost");
        params.not_after = date_time_ymd(2001, 1, 1);
        self.sign(&params)
    }

    /// One for `localhost` that begins in the far future.
    pub(crate) fn issue_not_yet_valid(&self) -> Certified {
        let mut params = params("localhost");
        params.not_before = date_time_ymd(4000, 1, 1);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Certified {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Certified { certificate, key }
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.not_before = date_time_ymd(2000, 1, 1);
    params
}

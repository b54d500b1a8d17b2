//! What every TLS client of ours shares: whom it trusts, and the versions it speaks.
//!
//! Owns the roots and the one exception to verification. Who may ask for that exception is settled
//! by the policy; nothing in here offers it by itself.

use std::sync::{Arc, LazyLock};

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, version,
};

/// Whom a client trusts.
#[derive(Clone, Copy, Debug)]
pub enum Roots<'a> {
    /// The platform's roots, or the bundled ones where there are none, as in an empty container.
    Platform,
    /// These, as PEM.
    Given(&'a str),
    /// Anybody, for any name and time, who has the key of the certificate shown.
    Anybody,
}

/// Begins a client's configuration: TLS 1.2 at least.
///
/// # Errors
/// When the roots given hold no usable certificate.
pub fn client(
    roots: Roots<'_>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let provider = Arc::new(crypto::ring::default_provider());
    let versions = [&version::TLS13, &version::TLS12];
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&versions)?;
    Ok(match roots {
        Roots::Platform => builder.with_root_certificates(platform_roots()),
        Roots::Given(pem) => builder.with_root_certificates(read_roots(pem)?),
        Roots::Anybody => {
            let verifier = Arc::new(AnyCertificate(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
    })
}

/// The name that a certificate must be for; `None` when none can be. A dot at the end is for the
/// resolver: certificates do not have it.
#[must_use]
pub fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.strip_suffix('.').unwrap_or(host).to_owned()).ok()
}

fn platform_roots() -> Arc<RootCertStore> {
    static ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Arc::new(roots)
    });
    Arc::clone(&ROOTS)
}

fn read_roots(pem: &str) -> Result<RootCertStore, rustls::Error> {
    let unusable = || rustls::Error::General("no usable certificate".to_owned());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(|_malformed| unusable())?)?;
    }
    if roots.is_empty() { Err(unusable()) } else { Ok(roots) }
}

/// Takes any certificate, of anybody and for any time, as long as the server has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_always_roots() {
        assert!(!platform_roots().is_empty());
    }

    #[test]
    fn roots_that_hold_no_certificate_are_no_roots() {
        assert!(client(Roots::Given("no certificate")).is_err());
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(client(Roots::Given(broken)).is_err());
        assert!(client(Roots::Platform).is_ok());
    }

    #[test]
    fn a_name_for_the_resolver_is_the_same_name_for_certificates() {
        assert_eq!(server_name("example.com."), server_name("example.com"));
        assert!(server_name("::1").is_some());
        assert!(server_name("not a name").is_none());
    }
}

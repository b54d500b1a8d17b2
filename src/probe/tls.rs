//! TLS: verified, version 1.2 at least, and the certificate's end noted.
//!
//! Verification has one exception, and no other setting reaches it: `Trust::SelfSigned`, for the
//! schemes that ask for it in their name (`bolt+ssc`, `neo4j+ssc`).
//!
//! A handshake is never resumed from an earlier one: a resumed session skips the certificate, so
//! it would not see one that was replaced or has ended meanwhile.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_cert::der::Decode;

use crate::core::outcome::Outcome;
use crate::policy::model::{TlsCheck, TlsOptions, Trust};
use crate::probe::clock;
use crate::probe::dial::Dialler;
use crate::probe::finding::{Finding, Step};
use crate::probe::trace::Trace;
use crate::tls::{self, Roots};

/// Sets of roots kept ready. More than a policy plausibly names; a reload may bring new ones.
const CONFIGS_MAX: usize = 64;

/// A handshake and nothing more.
pub(super) async fn run(dialler: &Dialler, check: &TlsCheck, trace: &mut Trace) -> Step {
    let mut stream = dialler.connect_tls(&check.target, &check.tls, None, trace).await?;
    // A courtesy that keeps the server's log quiet. It is not waited for: the verdict stands.
    tokio::select! {
        biased;
        _told = stream.shutdown() => {}
        () = std::future::ready(()) => {}
    }
    expiry(&check.tls, trace)
}

/// A certificate about to end makes a pass `degraded`.
pub(super) fn expiry(options: &TlsOptions, trace: &Trace) -> Step {
    match trace.certificate_left {
        Some(left) if left < options.expiry_warning => {
            let detail = format!("certificate expires in {}", rough(left));
            Err(Finding::new(Outcome::Degraded, detail))
        }
        Some(_) | None => Ok(()),
    }
}

/// Makes client configurations, once for each set of roots.
#[derive(Debug)]
pub(super) struct TlsClient {
    platform: OnceLock<Arc<ClientConfig>>,
    unverified: OnceLock<Arc<ClientConfig>>,
    own: Mutex<BTreeMap<String, Arc<ClientConfig>>>,
}

impl TlsClient {
    pub(super) fn new() -> Result<Self, rustls::Error> {
        // The others are made when they are wanted; whether any can be made is told at once.
        let unverified = OnceLock::from(build(Roots::Anybody)?);
        Ok(Self { unverified, platform: OnceLock::new(), own: Mutex::default() })
    }

    /// Everything that can be wrong before a connection exists.
    pub(super) fn prepare(
        &self,
        host: &str,
        options: &TlsOptions,
        protocol: Option<&[u8]>,
    ) -> Step<Handshake> {
        let name = tls::server_name(options.server_name.as_deref().unwrap_or(host))
            .ok_or_else(|| Finding::misconfigured("server name is not valid for TLS"))?;
        let config = match (options.trust, &options.ca_pem) {
            (Trust::SelfSigned, _) => once(&self.unverified, Roots::Anybody),
            (Trust::Verified, None) => once(&self.platform, Roots::Platform),
            (Trust::Verified, Some(pem)) => self.with_roots(pem),
        };
        let config = config.map_err(|_unusable| {
            Finding::misconfigured("the roots given hold no usable certificate")
        })?;
        let alpn = protocol.map(<[u8]>::to_vec).into_iter().collect();
        Ok(Handshake { config, name, alpn })
    }

    fn with_roots(&self, pem: &str) -> Made {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = own.get(pem) {
            return Ok(Arc::clone(config));
        }
        let config = build(Roots::Given(pem))?;
        if own.len() >= CONFIGS_MAX {
            own.clear();
        }
        own.insert(pem.to_owned(), Arc::clone(&config));
        Ok(config)
    }
}

type Made = Result<Arc<ClientConfig>, rustls::Error>;

fn once(made: &OnceLock<Arc<ClientConfig>>, roots: Roots<'_>) -> Made {
    if let Some(config) = made.get() {
        return Ok(Arc::clone(config));
    }
    let config = build(roots)?;
    Ok(Arc::clone(made.get_or_init(|| config)))
}

fn build(roots: Roots<'_>) -> Made {
    let mut config = tls::client(roots)?.with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// A handshake that lacks only a connection.
pub(super) struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    alpn: Vec<Vec<u8>>,
}

impl Handshake {
    pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        stream: S,
        trace: &mut Trace,
    ) -> Step<TlsStream<S>> {
        let connector = TlsConnector::from(self.config);
        let secured = connector.with_alpn(self.alpn).connect(self.name, stream).await;
        let stream = secured.map_err(|error| {
            let finding = broken(&error);
            if finding.detail.starts_with(EXPIRED) {
                trace.certificate_left = Some(Duration::ZERO);
            }
            finding
        })?;
        let shown = stream.get_ref().1.peer_certificates();
        trace.certificate_left = shown.and_then(<[_]>::first).and_then(left);
        Ok(stream)
    }
}

/// How long the certificate is still valid, by the clock that verified it.
fn left(certificate: &CertificateDer<'_>) -> Option<Duration> {
    let parsed = x509_cert::Certificate::from_der(certificate).ok()?;
    let end = parsed.tbs_certificate().validity().not_after.to_unix_duration();
    Some(end.saturating_sub(clock::since_1970()))
}

/// Sorts what broke a connection, as far as TLS or the kernel says; `None` when neither does.
pub(super) fn sort(error: &io::Error) -> Option<Finding> {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    let finding = tls.map(|error| Finding::new(Outcome::Tls, explain(error)));
    finding.or_else(|| error.raw_os_error().map(|_| Finding::from_io(error)))
}

fn broken(error: &io::Error) -> Finding {
    sort(error).unwrap_or_else(|| Finding::cut("connection closed during the TLS handshake"))
}

const EXPIRED: &str = "certificate expired";

fn explain(error: &rustls::Error) -> Cow<'static, str> {
    use rustls::Error as E;
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library may add errors at any time")]
    match error {
        E::InvalidCertificate(error) => certificate(error),
        E::InvalidMessage(_)
        | E::InappropriateMessage { .. }
        | E::InappropriateHandshakeMessage { .. }
        | E::PeerMisbehaved(_) => "what answered does not speak TLS properly".into(),
        E::PeerIncompatible(_) => "no TLS version or cipher in common".into(),
        E::NoApplicationProtocol | E::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "server does not offer the protocol wanted over TLS".into()
        }
        E::NoCertificatesPresented => "server showed no certificate".into(),
        E::AlertReceived(alert) => format!("server refused the handshake: {alert:?}").into(),
        E::PeerSentOversizedRecord => "TLS record too large".into(),
        E::DecryptError => "TLS record does not decrypt".into(),
        _ => "TLS failed".into(),
    }
}

fn certificate(error: &CertificateError) -> Cow<'static, str> {
    use CertificateError as E;
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library may add errors at any time")]
    match error {
        E::Expired => EXPIRED.into(),
        E::ExpiredContext { time, not_after } => {
            let ago = time.as_secs().saturating_sub(not_after.as_secs());
            format!("{EXPIRED} {} ago", rough(Duration::from_secs(ago))).into()
        }
        E::NotValidYet | E::NotValidYetContext { .. } => "certificate is not valid yet".into(),
        E::UnknownIssuer => "certificate is of an unknown issuer".into(),
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            "certificate is for another name".into()
        }
        E::Revoked => "certificate is revoked".into(),
        E::BadSignature => "certificate has a bad signature".into(),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "certificate is not for servers".into()
        }
        _ => "certificate is not acceptable".into(),
    }
}

/// A span in its largest unit: enough to know whether to hurry.
fn rough(span: Duration) -> String {
    let seconds = span.as_secs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_their_largest_unit() {
        assert_eq!(rough(Duration::from_secs(1)), "1 second");
        assert_eq!(rough(Duration::from_secs(119)), "119 seconds");
        assert_eq!(rough(Duration::from_secs(7_199)), "119 minutes");
        assert_eq!(rough(Duration::from_secs(172_799)), "47 hours");
        assert_eq!(rough(Duration::from_secs(864_000)), "10 days");
    }

    #[test]
    fn configurations_are_made_once_for_each_set_of_roots() {
        let client = TlsClient::new().unwrap();
        let one = |options: &TlsOptions| client.prepare("localhost", options, None).unwrap().config;
        let platform = TlsOptions::default();
        assert!(Arc::ptr_eq(&one(&platform), &one(&platform)));
        let params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let own = TlsOptions { ca_pem: Some(pem), ..TlsOptions::default() };
        assert!(Arc::ptr_eq(&one(&own), &one(&own)));
        assert!(!Arc::ptr_eq(&one(&own), &one(&platform)));
    }

    #[test]
    fn roots_and_names_that_cannot_work_are_the_probes_fault() {
        let client = TlsClient::new().unwrap();
        let try_with = |host: &str, ca_pem: Option<&str>| {
            let options = TlsOptions { ca_pem: ca_pem.map(str::to_owned), ..TlsOptions::default() };
            client.prepare(host, &options, None).map(|_| ()).map_err(|finding| finding.outcome)
        };
        assert_eq!(try_with("localhost", Some("no certificate")), Err(Outcome::ClientError));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(try_with("localhost", Some(broken)), Err(Outcome::ClientError));
        assert_eq!(try_with("not a name", None), Err(Outcome::ClientError));
        assert_eq!(try_with("example.com.", None), Ok(()));
        assert_eq!(try_with("::1", None), Ok(()));
    }
}

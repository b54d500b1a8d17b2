//! The local certificate authority behind `mode = "connect"`: opens the hosts that the policy
//! names, for the one process that is told to trust it.
//!
//! Its key is made at start and stays in memory, unless the policy names a file for it; then a
//! server that was started before may go on after the sidecar was started anew.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use sha2::{Digest as _, Sha256};
use x509_cert::der::pem::{LineEnding, encode_string};
use zeroize::Zeroizing;

use crate::policy::model::Intercept;

/// Hosts whose certificates are kept ready.
const HOSTS_MAX: usize = 256;
/// A certificate is made anew when it is this old.
const RENEW_SECONDS: u64 = 30 * 86_400;
/// How long a host's certificate, and the authority's own, is valid.
const HOST_DAYS: i64 = 90;
const OWN_DAYS: i64 = 3_650;

/// How to be each host, and since when that is ready.
type Ready = BTreeMap<Arc<str>, (u64, Arc<ServerConfig>)>;

/// Issues certificates for the hosts that are opened.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    key: KeyPair,
    ready: Mutex<Ready>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

/// Why there is no authority, or no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthorityError {
    /// A certificate could not be made.
    #[error("make a certificate")]
    Issue(#[from] rcgen::Error),
    /// TLS does not take it.
    #[error("use a certificate of our own")]
    Tls(#[from] rustls::Error),
    /// A file could not be read or written.
    #[error("{doing} {}: {source}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// What is kept in the key file is no key.
    #[error("read a private key from {}", .0.display())]
    Key(PathBuf),
}

impl Authority {
    /// Makes one, and writes what those who are to trust it need. Blocks.
    pub(super) fn establish(spec: &Intercept) -> Result<Self, AuthorityError> {
        let key = key(spec.ca_key_file.as_deref())?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "mcp-failover local authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid_for(&mut params, OWN_DAYS);
        let certificate = params.self_signed(&key)?.pem();
        put(&spec.ca_file, certificate.as_bytes(), 0o644)?;
        put(&bundle_path(&spec.ca_file), bundle(&certificate).as_bytes(), 0o644)?;
        let issuer = Issuer::new(params, key);
        Ok(Self { issuer, key: KeyPair::generate()?, ready: Mutex::default() })
    }

    /// Tells it from every other one; the same as long as its key is.
    pub(super) fn fingerprint(&self) -> String {
        let digest = Sha256::digest(self.issuer.key().public_key_raw());
        let short = digest.iter().take(8).fold(0_u64, |all, byte| (all << 8) | u64::from(*byte));
        format!("{short:016x}")
    }

    /// How to be `host` for a caller.
    pub(super) fn server(&self, host: &Arc<str>) -> Result<Arc<ServerConfig>, AuthorityError> {
        let now = UnixTime::now().as_secs();
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, config)) = ready.get(host)
            && now.saturating_sub(*made) < RENEW_SECONDS
        {
            return Ok(Arc::clone(config));
        }
        let config = self.issue(host)?;
        if ready.len() >= HOSTS_MAX {
            ready.clear();
        }
        ready.insert(Arc::clone(host), (now, Arc::clone(&config)));
        Ok(config)
    }

    fn issue(&self, host: &str) -> Result<Arc<ServerConfig>, AuthorityError> {
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "mcp-failover");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, HOST_DAYS);
        let certificate = params.signed_by(&self.key, &self.issuer)?.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Where the authority's certificate stands together with the platform's roots: for readers that
/// take one file instead of all others.
pub(super) fn bundle_path(ca_file: &Path) -> PathBuf {
    ca_file.with_extension("bundle.pem")
}

/// The key of the last run where one is kept, else a new one.
fn key(kept: Option<&Path>) -> Result<KeyPair, AuthorityError> {
    let Some(path) = kept else { return Ok(KeyPair::generate()?) };
    match fs::read_to_string(path).map(Zeroizing::new) {
        Ok(pem) => {
            KeyPair::from_pem(&pem).map_err(|_not_a_key| AuthorityError::Key(path.to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate()?;
            let pem = Zeroizing::new(key.serialize_pem());
            put(path, pem.as_bytes(), 0o600)?;
            Ok(key)
        }
        Err(source) => Err(AuthorityError::File { doing: "read", path: path.to_owned(), source }),
    }
}

fn bundle(own: &str) -> String {
    let roots: Vec<CertificateDer<'static>> = rustls_native_certs::load_native_certs().certs;
    if roots.is_empty() {
        tracing::warn!(
            help = "install ca-certificates where the sidecar runs",
            "this system has no root certificates: servers that take SSL_CERT_FILE trust nobody \
             but the local authority"
        );
    }
    let roots =
        roots.iter().filter_map(|root| encode_string("CERTIFICATE", LineEnding::LF, root).ok());
    std::iter::once(own.to_owned()).chain(roots).collect()
}

/// From yesterday, so that a clock that is a little behind accepts it.
fn valid_for(params: &mut CertificateParams, days: i64) {
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    let day = |offset: i64| {
        let at =
            jiff::Timestamp::from_second(now.saturating_add(offset * 86_400)).unwrap_or_default();
        let date = jiff::tz::Offset::UTC.to_datetime(at).date();
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        date_time_ymd(i32::from(date.year()), month, day)
    };
    params.not_before = day(-1);
    params.not_after = day(days);
}

/// Writes a file beside its place and puts it there whole.
fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let fresh = path.with_extension("new");
    let failed = |source| AuthorityError::File { doing: "write", path: path.to_owned(), source };
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh).and_then(
        |mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        },
    );
    written.and_then(|()| fs::rename(&fresh, path)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn spec(folder: &Path, kept: bool) -> Intercept {
        Intercept {
            hosts: vec!["api.example.com".to_owned()],
            ca_file: folder.join("ca.pem"),
            ca_key_file: kept.then(|| folder.join("ca.key")),
            passthrough: true,
        }
    }

    #[test]
    fn the_key_is_written_only_where_the_policy_says_so() {
        let folder = tempfile::tempdir().unwrap();
        Authority::establish(&spec(folder.path(), false)).unwrap();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["ca.bundle.pem", "ca.pem"]);
        for name in names() {
            assert!(!fs::read_to_string(folder.path().join(name)).unwrap().contains("PRIVATE"));
        }
        Authority::establish(&spec(folder.path(), true)).unwrap();
        let mode = fs::metadata(folder.path().join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_is_kept_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec(folder.path(), true);
        let own = |authority: &Authority| authority.issuer.key().public_key_pem();
        let first = Authority::establish(&spec).unwrap();
        let second = Authority::establish(&spec).unwrap();
        assert_eq!(own(&first), own(&second));
        assert_eq!(first.fingerprint(), second.fingerprint());
        let other = Authority::establish(&self::spec(folder.path(), false)).unwrap();
        assert_ne!(first.fingerprint(), other.fingerprint());
        fs::write(folder.path().join("ca.key"), "no key").unwrap();
        assert!(matches!(Authority::establish(&spec), Err(AuthorityError::Key(_))));
    }

    #[test]
    fn a_hosts_certificate_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::establish(&spec(folder.path(), false)).unwrap();
        let host = Arc::from("api.example.com");
        let (one, two) = (authority.server(&host).unwrap(), authority.server(&host).unwrap());
        assert!(Arc::ptr_eq(&one, &two));
    }
}

//! TLS against servers with certificates of every kind, ours and OpenSSL's.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{Check, HttpCheck, Probe, Target, TlsCheck, TlsOptions};
use mcp_failover::probe::{Prober, Report};

use super::{PATIENT, SHORT, assert_end, attempt, detail, get, http, outcome, target};
use crate::common;
use crate::common::tls::{Authority, Certified, Shown};
use crate::common::upstream::{Behaviour, Upstream};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn localhost(port: u16) -> Target {
    Target { host: "localhost".to_owned(), port }
}

fn trusting(pem: String) -> TlsOptions {
    TlsOptions { ca_pem: Some(pem), ..TlsOptions::default() }
}

async fn handshake(target: Target, tls: TlsOptions) -> Report {
    attempt(Check::Tls(TlsCheck { target, tls }), PATIENT).await
}

/// A handshake and an HTTPS request with a server that shows this certificate.
async fn both(certified: &Certified, options: &TlsOptions) -> [Report; 2] {
    let upstream = Upstream::start_tls(Behaviour::Healthy, certified.server());
    [
        handshake(localhost(upstream.port()), options.clone()).await,
        get(&https(&upstream, options), PATIENT).await,
    ]
}

fn https(upstream: &Upstream, options: &TlsOptions) -> HttpCheck {
    let mut check = http(upstream);
    check.target = localhost(upstream.port());
    check.tls = Some(options.clone());
    check
}

async fn assert_refused(certified: &Certified, options: &TlsOptions, wanted: &str) {
    for report in both(certified, options).await {
        assert_end(&report, Outcome::Tls, wanted);
        assert_eq!(report.status, None, "nothing is sent before the peer is known");
    }
}

#[tokio::test]
async fn a_good_certificate_passes_and_tells_its_end() {
    let authority = Authority::new();
    let certified = authority.issue_ending_in(10 * DAY);
    for report in both(&certified, &trusting(authority.pem())).await {
        assert_end(&report, Outcome::Ok, "");
        assert!(report.phases.tls.is_some());
        let left = report.certificate_expires_in.unwrap();
        assert!(left > 9 * DAY && left <= 10 * DAY, "{left:?}");
    }
}

#[tokio::test]
async fn a_certificate_about_to_end_is_degraded() {
    let authority = Authority::new();
    let certified = authority.issue_ending_in(5 * DAY + DAY / 2);
    let mut options = trusting(authority.pem());
    options.expiry_warning = 7 * DAY;
    for report in both(&certified, &options).await {
        assert_end(&report, Outcome::Degraded, "certificate expires in 5 days");
        assert!(report.phases.tls.is_some());
    }
    options.expiry_warning = 5 * DAY;
    for report in both(&certified, &options).await {
        assert_end(&report, Outcome::Ok, "");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused_and_counts_as_ended() {
    let authority = Authority::new();
    for report in both(&authority.issue_expired(), &trusting(authority.pem())).await {
        assert_eq!(outcome(&report), Outcome::Tls);
        let told = detail(&report);
        assert!(told.starts_with("certificate expired ") && told.ends_with(" days ago"), "{told}");
        assert_eq!(report.certificate_expires_in, Some(Duration::ZERO));
    }
}

#[tokio::test]
async fn a_certificate_of_the_future_is_refused() {
    let authority = Authority::new();
    let options = trusting(authority.pem());
    assert_refused(&authority.issue_not_yet_valid(), &options, "certificate is not valid yet")
        .await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let certified = authority.issue("other.example.com");
    let options = trusting(authority.pem());
    assert_refused(&certified, &options, "certificate is for another name").await;
}

#[tokio::test]
async fn a_self_signed_certificate_is_refused_by_whoever_does_not_trust_it() {
    let certified = Certified::self_signed();
    let wanted = "certificate is of an unknown issuer";
    assert_refused(&certified, &TlsOptions::default(), wanted).await;
    assert_refused(&certified, &trusting(Authority::new().pem()), wanted).await;
}

#[tokio::test]
async fn the_platforms_roots_do_not_vouch_for_an_authority_of_ones_own() {
    let certified = Authority::new().issue("localhost");
    let wanted = "certificate is of an unknown issuer";
    assert_refused(&certified, &TlsOptions::default(), wanted).await;
}

#[tokio::test]
async fn the_name_verified_can_differ_from_the_host() {
    let authority = Authority::new();
    let mut options = trusting(authority.pem());
    options.server_name = Some("inside.example.com".to_owned());
    for report in both(&authority.issue("inside.example.com"), &options).await {
        assert_end(&report, Outcome::Ok, "");
    }
    assert_refused(&authority.issue("localhost"), &options, "certificate is for another name")
        .await;
}

#[tokio::test]
async fn an_address_is_verified_as_such() {
    let authority = Authority::new();
    let options = trusting(authority.pem());
    let upstream = Upstream::start_tls(Behaviour::Healthy, authority.issue("127.0.0.1").server());
    let report = handshake(target(upstream.port()), options.clone()).await;
    assert_end(&report, Outcome::Ok, "");
    let upstream = Upstream::start_tls(Behaviour::Healthy, authority.issue("localhost").server());
    let report = handshake(target(upstream.port()), options).await;
    assert_end(&report, Outcome::Tls, "certificate is for another name");
}

#[tokio::test]
async fn a_replaced_certificate_is_seen_at_once() {
    // One prober for all attempts: a session resumed from an earlier one would hide the new one.
    let authority = Authority::new();
    let shown = Arc::new(Shown::new(&authority.issue("localhost")));
    let upstream = Upstream::start_tls(Behaviour::Healthy, Arc::clone(&shown).server());
    let check = Check::Http(Box::new(https(&upstream, &trusting(authority.pem()))));
    let probe = Probe::new(PATIENT, check);
    let prober = Prober::new().unwrap();
    for _ in 0..2 {
        assert_end(&prober.run(&probe, PATIENT).await, Outcome::Ok, "");
    }
    shown.replace(&authority.issue_expired());
    assert_eq!(outcome(&prober.run(&probe, PATIENT).await), Outcome::Tls);
    assert_eq!(upstream.requests(), 2);
}

#[tokio::test]
async fn something_other_than_tls_on_the_port_is_told_and_never_spoken_to() {
    let options = TlsOptions::default();
    let plain = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec();
    let others = [plain, b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec(), b"\xff".repeat(64)];
    for bytes in others {
        let upstream = Upstream::start(Behaviour::Banner(bytes));
        let report = get(&https(&upstream, &options), PATIENT).await;
        assert_end(&report, Outcome::Tls, "what answered does not speak TLS properly");
        assert_eq!(upstream.requests(), 0, "no plain request follows");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_runs_into_the_deadline() {
    let upstream = Upstream::start(Behaviour::Hang);
    let check = TlsCheck { target: localhost(upstream.port()), tls: TlsOptions::default() };
    let report = attempt(Check::Tls(check), SHORT).await;
    assert_end(&report, Outcome::Timeout, "no TLS handshake within 250ms");
}

#[tokio::test]
async fn a_server_that_hangs_up_is_a_reset() {
    let upstream = Upstream::start(Behaviour::Close);
    let report = handshake(localhost(upstream.port()), TlsOptions::default()).await;
    assert_eq!(outcome(&report), Outcome::Reset, "{report:?}");
}

#[tokio::test]
async fn a_handshake_message_without_end_is_cut() {
    // A record that announces a server hello of 16 MiB, and goes on for as long as it is read.
    let mut bytes = Vec::new();
    for _ in 0..256 {
        bytes.extend(b"\x16\x03\x03\x40\x00");
        bytes.extend(b"\x02\xff\xff\xff".iter().cycle().take(0x4000));
    }
    let upstream = Upstream::start(Behaviour::Raw(bytes));
    let report = handshake(localhost(upstream.port()), TlsOptions::default()).await;
    assert_eq!(outcome(&report), Outcome::Tls, "{report:?}");
}

#[tokio::test]
async fn roots_that_hold_no_certificate_are_the_probes_fault() {
    let upstream = Upstream::start(Behaviour::Hang);
    let report = handshake(localhost(upstream.port()), trusting("nothing".to_owned())).await;
    let wanted = "the roots given hold no usable certificate";
    assert_end(&report, Outcome::ClientError, wanted);
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn everything_hostile_is_as_bounded_over_tls() {
    let authority = Authority::new();
    let options = trusting(authority.pem());
    let upstream = Upstream::start_tls(Behaviour::Healthy, authority.issue("localhost").server());
    let cases = [
        (Behaviour::Flood, Outcome::Ok),
        (Behaviour::HeaderFlood, Outcome::Protocol),
        (Behaviour::InterimFlood, Outcome::Protocol),
        (Behaviour::Truncate, Outcome::Reset),
        (Behaviour::Reset, Outcome::Reset),
        (Behaviour::Status(503), Outcome::ServerError),
    ];
    for (behaviour, wanted) in cases {
        upstream.set(behaviour.clone());
        let report = get(&https(&upstream, &options), PATIENT).await;
        assert_eq!(outcome(&report), wanted, "{behaviour:?}: {report:?}");
    }
    assert!(upstream.bytes_sent() < 64 << 20, "{} bytes sent", upstream.bytes_sent());
}

/// OpenSSL's own server: another implementation than the one we verify with.
struct OpenSsl {
    server: Child,
    port: u16,
    _files: tempfile::TempDir,
}

impl OpenSsl {
    fn start(certified: &Certified, arguments: &[&str]) -> Option<Self> {
        let version = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
        if version.is_ok() {
            return Some(Self::launch(certified, arguments));
        }
        common::skip("openssl is not installed");
        None
    }

    fn launch(certified: &Certified, arguments: &[&str]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name);
        std::fs::write(path("cert.pem"), certified.pem()).unwrap();
        std::fs::write(path("key.pem"), certified.key_pem()).unwrap();
        let mut server = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-www", "-cert"])
            .arg(path("cert.pem"))
            .arg("-key")
            .arg(path("key.pem"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl starts");
        let output = BufReader::new(server.stdout.take().expect("its output"));
        let accepting =
            output.lines().map_while(Result::ok).find(|line| line.starts_with("ACCEPT"));
        let port = accepting.and_then(|line| line.rsplit(':').next()?.trim().parse().ok());
        Self { server, port: port.expect("openssl tells its port"), _files: files }
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

#[tokio::test]
async fn openssl_serves_over_both_versions_we_speak() {
    let authority = Authority::new();
    let certified = authority.issue("localhost");
    for version in ["-tls1_3", "-tls1_2"] {
        let Some(server) = OpenSsl::start(&certified, &[version]) else { return };
        let report = handshake(localhost(server.port), trusting(authority.pem())).await;
        assert_end(&report, Outcome::Ok, "");
        let unused = Upstream::start(Behaviour::Refuse);
        let mut check = https(&unused, &trusting(authority.pem()));
        check.target.port = server.port;
        check.expect.body_contains = vec!["Ciphers supported".to_owned()];
        assert_end(&get(&check, PATIENT).await, Outcome::Ok, "");
    }
}

#[tokio::test]
async fn openssl_limited_to_an_old_version_is_refused() {
    let authority = Authority::new();
    let certified = authority.issue("localhost");
    let old = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    let Some(server) = OpenSsl::start(&certified, &old) else { return };
    let report = handshake(localhost(server.port), trusting(authority.pem())).await;
    assert_eq!(outcome(&report), Outcome::Tls, "{report:?}");
}

#[tokio::test]
async fn openssl_with_bad_certificates_is_refused() {
    let authority = Authority::new();
    let cases = [
        (authority.issue_expired(), "certificate expired"),
        (authority.issue_not_yet_valid(), "certificate is not valid yet"),
        (authority.issue("other.example.com"), "certificate is for another name"),
        (Certified::self_signed(), "certificate is of an unknown issuer"),
    ];
    for (certified, wanted) in cases {
        let Some(server) = OpenSsl::start(&certified, &[]) else { return };
        let report = handshake(localhost(server.port), trusting(authority.pem())).await;
        assert_eq!(outcome(&report), Outcome::Tls, "{report:?}");
        assert!(detail(&report).starts_with(wanted), "{report:?}");
    }
}

//! Bolt over TLS: verified for `+s`, any certificate for `+ssc`.

use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{
    BoltCheck, BoltDepth, Check, Target, TlsCheck, TlsOptions, Trust,
};

use super::stub::{Script, Stub};
use super::{bolt, check};
use crate::common::tls::{Authority, Certified};
use crate::probe::{PATIENT, assert_end, attempt};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn secure(stub: &Stub, tls: TlsOptions) -> BoltCheck {
    let target = Target { host: "localhost".to_owned(), port: stub.port() };
    BoltCheck { tls: Some(tls), ..check(target, BoltDepth::Query) }
}

fn self_signed() -> TlsOptions {
    TlsOptions { trust: Trust::SelfSigned, ..TlsOptions::default() }
}

async fn stub(certified: &Certified) -> Stub {
    Stub::start_tls(Script::serving(), certified.server()).await
}

#[tokio::test]
async fn a_certificate_that_verifies_is_taken_by_both() {
    let authority = Authority::new();
    let stub = stub(&authority.issue("localhost")).await;
    let trusting = TlsOptions { ca_pem: Some(authority.pem()), ..TlsOptions::default() };
    for tls in [trusting, self_signed()] {
        let report = bolt(secure(&stub, tls)).await;
        assert_end(&report, Outcome::Ok, "");
        assert!(report.phases.tls.is_some() && report.certificate_expires_in.is_some());
    }
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_taken_by_ssc_only() {
    let authority = Authority::new();
    for certified in [
        Certified::self_signed(),
        authority.issue("other.example.com"),
        authority.issue("localhost"),
        authority.issue_not_yet_valid(),
    ] {
        let stub = stub(&certified).await;
        assert_end(&bolt(secure(&stub, self_signed())).await, Outcome::Ok, "");
        let refused = bolt(secure(&stub, TlsOptions::default())).await;
        assert_eq!(refused.observation.outcome, Outcome::Tls, "{refused:?}");
        assert!(stub.message(super::HELLO).is_some());
    }
}

#[tokio::test]
async fn one_prober_that_took_any_certificate_still_verifies_the_next() {
    let stub = stub(&Certified::self_signed()).await;
    let prober = mcp_failover::probe::Prober::new().unwrap();
    for (tls, outcome) in [
        (self_signed(), Outcome::Ok),
        (TlsOptions::default(), Outcome::Tls),
        (self_signed(), Outcome::Ok),
        (
            TlsOptions { ca_pem: Some(Authority::new().pem()), ..TlsOptions::default() },
            Outcome::Tls,
        ),
    ] {
        let check = Check::Bolt(Box::new(secure(&stub, tls)));
        let probe = mcp_failover::policy::model::Probe::new(PATIENT, check);
        let report = Box::pin(prober.run(&probe, PATIENT)).await;
        assert_eq!(report.observation.outcome, outcome, "{report:?}");
    }
}

#[tokio::test]
async fn the_end_of_any_certificate_is_noted() {
    let authority = Authority::new();
    let tls = TlsOptions { expiry_warning: 7 * DAY, ..self_signed() };
    let soon = stub(&authority.issue_ending_in(5 * DAY + DAY / 2)).await;
    let report = bolt(secure(&soon, tls.clone())).await;
    assert_end(&report, Outcome::Degraded, "certificate expires in 5 days");
    let ended = stub(&authority.issue_expired()).await;
    let report = bolt(secure(&ended, tls)).await;
    assert_eq!(report.observation.outcome, Outcome::Degraded, "{report:?}");
    assert_eq!(report.certificate_expires_in, Some(Duration::ZERO));
}

#[tokio::test]
async fn a_server_without_its_certificates_key_is_refused_even_so() {
    let (shown, other) = (Certified::self_signed(), Certified::self_signed());
    let stub = Stub::start_tls(Script::serving(), shown.server_with_key_of(&other)).await;
    let report = bolt(secure(&stub, self_signed())).await;
    assert_eq!(report.observation.outcome, Outcome::Tls, "{report:?}");
    let target = Target { host: "localhost".to_owned(), port: stub.port() };
    let report = attempt(Check::Tls(TlsCheck { target, tls: self_signed() }), PATIENT).await;
    assert_eq!(report.observation.outcome, Outcome::Tls, "{report:?}");
}

#[tokio::test]
async fn plain_text_to_a_secure_server_is_told_apart() {
    let stub = stub(&Certified::self_signed()).await;
    let plain = BoltCheck { tls: None, ..secure(&stub, TlsOptions::default()) };
    let report = bolt(plain).await;
    assert_end(&report, Outcome::Protocol, "answer is TLS, and plain text was asked");
}

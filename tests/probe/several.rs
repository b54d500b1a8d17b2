//! Several checks of one endpoint, run at once and judged as one.

use std::time::Duration;

use mcp_failover::core::outcome::Outcome;
use mcp_failover::policy::model::{Check, HttpCheck, SeveralCheck, TcpCheck, TlsCheck, TlsOptions};
use mcp_failover::probe::Report;

use super::{PATIENT, SHORT, assert_end, attempt, detail, http, outcome};
use crate::common::tls::Authority;
use crate::common::upstream::{Behaviour, Upstream};

fn check(upstream: &Upstream) -> Check {
    Check::Http(Box::new(http(upstream)))
}

async fn judged(need: usize, timeout: Duration, checks: Vec<(&str, Check)>) -> Report {
    let checks = checks.into_iter().map(|(name, check)| (name.to_owned(), check)).collect();
    attempt(Check::Several(Box::new(SeveralCheck { need, checks })), timeout).await
}

#[tokio::test]
async fn all_any_and_k_of_n_are_judged() {
    let (good, bad) = (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Refuse));
    let checks = || vec![("api", check(&good)), ("redis", check(&bad)), ("web", check(&good))];
    let told = "2 of 3 passed; redis: connection refused";
    for (need, wanted) in [(1, Outcome::Ok), (2, Outcome::Ok), (3, Outcome::Refused)] {
        let report = judged(need, PATIENT, checks()).await;
        assert_eq!(outcome(&report), wanted);
        let early = need < 3 && detail(&report).is_empty();
        assert!(early || detail(&report) == told || need == 1, "{report:?}");
    }
    bad.set(Behaviour::Healthy);
    assert_end(&judged(3, PATIENT, checks()).await, Outcome::Ok, "");
}

#[tokio::test]
async fn one_that_hangs_holds_up_nobody_who_can_do_without_it() {
    let (good, hung) = (Upstream::start(Behaviour::Healthy), Upstream::start(Behaviour::Hang));
    let checks = || vec![("hung", check(&hung)), ("good", check(&good))];
    // Would reach its own deadline only long after the test's.
    let long = Duration::from_secs(3600);
    let any = tokio::time::timeout(PATIENT, judged(1, long, checks())).await;
    assert_end(&any.expect("the other is enough"), Outcome::Ok, "");
    let report = judged(2, SHORT, checks()).await;
    assert_end(&report, Outcome::Timeout, "1 of 2 passed; hung: no answer within 250ms");
}

#[tokio::test]
async fn they_share_one_deadline() {
    let hung = Upstream::start(Behaviour::Hang);
    let checks = ["a", "b", "c", "d"].map(|name| (name, check(&hung)));
    let report = judged(4, SHORT, checks.to_vec()).await;
    let told = "0 of 4 passed; a: no answer within 250ms; b: no answer within 250ms; \
                c: no answer within 250ms; and 1 more";
    assert_end(&report, Outcome::Timeout, told);
    assert_eq!(hung.connections(), 4, "at once");
}

#[tokio::test]
async fn what_has_no_verdict_decides_only_where_it_could() {
    let good = Upstream::start(Behaviour::Healthy);
    let bad = Upstream::start(Behaviour::Refuse);
    let locked = Upstream::start(Behaviour::Status(401));
    let limited = Upstream::start(Behaviour::throttle("9"));
    let retry_after = Some(Duration::from_secs(9));
    let report = judged(2, PATIENT, vec![("a", check(&good)), ("b", check(&locked))]).await;
    assert_end(&report, Outcome::Auth, "1 of 2 passed; b: HTTP 401");
    assert_eq!(report.status, Some(401));
    let report = judged(2, PATIENT, vec![("a", check(&bad)), ("b", check(&locked))]).await;
    let told = "0 of 2 passed; a: connection refused; b: HTTP 401";
    assert_end(&report, Outcome::Refused, told);
    let report = judged(1, PATIENT, vec![("a", check(&bad)), ("b", check(&limited))]).await;
    let told = "0 of 2 passed; a: connection refused; b: HTTP 429";
    assert_end(&report, Outcome::Throttled { retry_after }, told);
}

#[tokio::test]
async fn groups_may_stand_in_groups_and_be_of_any_kind() {
    let authority = Authority::new();
    let tls = authority.issue("localhost").server();
    let secure = Upstream::start_tls(Behaviour::Healthy, tls);
    let good = Upstream::start(Behaviour::Healthy);
    let options = TlsOptions { ca_pem: Some(authority.pem()), ..TlsOptions::default() };
    let target = HttpCheck::new(http(&secure).target).target;
    let options = TlsOptions { server_name: Some("localhost".to_owned()), ..options };
    let handshake = Check::Tls(TlsCheck { target, tls: options });
    let connection = Check::Tcp(TcpCheck { target: http(&good).target, send: None, expect: None });
    let inner = SeveralCheck {
        need: 2,
        checks: vec![("tls".to_owned(), handshake), ("tcp".to_owned(), connection)],
    };
    let inner = Check::Several(Box::new(inner));
    let report = judged(2, PATIENT, vec![("both", inner.clone()), ("http", check(&good))]).await;
    assert_end(&report, Outcome::Ok, "");
    assert!(report.certificate_expires_in.is_some());
    good.set(Behaviour::Refuse);
    let report = judged(2, PATIENT, vec![("both", inner), ("http", check(&good))]).await;
    let told =
        "0 of 2 passed; both: 1 of 2 passed; tcp: connection refused; http: connection refused";
    assert_end(&report, Outcome::Refused, told);
}

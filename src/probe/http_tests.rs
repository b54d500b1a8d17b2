//! What the request says, and how the authority is spelled.

use super::*;
use crate::core::outcome::Outcome::ClientError;
use crate::policy::model::HttpExpect;

fn check(headers: &[(&str, &str)]) -> HttpCheck {
    let pair = |&(name, value): &(&str, &str)| (name.to_owned(), Secret::from(value));
    HttpCheck {
        method: "POST".to_owned(),
        path: Secret::from("/stats?deep=1"),
        headers: headers.iter().map(pair).collect(),
        body: Some(Secret::from("{}")),
        expect: HttpExpect::default(),
        ..HttpCheck::new(Target { host: "example.com".to_owned(), port: 8080 })
    }
}

fn sent(request: &Outgoing, name: &str) -> Vec<String> {
    let values = request.headers().get_all(name).iter();
    values.map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[test]
fn the_request_is_what_the_policy_says_with_our_defaults() {
    let request = request(&check(&[("api-key", "k")]), None).unwrap();
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.uri().to_string(), "/stats?deep=1");
    assert_eq!(sent(&request, "host"), ["example.com:8080"]);
    assert_eq!(sent(&request, "api-key"), ["k"]);
    assert_eq!(sent(&request, "user-agent"), [AGENT]);
    assert_eq!(sent(&request, "accept-encoding"), ["identity"]);
    assert_eq!(sent(&request, "connection"), ["close"]);
}

#[test]
fn the_policys_headers_replace_our_defaults() {
    let own = [("Host", "inside.example.com"), ("User-Agent", "own"), ("Accept", "text/plain")];
    let request = request(&check(&own), None).unwrap();
    assert_eq!(sent(&request, "host"), ["inside.example.com"]);
    assert_eq!(sent(&request, "user-agent"), ["own"]);
    assert_eq!(sent(&request, "accept"), ["text/plain"]);
}

#[test]
fn nothing_but_our_own_decoding_is_offered() {
    let own = [("accept-encoding", "gzip"), ("connection", "keep-alive")];
    let request = request(&check(&own), None).unwrap();
    assert_eq!(sent(&request, "accept-encoding"), ["identity"]);
    assert_eq!(sent(&request, "connection"), ["close"]);
}

#[test]
fn a_token_takes_the_place_of_a_fixed_credential_and_stays_hidden() {
    let token = Secret::from("canary");
    let request = request(&check(&[("Authorization", "Basic x")]), Some(&token)).unwrap();
    assert_eq!(sent(&request, "authorization"), ["Bearer canary"]);
    assert!(!format!("{request:?}").contains("canary"));
}

#[test]
fn header_values_stay_hidden_in_debug_output() {
    let request = request(&check(&[("api-key", "canary")]), None).unwrap();
    assert!(!format!("{request:?}").contains("canary"));
}

#[test]
fn a_request_that_cannot_be_sent_is_the_probes_fault() {
    let with = |change: fn(&mut HttpCheck)| {
        let mut check = check(&[]);
        change(&mut check);
        request(&check, None).expect_err("a finding").outcome
    };
    assert_eq!(with(|check| check.method = "GE T".to_owned()), ClientError);
    assert_eq!(with(|check| check.path = Secret::from("/a b")), ClientError);
    assert_eq!(with(|check| check.target.host = "a\nb".to_owned()), ClientError);
    for pair in [("a b", "c"), ("x", "a\r\nInjected: yes")] {
        let refused = request(&check(&[pair]), None).expect_err("a finding");
        assert_eq!(refused.outcome, ClientError);
    }
}

#[test]
fn the_schemes_own_port_is_left_out_of_the_host() {
    let of = |host: &str, port, tls| authority(&Target { host: host.to_owned(), port }, tls);
    assert_eq!(of("example.com", 80, false), "example.com");
    assert_eq!(of("example.com", 443, true), "example.com");
    assert_eq!(of("example.com", 443, false), "example.com:443");
    assert_eq!(of("example.com", 8443, true), "example.com:8443");
    assert_eq!(of("::1", 80, false), "[::1]");
    assert_eq!(of("::1", 8080, false), "[::1]:8080");
}
